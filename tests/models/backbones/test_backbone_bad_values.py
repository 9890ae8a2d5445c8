"""Arguments and images that the backbone refuses."""

import pytest
import torch
from tiny_backbones import TINY, families, tiny

from qsdt_mm import SpikeDrivenTransformer

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
