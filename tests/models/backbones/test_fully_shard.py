"""Backbones whose parameters ``fully_shard`` spreads over two processes train as copies of them do (DDP)."""

import sys

import pytest
import torch
import torch._dynamo  # seconds, which each process would take for itself otherwise
import torch.distributed as dist
from copies import joined
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from toy_runs import free_port

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.compat.sharded import whole_parameters
from qsdt_mm.models.layers.synapses import BNAndPad

fsdp = pytest.importorskip('torch.distributed.fsdp')
if not hasattr(fsdp, 'fully_shard'):
    pytest.skip('torch 2.6 and later', allow_module_level=True)
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard  # noqa: E402
from torch.distributed.tensor import DTensor, Shard, distribute_module, distribute_tensor, init_device_mesh  # noqa: E402

WIDTHS = (4, 4, 8, 8, 8)
QSD = dict(family='qsd', widths=WIDTHS, depths=(0, 1, 0, 1, 0), num_heads=2, layer_scale=0.1)
ESPIKE = dict(family='espike', widths=WIDTHS, depths=(0, 1, 0, 1, 0), num_heads=2)
BLOCKS = ('Block', 'Stage')


def network(arch=QSD, **arguments):
    torch.manual_seed(0)
    return SpikeDrivenTransformer(arch, in_channels=1, **arguments).double()


def sharded(model, kinds=BLOCKS, **settings):
    """The model, the modules of some classes sharded one by one, then what is left."""
    for module in reversed(list(model.modules())):
        if type(module).__name__ in kinds:
            fully_shard(module, **settings)
    return fully_shard(model, **settings)


def trained(model, images, steps=3):
    """The model after a few steps; its first gradients, by name."""
    optimizer, gradients = torch.optim.AdamW(model.parameters(), lr=1e-2), {}
    for step in range(steps):
        model(images)[0].square().mean().backward()
        if step == 0:
            gradients = {name.removeprefix('module.'): p.grad.detach().clone() for name, p in model.named_parameters()}
        optimizer.step()
        optimizer.zero_grad()
    return gradients


