"""Damaged, unfit and malicious checkpoints: every tool that reads one says so in a line, and runs nothing of it."""

import importlib.util
import pickle
import random

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy

from qsdt_mm.errors import CheckpointError
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """A finished run of one epoch."""
    return toy.finished(tmp_path_factory, epochs=1)


def demo_main(words):
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main(words)


def analysis(name):
    return lambda path, folder: toy.tool(f'analysis_tools/{name}').main([str(toy.CONFIG), str(path)])


def convert(path, folder):
    return toy.tool('model_converters/published_to_mm').main([str(path), str(folder / 'out.pth')])


def demo(path, folder):
    photo = folder.parent / 'photo.png'
    assert cv2.imwrite(str(photo), np.zeros((8, 8, 3), np.uint8))
    return demo_main([str(photo), str(toy.CONFIG), str(path), '--out-dir', str(folder / 'out')])


TOOLS = {
    'train.py': lambda path, folder: toy.train(folder / 'run', '--resume', path),
    'test.py': lambda path, folder: toy.evaluate(path, folder / 'run', '--json', folder / 'm.json'),
    'energy.py': analysis('energy'),
    'compare_inference.py': analysis('compare_inference'),
    'vis_mae.py': analysis('vis_mae'),
    'published_to_mm.py': convert,
    'image_demo.py': demo,
}


def refused(capsys, tool, path, folder, *hints):
    """One line that names the file, status 2, nothing written."""
    folder.mkdir()
    status = TOOLS[tool](path, folder)
    error = capsys.readouterr().err
    lines = toy.our_lines(error, tool)
    assert status == 2 and len(lines) == 1, (status, error)
    assert str(path) in lines[0] and any(hint in lines[0] for hint in hints), lines[0]
    assert not list(folder.iterdir())


