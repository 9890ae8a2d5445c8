"""Steps, bits and shapes that a published checkpoint does not tell."""

import argparse
from dataclasses import replace

import pytest
import torch
from published_tensors import ARCHS, assert_same, make_net, publish

from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.models.backbones.presets import ARCH_ZOO
from qsdt_mm.models.quantization import quant_range
from qsdt_mm.published.conversion import convert
from qsdt_mm.published.recognition import argument_bits, complete_arch


def first_step(weight, bits):
    return 2 * weight.abs().mean() / quant_range(bits)[1] ** 0.5


@pytest.mark.parametrize('bits', [2, 4])
def test_a_step_that_was_never_set_follows_the_weights(nets, tensors, bits):
    tensors['block3.1.mlp.fc2_conv.init_state'] = torch.zeros(1)
    tensors['block3.1.mlp.fc2_conv.alpha'][:] = float('nan')
    result = convert(tensors, weight_bits=bits)
    name = 'backbone.stages.3.blocks.1.1.branch.1.synapse'
    assert result.derived == [f'{name}.quantizer.step']
    assert result.dropped['LSQ steps without a value'] == 1
    wanted = nets['qsd'].state_dict()
    step = result.state_dict.pop(f'{name}.quantizer.step')
    torch.testing.assert_close(step, first_step(wanted.pop(f'{name}.weight'), bits).expand(16))
    assert all(torch.equal(result.state_dict[key], value) for key, value in wanted.items() if name not in key)


def test_full_precision_qsd_is_recognised():
    net = make_net('qsd', 32)
    result = convert(publish(net, 'qsd'))
    assert (result.weight_bits, result.arch.family, result.derived) == (32, 'qsd', [])
    assert_same(result.state_dict, net)


def test_full_precision_weights_can_start_low_bit_training():
    net = make_net('qsd', 32)
    result = convert(publish(net, 'qsd'), weight_bits=3)
    weights = [name for name in result.state_dict if name.endswith('quantizer.step')]
    assert result.derived == weights and len(weights) > 40
    for name in weights:
        weight = result.state_dict[name.replace('quantizer.step', 'weight')]
        torch.testing.assert_close(result.state_dict[name], first_step(weight, 3).expand(len(weight)))


def test_steps_are_dropped_for_full_precision(tensors):
    result = convert(tensors, weight_bits=32)
    assert result.dropped['LSQ steps (weight_bits=32)'] > 40
    assert not any('quantizer' in name for name in result.state_dict)


def test_bits_come_from_the_arguments_in_the_file(tensors):
    def checkpoint(args):
        return dict(model=tensors, args=args)

    assert convert(checkpoint(argparse.Namespace(weight_bits=8))).weight_bits == 8
    assert convert(checkpoint(dict(nbits_w=2))).weight_bits == 2
    assert argument_bits(checkpoint(argparse.Namespace(weight_bits=5))) is None
    assert argument_bits(checkpoint('text')) is None
    assumed = convert(checkpoint(argparse.Namespace()))
    assert assumed.weight_bits == 4 and any('assumed' in note for note in assumed.notes)
    asked = convert(checkpoint(argparse.Namespace(weight_bits=8)), weight_bits=4)
    assert asked.weight_bits == 4 and any('say 8' in note for note in asked.notes)
    with pytest.raises(ValueError, match='weight_bits=5 is not allowed'):
        convert(tensors, weight_bits=5)


def test_arch_is_checked_and_fills_in_what_tensors_do_not_show(tensors):
    with pytest.raises(CheckpointError, match=r"arch='qsd-15m': it has widths \(8, .*instead of \(32, 64"):
        convert(tensors, arch='qsd-15m')
    with pytest.raises(CheckpointError, match='depths'):
        convert(tensors, arch=dict(depths=(1, 1, 2, 6, 2)))
    with pytest.raises(CheckpointError, match='it has a layer scale'):
        convert(tensors, arch=dict(layer_scale=None))
    with pytest.raises(ValueError, match="arch='qsd-16m' is not allowed"):
        convert(tensors, arch='qsd-16m')
    assert convert(tensors, arch=dict(num_heads=4, strides=(1, 1, 2, 2, 1))).arch == replace(
        ARCHS['qsd'], num_heads=4, strides=(1, 1, 2, 2, 1)
    )
    assert convert(tensors, arch=dict(num_heads=4), num_heads=2).arch.num_heads == 2
    assert complete_arch(ARCH_ZOO['e-5m'], 'e-5m') == ARCH_ZOO['e-5m']
    with pytest.raises(InputError, match='num_heads=7 is not allowed'):
        convert(tensors, num_heads=7)
