"""Packed folders are whole or not there, and whatever else is in their place is refused in one line."""

import json
import os
import struct

import pytest
import torch
from safetensors.torch import save

from qsdt_mm.errors import InputError
from qsdt_mm.fileio import folders
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely
from qsdt_mm.fileio.folders import is_packed, kinds_in, read_packed, require_free, whole_folder, write_packed

WEIGHT = torch.tensor([[1, -8], [3, 7]], dtype=torch.int8)
STEP = torch.tensor([0.5, 0.25])


def write(folder, kind='trainable', **config):
    notes = dict(steps={'fc.weight': ['fc.step', 0]}, modules={'fc': dict(version=2)})
    tensors = {'fc.weight': WEIGHT, 'fc.step': STEP}
    with whole_folder(folder) as beside:
        write_packed(beside, kind, config, tensors, {'fc.weight': (4, 0)}, notes, 'card')
    return folder


@pytest.fixture
def packed(tmp_path):
    return write(tmp_path / 'packed', size=[1, 2])


def refused(folder, *words, kind=None):
    with pytest.raises(InputError) as caught:
        read_packed(folder, kind)
    line = str(caught.value)
    assert '\n' not in line and all(word in line for word in words), line


def change(folder, **changes):
    path = folder / 'config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_a_checkpoint_is_read_from_a_folder(packed):
    assert is_packed(packed) and kinds_in(packed) == ('trainable',)
    assert read_packed(packed).config['size'] == [1, 2]
    state = load_checkpoint_safely(packed)['state_dict']
    assert torch.equal(state['fc.weight'], WEIGHT * STEP[:, None]) and torch.equal(state['fc.step'], STEP)
    assert state._metadata['fc'] == dict(version=2)


def test_one_folder_may_hold_both_kinds(tmp_path):
    for kind in ('deploy', 'trainable'):
        write(tmp_path / 'both' / kind, kind)
    assert kinds_in(tmp_path / 'both') == ('deploy', 'trainable')
    assert read_packed(tmp_path / 'both', 'deploy').kind == 'deploy'
    refused(tmp_path / 'both', 'say which kind')
    refused(tmp_path / 'both' / 'deploy', 'is of kind deploy', kind='trainable')
    assert 'fc.weight' in load_checkpoint_safely(tmp_path / 'both')['state_dict']


@pytest.mark.parametrize(
    'text, word',
    [
        ('', 'not JSON'),
        ('{"format": "qsdt', 'not JSON'),
        ('[' * 100_000, 'not JSON'),
        ('{"model_type": "bert"}', 'of another program'),
        ('[]', 'of another program'),
        ('{"format": 1, "format": 2}', 'not JSON'),
        ('{"size": NaN}', 'not JSON'),
        ('{"size": -Infinity}', 'not JSON'),
        ('\xff', 'another program'),
    ],
)
def test_other_configurations_are_refused(packed, text, word):
    if text == '\xff':
        text, word = json.dumps(dict(format='\xff')), 'another program'
    (packed / 'config.json').write_text(text)
    refused(packed, 'config.json', word)


@pytest.mark.parametrize(
    'version, word', [(3, 'update qsdt_mm'), (0, '>= 1'), ('1', '>= 1'), (True, '>= 1'), (None, '>= 1')]
)
def test_versions(packed, version, word):
    change(packed, format_version=version)
    refused(packed, 'format', word)


def test_unknown_kinds_and_huge_configurations_are_refused(packed, monkeypatch):
    change(packed, kind='../../etc')
    refused(packed, 'kind', 'deploy or trainable')
    monkeypatch.setattr(folders, 'LONGEST_CONFIG', 10)
    refused(packed, 'bytes')


def tensors_of(packed):
    return (packed / 'model.safetensors').read_bytes()


@pytest.mark.parametrize('cut', [0, 4, 8, 40, -1])
def test_truncated_tensors_are_refused(packed, cut):
    (packed / 'model.safetensors').write_bytes(tensors_of(packed)[:cut])
    refused(packed, 'model.safetensors', 'truncated or damaged')


