"""What the backbone does with its arguments and its input."""

import copy
import pickle
import warnings

import pytest
import torch
from mmcv.cnn.bricks.drop import DropPath
from mmengine.registry import MODELS
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from qsdt_mm import LIF, SpikeDrivenTransformer
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.models.quantization import LSQ

TINY = {
    'qsd': dict(family='qsd', widths=(4, 8, 8, 16, 24), depths=(1, 1, 1, 2, 1), num_heads=4),
    'espike': dict(family='espike', widths=(4, 8, 8, 16, 24), depths=(1, 1, 1, 2, 1), num_heads=4),
    'espike-large': dict(
        family='espike-large', widths=(4, 8, 8, 16), depths=(1, 1, 1, 2), num_heads=4, pointwise_branch=True
    ),
}
ALL = tuple(range(5))
families = pytest.mark.parametrize('family', TINY)


def tiny(family='qsd', **kwargs):
    torch.manual_seed(1)
    kwargs.setdefault('out_indices', ALL)
    return SpikeDrivenTransformer(TINY[family], **kwargs)


def backward(outputs):
    """A loss whose gradient batch norm does not cancel, the same each time."""
    source = torch.Generator().manual_seed(5)
    sum((o * torch.randn(o.shape, generator=source).to(o)).sum() for o in outputs).backward()


def norms(module):
    return [m for m in module.modules() if isinstance(m, _BatchNorm)]


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


# --- shapes -----------------------------------------------------------------------------------------------------------


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


# --- arguments --------------------------------------------------------------------------------------------------------


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


# --- what must change nothing -----------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize(
    'kwargs', [{}, dict(drop_path_rate=0.5), dict(time_steps=2), dict(frozen_stages=1), dict(norm_eval=True)], ids=str
)
def test_checkpointing_changes_nothing(family, kwargs):
    model, reference = tiny(family, with_cp=True, **kwargs).train(), tiny(family, **kwargs).train()
    image = torch.randn(4, 3, 32, 32)
    for _ in range(2):  # running statistics are read in the second step
        assert_same_training(model, reference, image)
    assert_equal_outputs(model.eval()(image), reference.eval()(image))


@families
def test_checkpointing_changes_nothing_for_two_forwards_before_one_backward(family):
    """The second forward moves the running statistics, which the borders of the first one were made with."""
    images = torch.randn(2, 4, 3, 32, 32) * 3 + 1
    models = [tiny(family, with_cp=with_cp).train() for with_cp in (True, False)]
    for model in models:
        backward([*model(images[0]), *model(images[1])])
    for (name, p), (_, q) in zip(*(m.named_parameters() for m in models), strict=True):
        assert torch.equal(p.grad, q.grad), name
    for (name, b), (_, c) in zip(*(m.named_buffers() for m in models), strict=True):
        assert torch.equal(b, c), name


def test_checkpointing_changes_nothing_for_two_backwards():
    model, reference, image = tiny(with_cp=True).train(), tiny().train(), torch.randn(2, 3, 32, 32)
    for m in (model, reference):
        out = m(image)[4].square().sum()
        out.backward(retain_graph=True)
        out.backward()
    for (name, p), (_, q) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name


def test_checkpointing_computes_blocks_again():
    model = tiny(with_cp=True).train()
    calls = []
    for stage in model.stages:
        for block in stage.blocks:
            block.register_forward_pre_hook(lambda *_: calls.append(1))
    outputs = model(torch.randn(2, 3, 32, 32))
    assert len(calls) == 6
    backward(outputs)
    assert len(calls) == 12


def test_checkpointing_restores_norms_when_the_backward_pass_fails():
    model = tiny(with_cp=True).train()
    outputs = model(torch.randn(2, 3, 32, 32))
    before = {n: b.clone() for n, b in model.named_buffers()}

    def fail(*_):
        raise RuntimeError('broken')

    handle = model.stages[4].blocks[0][1].register_forward_pre_hook(fail)
    with pytest.raises(RuntimeError, match='broken'):
        backward(outputs)
    handle.remove()
    assert all(torch.equal(b, before[n]) for n, b in model.named_buffers())


