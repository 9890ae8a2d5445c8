"""In which precision, and whether converted first, published files are held to what the papers' code gives."""

import pytest
import torch

# In float32 a converted file shows what the others show together.
precisions_and_forms = pytest.mark.parametrize(
    'dtype, bound, converted',
    [
        pytest.param(torch.float64, 1e-6, False, id='float64 as published'),
        pytest.param(torch.float64, 1e-6, True, id='float64 converted'),
        pytest.param(torch.float32, 1e-3, False, id='float32 as published'),
        pytest.param(torch.float32, 1e-3, True, id='float32 converted', marks=pytest.mark.slow),
    ],
)
