"""tools/analysis_tools/benchmark.py on the demo's network, and what it is made of."""

import json
import time

import pytest
import torch
import toy_runs as toy
from trained_networks import trained

from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis import timing as benchmark

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

CONFIG = str(toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py')
SMALL = ['--size', '32', '--batch', '2', '--repeats', '2', '--warm-up', '0', '--threads', '1', '--device', 'cpu']


def run(*words):
    return toy.tool('analysis_tools/benchmark').main([CONFIG, *SMALL, *words])


@pytest.mark.parametrize('mode', ['train', 'eval', 'integer', 'spike'])
def test_every_mode_beside_the_plain_path(mode, tmp_path, capsys):
    path = tmp_path / 'figures.json'
    assert run('--mode', mode, '--compare', 'plain', '--json', str(path)) == 0
    figures = json.loads(path.read_text())
    assert (figures['mode'], figures['batch'], figures['size'], figures['device']) == (mode, 2, 32, 'cpu')
    for name in (mode, 'plain'):
        row = figures[name]
        assert 0 < row['seconds']['fastest'] <= row['seconds']['median'] <= row['seconds']['slowest']
        assert row['images_per_second'] == pytest.approx(2 / row['seconds']['median'])
        assert ('bytes_saved_for_backward_per_image' in row) == (mode == 'train')
    if mode == 'train':
        kept = [figures[name]['bytes_saved_for_backward_per_image'] for name in (mode, 'plain')]
        assert kept[0] < kept[1] / 2
    lines = capsys.readouterr().out.splitlines()
    floats = ['floats'] if mode in ('integer', 'spike') else []
    assert [line.split()[0] for line in lines] == ['measured', *floats, mode, 'plain', 'ratio']
    assert figures.get('outside_units', {}).get('outside') == ([] if floats else None)
    assert 'times as fast as plain' in lines[-1]


def test_floor_and_loader(capsys, monkeypatch):
    monkeypatch.setattr(benchmark, 'machine_rates', lambda device: dict(macs_per_second=1e9, bytes_per_second=1e9))
    assert run('--floor', '--loader', '--amp', '--cfg-options', 'train_dataloader.num_workers=0') == 0
    out = capsys.readouterr().out
    assert 'floor' in out and '% of the time taken' in out and '% of a step: waits' in out and 'bfloat16' in out


def test_calls_are_counted(tmp_path, capsys):
    path = tmp_path / 'calls.json'
    assert run('--count-calls', '--compare', 'plain', '--json', str(path)) == 0
    figures = json.loads(path.read_text())
    assert figures['calls'] == sum(row['calls'] for row in figures['rows']) < figures['plain']['calls']
    assert any(name.startswith('triton.fire') for name in figures['by_operator'])
    assert not any(name.startswith('triton.') for name in figures['plain']['by_operator'])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ['counted', 'train', 'plain']
    assert f'{figures["calls"]:,} calls' in lines[1] and 'forward' in lines[1] and 'backward' in lines[1]
    assert [line for line in lines if line.startswith('by ')] == ['by module', 'by function', 'by operator']
    assert any('triton.fire' in line for line in lines)


@pytest.mark.parametrize(
    ('words', 'line'),
    [
        (['--count-calls', '--mode', 'eval'], '--count-calls goes with --mode train, got --mode eval'),
        (['--count-calls', '--loader'], '--count-calls times nothing, --loader does: leave one of them out'),
        (['--batch', '0'], '--batch must be at least 1, got 0'),
        (['--warm-up', '-1'], '--warm-up must be at least 0, got -1'),
        (['--mode', 'spike', '--amp'], '--amp goes with --mode train or eval, got --mode spike'),
        (['--mode', 'eval', '--loader'], '--loader goes with --mode train, got --mode eval'),
        (['--graph'], '--graph needs a GPU, the device is cpu'),
        (['--graph', '--mode', 'eval'], '--graph needs a GPU, the device is cpu'),
        (['--device', 'tpu9'], '--device tpu9: '),
        (['--mode', 'integer', '--cfg-options', 'model.backbone.weight_bits=32'], '--mode integer: '),
    ],
)
def test_bad_input_is_one_line(words, line, capsys):
    try:
        status = run(*words)
    except SystemExit as error:
        status = error.code
    message = capsys.readouterr().err.strip()
    assert status == 2 and line in message and len(message.splitlines()) == 1


@pytest.mark.parametrize('family', ['qsd', 'espike', 'espike-large'])
def test_work_is_what_the_energy_report_counts(family):
    model, image = trained(family), torch.randn(2, 3, 33, 47)
    counts = benchmark.work(model, lambda: model(image))
    report = measure_energy(model, [image]).as_dict()
    assert counts['macs'] == 2 * report['total']['dense_macs']
    assert counts['values'] > 0
    assert not any(module._forward_hooks for module in model.modules())


def test_calls_take_turns_and_are_timed():
    seen = []
    runs = {name: lambda name=name, t=t: (seen.append(name), time.sleep(t)) for name, t in (('a', 0.002), ('b', 0.01))}
    seconds = benchmark.seconds_of(runs, 3, torch.device('cpu'))
    assert seen == ['a', 'b'] * 3
    assert min(seconds['a']) >= 0.002 and min(seconds['b']) >= 0.01
    assert benchmark.summary([3.0, 1.0, 2.0]) == dict(median=2.0, fastest=1.0, slowest=3.0)


def test_floor_is_the_slower_of_arithmetic_and_memory():
    rates = dict(macs_per_second=100.0, bytes_per_second=40.0)
    assert benchmark.floor_seconds(dict(macs=1000, values=10), rates, training=False) == 10
    assert benchmark.floor_seconds(dict(macs=100, values=100), rates, training=True) == 30


def test_the_peak_is_that_of_the_call():
    size = 64 * 2**20
    peak = benchmark.peak_bytes(lambda: torch.ones(size, dtype=torch.uint8), torch.device('cpu'))
    assert peak is None or size * 0.9 < peak < size * 1.5
