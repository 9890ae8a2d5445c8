"""Copies of this process: a tool in a process of its own, without the seconds that Python takes to import libraries."""

import multiprocessing
import os
import signal
import sys
import tempfile
import time


class Copy:
    """A copy that does one thing, in a process group of its own; used as a ``subprocess.Popen`` is.

    Args:
        body: What it does; what this returns is the exit status.
        environment: Variables that it sees besides this process's.
    """

    def __init__(self, body, **environment):
        self.said = [tempfile.TemporaryFile('w+') for _ in range(2)]  # noqa: SIM115  closed with this
        context = multiprocessing.get_context('fork')
        self.process = context.Process(target=self._run, args=(body, environment), daemon=False)
        self.process.start()

    def _run(self, body, environment):
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.update(environment)
        if 'torch' in sys.modules:  # makes its threads anew; several that do it at once end a copy
            sys.modules['torch'].set_num_threads(sys.modules['torch'].get_num_threads())
        for number, file in enumerate(self.said, 1):
            os.dup2(file.fileno(), number)
        sys.stdout, sys.stderr = (os.fdopen(number, 'w', buffering=1, closefd=False) for number in (1, 2))
        sys.exit(body())

    @property
    def pid(self):
        return self.process.pid

    @property
    def returncode(self):
        return self.process.exitcode

    poll = returncode.fget

    def send_signal(self, number):
        os.kill(self.pid, number)

    def communicate(self, timeout=120):
        """What it said and what it complained about, when it has ended."""
        self.process.join(timeout)
        if self.returncode is None:
            os.killpg(self.pid, signal.SIGKILL)
            self.process.join()
            raise TimeoutError(f'still running after {timeout} s: {self._read()}')
        return self._read()

    def _read(self):
        for file in self.said:
            file.seek(0)
        return tuple(file.read() for file in self.said)


def joined(body, count, port):
    """Copies that are the ranks of one run, as ``torch.distributed.run`` starts them, when all have ended.

    Returns what each said and complained about; a rank that fails ends the others.
    """
    meet = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port, WORLD_SIZE=str(count))
    ranks = [Copy(body, RANK=str(i), LOCAL_RANK=str(i), **meet) for i in range(count)]
    limit = time.monotonic() + 300
    while any(rank.poll() is None for rank in ranks):
        if any(rank.poll() for rank in ranks) or time.monotonic() > limit:
            for rank in ranks:
                rank.process.kill()
        time.sleep(0.02)
    said = [rank.communicate() for rank in ranks]
    assert [rank.returncode for rank in ranks] == [0] * count, said
    return said
