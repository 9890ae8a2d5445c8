"""Synapses made of several convolutions."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from qsdt_mm.models.layers import BNAndPad, DepthwiseSeparableConv, PointwiseChain, RepConvBN, UnitFactory

NEURON = dict(type='IELIF', threshold=0.25, scale=0.25)


def factory(bits=4):
    return UnitFactory(NEURON, 4, 1, bits)


def trained(module):
    """Norms as after training, in float64."""
    for m in module.modules():
        if isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.running_mean)
            nn.init.uniform_(m.running_var, 0.2, 3)
            nn.init.uniform_(m.weight, -2, 2)
            nn.init.normal_(m.bias)
    return module.double()


def gain_and_offset(norm):
    gain = norm.weight / (norm.running_var + norm.eps).sqrt()
    return gain, norm.bias - norm.running_mean * gain


def test_the_border_is_what_norm_makes_of_zero():
    layer = trained(BNAndPad(5)).eval()
    membrane = torch.randn(2, 5, 4, 7, dtype=torch.float64)
    torch.testing.assert_close(layer(membrane), layer.norm(F.pad(membrane, (1, 1, 1, 1))), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize('bits', [2, 4, 32])
def test_rep_conv_is_one_padded_convolution(bits):
    channels = 6
    chain = trained(RepConvBN(factory(bits), channels)).eval()
    first, border, depthwise, second, last = chain
    gain, offset = gain_and_offset(border.norm)
    last_gain, last_offset = gain_and_offset(last)
    mix_in, mix_out = first.quantized_weight[:, :, 0, 0], second.quantized_weight[:, :, 0, 0]
    taps = depthwise.quantized_weight[:, 0]
    kernel = torch.einsum('o,om,mhw,m,mi->oihw', last_gain, mix_out, taps, gain, mix_in)
    bias = last_gain * (mix_out @ (taps.sum((1, 2)) * offset)) + last_offset
    spikes = torch.randint(0, 5, (2, channels, 5, 8)).double() / 4
    torch.testing.assert_close(chain(spikes), F.conv2d(spikes, kernel, bias, padding=1), rtol=1e-10, atol=1e-10)
    assert all(layer.bias is None for layer in (first, depthwise, second))


@pytest.mark.parametrize('bits', [4, 32])
def test_a_pointwise_chain_is_one_pointwise_convolution(bits):
    chain = trained(PointwiseChain(factory(bits), 6, 9)).eval()
    first, norm, second, last = chain
    gain, offset = gain_and_offset(norm)
    last_gain, last_offset = gain_and_offset(last)
    mix_in, mix_out = first.quantized_weight[:, :, 0, 0], second.quantized_weight[:, :, 0, 0]
    weight = last_gain[:, None] * (mix_out @ (gain[:, None] * mix_in))
    bias = last_gain * (mix_out @ offset) + last_offset
    spikes = torch.randint(0, 5, (2, 6, 5, 8)).double() / 4
    expected = torch.einsum('oi,nihw->nohw', weight, spikes) + bias.view(-1, 1, 1)
    torch.testing.assert_close(chain(spikes), expected, rtol=1e-10, atol=1e-10)
    assert mix_in.shape == (9, 6) and first.bias is None and second.bias is None


def test_in_training_the_border_uses_running_statistics():
    layer = BNAndPad(3).train()
    membrane = torch.randn(4, 3, 5, 5) * 3 + 2
    twin = nn.BatchNorm2d(3)
    normalised = twin(membrane)
    out = layer(membrane)
    torch.testing.assert_close(out[:, :, 1:-1, 1:-1], normalised, rtol=1e-5, atol=1e-6)
    gain, offset = gain_and_offset(twin)  # with the statistics after this batch
    assert twin.running_mean.abs().min() > 0.05
    for edge in (out[:, :, 0], out[:, :, -1], out[:, :, :, 0], out[:, :, :, -1]):
        torch.testing.assert_close(edge, offset.view(1, 3, 1).expand_as(edge), rtol=1e-5, atol=1e-6)
    assert layer.norm.num_batches_tracked == 1


def test_the_border_passes_gradients_to_the_norm():
    layer = trained(BNAndPad(3)).eval()
    layer(torch.randn(2, 3, 4, 4, dtype=torch.float64))[:, :, 0].sum().backward()
    count = 2 * 6  # images times width of the padded row
    assert layer.norm.bias.grad.tolist() == pytest.approx([count] * 3)
    slope = -layer.norm.running_mean / (layer.norm.running_var + layer.norm.eps).sqrt()
    torch.testing.assert_close(layer.norm.weight.grad, slope * count, rtol=1e-9, atol=1e-9)


def test_two_forwards_before_one_backward():
    """The second forward updates the running statistics that the first one's graph was made with."""
    layer = BNAndPad(3).train()
    (layer(torch.randn(2, 3, 4, 4)) + layer(torch.randn(2, 3, 4, 4))).square().sum().backward()
    assert layer.norm.weight.grad.isfinite().all()


def test_synchronised_norms_still_pad():
    chain = trained(RepConvBN(factory(), 4)).eval()
    spikes = torch.randint(0, 5, (2, 4, 5, 6)).double() / 4
    expected = chain(spikes)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(chain).eval()  # older versions of torch forget the mode
    kinds = [type(m) for m in converted.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    assert kinds == [nn.SyncBatchNorm, nn.SyncBatchNorm]
    out = converted(spikes)
    assert out.shape == spikes.shape
    torch.testing.assert_close(out, expected, rtol=1e-12, atol=1e-12)


def test_rep_conv_runs_in_bfloat16_autocast():
    chain = RepConvBN(factory(), 4).train()
    with torch.autocast('cpu', torch.bfloat16):
        chain(torch.rand(2, 4, 5, 5)).float().square().sum().backward()
    assert all(p.grad.isfinite().all() for p in chain.parameters())


@pytest.mark.parametrize('bits', [4, 32])
def test_depthwise_separable(bits):
    chain = DepthwiseSeparableConv(factory(bits), 6, 4, 7).double()
    x = torch.randn(2, 6, 5, 9, dtype=torch.float64)
    kernel = torch.einsum('om,mhw->omhw', chain[1].quantized_weight[:, :, 0, 0], chain[0].quantized_weight[:, 0])
    torch.testing.assert_close(chain(x), F.conv2d(x, kernel, padding=3), rtol=1e-10, atol=1e-10)
