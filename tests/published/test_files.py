"""Published files are read safely, and converted files written with care."""

import os
import pickle
from dataclasses import replace

import pytest
import torch
from published_tensors import ARCHS, CLASSES, assert_same

from qsdt_mm import load_published
from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.fileio.safe_load import has_safe_globals
from qsdt_mm.published.files import convert_file, read_converted


class Attack:
    """Creates a file when it is unpickled without care."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f'touch {self.path}',)


@pytest.mark.parametrize(
    'form, words',
    [
        ('zip', r'evil\.pth wants to run (posix|nt)\.system'),
        ('legacy', r'evil\.pth wants to run (posix|nt)\.system'),
        ('pickle', r'evil\.pth '),
    ],
)
def test_a_file_that_wants_to_run_code_is_refused(tmp_path, tensors, form, words):
    proof, path = tmp_path / 'it_ran', tmp_path / 'evil.pth'
    checkpoint = dict(model=tensors, args=Attack(proof))
    if form == 'pickle':
        path.write_bytes(pickle.dumps(checkpoint))
    else:
        torch.save(checkpoint, path, _use_new_zipfile_serialization=form == 'zip')
    for use in (load_published, lambda p: convert_file(p, tmp_path / 'out.pth')):
        with pytest.raises(CheckpointError, match=words) as caught:
            use(path)
        assert '\n' not in str(caught.value)
    assert sorted(p.name for p in tmp_path.iterdir()) == ['evil.pth']
    pickle.loads(path.read_bytes()) if form == 'pickle' else torch.load(path, weights_only=False)
    assert proof.exists()  # so the file was dangerous indeed


@pytest.mark.parametrize('keep', [0, 10, 0.5, -1])
def test_a_truncated_file_is_refused(tmp_path, source, keep):
    whole = source.read_bytes()
    source.write_bytes(whole[: int(len(whole) * keep) if isinstance(keep, float) else keep])
    with pytest.raises(CheckpointError, match=r'published\.pth is truncated or damaged'):
        convert_file(source, tmp_path / 'out.pth')
    assert not (tmp_path / 'out.pth').exists()


def test_a_converted_file_loads_without_an_allow_list(tmp_path, source, nets):
    out = tmp_path / 'new' / 'out.pth'
    convert_file(source, out, num_heads=4)
    assert sorted(p.name for p in out.parent.iterdir()) == ['out.pth', 'out.pth.py']
    before = torch.serialization.get_safe_globals() if has_safe_globals() else []  # older versions have no list
    try:
        if before:
            torch.serialization.clear_safe_globals()
        checkpoint = torch.load(out, weights_only=True)
    finally:
        if before:
            torch.serialization.add_safe_globals(before)
    assert_same(checkpoint['state_dict'], nets['qsd'])
    meta = checkpoint['meta']
    assert meta['arch'] == dict(family='qsd', widths=[8, 8, 16, 16, 24], depths=[1, 1, 2, 2, 1], num_heads=4)
    assert (meta['family'], meta['num_classes'], meta['in_channels'], meta['weight_bits'], meta['source']) == (
        'qsd',
        CLASSES,
        2,
        4,
        'published.pth',
    )
    assert read_converted(checkpoint).arch == replace(ARCHS['qsd'], num_heads=4)
    with pytest.raises(CheckpointError, match='converted already'):
        convert_file(out, tmp_path / 'again.pth')


def test_destinations_are_protected(tmp_path, source):
    out = tmp_path / 'out.pth'
    out.write_text('precious')
    with pytest.raises(InputError, match='exists already'):
        convert_file(source, out)
    with pytest.raises(CheckpointError, match='widths'):
        convert_file(source, out, overwrite=True, arch='e-3m')
    assert out.read_text() == 'precious'
    convert_file(source, out, overwrite=True)
    assert read_converted(torch.load(out, weights_only=True)) is not None
    before = source.read_bytes()
    with pytest.raises(InputError, match='is the checkpoint itself'):
        convert_file(source, source, overwrite=True)
    with pytest.raises(InputError, match='is a directory'):
        convert_file(source, tmp_path, overwrite=True)
    assert source.read_bytes() == before and len(list(tmp_path.iterdir())) == 3
