"""No room from the start: for temporary files, a run's own, or a tool's results; one line that names the place."""

import errno
import json
import logging
import os
import re
import resource
import tempfile

import pytest
import toy_runs as toy
from fault_parts import limit_files

from qsdt_mm.cli import load_config
from qsdt_mm.cli.shell import run_tool
from qsdt_mm.errors import InputError, one_line, why_no_file, written_file
from qsdt_mm.fileio.atomic import atomic_open, check_writable

pytestmark = pytest.mark.usefixtures('as_in_use')  # what is quicker does without a disk
CHANGES = dict(train_dataloader__num_workers=0, train_cfg__max_epochs=1, train_cfg__val_interval=1)
FAULTS = [errno.ENOSPC, errno.EDQUOT, errno.EROFS]


@pytest.fixture
def no_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, 'tempdir', None)
    monkeypatch.setattr(tempfile, '_candidate_tempdir_list', lambda: ['/nowhere/a', '/nowhere/b'])


@pytest.mark.parametrize('name', ['train', 'test', 'misc/print_config', 'analysis_tools/energy'])
def test_no_temporary_folder(no_temporary_folder, tmp_path, capsys, name):
    words = [str(toy.CONFIG), *([str(tmp_path / 'x.pth')] if name == 'test' else [])]
    assert toy.tool(name).main(words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, f'{name.rpartition("/")[2]}.py')
    assert (
        'no temporary file can be written (in /nowhere/a, /nowhere/b): set TMPDIR to a folder that takes some' in line
    )


def test_no_temporary_folder_later(no_temporary_folder, capsys):
    """A metric or another library asks for one when the run has begun."""

    def body(session):
        session.begin()
        try:
            tempfile.mkdtemp()
        except FileNotFoundError as error:
            raise RuntimeError('no cache') from error

    assert run_tool('x.py', body) == 1
    (line,) = toy.our_lines(capsys.readouterr().err, 'x.py')
    assert 'set TMPDIR' in line


@pytest.mark.parametrize('fault', [*FAULTS, errno.EACCES])
def test_a_temporary_folder_that_takes_nothing(tmp_path, monkeypatch, fault):
    def refuse(*args, **kwargs):
        raise OSError(fault, os.strerror(fault), str(tmp_path / 'x'))

    monkeypatch.setattr(tempfile, 'mkdtemp', refuse)
    with pytest.raises(InputError) as error:
        load_config(str(toy.CONFIG))
    said = f'no temporary file can be written ({tmp_path / "x"}: {os.strerror(fault)}): set TMPDIR to a folder that'
    assert said in str(error.value)


def test_a_temporary_file_that_may_not_grow():
    with limited(20), pytest.raises(InputError, match=r'no temporary file can be written \(.*: File too large\)'):
        load_config(str(toy.CONFIG))


class limited:
    """No file of this process may grow beyond some bytes while the block runs."""

    def __init__(self, size):
        self.size = size

    def __enter__(self):
        self.before = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
        limit_files(self.size)

    def __exit__(self, *exc):
        limit_files(self.before)


@pytest.mark.parametrize(
    ('size', 'what'),
    [(0, 'work directory {run} cannot be written: File too large'), (150, '{run}/[^ ]+: File too large')],
)
def test_a_run_that_cannot_write(tmp_path, capsys, size, what):
    """At first not even the lock; then neither log nor configuration, of which the log is warned of, once."""
    text = f'import resource as r\nr.setrlimit(r.RLIMIT_FSIZE, ({size}, r.getrlimit(r.RLIMIT_FSIZE)[1]))'
    config = toy.variant(tmp_path / 'c.py', text)
    with limited(-1):
        assert toy.train(tmp_path / 'run', config=config, **CHANGES) == 2
    said = capsys.readouterr().err
    (line,) = toy.our_lines(said)
    assert re.search(what.format(run=re.escape(str(tmp_path / 'run'))), line), line
    assert said.count('warning: the log ') == (size > 0)
    assert not (tmp_path / 'run').exists()