@families
def test_channels_last_changes_nothing(family):
    """In float64: sums are made in another order, and in float32 that may flip a spike on the edge of firing."""
    model, image = tiny(family).double().train(), torch.randn(2, 3, 48, 40, dtype=torch.float64)
    twin = copy.deepcopy(model).to(memory_format=torch.channels_last)
    outputs, expected = twin(image.to(memory_format=torch.channels_last)), model(image)
    backward(outputs)
    backward(expected)
    for out, other in zip(outputs, expected, strict=True):
        torch.testing.assert_close(out, other, rtol=1e-9, atol=1e-9)
    silent = {n for n, p in model.named_parameters() if n.endswith('synapse.bias')}  # zero but for rounding
    for (name, p), (_, q) in zip(twin.named_parameters(), model.named_parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, rtol=1e-7, atol=1e-9 if name not in silent else 1e-6)
    for (name, b), (_, c) in zip(twin.named_buffers(), model.named_buffers(), strict=True):
        torch.testing.assert_close(b, c, rtol=1e-9, atol=1e-9, msg=name)


@families
@pytest.mark.parametrize('how', ['deepcopy', 'pickle', 'state_dict'])
def test_copies_are_equal(family, how):
    model, image = tiny(family), torch.randn(2, 3, 32, 32)
    model(image)  # statistics that are not the first ones
    if how == 'state_dict':
        twin = SpikeDrivenTransformer(TINY[family], out_indices=ALL)
        twin.load_state_dict(model.state_dict())
    else:
        twin = copy.deepcopy(model) if how == 'deepcopy' else pickle.loads(pickle.dumps(model))
    assert_equal_outputs(twin.eval()(image), model.eval()(image))
    assert_same_training(twin.train(), model.train(), image)


@pytest.mark.skipif(
    not hasattr(torch.compiler, 'is_compiling'),
    reason='torch 2.1 cannot trace hooks on what is saved for the backward pass',
)
@pytest.mark.parametrize('family', ['qsd', *(pytest.param(f, marks=pytest.mark.slow) for f in TINY if f != 'qsd')])
def test_compiling_changes_nothing(family):
    arch = dict(
        TINY[family], depths=(1, 0, 0, 1, 0)[: len(TINY[family]['widths'])]
    )  # a block of each kind: tracing takes its time
    model = SpikeDrivenTransformer(arch, out_indices=ALL).train()
    reference, image = copy.deepcopy(model), torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, backend='eager')
    outputs, expected = compiled(image), reference(image)
    assert_equal_outputs(outputs, expected)
    backward(outputs)
    backward(expected)
    for (name, p), (_, q) in zip(model.named_parameters(), reference.named_parameters(), strict=True):
        assert torch.equal(p.grad, q.grad), name
    torch._dynamo.reset()


@families
def test_training_in_bfloat16_autocast(family):
    """Within a few steps on one batch the loss comes down, with float32 weights and finite gradients."""
    model = tiny(family, out_indices=(4,)).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-2)
    image, target = torch.randn(4, 3, 32, 32), torch.randn(4, *model.out_channels)
    losses = []
    for _ in range(16):
        optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16):
            (out,) = model(image)
            loss = (out.float().mean((2, 3)) - target).square().mean()
        loss.backward()
        assert all(p.grad.dtype is torch.float32 and p.grad.isfinite().all() for p in model.parameters())
        optimizer.step()
        losses.append(loss.item())
    assert min(losses) < 0.9 * losses[0]


@families
def test_images_do_not_mix(family):
    model = tiny(family, time_steps=2).double().eval()
    clips = torch.randn(3, 2, 3, 32, 32, dtype=torch.float64)
    alone = [model(clip[None])[4] for clip in clips]
    torch.testing.assert_close(model(clips)[4], torch.cat(alone), rtol=1e-9, atol=1e-9)


# --- time -------------------------------------------------------------------------------------------------------------


@families
@pytest.mark.parametrize('time_steps', [2, 3])
def test_a_still_image_is_shown_at_every_step(family, time_steps):
    model, image = tiny(family, time_steps=time_steps).eval(), torch.randn(2, 3, 32, 32)
    clip = image[:, None].expand(-1, time_steps, -1, -1, -1)
    outputs, expected = model(image), model(clip)
    for out, other in zip(outputs, expected, strict=True):
        # The stem sees N images in one case and T * N in the other: convolution libraries may sum differently.
        torch.testing.assert_close(out, other, rtol=1e-5, atol=1e-5)


