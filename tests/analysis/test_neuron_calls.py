"""Calls that spikes cost in a training step on a GPU: three launches for each neuron, however many layers listen."""

import pytest
import torch
from tiny_backbones import families, tiny

from qsdt_mm.analysis.calls import count_calls
from qsdt_mm.models import IELIF

BYTES_IN_TURN = {'bitwise_and', 'bitwise_or', '__and__', '__rshift__', '__lshift__', '__ilshift__', '__ior__'}


def launches(model, image, dtype=torch.bfloat16):
    """Calls and bytes of a step by operator."""
    found = count_calls(model, lambda: model(image), dtype).by('operator')
    return {name: (calls, size) for name, calls, size in found}


@pytest.mark.parametrize('dtype', [None, torch.bfloat16], ids=str)
@families
def test_three_launches_a_neuron(family, dtype):
    model, image = tiny(family, out_indices=(4,)).train(), torch.randn(2, 3, 32, 32)
    sizes = []
    handles = [
        m.register_forward_hook(lambda m, args, out: sizes.append((out.numel(), out.element_size())))
        for m in model.modules()
        if isinstance(m, IELIF)
    ]
    with torch.autocast('cpu', torch.bfloat16, enabled=dtype is not None):
        model(image)
    for handle in handles:
        handle.remove()
    found = launches(model, image, dtype)
    half = sum((n + 1) // 2 for n, _ in sizes)
    values = sum(n * size for n, size in sizes)
    assert found['triton.fire_packed'] == (len(sizes), 2 * values + half)
    assert found['triton.fire_packed_backward'] == (len(sizes), 2 * values + half)
    # Under autocast a copy is kept of spikes that are of another type than the layers after them.
    restored, moved = found['triton.restore_spikes']
    assert restored <= len(sizes) and moved <= values + half
    assert dtype is not None or restored == len(sizes)
    assert not BYTES_IN_TURN & found.keys()
