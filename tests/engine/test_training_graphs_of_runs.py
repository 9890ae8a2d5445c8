"""``cuda_graphs`` and ``--graph``: a run's checkpoints are those without, and what does not go together is one line."""

import pytest
import torch
import toy_runs as toy
from taped_graphs import record_tapes

from qsdt_mm.inference import graphs

PLAIN = dict(randomness__seed=0, train_dataloader__num_workers=0, train_cfg__max_epochs=2)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64 with averaged weights, watched by a hook at every fourth step."""
    text = """model = dict(_delete_=True, type='SpikingToy')
custom_imports = dict(imports=['qsdt_mm', 'toy_parts'], allow_failed_imports=False)
default_hooks = dict(firing=dict(type='FiringRateHook', interval=4))
val_cfg = val_dataloader = val_evaluator = None"""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', text)


def test_a_run_is_the_same_bit_for_bit(config, tmp_path, monkeypatch):
    assert toy.train(tmp_path / 'plain', config=config, **PLAIN) == 0
    made = record_tapes(monkeypatch)
    assert toy.train(tmp_path / 'graphs', '--graph', config=config, **PLAIN) == 0
    for i in (1, 2):
        pair = tmp_path / f'plain/epoch_{i}.pth', tmp_path / f'graphs/epoch_{i}.pth'
        assert toy.training_differences(*pair) == []
    assert sum(recorder.replays_back for recorder in made) > 2


def test_a_cpu_says_that_there_are_none(config, tmp_path, capsys, monkeypatch):
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    monkeypatch.setattr(graphs, '_told', set())
    assert toy.train(tmp_path / 'run', config=config, **dict(PLAIN, train_cfg__max_epochs=1), cuda_graphs=True) == 0
    assert capsys.readouterr().out.count('CUDA graphs need a GPU') == 1


@pytest.mark.parametrize(
    ('changes', 'hints'),
    [
        (dict(cuda_graphs='maybe'), ["cuda_graphs='maybe' is not allowed", 'True or False']),
        (dict(cuda_graphs=True, compile=True), ['cuda_graphs and compile exclude']),
        (dict(cuda_graphs=True, activation_checkpointing='[backbone]'), ['activation_checkpointing exclude']),
        (dict(cuda_graph=True), ['cuda_graph', 'cuda_graphs']),
    ],
    ids=lambda value: '-'.join(value) if isinstance(value, dict) else '',
)
def test_what_does_not_go_together_is_one_line_before_training(config, tmp_path, capsys, changes, hints):
    assert toy.train(tmp_path / 'run', config=config, **changes) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and all(hint in lines[0] for hint in hints), lines
    assert not (tmp_path / 'run').exists()


@pytest.mark.parametrize(
    ('has_bf16', 'given', 'expected'),
    [
        (True, {}, dict(dtype='bfloat16', loss_scale=dict(enabled=False))),
        (False, {}, dict(loss_scale='dynamic')),
        (True, dict(dtype='float16'), dict(dtype='float16', loss_scale='dynamic')),
        (True, dict(loss_scale=512.0), dict(loss_scale=512.0)),
    ],
)
def test_mixed_precision_on_gpus(has_bf16, given, expected, monkeypatch):
    from mmengine.config import Config

    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'is_bf16_supported', lambda including_emulation=True: has_bf16)
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper', **given)))
    toy.tool('train').enable_amp(cfg)
    assert cfg.optim_wrapper.to_dict() == dict(type='AmpOptimWrapper', **expected)