def test_time_is_folded_first_and_averaged():
    folded, averaged = tiny(time_steps=3, time_mean=False).eval(), tiny(time_steps=3).eval()
    clip = torch.randn(2, 3, 3, 32, 32)
    for image in (clip, clip[:, 0]):
        outputs = folded(image)
        assert [o.shape[0] for o in outputs] == [6] * 5
        for found, steps in zip(averaged(image), outputs, strict=True):
            torch.testing.assert_close(found, steps.unflatten(0, (3, 2)).mean(0))


def test_the_order_of_frames_matters_and_earlier_ones_do_not_see_later_ones():
    model = tiny('espike', time_steps=2, time_mean=False).double().eval()
    first, second, other = torch.randn(3, 1, 3, 32, 32, dtype=torch.float64)
    forth, back = model(torch.stack([first, second], 1)), model(torch.stack([second, first], 1))
    assert not torch.allclose(forth[4].mean(0), back[4].mean(0))
    changed = model(torch.stack([first, other], 1))
    torch.testing.assert_close(changed[4][0], forth[4][0], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(changed[4][1], forth[4][1])


def test_one_step_of_time_is_no_time():
    model, image = tiny().eval(), torch.randn(2, 3, 32, 32)
    assert_equal_outputs(model(image[:, None]), model(image))


@families
def test_gradients_reach_every_parameter_over_time(family):
    arch = TINY[family]
    if family == 'espike-large':  # fires on many tokens and wide heads
        arch = dict(arch, strides=(1, 1, 2, 2), num_heads=1)
    model = SpikeDrivenTransformer(arch, out_indices=ALL, time_steps=2).train()
    backward(model(torch.randn(2, 2, 3, 64, 64)))
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    dead = [n for n, p in model.named_parameters() if not p.grad.any() and not n.endswith('synapse.bias')]
    assert not dead


# --- initialisation ---------------------------------------------------------------------------------------------------


@families
def test_pretrained_weights_come_back(family, tmp_path):
    source = tiny(family)
    source(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        for module in source.modules():
            if isinstance(module, LSQ):
                module.step.mul_(1.5)  # learned, not what the weights would give
    file = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=source.state_dict()), file)
    model = SpikeDrivenTransformer(TINY[family], init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    state = model.state_dict()
    assert list(state) == list(source.state_dict())
    assert all(torch.equal(state[k], v) for k, v in source.state_dict().items())


def test_pretrained_weights_of_a_whole_classifier(tmp_path):
    source, file = tiny(), str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}), file)
    model = SpikeDrivenTransformer(
        TINY['qsd'], out_indices=ALL, init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.')
    )
    model.init_weights()
    image = torch.randn(1, 3, 32, 32)
    assert_equal_outputs(model.eval()(image), source.eval()(image))


