"""What the backbone does with its arguments and images."""

import copy

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from tiny_backbones import ALL, TINY, assert_equal_outputs, backward, families, norms, tiny
from torch import nn

from qsdt_mm import LIF, SpikeDrivenTransformer
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import LSQ


@families
@pytest.mark.parametrize('size', [(32, 32), (33, 47), (97, 131), (64, 32), (40, 200)], ids=str)
def test_any_size(family, size):
    outputs = tiny(family).eval()(torch.randn(1, 3, *size))
    height, width = size
    widths = (4, 8, 8, 16, 16 if family == 'espike-large' else 24)
    for i, (out, channels, stride) in enumerate(zip(outputs, widths, (2, 4, 8, 16, 16), strict=True)):
        assert out.shape == (1, channels, -(-height // stride), -(-width // stride)), i
        assert out.isfinite().all() and out.std() > 0


@families
def test_strides_for_small_images(family):
    arch = dict(TINY[family], strides=(1, 1, 2, 2, 1)[: len(TINY[family]['widths'])], stem_kernel=3)
    outputs = SpikeDrivenTransformer(arch, out_indices=ALL).eval()(torch.randn(2, 3, 32, 32))
    assert [o.shape[-1] for o in outputs] == [32, 32, 16, 8, 8]


def test_outputs_are_membranes_not_spikes():
    for out in tiny().eval()(torch.randn(2, 3, 32, 32)):
        assert (out < 0).any() and not torch.equal(out * 4, (out * 4).round())


@pytest.mark.parametrize('out_indices', [(4,), (0,), (4, 0, 2), (1, 2, 3, 4), [2, 1], 3, (1, 1)], ids=str)
def test_out_indices_give_the_order(out_indices):
    image = torch.randn(1, 3, 32, 32)
    everything = tiny().eval()(image)
    model = tiny(out_indices=out_indices).eval()
    wanted = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    outputs = model(image)
    assert isinstance(outputs, tuple)
    assert_equal_outputs(outputs, [everything[i] for i in wanted])
    assert model.out_channels == tuple((4, 8, 8, 16, 24)[i] for i in wanted)


@pytest.mark.parametrize('in_channels', [1, 2, 6])
def test_other_numbers_of_channels(in_channels):
    assert tiny(in_channels=in_channels)(torch.randn(2, in_channels, 32, 32))[4].shape == (2, 24, 2, 2)


@families
@pytest.mark.parametrize('weight_bits', [2, 3, 4, 8, 32])
def test_weight_bits(family, weight_bits):
    model = tiny(family, weight_bits=weight_bits)
    quantizers = [m.bits for m in model.modules() if isinstance(m, LSQ)]
    convs = sum(isinstance(m, nn.Conv2d) for m in model.modules())
    assert quantizers == ([] if weight_bits == 32 else [weight_bits] * convs)
    outputs = model(torch.randn(2, 3, 32, 32))
    backward(outputs)
    assert all(o.isfinite().all() for o in outputs)
    assert all(p.grad.isfinite().all() for p in model.parameters())


def test_weight_bits_default_to_the_familys():
    assert {m.bits for m in tiny('qsd').modules() if isinstance(m, LSQ)} == {4}
    assert not any(isinstance(m, LSQ) for m in tiny('espike').modules())


@families
@pytest.mark.parametrize('max_spike_count', [1, 2, 8])
def test_max_spike_count(family, max_spike_count):
    model = tiny(family, max_spike_count=max_spike_count).eval()
    highest = []
    for module in model.modules():
        if isinstance(module, SpikingNeuron):
            assert module.max_spike_count == max_spike_count
            module.register_forward_hook(lambda m, _, out: highest.append((out / m.scale).max().item()))
    assert all(o.isfinite().all() for o in model(torch.randn(2, 3, 64, 64) * 3))
    assert max(highest) == pytest.approx(max_spike_count)
    plain = {m.scale for m in model.modules() if isinstance(m, SpikingNeuron)}
    assert plain == ({0.25, 0.5} if family == 'qsd' else {1 / max_spike_count})


@families
def test_relu_in_place_of_neurons(family):
    model = tiny(family, neuron=dict(type='ReLU'), weight_bits=32)
    assert not any(isinstance(m, SpikingNeuron) for m in model.modules())
    assert sum(isinstance(m, nn.ReLU) for m in model.modules()) == sum(
        isinstance(m, SpikingNeuron) for m in tiny(family).modules()
    )
    outputs = model(torch.randn(2, 3, 32, 32))
    backward(outputs)
    assert all(o.isfinite().all() for o in outputs)


@families
@pytest.mark.parametrize('time_steps', [1, 3])
def test_lif_neurons(family, time_steps):
    model = tiny(family, neuron=dict(type='LIF', tau=2.0, threshold=0.5), time_steps=time_steps)
    neurons = [m for m in model.modules() if isinstance(m, SpikingNeuron)]
    assert all(isinstance(n, LIF) and n.time_steps == time_steps and n.max_spike_count == 1 for n in neurons)
    outputs = model(torch.randn(2, 3, 32, 32))
    backward(outputs)
    assert all(o.isfinite().all() for o in outputs)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_drop_path_rises_linearly_over_blocks():
    model = tiny(drop_path_rate=0.5)
    rates = [
        [shortcut.drop_path.drop_prob if isinstance(shortcut.drop_path, DropPath) else 0.0 for shortcut in block]
        for stage in model.stages
        for block in stage.blocks
    ]
    assert rates == [pytest.approx([0.1 * i] * 2) for i in range(6)]
    assert not any(isinstance(m, DropPath) for m in tiny().modules())


def test_drop_path_of_the_large_sizes_rises_over_transformer_blocks():
    """Convolution blocks and pointwise branches are always kept."""
    model = tiny('espike-large', drop_path_rate=0.5)
    assert not any(isinstance(m, DropPath) for stage in model.stages[:3] for m in stage.modules())
    rates = [
        [s.drop_path.drop_prob if isinstance(s.drop_path, DropPath) else 0.0 for s in block]
        for block in model.stages[3].blocks
    ]
    assert rates == [[0.0] * 3, [0.0, 0.5, 0.5]]


def test_the_last_output_of_the_large_sizes_is_that_of_stride_16():
    model, image = tiny('espike-large', out_indices=(4, 3, 1)).eval(), torch.randn(1, 3, 32, 32)
    last, third, early = model(image)
    assert last is third and early.shape == (1, 8, 8, 8) and model.out_channels == (16, 16, 8)
    assert len(tiny('espike-large', frozen_stages=4).stages) == 4
    assert not any(p.requires_grad for p in tiny('espike-large', frozen_stages=4).parameters())


def test_the_parts_that_masked_pretraining_needs():
    """Convolution stages, the step to tokens and the transformer blocks, one after the other."""
    model, image = tiny('espike-large', out_indices=(2, 3)).eval(), torch.randn(1, 3, 32, 48)
    membrane = image.contiguous(memory_format=torch.channels_last)
    for stage in model.stages[:3]:
        membrane = stage.downsample(membrane)
        for block in stage.blocks:
            membrane = block(membrane)
    tokens = model.stages[3].downsample(membrane)
    for block in model.stages[3].blocks:
        tokens = block(tokens)
    assert_equal_outputs(model(image), (membrane, tokens))


def test_drop_path_acts_in_training_only():
    model, image = tiny(drop_path_rate=0.9), torch.randn(4, 3, 32, 32)
    plain = tiny()
    assert_equal_outputs(model.eval()(image), plain.eval()(image))
    assert not torch.equal(model.train()(image)[4], plain.train()(image)[4])


@pytest.mark.parametrize('frozen_stages', [-1, 0, 2, 4])
def test_frozen_stages(frozen_stages):
    model = tiny(frozen_stages=frozen_stages)
    for norm in norms(model):
        nn.init.normal_(norm.bias)  # the mean that a norm after it sees
    for mode in (True, False, True):  # switching modes does not thaw them
        model.train(mode)
    before = copy.deepcopy(model.state_dict())
    outputs = model(torch.randn(2, 3, 32, 32))
    if frozen_stages < 4:
        backward(outputs[frozen_stages + 1 :])
    for i, stage in enumerate(model.stages):
        frozen = i <= frozen_stages
        assert all((p.grad is None) == frozen and p.requires_grad != frozen for p in stage.parameters())
        assert all(m.training != frozen for m in stage.modules())
        for name, buffer in stage.named_buffers():
            same = torch.equal(buffer, before[f'stages.{i}.{name}'])
            assert same == frozen, name


def test_norm_eval_keeps_statistics_and_trains_the_rest():
    model = tiny(norm_eval=True).train()
    before = {n: b.clone() for n, b in model.named_buffers()}
    assert norms(model) and not any(m.training for m in norms(model)) and model.training
    backward(model(torch.randn(2, 3, 32, 32)))
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())
    assert all(p.grad is not None for p in model.parameters())
    assert all(m.training for m in norms(tiny(norm_eval=False).train()))
