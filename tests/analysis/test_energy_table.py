"""Energies by bit width, and files of them: what they say is used, what has no meaning is refused in one line."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qsdt_mm.analysis.energy_table import HOROWITZ, EnergyTable, load_energy_table
from qsdt_mm.errors import InputError

MINE = dict(
    name='mine',
    add={'8': 0.02, '16': 0.05},
    multiply={'4': 0.01, '8': 0.1},
    float_add={'32': 1},
    float_multiply={'32': 4},
    levels=dict(register=0.01, sram=0.1, mram=dict(read=0.2, write=3.0)),
    placement=dict(weights='mram'),
)


def test_given_widths_are_as_given():
    table = HOROWITZ
    assert [table.of_add(bits) for bits in (8, 32)] == [0.03, 0.1]
    assert [table.of_multiply(bits, bits) for bits in (8, 32)] == [0.2, 3.1]
    assert [table.of_add(bits, True) for bits in (16, 32)] == [0.4, 0.9]
    assert [table.of_multiply(bits, bits, True) for bits in (16, 32)] == [1.1, 3.7]
    assert [table.of_access(level, 'read', 32) for level in ('register', 'sram', 'dram')] == [1, 5, 640]
    assert [table.of_access(level, 'write', 64) for level in ('sram', 'sram_32k', 'sram_1m')] == [10, 20, 100]


@settings(max_examples=50, deadline=None, derandomize=True)
@given(narrow=st.integers(1, 64), wide=st.integers(1, 64), other=st.integers(1, 64))
def test_wider_costs_more(narrow, wide, other):
    narrow, wide = sorted((narrow, wide))
    for floats in (False, True):
        assert HOROWITZ.of_add(narrow, floats) <= HOROWITZ.of_add(wide, floats)
        assert HOROWITZ.of_multiply(narrow, other, floats) <= HOROWITZ.of_multiply(wide, other, floats)
        assert HOROWITZ.of_multiply(narrow, other, floats) == HOROWITZ.of_multiply(other, narrow, floats) > 0
    assert HOROWITZ.of_add(64) == pytest.approx(0.2) and HOROWITZ.of_add(4) == pytest.approx(0.015)


def write(path, values):
    text = json.dumps(values)
    if path.suffix == '.py':
        text = '"""Mine."""\n' + '\n'.join(f'{key} = {value!r}' for key, value in values.items())
    path.write_text(text)  # JSON is YAML
    return path


@pytest.mark.parametrize('suffix', ['.json', '.yaml', '.YML', '.py'])
def test_a_file(tmp_path, suffix):
    table = load_energy_table(write(tmp_path / f'mine{suffix}', MINE))
    assert table.name == 'mine' and table.of_multiply(4, 4) == 0.01 and table.of_add(16) == 0.05
    assert table.of_access('mram', 'read', 10) == 2 and table.of_access('mram', 'write', 10) == 30
    assert table.placement == dict(weights='mram', activations='sram', membranes='sram')
    assert table.as_dict()['levels'] == MINE['levels']


def test_what_a_file_leaves_out_is_said(tmp_path):
    table = load_energy_table(write(tmp_path / 'dear.json', dict(multiply={8: 1})))
    assert table.name == 'dear.json (add, float_add, float_multiply, levels: 45 nm)'
    assert table.of_multiply(8, 8) == 1 and table.levels == HOROWITZ.levels


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        (dict(adds={}), "'adds' has no meaning: expected add, multiply"),
        (dict(add=3), 'add must be energies by bits, such as {8: 0.03, 32: 0.1}, got 3'),
        (dict(add={}), 'add must be energies by bits'),
        (dict(add={'wide': 1}), "add must be energies by bits from 1 to 1024, got 'wide'"),
        (dict(add={'0': 1}), "from 1 to 1024, got '0'"),
        (dict(multiply={'8': -1}), r'multiply\[8\] must be an energy in pJ, 0 or more, got -1'),
        (dict(multiply={'8': float('nan')}), r'multiply\[8\] must be an energy'),
        (dict(multiply={'8': True}), r'multiply\[8\] must be an energy'),
        (dict(multiply={'8': 'dear'}), "got 'dear'"),
        (dict(levels=dict(sram=1)), 'register among them'),
        (dict(levels=dict(register=1, sram=dict(read=1))), r'levels\[sram\] must be a number or read and write'),
        (dict(levels=dict(register=1, sram=[1])), r'levels\[sram\] must be an energy'),
        (dict(levels=dict(register=1, l2=1)), 'weights=sram is no place: .* register, l2'),
        (dict(placement=dict(weights='moon')), 'weights=moon is no place'),
        (dict(placement=dict(spikes='sram')), 'spikes=sram is no place: expected one of weights, activations'),
        (dict(placement='sram'), 'placement must be names and levels'),
        ([1], 'holds list, not names and values'),
    ],
)
def test_what_has_no_meaning_is_refused(tmp_path, values, words):
    with pytest.raises(InputError, match=words) as caught:
        load_energy_table(write(tmp_path / 'mine.json', values))
    assert '\n' not in str(caught.value) and 'mine.json' in str(caught.value)


@pytest.mark.parametrize(
    ('name', 'text', 'words'),
    [
        ('a.txt', '{}', 'must end in .json, .yaml, .yml or .py'),
        ('a.json', '{"add": ', 'cannot be read: Expecting value'),
        ('a.json', '[' * 100_000, 'cannot be read: '),
        ('a.yaml', 'add: [', 'cannot be read: while parsing'),
        ('a.yaml', '!!python/object/apply:os.abort []', 'cannot be read: could not determine a constructor'),
        ('a.py', 'import os', 'line 1 is no assignment to a name'),
        ('a.py', 'add = {8: 1}\nadd = dict(a=1)', 'line 2 assigns no plain value'),
        ('a.py', 'add = (', 'cannot be read: '),
        ('a.json', b'\xff\xfe', 'cannot be read: '),
        ('a.yaml', '', 'holds NoneType'),
    ],
)
def test_files_that_cannot_be_read(tmp_path, name, text, words):
    path = tmp_path / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(InputError, match=words) as caught:
        load_energy_table(path)
    assert '\n' not in str(caught.value)
    with pytest.raises(InputError, match='No such file'):
        load_energy_table(tmp_path / 'none.json')


def test_places():
    assert HOROWITZ.placing(dict(weights='dram')).placement['weights'] == 'dram'
    assert HOROWITZ.placement['weights'] == 'sram'
    with pytest.raises(InputError, match='weights=disk is no place'):
        HOROWITZ.placing(dict(weights='disk'))
    assert EnergyTable('x').as_dict() == HOROWITZ.as_dict() | dict(name='x')