def test_the_file_of_a_full_disk_is_named(tmp_path):
    """Whoever writes: the error of ``write`` names none."""

    def through_a_library(path):
        with open(path, 'a', encoding='utf-8') as stream:
            print('what', file=stream)
            stream.flush()
            raise OSError(errno.ENOSPC, 'No space left on device')

    def through_a_log(path):
        handler = logging.FileHandler(path)
        handler.close()
        raise OSError(errno.EDQUOT, 'Disk quota exceeded')

    def from_elsewhere(path):
        with open(__file__) as file:  # which is read
            raise OSError(errno.EROFS, f'Read-only file system {file.mode}')

    for fails, named in ((through_a_library, True), (through_a_log, True), (from_elsewhere, False)):
        with pytest.raises(OSError) as error:
            fails(str(tmp_path / 'x'))
        assert (written_file(error.value) == str(tmp_path / 'x')) == named
        assert one_line(error.value).startswith(f'{tmp_path / "x"}: ') == named


def test_results_that_could_not_be_written_are_found_first(tmp_path, monkeypatch, capsys):
    (tmp_path / 'file').touch()
    words = [str(toy.CONFIG), str(tmp_path / 'x.pth')]  # which is not there, and not looked at yet
    for option, name in (('--json', 'file/x.json'), ('--out', 'file/deep/x.pkl')):
        with pytest.raises(SystemExit) as error:
            toy.tool('test').main([*words, option, str(tmp_path / name)])
        assert error.value.code == 2
        assert f'{tmp_path / name} cannot be written: Not a directory' in capsys.readouterr().err
    with limited(100), pytest.raises(SystemExit):
        toy.tool('test').main([*words, '--json', str(tmp_path / 'new/deep/x.json')])
    assert f'{tmp_path / "new/deep/x.json"} cannot be written: File too large' in capsys.readouterr().err
    check_writable(tmp_path / 'new/deep/x.json')
    assert [path.name for path in tmp_path.iterdir()] == ['file']


@pytest.mark.parametrize('fault', FAULTS)
def test_every_kind_of_disk_that_takes_no_more(tmp_path, capsys, fault):
    def body(session):
        session.begin()
        with atomic_open(tmp_path / 'x.json', 'w') as file:
            file.write('x')
            raise OSError(fault, os.strerror(fault))

    assert run_tool('x.py', body) == 1
    (line,) = toy.our_lines(capsys.readouterr().err, 'x.py')
    assert line == f'x.py: error: {tmp_path / "x.json"}: {os.strerror(fault)}'
    assert list(tmp_path.iterdir()) == []


def test_why_a_path_is_no_file(tmp_path):
    (tmp_path / 'a').touch()
    (tmp_path / 'dead').symlink_to(tmp_path / 'gone')
    (tmp_path / 'loop').symlink_to(tmp_path / 'loop')
    os.mkfifo(tmp_path / 'pipe')
    assert why_no_file(tmp_path / 'a') is None and why_no_file(tmp_path, folder=True) is None
    said = {name: why_no_file(tmp_path / name) for name in ('b', 'dead', 'loop', 'a/b', 'pipe', '')}
    assert said == {
        'b': 'does not exist',
        'dead': f'is a link to {tmp_path / "gone"}, which does not exist',
        'loop': 'cannot be reached: Too many levels of symbolic links',
        'a/b': f'does not exist: {tmp_path / "a"} is a file',
        'pipe': 'is not a file',
        '': 'is a folder, not a file',
    }
    assert why_no_file(tmp_path / 'a', folder=True) == 'is a file, not a folder'
    assert 'File name too long' in why_no_file('a' * 300) and 'null byte' in why_no_file('a\0b')


def test_what_may_not_be_read_is_said_so(tmp_path, monkeypatch):
    (tmp_path / 'closed').mkdir()
    for name in ('closed/c.py', 'c.py'):
        (tmp_path / name).touch()
    for name, mode in (('c.py', 0), ('closed', 0), ('.', 0o755)):
        (tmp_path / name).chmod(mode)
    monkeypatch.chdir(tmp_path)
    reader, writer = os.pipe()
    if os.fork() == 0:
        if os.getuid() == 0:  # who may read anything
            os.setuid(65534)
        os.write(writer, json.dumps([why_no_file('c.py'), why_no_file('closed/c.py')]).encode())
        os._exit(0)
    os.wait()
    (tmp_path / 'closed').chmod(0o700)
    assert json.loads(os.read(reader, 1000)) == [
        'cannot be read: permission denied',
        'cannot be reached: Permission denied',
    ]
