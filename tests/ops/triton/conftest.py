"""Kernels without a GPU: copies of their modules, run by Triton's interpreter."""

import importlib
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import pytest
import torch

from qsdt_mm.ops import dispatch, triton

MODULES = ('arithmetic', 'arrivals', 'neuron', 'packed', 'time_steps', 'lsq', 'weight_bank', 'batch_norm', 'depthwise')
MODULES += ('self_test',)


@contextmanager
def interpreter():
    """Within the context, kernels are imported anew for the interpreter; afterwards nothing of that is left.

    Triton itself comes first, as it is: what it decorates in its own modules would stay interpreted for the process.
    """
    names = [f'{triton.__name__}.{name}' for name in MODULES]

    def forget():
        for name, short in zip(names, MODULES):
            sys.modules.pop(name, None)
            vars(triton).pop(short, None)

    before = {name: sys.modules[name] for name in names if name in sys.modules}
    forget()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('TRITON_INTERPRET', '1')
        try:
            modules = SimpleNamespace(**{short: importlib.import_module(name) for name, short in zip(names, MODULES)})
            for name, size in dict(BLOCK=16, ROW_BLOCK=8, CHANNEL_BLOCK=4).items():
                setattr(modules.batch_norm, name, size)  # small tiles, for it sums one by one
                setattr(modules.depthwise, name, size)
            modules.batch_norm.SPLIT_BLOCK = modules.depthwise.SPLIT_BLOCK = 2
            yield modules
        finally:
            forget()
            sys.modules.update(before)
            for name, module in before.items():
                setattr(triton, name.rpartition('.')[2], module)


@pytest.fixture(scope='module')
def interpreted():
    """The kernels' modules, interpreted: their launch functions take tensors of a CPU."""
    pytest.importorskip('triton.language')
    if int(importlib.import_module('triton').__version__.split('.')[0]) < 3:
        pytest.skip('the kernels need Triton 3 or later: plain operations run instead')
    with interpreter() as modules:
        yield modules


@pytest.fixture
def device():
    """A CUDA device where kernels work: that they do not is a failure here."""
    if not torch.cuda.is_available():
        pytest.skip('no CUDA device')
    pytest.importorskip('triton')
    device = torch.device('cuda', torch.cuda.current_device())
    assert all(dispatch.works(device, dtype) for dtype in dispatch.DTYPES)
    return device


@pytest.fixture
def dispatched(interpreted, monkeypatch):
    """Kernels serve tensors of a CPU, too; a list of the names that were found."""
    found = []

    def find(name, *tensors):
        kernel = find_as_ever(name, *tensors)
        if kernel is not None:
            found.append(name)
        return kernel

    find_as_ever = dispatch.find
    monkeypatch.setattr(dispatch, 'serves', lambda first, *others: first.dtype in dispatch.DTYPES)
    monkeypatch.setattr(dispatch, 'find', find)
    return found
