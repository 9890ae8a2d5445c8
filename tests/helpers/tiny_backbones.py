"""Backbones small enough for tests, and comparisons to the last bit."""

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.models.layers.norms import NormedChain

TINY = {
    'qsd': dict(family='qsd', widths=(4, 8, 8, 16, 24), depths=(1, 1, 1, 2, 1), num_heads=4),
    'espike': dict(family='espike', widths=(4, 8, 8, 16, 24), depths=(1, 1, 1, 2, 1), num_heads=4),
    'espike-large': dict(
        family='espike-large', widths=(4, 8, 8, 16), depths=(1, 1, 1, 2), num_heads=4, pointwise_branch=True
    ),
}
ALL = tuple(range(5))
families = pytest.mark.parametrize('family', TINY)


def tiny(family='qsd', arch=None, **kwargs):
    torch.manual_seed(1)
    kwargs.setdefault('out_indices', ALL)
    return SpikeDrivenTransformer(arch or TINY[family], **kwargs)


def backward(outputs):
    """A loss whose gradient batch norm does not cancel, the same each time."""
    source = torch.Generator().manual_seed(5)
    sum((o * torch.randn(o.shape, generator=source).to(o)).sum() for o in outputs).backward()


def norms(module):
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


def biases_before_another_norm(model):
    """Names of the biases of norms that another norm follows in the unit, and takes away again in training."""
    return {
        f'{name}.synapse.{len(unit.synapse) - 1}.bias'
        for name, unit in model.named_modules()
        if isinstance(unit, SpikeUnit) and isinstance(unit.synapse, NormedChain) and unit.norm is not None
    }


def assert_equal_outputs(outputs, expected):
    assert len(outputs) == len(expected)
    for out, other in zip(outputs, expected, strict=True):
        assert torch.equal(out, other)


def assert_same_training(model, reference, image):
    """Outputs, gradients and buffers after one training step are equal to the last bit."""
    results = []
    for m in (model, reference):
        torch.manual_seed(7)
        results.append(m(image))
        backward(results[-1])
    assert_equal_outputs(*results)
    for (name, p), (_, q) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None) == (not p.requires_grad), name
        assert p.grad is None or torch.equal(p.grad, q.grad), name
    for (name, b), (_, c) in zip(model.named_buffers(), reference.named_buffers(), strict=True):
        assert torch.equal(b, c), name
