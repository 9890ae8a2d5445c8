"""Published checkpoints, straight to spike-driven inference."""

import pytest
import torch

import qsdt_mm
from qsdt_mm.inference import convert

pytest.importorskip('mmpretrain')

LARGE = ['espike_large_base_public', 'espike_large_large_public']


@pytest.mark.parametrize(
    ('name', 'weight_bits'),
    [('qsd_public', None), ('espike_public', 8), ('espike_ties_public', 8), *((name, 8) for name in LARGE)],
)
def test_spike_logits_are_the_integer_ones(golden, name, weight_bits):
    model = qsdt_mm.load_published(golden(f'{name}.pth'))
    image = torch.load(golden(f'{name}_io.pt'), weights_only=True)['input']
    with torch.no_grad():
        integer, spike = (convert(model, mode, weight_bits)(image) for mode in ('integer', 'spike'))
    assert torch.equal(integer, spike) and integer.abs().max() > 0


@pytest.mark.parametrize('name', ['qsd_public', 'espike_public', 'espike_ties_public', *LARGE])
def test_spike_logits_are_the_published_ones(golden, name):
    """In float64, where no membrane is near enough to a threshold for rounding to matter; real weights included."""
    model = convert(qsdt_mm.load_published(golden(f'{name}.pth')).double(), 'spike')
    wanted = torch.load(golden(f'{name}_io.pt'), weights_only=True)
    with torch.no_grad():
        logits = model(wanted['input'].double())
    assert (logits - wanted['output']).abs().max() / wanted['output'].abs().max() < 1e-6
