"""What the backbone does over time steps."""

import pytest
import torch
from tiny_backbones import ALL, TINY, assert_equal_outputs, backward, biases_before_another_norm, families, tiny

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.layers import SpikeUnit


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
    dead = {n for n, p in model.named_parameters() if not p.grad.any() and not n.endswith('synapse.bias')}
    assert dead <= biases_before_another_norm(model)


def test_one_image_of_many_steps_keeps_channels_last():
    model, seen = SpikeDrivenTransformer('e-3m', time_steps=2).eval(), []
    for module in model.modules():
        if isinstance(module, SpikeUnit):
            module.register_forward_hook(lambda unit, args, output: seen.append(output))
    model(torch.randn(1, 3, 64, 64))
    assert seen and all(output.is_contiguous(memory_format=torch.channels_last) for output in seen)
