"""Where the line is drawn: what was given ends in a line, what this package does wrong in a traceback."""

import errno
import json

import pytest
import toy_runs as toy

from qsdt_mm.cli import run_tool
from qsdt_mm.errors import PACKAGE, InputError, disk_fault, is_own_fault


def inside(file, code):
    """A function of this code, as if it stood in that file."""
    held = {}
    exec(compile(f'def work(*args):\n    {code}', str(file), 'exec'), held)
    return held['work']


OURS = inside(PACKAGE / 'models' / 'some_part.py', "return 1 + 'a'")
CHECK = inside(PACKAGE / 'models' / 'some_part.py', "raise ValueError('max_spike_count=0 is not allowed')")
PASSED_ON = inside(PACKAGE / 'registry.py', 'return dict(1, 2, 3)')
THEIRS = inside('/site-packages/library/part.py', "return 1 + 'a'")


def status(capsys, work, begun=False, stage=False):
    """Run it as a tool's work; returns the status and what was said."""

    def body(session):
        if begun:
            session.begin()
        if stage:
            with session.stage('building the model'):
                work()
        work()

    code = run_tool('tool.py', body)
    return code, capsys.readouterr().err


@pytest.mark.parametrize('begun', [False, True])
@pytest.mark.parametrize('stage', [False, True])
def test_a_fault_of_this_package_is_a_traceback(capsys, begun, stage):
    code, error = status(capsys, OURS, begun, stage)
    assert code == 1 and 'Traceback' in error and 'tool.py: error' not in error and 'some_part.py' in error


def test_a_fault_of_a_tool_is_a_traceback(capsys):
    code = run_tool('tool.py', lambda session: session.no_such_method())
    error = capsys.readouterr().err
    assert code == 1 and 'Traceback' in error and 'no_such_method' in error


@pytest.mark.parametrize('work', [CHECK, THEIRS, PASSED_ON])
def test_what_was_given_is_a_line(capsys, work):
    for stage in (False, True):
        code, error = status(capsys, work, stage=stage)
        assert code == 2 and error.startswith('tool.py: error: ') and error.count('\n') == 1


def test_an_error_of_a_library_in_the_middle_of_a_run_is_a_traceback(capsys):
    code, error = status(capsys, THEIRS, begun=True)
    assert code == 1 and 'Traceback' in error


def test_a_hook_that_was_told_nonsense_is_a_line(tmp_path, capsys):
    schedule = 'param_scheduler = [dict(type="CosineAnnealingLR", T_max="many", by_epoch=True)]'
    config = toy.variant(tmp_path / 'c.py', schedule)
    assert toy.train(tmp_path / 'run', config=config, train_dataloader__num_workers=0) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and 'a hook cannot do its work: TypeError' in lines[0], lines


def test_an_argument_that_is_passed_on_to_a_base_class_is_a_line(tmp_path, capsys):
    pytest.importorskip('sklearn')
    config = tmp_path / 'c.py'
    base = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
    config.write_text(f'_base_ = {str(base)!r}\ntrain_dataloader = dict(dataset=dict(weights_bits=1))\n')
    assert toy.tool('train').main([str(config), '--work-dir', str(tmp_path / 'run')]) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and "unexpected keyword argument 'weights_bits'" in lines[0]


def test_a_checkpoint_hook_that_was_told_nonsense_is_refused_before_the_run(tmp_path, capsys):
    for name in ('keep', 'interval'):
        config = toy.variant(tmp_path / f'{name}.py', f'default_hooks = dict(checkpoint=dict({name}="often"))')
        assert toy.train(tmp_path / 'run', config=config) == 2
        lines = toy.our_lines(capsys.readouterr().err)
        assert len(lines) == 1 and f"{name}='often' is not allowed" in lines[0]
        assert not (tmp_path / 'run').exists()


def test_kinds():
    def raised(work):
        try:
            work()
        except Exception as error:
            return error

    assert is_own_fault(raised(OURS)) and not is_own_fault(raised(THEIRS))
    assert not is_own_fault(raised(CHECK)) and not is_own_fault(InputError('x'))
    assert is_own_fault(raised(THEIRS), ['/site-packages/library/part.py'])
    assert not is_own_fault(raised(lambda: json.loads(3)))
    full = OSError(errno.ENOSPC, 'No space left on device')
    other = RuntimeError('unexpected pos')
    other.__context__ = full
    assert disk_fault(other) is full and disk_fault(OSError(errno.ENOENT, 'none')) is None