def damage(kind, whole, path):
    """Write a damaged copy; returns the words of which one is in the refusal."""
    data = whole.read_bytes()
    if kind == 'another network':
        checkpoint = toy.state(whole)
        checkpoint['state_dict']['stem.0.weight'] = torch.zeros(9, 1, 3, 3)
        torch.save(checkpoint, path)
        return 'does not fit the model', 'is not a published'
    if kind == 'other values':
        torch.save(dict(meta={}, message_hub={}, optimizer=None, state_dict=dict(a=1, b='x')), path)
        return 'no weights', 'cannot be resumed', 'is not a published'
    if kind == 'bit flipped':
        place = data.index(toy.state(whole)['state_dict']['stem.0.weight'].numpy().tobytes())
        data = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
    path.write_bytes(dict(truncated=data[: len(data) // 2], empty=b'', text=b'weights\n' * 99).get(kind, data))
    return ('truncated or damaged',)


@pytest.mark.parametrize('tool', TOOLS)
def test_damaged_checkpoints(tmp_path, run, capsys, tool):
    for kind in ('truncated', 'empty', 'text', 'bit flipped', 'another network', 'other values'):
        path = tmp_path / f'{kind.replace(" ", "_")}.pth'
        words = damage(kind, run / 'epoch_1.pth', path)
        refused(capsys, tool, path, tmp_path / kind, *words)


def write_evil(path, how, checkpoint, mark):
    """A checkpoint that makes the directory ``mark`` when it is loaded carelessly."""
    held = {**checkpoint, 'state_dict': {**checkpoint['state_dict'], 'head.bias': toy.Evil(mark)}}
    if how == 'pickle':
        path.write_bytes(pickle.dumps(held, protocol=2))
    else:
        torch.save(held, path, _use_new_zipfile_serialization=how == 'zip')


@pytest.mark.parametrize('how', ['zip', 'legacy', 'pickle'])
@pytest.mark.parametrize('tool', TOOLS)
def test_nothing_of_a_malicious_checkpoint_runs(tmp_path, run, capsys, tool, how):
    mark, path = tmp_path / 'mark', tmp_path / 'evil.pth'
    write_evil(path, how, toy.state(run / 'epoch_1.pth'), mark)
    refused(capsys, tool, path, tmp_path / 'out', 'wants to run', 'truncated or damaged')
    assert not mark.exists()
    load = pickle.loads if how == 'pickle' else None
    load(path.read_bytes()) if load else torch.load(path, weights_only=False)
    assert mark.exists()  # it would have worked


@pytest.mark.parametrize('how', ['zip', 'legacy', 'pickle'])
def test_nothing_of_malicious_pretrained_weights_runs(tmp_path, run, capsys, how):
    """In the tools for any part of a model, in Python for this package's backbones."""
    mark, path = tmp_path / 'mark', tmp_path / 'evil.pth'
    write_evil(path, how, toy.state(run / 'epoch_1.pth'), mark)
    init = dict(model__init_cfg__type='Pretrained', model__init_cfg__checkpoint=path)
    assert toy.train(tmp_path / 'run', **init) == 2
    assert toy.tool('analysis_tools/energy').main([str(toy.CONFIG), *toy.options(**init)]) == 2
    for line in capsys.readouterr().err.splitlines():
        assert f'error: checkpoint {path} ' in line
    from qsdt_mm import SpikeDrivenTransformer

    small = dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))
    backbone = SpikeDrivenTransformer(
        dict(preset='qsd-8m', **small), init_cfg=dict(type='Pretrained', checkpoint=str(path))
    )
    with pytest.raises(CheckpointError, match=r'evil\.pth'):
        backbone.init_weights()
    assert not mark.exists() and not (tmp_path / 'run').exists()


def test_damaged_pretrained_weights_are_named(tmp_path, run, capsys):
    path = tmp_path / 'half.pth'
    path.write_bytes((run / 'epoch_1.pth').read_bytes()[:3000])
    assert toy.train(tmp_path / 'run', model__init_cfg__type='Pretrained', model__init_cfg__checkpoint=path) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and f'{path} is truncated or damaged' in lines[0]


def test_no_flipped_bit_passes_for_a_weight(tmp_path, run):
    """A file with one bit flipped is refused, or it holds what was written: the bit was in the padding."""
    whole, path = (run / 'epoch_1.pth').read_bytes(), tmp_path / 'x.pth'
    held, numbers, caught = toy.state(run / 'epoch_1.pth')['state_dict'], random.Random(0), 0
    for _ in range(60):
        place = numbers.randrange(len(whole))
        path.write_bytes(whole[:place] + bytes([whole[place] ^ (1 << numbers.randrange(8))]) + whole[place + 1 :])
        try:
            found = load_checkpoint_safely(path)
        except CheckpointError as error:
            caught += 1
            assert '\n' not in str(error) and str(path) in str(error)
        else:
            assert toy.differences(held, found['state_dict']) == []
    assert caught > 10


def test_checkpoints_without_checksums_load(tmp_path):
    before = torch.serialization.get_crc32_options() if hasattr(torch.serialization, 'get_crc32_options') else None
    if before is None:
        pytest.skip('this torch always writes checksums')
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(dict(a=torch.arange(9)), tmp_path / 'x.pth')
    finally:
        torch.serialization.set_crc32_options(before)
    assert load_checkpoint_safely(tmp_path / 'x.pth')['a'].tolist() == list(range(9))


def test_weights_that_are_none(tmp_path, run, capsys):
    """Numbers in place of tensors, and names that are no words."""
    for change, hint in ((('head.bias', 3), 'head.bias is int, no tensor'), ((7, torch.ones(1)), 'no words: 7')):
        checkpoint, path = toy.state(run / 'epoch_1.pth'), tmp_path / 'x.pth'
        checkpoint['state_dict'].update([change])
        torch.save(checkpoint, path)
        for status in (toy.evaluate(path, tmp_path / 'run'), toy.train(tmp_path / 'run', '--resume', path)):
            assert status == 2
        assert capsys.readouterr().err.count(hint) == 2
