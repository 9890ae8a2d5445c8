"""The last lines of train.py and test.py."""

import logging
import re
import shlex
from pathlib import Path

import numpy as np
import pytest
import toy_runs as toy

from qsdt_mm.cli import last_lines
from qsdt_mm.cli.last_lines import chosen, command, duration, shown

BEST = dict(default_hooks__checkpoint__save_best='auto', default_hooks__checkpoint__rule='greater')


def ending(text):
    """The last lines, by name."""
    head, *rows = text[text.index('done in ') :].splitlines()
    assert all(row.startswith('  ') for row in rows)
    return head, {row.split()[0]: row.split(maxsplit=1)[1] for row in rows}


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    return tmp_path_factory.mktemp('ending') / 'run'


def test_a_training_and_the_test_that_it_proposes(run, capsys, monkeypatch):
    monkeypatch.chdir(run.parent)
    assert toy.train('run', '--epochs', 2, train_dataloader__num_workers=0, **BEST) == 0
    captured = capsys.readouterr()
    assert '2 epochs in place of 4, with a schedule as long' in captured.err
    head, rows = ending(captured.out)
    assert re.fullmatch(r'done in [\d.]+ (s|min \d+ s): (\S+) \S+( %)? \(best \S+( %)?, epoch 2\)', head), head
    assert Path(rows['checkpoint']).is_file() and Path(rows['log']).is_dir()
    assert rows['next'].endswith(rows['checkpoint'])  # this network has no spiking neuron

    words = shlex.split(rows['next'])
    assert words[:2] == ['python', 'tools/test.py']
    assert toy.evaluate(words[3], 'tested', '--json', 'm.json', '--out', 'p.pkl', config=words[2]) == 0
    head, rows = ending(capsys.readouterr().out)
    assert head.startswith('done in ') and rows['results'] == 'm.json' and rows['predictions'] == 'p.pkl'


def test_a_training_that_cuts_its_schedule_says_so(run, capsys):
    assert toy.train(run.parent / 'cut', train_cfg__max_epochs=1, train_dataloader__num_workers=0) == 0
    said = capsys.readouterr()
    assert 'warning: the schedule ends at epoch 4, training at 1: the last learning rate is 0.0' in said.err
    assert 'Exp name' not in said.out + said.err
    logged = ''.join(path.read_text() for path in (run.parent / 'cut').glob('*/*.log'))
    assert 'Exp name' in logged  # the log file has all


def test_no_validation_speaks_of_the_loss(run, capsys):
    assert toy.train(run.parent / 'loss', '--epochs', 1, '--no-validate', train_dataloader__num_workers=0) == 0
    head, rows = ending(capsys.readouterr().out)
    assert re.search(r': loss [\d.]+', head) and rows['checkpoint'].endswith('epoch_1.pth')


def test_tensorboard(run, capsys):
    pytest.importorskip('tensorboard')
    work_dir = run.parent / 'board'
    assert toy.train(work_dir, '--epochs', 1, '--tensorboard', train_dataloader__num_workers=0) == 0
    assert [*work_dir.rglob('events.out.tfevents*')] and [*work_dir.rglob('scalars.json')]
    assert f'tensorboard --logdir {work_dir}' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('name', 'value', 'text'),
    [
        ('accuracy/top1', 98.3099, '98.3 %'),
        ('mIoU', 55.0, '55.0 %'),
        ('aAcc', 91.23, '91.2 %'),
        ('coco/bbox_mAP', 0.3034, '0.303'),
        ('coco/segm_mAP', 0.0, '0.000'),
        ('loss', 12345.6, '12346'),
        ('mIoU', float('nan'), 'nan'),
    ],
)
def test_results_in_a_few_digits(name, value, text):
    assert shown(name, value) == text


def test_times():
    assert [duration(t) for t in (0.2, 59.6, 61, 3599, 3600, 90061)] == [
        '0.2 s',
        '1 min 0 s',
        '1 min 1 s',
        '59 min 59 s',
        '1 h 0 min',
        '25 h 1 min',
    ]


def test_the_result_to_speak_of():
    metrics = {'aAcc': np.float64(90.0), 'mIoU': np.float32(50.0), 'names': ['a']}  # as mmseg gives them
    assert chosen(metrics) == 'mIoU' and chosen(metrics, ['aAcc']) == 'aAcc' and chosen({}) is None
    assert chosen({'x': 'text'}) is None and chosen({'coco/bbox_mAP_l': -1.0}) is None


def test_commands_are_quoted_and_lie_where_the_tool_lies(monkeypatch):
    monkeypatch.setattr(last_lines.sys, 'argv', ['/opt/my tools/train.py'])
    words = shlex.split(command('analysis_tools/energy.py', "it's.py"))
    assert words == ['python', '/opt/my tools/analysis_tools/energy.py', "it's.py"]


def test_the_console_leaves_out_what_says_nothing(capsys):
    from qsdt_mm.compat.noise import quiet_logger, shorten_console, without_sizes_of_none

    logger = logging.Logger('mine')
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter('%(levelname)s %(message)s'))
    logger.addHandler(handler)
    quiet_logger(logger)
    shorten_console(logger)
    logger.info('Epoch(train) [1]  base_lr: 1.0e-03 lr: 1.0e-03  eta: 0')
    logger.info('Epoch(train) [1]  base_lr: 1.0e-03 lr: 1.0e-04  eta: 0')
    logger.info('Epoch(val) coco/bbox_mAP: 0.1000  coco/bbox_mAP_s: 0.2000  coco/bbox_mAP_l: -1.0000  time: 1')
    logger.info('bbox_mAP_copypaste: 0.100 -1.000')
    logger.error('The testing results of the whole dataset is empty.')
    with without_sizes_of_none():
        print(' Average Precision  (AP) @[ area= small ] = 0.303')
        print(' Average Precision  (AP) @[ area= large ] = -1.000')
        print('at the end', end='')
    out, error = capsys.readouterr()
    assert error.splitlines() == [
        'INFO Epoch(train) [1]  lr: 1.0e-03  eta: 0',
        'INFO Epoch(train) [1]  base_lr: 1.0e-03 lr: 1.0e-04  eta: 0',
        'INFO Epoch(val) coco/bbox_mAP: 0.1000  coco/bbox_mAP_s: 0.2000  time: 1',
        'WARNING Nothing was found in any image: there is no average precision yet',
    ]
    assert out == ' Average Precision  (AP) @[ area= small ] = 0.303\nat the end'
