"""What all tests share: one thread, a fixed seed, a plain environment, and the toy runs."""

import ast
import faulthandler
import gc
import multiprocessing
import os
import pkgutil
import sys
import tempfile
from functools import cache, partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from hypothesis import HealthCheck, settings
from mmengine.fileio import load
from mmengine.utils import ManagerMixin

# The toy model, its configuration and the helpers are imported here and in data loading workers.
sys.path.insert(0, str(Path(__file__).resolve().parent / 'helpers'))


# On a machine that others use, too, no test fails for its time.
settings.register_profile('suite', deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile('suite')


@pytest.fixture(scope='session', autouse=True)
def nobody_is_left():
    """No process that a test has started outlives the tests: at exit Python waits for each."""
    yield
    gc.unfreeze()
    gc.collect()
    left = multiprocessing.active_children()
    assert not left, f'still running: {left}'


@pytest.hookimpl(trylast=True)
def pytest_unconfigure():
    """Show what keeps this process alive, if it has not ended after a while."""
    faulthandler.dump_traceback_later(20, exit=False, file=sys.__stderr__)


@pytest.fixture(scope='session')
def frozen():
    """How many modules were imported when what lives was last kept from the garbage collector."""
    return [0]


@pytest.fixture(autouse=True)
def libraries_are_no_garbage(frozen):
    """The libraries' objects stay for good: walking over a million of them, often, was a third of the tests' time."""
    if len(sys.modules) > frozen[0] + 150:
        gc.collect()
        gc.freeze()
        frozen[0] = len(sys.modules)
        gc.set_threshold(10000, 10, 10)  # what tests make is little beside that


@pytest.fixture(scope='session', autouse=True)
def small_images_are_saved_compactly():
    """The tests' small networks take the path of large ones."""
    from qsdt_mm.ops import compact_saving

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(compact_saving, 'FEWEST_PIXELS', 0)
        yield


@pytest.fixture(scope='session', autouse=True)
def one_thread():
    """Small models are slower on many threads, and sums in a fixed order make equality meaningful."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def as_it_is(text, **_):
    """In place of yapf's formatting of code: what is no Python is an error there, too."""
    ast.parse(text)
    return text, False


MEMORY = '/dev/shm' if os.access('/dev/shm', os.W_OK) else None

QUICKER = {
    # Configurations are noted as they are: to format one takes as long as a toy run, which does it six times.
    'yapf.yapflib.yapf_api.FormatCode': as_it_is,
    # For each base of a configuration a folder is made and removed: on a disk that is most of the time of reading it.
    'mmengine.config.config.tempfile': SimpleNamespace(
        TemporaryDirectory=partial(tempfile.TemporaryDirectory, dir=MEMORY),
        NamedTemporaryFile=tempfile.NamedTemporaryFile,
    ),
    # The list of a library's configurations is read for each that is taken from there.
    'mmengine.config.utils.load': cache(load),
    # Nobody switches the machine off: what is written is there, on the disk or not yet.
    'os.fsync': os.fstat,
    # mmengine collects garbage, and looks at all objects of all libraries, for each data set that it builds.
    'mmengine.dataset.base_dataset.gc': SimpleNamespace(collect=int),
    # It rests two seconds after each epoch of a loop of iterations.
    'mmengine.runner.loops.time': SimpleNamespace(sleep=lambda seconds: None),
    # To place the parts of a figure takes as long as a toy run, too, and then its pixels do.
    'qsdt_mm.visualization.figures.DPI': 30,
    'qsdt_mm.visualization.figures.LAYOUT': None,
}


@pytest.fixture(scope='session', autouse=True)
def quicker():
    """What takes half of the tests' time and decides nothing. Returns what was there before."""
    before = {name: pkgutil.resolve_name(name) for name in QUICKER}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in QUICKER.items():
            patch.setattr(name, value)
        yield before


@pytest.fixture
def as_in_use(quicker, monkeypatch):
    """Nothing is quicker than in use."""
    for name, value in quicker.items():
        monkeypatch.setattr(name, value)


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """A fixed seed; no test sees another's default scope, log or visualizer, or the variables set for launchers.

    mmengine names them after the second, and there are several tests to one.
    """
    from toy_runs import kinds_of

    torch.manual_seed(0)
    for manager in kinds_of(ManagerMixin):
        monkeypatch.setattr(manager, '_instance_dict', type(manager._instance_dict)())
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'QSDT_TRACEBACK', 'TOY_TRACE'):
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)


@pytest.fixture
def golden():
    """Outputs of the published implementations, by name; a test that needs one that is absent is skipped."""
    folder = Path(os.environ.get('QSDT_SHARED') or Path(__file__).resolve().parents[2] / 'shared') / 'golden'

    def path(name):
        if not (folder / name).is_file():
            pytest.skip(f'{folder / name} is not here: set QSDT_SHARED to the folder that holds golden/')
        return folder / name

    return path


@pytest.fixture
def said(monkeypatch):
    """The lines that are said about the rounding of a checkpoint's neurons."""
    from qsdt_mm.models.neurons import rounding

    lines = []
    monkeypatch.setattr(rounding, 'print_log', lambda line, **_: lines.append(line))
    monkeypatch.setattr(rounding, '_speaker', rounding._Speaker())
    return lines