def test_full_precision_weights_start_new_steps(tmp_path):
    source, file = tiny(weight_bits=32), str(tmp_path / 'weights.pth')
    with torch.no_grad():
        for p in source.parameters():
            p.mul_(10)
    torch.save(dict(state_dict=source.state_dict()), file)
    model = tiny(weight_bits=8, init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    assert_steps_fit(model)
    conv = model.stages[1].downsample.synapse
    assert torch.equal(conv.weight, source.stages[1].downsample.synapse.weight)


def assert_steps_fit(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            high = 2 ** (module.weight_bits - 1) - 1
            expected = 2 * module.weight.abs().mean() / high**0.5
            torch.testing.assert_close(module.quantizer.step.data, expected.expand_as(module.quantizer.step).detach())


def test_steps_follow_weights_drawn_by_a_config():
    model = tiny(init_cfg=dict(type='Normal', layer='Conv2d', std=3.0))
    model.init_weights()
    assert model.stages[0].downsample.synapse.weight.std() > 2
    assert_steps_fit(model)


def test_without_a_config_initialisation_changes_nothing():
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_seed_decides_the_weights():
    assert all(torch.equal(p, q) for p, q in zip(tiny().parameters(), tiny().parameters(), strict=True))


def test_built_by_name_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = MODELS.build(dict(type='SpikeDrivenTransformer', arch=TINY['qsd']))
        model.train()(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert isinstance(model, SpikeDrivenTransformer)


# --- bad values -------------------------------------------------------------------------------------------------------

BAD_ARGUMENTS = [
    ('arch', 'qsd-16m', 'arch', 'qsd-15m'),
    ('in_channels', 0, 'in_channels', '>= 1'),
    ('in_channels', 3.0, 'in_channels', 'integer'),
    ('time_steps', 0, 'time_steps', '>= 1'),
    ('time_steps', 1.5, 'time_steps', 'integer'),
    ('max_spike_count', 0, 'max_spike_count', '>= 1'),
    ('max_spike_count', '4', 'max_spike_count', 'integer'),
    ('weight_bits', 5, 'weight_bits', '2, 3, 4, 8, 32'),
    ('weight_bits', 0, 'weight_bits', '2, 3, 4, 8, 32'),
    ('out_indices', (5,), 'out_indices', '0 to 4'),
    ('out_indices', (-1,), 'out_indices', '0 to 4'),
    ('out_indices', (), 'out_indices', '0 to 4'),
    ('out_indices', 7, 'out_indices', '0 to 4'),
    ('out_indices', None, 'out_indices', '0 to 4'),
    ('out_indices', (1.5,), 'out_indices', '0 to 4'),
    ('drop_path_rate', 1.0, 'drop_path_rate', '[0, 1)'),
    ('drop_path_rate', -0.1, 'drop_path_rate', '[0, 1)'),
    ('drop_path_rate', 'much', 'drop_path_rate', '[0, 1)'),
    ('drop_path_rate', float('nan'), 'drop_path_rate', '[0, 1)'),
    ('frozen_stages', 5, 'frozen_stages', '-1'),
    ('frozen_stages', -2, 'frozen_stages', '-1'),
    ('frozen_stages', '1', 'frozen_stages', '-1'),
    ('neuron', dict(type='Perceptron'), 'neuron', 'IELIF'),
    ('neuron', dict(threshold=1), 'neuron', 'IELIF'),
    ('neuron', 'IELIF', 'neuron', 'IELIF'),
    ('neuron', dict(type='IELIF', threshold=0), 'threshold', '> 0'),
    ('neuron', dict(type='LIF', tau=0.5), 'tau', '>= 1'),
]


@pytest.mark.parametrize(
    ('argument', 'value', 'named', 'allowed'), BAD_ARGUMENTS, ids=[f'{a}={v}' for a, v, *_ in BAD_ARGUMENTS]
)
def test_bad_arguments_are_refused(argument, value, named, allowed):
    kwargs = dict(arch=TINY['qsd'], **{argument: value}) if argument != 'arch' else {argument: value}
    with pytest.raises(ValueError) as error:
        SpikeDrivenTransformer(**kwargs)
    message = str(error.value)
    assert message.startswith(f'{named}=') and '\n' not in message
    given, expected = message.split('expected', 1)
    assert allowed in expected
    shown = value if named == argument else value[named]
    assert repr(shown) in given or repr((shown,)) in given


@pytest.mark.parametrize('heads', [3, 7, 32])
@families
def test_heads_that_do_not_divide_the_channels_are_refused(family, heads):
    with pytest.raises(ValueError, match=f'^num_heads={heads} .* divisor of the 16 channels'):
        SpikeDrivenTransformer(dict(TINY[family], num_heads=heads))


@pytest.mark.parametrize(
    ('shape', 'allowed'),
    [
        ((3, 32, 32), r'\(N, C, H, W\) or \(N, T, C, H, W\)'),
        ((1, 1, 2, 3, 32, 32), r'\(N, C, H, W\) or \(N, T, C, H, W\)'),
        ((1, 1, 32, 32), 'in_channels=3'),
        ((1, 32, 32, 3), 'in_channels=3'),
        ((1, 2, 4, 32, 32), 'in_channels=3'),
        ((1, 3, 3, 32, 32), 'time_steps = 2'),
        ((1, 1, 3, 32, 32), 'time_steps = 2'),
        ((1, 3, 31, 32), '32 px'),
        ((1, 3, 32, 31), '32 px'),
        ((1, 2, 3, 8, 64), '32 px'),
    ],
    ids=str,
)
def test_bad_images_are_refused(shape, allowed):
    model = tiny(time_steps=2)
    with pytest.raises(ValueError, match=f'expected .*{allowed}') as error:
        model(torch.zeros(shape))
    assert str(error.value).startswith(f'input={tuple(shape)} ')


def test_one_image_of_many_steps_keeps_channels_last():
    model, seen = SpikeDrivenTransformer('e-3m', time_steps=2).eval(), []
    for module in model.modules():
        if isinstance(module, SpikeUnit):
            module.register_forward_hook(lambda unit, args, output: seen.append(output))
    model(torch.randn(1, 3, 64, 64))
    assert seen and all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)