def test_headers_that_lie_are_refused(packed):
    whole = tensors_of(packed)
    length = struct.unpack('<Q', whole[:8])[0]
    header = json.loads(whole[8 : 8 + length])
    header['fc.step']['shape'] = [2**40]
    for text in (json.dumps(header).encode(), b'{}', b'\xff' * 40):
        (packed / 'model.safetensors').write_bytes(struct.pack('<Q', len(text)) + text + whole[8 + length :])
        refused(packed, 'model.safetensors')
    (packed / 'model.safetensors').write_bytes(struct.pack('<Q', 2**60) + whole[8:])
    refused(packed, 'model.safetensors', 'truncated or damaged')


@pytest.mark.parametrize(
    'notes',
    [
        '',
        '{"forms": 3}',
        '{"forms": {}, "forms": {}}',
        json.dumps(dict(forms=['x' * 90] * 900)),
        '[]',
        '[' * 100_000,
        '{"forms": {"other": {"form": "exponents"}}}',
    ],
)
def test_notes_that_lie_are_refused(packed, notes):
    (packed / 'model.safetensors').write_bytes(save({'fc.weight': WEIGHT}, {'qsdt_mm': notes}))
    refused(packed, 'model.safetensors')


@pytest.mark.parametrize(
    'notes',
    [
        {},
        dict(steps={'fc.weight': ['no', 0]}, modules={}),
        dict(steps={'fc.weight': ['fc.step', 2]}, modules={}),
        dict(steps={'fc.weight': ['fc.step', 0]}, modules=[]),
        dict(steps={'fc.weight': 3}, modules={}),
        dict(steps={}, modules={}, same=['fc.weight']),
        dict(steps={}, modules={}, same={'fc.weight': 'fc.step'}),
        dict(steps={}, modules={}, same={'a': 'b'}),
        dict(steps={}, modules={}, same={'a': ['fc.step']}),
        dict(steps={'fc.weight': [['fc.step'], 0]}, modules={}),
        dict(steps={'fc.weight': ['fc.step', 0.0]}, modules={}),
        dict(steps={'fc.weight': ['fc.step', 0]}, modules={'fc': dict(version=[1])}),
    ],
)
def test_steps_that_do_not_fit_are_refused(packed, notes):
    content = save({'fc.weight': WEIGHT, 'fc.step': STEP}, {'qsdt_mm': json.dumps(dict(notes, forms={}))})
    (packed / 'model.safetensors').write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_checkpoint_safely(packed)
    assert '\n' not in str(caught.value) and str(packed) in str(caught.value)


@pytest.mark.parametrize('dtype', [torch.complex64, torch.float8_e5m2, torch.uint16])
def test_other_types_are_refused(packed, dtype):
    (packed / 'model.safetensors').write_bytes(
        save({'fc.weight': torch.ones(3).to(dtype)}, {'qsdt_mm': '{"forms":{}}'})
    )
    refused(packed, 'type of fc.weight', 'whole or real numbers')


def test_torn_folders_are_refused(packed):
    os.remove(packed / 'model.safetensors')
    refused(packed, 'model.safetensors is missing')
    refused(packed / 'no', 'does not exist')
    (packed / 'empty').mkdir()
    refused(packed / 'empty', 'is no packed network')


def test_nothing_is_overwritten(packed, tmp_path):
    before = tensors_of(packed)
    with pytest.raises(InputError, match='is not allowed'):
        write(packed)
    (packed / 'notes.txt').write_text('mine')
    for overwrite in (False, True):
        with pytest.raises(InputError, match='is not allowed'):
            require_free(packed, overwrite)
    assert tensors_of(packed) == before
    os.symlink(packed, tmp_path / 'link')
    with pytest.raises(InputError, match='is not allowed'):
        require_free(tmp_path / 'link', overwrite=True)


def test_a_folder_is_replaced_whole_or_stays(packed, tmp_path):
    before = tensors_of(packed)
    with pytest.raises(RuntimeError), whole_folder(packed, overwrite=True) as beside:
        (beside / 'config.json').write_text('{')
        raise RuntimeError
    assert tensors_of(packed) == before
    with whole_folder(packed, overwrite=True) as beside:
        write_packed(beside, 'deploy', {}, {}, {}, {}, 'card')
    assert read_packed(packed).kind == 'deploy'
    assert [path.name for path in tmp_path.iterdir()] == ['packed']
