"""Values on which kernels are compared with plain functions."""

import math

import torch


def same(found, expected):
    """The same bits, but for the sign of zero and what not-a-number carries."""
    assert found.dtype == expected.dtype
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def edges(threshold, max_spike_count, dtype):
    """Membranes on every boundary of count and gradient, and the next ones before and behind; what is not finite."""
    at = torch.tensor([d * threshold / 2 for d in range(-1, 2 * max_spike_count + 3)], dtype=torch.float64).to(dtype)
    ends = [torch.full_like(at, sign * math.inf) for sign in (-1, 1)]
    special = torch.tensor([math.inf, -math.inf, math.nan, 0.0, -0.0, torch.finfo(dtype).tiny / 4], dtype=dtype)
    return torch.cat([at, *(torch.nextafter(at, end) for end in ends), special])