def two(check):
    """Run ``check`` in two processes, each with two of four images of its own."""

    def rank():
        dist.init_process_group('gloo')
        images = torch.randn(4, 1, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
        check(images[2 * dist.get_rank() :][:2])
        dist.barrier()
        sys.stdout.flush()
        return 0

    joined(rank, 2, free_port())


def state(model):
    with whole_parameters(model):
        return {name: value.clone() for name, value in model.state_dict().items()}


def check_same(found, expected):
    assert found.keys() == expected.keys()
    different = [name for name, value in expected.items() if not torch.equal(found[name], value)]
    assert not different, different


CASES = [
    (BLOCKS, dict()),
    (('Stage',), dict(with_cp=True)),
    ((), dict(arch=ESPIKE, weight_bits=2)),
    (('RepConvBN', 'Block'), dict(time_steps=2, neuron=dict(type='ParametricLIF'))),
    (('BNAndPad', 'QuantConv2d'), dict(arch=dict(QSD, depths=(0, 0, 0, 1, 0)), with_cp=True)),
]


@pytest.mark.parametrize('cases', [CASES[:2], pytest.param(CASES[2:], marks=pytest.mark.slow)], ids=['usual', 'others'])
def test_gradients_and_steps_are_those_of_copies(cases):
    """Bit for bit: weights, LSQ steps, statistics."""

    def check(images):
        for kinds, arguments in cases:
            copies = DistributedDataParallel(network(**arguments), broadcast_buffers=False)
            expected = trained(copies, images)
            model = sharded(network(**arguments), kinds)
            found = trained(model, images)
            assert all(isinstance(p, DTensor) for p in model.parameters())
            check_same({name: value.full_tensor() for name, value in found.items()}, expected)
            check_same(state(model), copies.module.state_dict())

    two(check)


def test_built_without_memory_then_loaded():
    """On the meta device, as for models that no process could hold; full precision has no LSQ steps: they follow."""

    def check(images):
        source = network()
        with torch.device('meta'):
            model = network()
        sharded(model).to_empty(device='cpu')
        model.load_state_dict(
            {name: distribute_like(value, model.state_dict()[name]) for name, value in source.state_dict().items()}
        )
        check_same(state(model), source.state_dict())
        larger = {name: 2 * value for name, value in source.state_dict().items() if not name.endswith('.step')}
        source.load_state_dict(larger, strict=False)
        model.load_state_dict(
            {name: distribute_like(value, model.state_dict()[name]) for name, value in larger.items()}, strict=False
        )
        check_same(state(model), source.state_dict())
        plain = DistributedDataParallel(source, broadcast_buffers=False)
        trained(plain, images, steps=1)
        trained(model, images, steps=1)
        check_same(state(model), source.state_dict())

    two(check)


def distribute_like(value, held):
    return distribute_tensor(value, held.device_mesh, held.placements) if isinstance(held, DTensor) else value


@pytest.mark.slow
def test_half_precision_with_norms_in_full_precision():
    """Torch's batch norm takes no bfloat16 weights beside float32 statistics: norms are groups of their own."""

    def check(images):
        model = network(with_cp=True).float()
        half = MixedPrecisionPolicy(torch.bfloat16, torch.float32)
        padded = {module.norm for module in model.modules() if isinstance(module, BNAndPad)}
        for module in model.modules():
            if isinstance(module, (BNAndPad, nn.BatchNorm2d)) and module not in padded:
                fully_shard(module, mp_policy=MixedPrecisionPolicy(cast_forward_inputs=False))
        trained(sharded(model, mp_policy=half), images.float())
        values = state(model)
        assert all(value.isfinite().all() for value in values.values())
        assert {p.dtype for p in model.parameters()} == {torch.float32}
        steps = [
            not torch.equal(value, network().float().state_dict()[n]) for n, value in values.items() if 'step' in n
        ]
        assert sum(steps) > len(steps) / 2

    two(check)


@pytest.mark.slow
def test_every_tensor_distributed():
    """Images that are spread over processes, parameters that all of them hold (``DTensor``)."""

    def check(images):
        mesh = init_device_mesh('cpu', (2,))
        model, plain = network(norm_eval=True), network(norm_eval=True)
        distribute_module(model, mesh)
        model(DTensor.from_local(images, mesh, [Shard(0)]))[0].square().sum().backward()
        everyone = [torch.empty_like(images) for _ in range(2)]
        dist.all_gather(everyone, images)
        plain(torch.cat(everyone))[0].square().sum().backward()
        for (name, p), q in zip(model.named_parameters(), plain.parameters()):
            torch.testing.assert_close(p.grad.full_tensor(), q.grad, rtol=1e-9, atol=1e-9, msg=name)

    two(check)


@pytest.mark.slow
def test_compiled():
    def check(images):
        copies = DistributedDataParallel(network(), broadcast_buffers=False)
        trained(copies, images, steps=1)
        model = sharded(network())
        trained(torch.compile(model, backend='eager'), images, steps=1)
        check_same(state(model), copies.module.state_dict())

    two(check)


def test_the_norm_of_a_padded_one_is_not_sharded_alone():
    def check(images):
        model = sharded(network(), ('BatchNorm2d',))
        with pytest.raises(ValueError, match='the norm of a BNAndPad cannot be sharded alone: shard the BNAndPad'):
            model(images)

    two(check)


def test_one_output_trains_without_searching_for_unused_parameters():
    """Stages after the last output are not built, so that copies (DDP) find a gradient for each parameter."""

    def check(images):
        copies = DistributedDataParallel(network(out_indices=(3,)), find_unused_parameters=False)
        assert len(trained(copies, images)) == len(list(copies.parameters()))

    two(check)
