"""Paths that are not there, and the ones that they may have meant."""

import os

import pytest

from qsdt_mm.cli.config import load_config
from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely
from qsdt_mm.fileio.near import checkpoints_in, did_you_mean


@pytest.fixture
def tree(tmp_path, monkeypatch):
    """A project of two configurations and a run, and the current directory."""
    for name in ('configs/classification/qsd_digits.py', 'configs/detection/rcnn_shapes.py'):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text('a = 1')
    run = tmp_path / 'work_dirs/first'
    run.mkdir(parents=True)
    for age, name in enumerate(('epoch_1.pth', 'best_accuracy_top1_epoch_1.pth', 'epoch_2.pth')):
        (run / name).write_text('x')
        os.utime(run / name, (1000 + age, 1000 + age))
    (run / 'last_checkpoint').write_text('x')
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ('given', 'meant'),
    [
        ('configs/classification/qsd_digit.py', 'configs/classification/qsd_digits.py'),
        ('configs/clasification/qsd_digits.py', 'configs/classification/qsd_digits.py'),
        ('config/classification/qsd_digits.py', 'configs/classification/qsd_digits.py'),
        ('configs/classification/QSD_digits.py', 'configs/classification/qsd_digits.py'),
        ('configs/qsd_digits.py', 'configs/classification/qsd_digits.py'),
        ('qsd_digits.py', 'configs/classification/qsd_digits.py'),
        ('configs/classification/rcnn_shapes.py', 'configs/detection/rcnn_shapes.py'),
        ('configs/detection/rcnn_shapes', 'configs/detection/rcnn_shapes.py'),
    ],
)
def test_configurations_one_letter_or_folder_off(tree, given, meant):
    with pytest.raises(InputError) as caught:
        load_config(given)
    assert str(caught.value) == f'config {given} does not exist (did you mean {meant}?)'


def test_an_absolute_path(tree):
    wrong, right = (str(tree / f'configs/detection/{name}.py') for name in ('rcn_shapes', 'rcnn_shapes'))
    assert did_you_mean(wrong, 'a configuration') == f' (did you mean {right}?)'


@pytest.mark.parametrize('path', ['', 'nothing/like/it.py', 'a' * 5000, '/', 'x\0y', '~nobody/c.py'])
def test_nothing_is_guessed_where_nothing_is_near(tree, path):
    assert did_you_mean(path, 'a configuration') == '' == did_you_mean(path, 'a checkpoint')


def test_checkpoints(tree):
    assert checkpoints_in(tree / 'work_dirs/first') == [
        'best_accuracy_top1_epoch_1.pth',
        'epoch_2.pth',
        'epoch_1.pth',
    ]
    near = {
        'work_dirs/first/epoch_12.pth': r'does not exist \(there are best_accuracy_top1_epoch_1.pth, epoch_2.pth, ',
        'work_dirs/first/epcoh_2.pth': r'does not exist \(did you mean work_dirs/first/epoch_2.pth\?\)',
        'work_dir/first/epoch_2.pth': r'\(did you mean work_dirs/first/epoch_2.pth\?\)',
        'work_dirs/first/latest.pth': r'does not exist \(there are best_accuracy_top1_epoch_1.pth, epoch_2.pth, ',
        'work_dirs/first': r'is a folder, not a file \(there are best_accuracy_top1_epoch_1.pth, ep',
        'configs': r'is a folder, not a file \(there is no checkpoint in it\)',
    }
    for given, said in near.items():
        with pytest.raises(CheckpointError, match=said):
            load_checkpoint_safely(given)


@pytest.mark.parametrize(('given', 'kind'), [('work_dirs/first/epoch_1.pth', 'checkpoint'), ('a.PNG', 'picture')])
def test_no_configuration_at_all(tree, given, kind):
    (tree / 'a.PNG').write_text('x')
    with pytest.raises(InputError, match=f'is a {kind}, not a configuration'):
        load_config(given)
