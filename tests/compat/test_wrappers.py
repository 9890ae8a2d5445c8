"""Whatever a library puts around a network, the network inside is found, copied and replaced."""

import copy
import functools

import pytest
import torch
from mmengine.model import BaseTTAModel, ExponentialMovingAverage, MMDistributedDataParallel
from mmengine.structures import InstanceData
from torch import nn
from torch.optim.swa_utils import AveragedModel

from qsdt_mm.compat.wrappers import _tensors_in, bare_copy, rewrap, unwrap


class TTA(BaseTTAModel):
    def merge_preds(self, data_samples_list):
        raise NotImplementedError


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)

    def forward(self, x):
        return self.layer(x)

    def test_step(self, data):  # mmengine asks for it
        return self(data)


@pytest.fixture
def group(tmp_path):
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/group', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


AVERAGES = [ExponentialMovingAverage, AveragedModel]
IN_PLACE = [nn.DataParallel, TTA]
PARALLEL = [MMDistributedDataParallel, nn.parallel.DistributedDataParallel]


def test_a_network_is_itself():
    network = nn.Sequential(nn.Linear(2, 2))
    network.module = nn.Linear(2, 2)  # a part of that name does not make a wrapper
    assert unwrap(network) is network
    assert rewrap(network, other := nn.Linear(2, 2)) is other


@pytest.mark.parametrize('wrapper', IN_PLACE)
def test_wrappers(wrapper):
    network, other = Net(), Net()
    wrapped = wrapper(network)
    assert unwrap(wrapped) is network
    assert rewrap(wrapped, other) is wrapped and unwrap(wrapped) is other


@pytest.mark.parametrize('wrapper', AVERAGES)
def test_averages_hold_a_copy(wrapper):
    network = nn.Linear(2, 2)
    averaged = wrapper(network)
    assert unwrap(averaged) is averaged.module is not network and torch.equal(unwrap(averaged).weight, network.weight)


@pytest.mark.parametrize('wrapper', PARALLEL)
def test_parallel(group, wrapper):
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    wrapped = wrapper(network)
    assert unwrap(wrapped) is network and unwrap(nn.DataParallel(wrapped)) is network
    assert rewrap(wrapped, other) is wrapped and unwrap(wrapped) is other


def test_compiled():
    network, other = nn.Linear(2, 2), nn.Linear(2, 2)
    compiled = torch.compile(network, backend='eager')
    assert unwrap(compiled) is network and unwrap(nn.DataParallel(compiled)) is network
    assert rewrap(compiled, other) is other
    outer = nn.DataParallel(compiled)
    assert rewrap(outer, other) is outer and outer.module is other  # the old code is gone


@pytest.mark.parametrize('how', ['method', 'in place', 'outside'])
def test_a_copy_computes_with_its_own_weights(how):
    """mmengine compiles the method of an instance, whose copy would go on with the old weights."""
    network = Net()
    whole = network
    if how == 'method':
        network.forward = torch.compile(network.forward, backend='eager')
    elif how == 'in place':
        network.compile(backend='eager')
    else:
        whole = torch.compile(network, backend='eager')
    rows = torch.randn(3, 2)
    before = whole(rows)
    bare = bare_copy(whole)
    assert not bare.training and whole.training and torch.equal(bare(rows), before)
    nn.init.zeros_(bare.layer.weight), nn.init.zeros_(bare.layer.bias)
    assert not bare(rows).any() and torch.equal(whole(rows), before)
    assert isinstance(copy.deepcopy(bare), Net)


class Kept:
    """An object with a result, as a library's head may keep one."""

    def __init__(self, tensor):
        self.tensor = tensor


@pytest.mark.parametrize(
    'keep',
    [
        lambda x: x,
        lambda x: [x, x],
        lambda x: dict(levels=[(x,), {'a': Kept([x])}]),
        lambda x: InstanceData(scores=x.flatten()),
    ],
)
def test_results_of_a_training_step_are_copied_without_their_graph(keep):
    network = Net().train()
    result = network(torch.randn(3, 2))
    network.layer.kept = network.kept = keep(result)
    bare = bare_copy(network)
    assert result.grad_fn is not None and bare.layer.kept is bare.kept is not network.kept
    assert all(not tensor.requires_grad for tensor in _tensors_in(bare.kept))
    (copied, *_) = _tensors_in(bare.kept)
    assert torch.equal(copied.flatten(), result.detach().flatten()) and copied.data_ptr() != result.data_ptr()


def test_a_result_that_is_not_found_is_one_line():
    network = Net()
    result = network(torch.randn(3, 2))
    network.kept = functools.partial(print, result)
    with pytest.raises(ValueError, match='^model=Net is not allowed: expected one that keeps no result'):
        bare_copy(network)


def test_a_train_method_may_return_nothing():
    class Silent(Net):
        def train(self, mode=True):
            super().train(mode)

    bare = bare_copy(Silent())
    assert isinstance(bare, Silent) and not bare.training
