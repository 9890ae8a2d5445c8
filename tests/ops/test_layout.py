"""Memory layouts that devices prefer."""

import pytest
import torch

from qsdt_mm.ops import layout

CPU, GPU = torch.device('cpu'), torch.device('cuda')


@pytest.mark.parametrize('dtype', [torch.float32, torch.float64, torch.bfloat16])
def test_cpus_prefer_channels_last(dtype):
    feature = torch.randn(2, 3, 4, 5).to(dtype)
    assert layout.to_preferred_memory_format(feature).is_contiguous(memory_format=torch.channels_last)
    assert layout.to_preferred_memory_format(feature[0]) is not None and layout.prefers_channels_last(CPU, dtype)


def test_gpus_prefer_them_in_half_precision(monkeypatch):
    assert not layout.prefers_channels_last(GPU, torch.float32)
    assert layout.prefers_channels_last(GPU, torch.float16) and layout.prefers_channels_last(GPU, torch.bfloat16)
    monkeypatch.setattr(layout, 'autocast_dtype', lambda device: torch.bfloat16)
    assert layout.prefers_channels_last(GPU, torch.float32)
    assert not layout.prefers_channels_last(GPU, torch.float64)  # which autocast leaves alone


def test_other_devices_keep_what_they_have():
    feature = torch.empty(2, 3, 4, 5, device='meta')
    assert layout.to_preferred_memory_format(feature) is feature
