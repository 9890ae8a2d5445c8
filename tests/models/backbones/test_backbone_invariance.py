"""Checkpointing, memory format, copies and compilation change nothing in the backbone."""

import copy
import pickle

import pytest
import torch
from tiny_backbones import ALL, TINY, assert_equal_outputs, assert_same_training, backward, families, tiny

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.layers import norms, synapses


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
def test_compiling_changes_nothing(family, monkeypatch):
    arch = dict(
        TINY[family], depths=(1, 0, 0, 1, 0)[: len(TINY[family]['widths'])]
    )  # a block of each kind: tracing takes its time
    model = SpikeDrivenTransformer(arch, out_indices=ALL).train()
    reference, image = copy.deepcopy(model), torch.randn(2, 3, 32, 32)
    compiled = torch.compile(model, backend='eager')
    outputs = compiled(image)
    for room in (norms, synapses):  # a compiler gets the norms as they are, one after the other
        monkeypatch.setattr(room, 'can_fuse', lambda *args: False)
    expected = reference(image)
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
