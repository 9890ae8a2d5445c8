"""An op of mmcv that is neither compiled nor stood in for ends in one line: the op, the config, the cure."""

import pytest
import torch
import toy_runs as toy
from mmengine.config import Config
from mmengine.runner import Runner

import qsdt_mm  # noqa: F401  mmcv's ops import after it
from qsdt_mm import compat

if compat.ops_are_compiled():
    pytest.skip('mmcv has compiled ops: none is missing', allow_module_level=True)

QUICK = dict(train_dataloader__num_workers=0, train_cfg__max_epochs=1, train_cfg__val_interval=1)


def needy(path, *modes):
    text = "custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts', 'fault_parts'])\n"
    return toy.variant(path, f"{text}model = dict(type='NeedyToy', modes={modes})")


def assert_one_line(error, prog, config):
    (line,) = toy.our_lines(error, prog)
    start = (
        f"{prog}: error: mmcv's op border_align_forward has no stand-in (config {config} needs it): mmcv was installed"
    )
    assert line.startswith(start) and 'MMCV_WITH_OPS=1 pip install' in line


@pytest.mark.parametrize('mode', ['loss', 'predict'])
def test_train(tmp_path, capsys, mode):
    """Validation is tried before the run begins, and leaves nothing; a loss fails at the first step."""
    config = needy(tmp_path / 'needy.py', mode)
    assert toy.train(tmp_path / 'run', config=config, **QUICK) == 2
    assert_one_line(capsys.readouterr().err, 'train.py', config)
    assert (tmp_path / 'run').exists() == (mode == 'loss')


def test_test(tmp_path, capsys):
    from toy_parts import ToyModel

    config = needy(tmp_path / 'needy.py', 'predict')
    torch.save(dict(state_dict=ToyModel().state_dict()), tmp_path / 'weights.pth')
    assert toy.evaluate(tmp_path / 'weights.pth', tmp_path / 'run', config=config) == 2
    assert_one_line(capsys.readouterr().err, 'test.py', config)
    assert not (tmp_path / 'run').exists()


def test_a_tool_that_reads_another_config_after_it(tmp_path, capsys):
    """The config of the tool at work is named, none of a tool before."""
    config = needy(tmp_path / 'needy.py', 'predict')
    assert toy.train(tmp_path / 'run', config=config, **QUICK) == 2
    from qsdt_mm.cli import run_tool
    from qsdt_mm.compat import mmcv_ext

    capsys.readouterr()
    assert run_tool('tool.py', lambda session: mmcv_ext.border_align_forward()) == 2
    assert "tool.py: error: mmcv's op border_align_forward has no stand-in: mmcv was" in capsys.readouterr().err


@pytest.mark.parametrize('ours', [False, True])
def test_runners_in_other_programs(tmp_path, ours):
    from qsdt_mm.engine.runner import SafeRunner

    path = needy(tmp_path / 'needy.py', 'loss')
    cfg = Config.fromfile(path)
    cfg.work_dir, cfg.train_dataloader.num_workers, cfg.experiment_name = str(tmp_path), 0, f'needy{ours}'
    runner = (SafeRunner if ours else Runner).from_cfg(cfg)
    with pytest.raises(NotImplementedError, match=rf'op border_align_forward has no stand-in \(config {path} needs it'):
        runner.train()


def test_a_model_that_has_its_config(tmp_path):
    """As the libraries' ``init_detector`` and ``get_model`` leave it there."""
    from fault_parts import NeedyToy

    model = NeedyToy(('predict',))
    call = lambda: model(torch.zeros(1, 1, 6, 6), torch.zeros(1), 'predict')  # noqa: E731
    with pytest.raises(NotImplementedError, match='op border_align_forward has no stand-in: '):
        call()
    path = needy(tmp_path / 'needy.py', 'predict')
    model.cfg = Config.fromfile(path)
    with pytest.raises(NotImplementedError, match=rf'no stand-in \(config {path} needs it\)'):
        call()
    model.cfg = dict(model=dict())
    with pytest.raises(NotImplementedError, match='op border_align_forward has no stand-in: '):
        call()
