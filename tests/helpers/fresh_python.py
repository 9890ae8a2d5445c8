"""Python as after its start, at once: copies of a process that has imported torch, torchvision and mmengine only."""

import atexit
import functools
import json
import os
import runpy
import subprocess
import sys
import tempfile
import traceback
from pathlib import Path

READY = 'ready'


@functools.cache
def _server(environment):
    server = subprocess.Popen(
        [sys.executable, __file__], env=dict(environment), text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    while (line := server.stdout.readline().strip()) != READY:  # what the libraries say
        assert line or server.poll() is None, 'Python does not start'
    atexit.register(server.communicate)  # it ends with what it reads
    return server


def run(words, cwd, **environment):
    """What ``python WORDS`` (``-c CODE``, ``-m MODULE`` or a file with its own words) does in a folder.

    Returns a ``subprocess.CompletedProcess``. What the start itself prints is not in it.
    """
    server = _server(tuple(sorted({**os.environ, **environment}.items())))
    with tempfile.TemporaryDirectory() as folder:
        said = [str(Path(folder) / name) for name in ('out', 'error')]
        server.stdin.write(json.dumps([[str(word) for word in words], str(cwd), said]) + '\n')
        server.stdin.flush()
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(words, status, *(Path(path).read_text() for path in said))


def _do(words, cwd, said):
    """The work of a copy, which ends with it."""
    os.chdir(cwd)
    for number, file in enumerate((os.devnull, *said)):
        os.dup2(os.open(file, os.O_RDWR | os.O_CREAT), number)
    first, *rest = words
    sys.argv = [first, *rest[first in ('-c', '-m') :]]
    sys.path[0] = str(cwd) if first == '-m' else '' if first == '-c' else str(Path(first).resolve().parent)
    status = 0
    try:
        if first == '-c':
            exec(compile(rest[0], '<string>', 'exec'), {'__name__': '__main__'})
        elif first == '-m':
            runpy.run_module(rest[0], run_name='__main__', alter_sys=True)
        else:
            runpy.run_path(first, run_name='__main__')
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else int(left.code is not None)
    except BaseException:
        traceback.print_exc()
        status = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _serve():
    import mmengine  # noqa: F401
    import torch
    import torchvision  # noqa: F401

    torch.set_num_threads(1)
    print(READY, flush=True)
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            _do(*json.loads(line))
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]), flush=True)


if __name__ == '__main__':
    _serve()
