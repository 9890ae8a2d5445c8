"""The environment that make has made holds all that its lock names: no test is skipped there for want of a package."""

import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
LOCKS = dict(default='lock.txt', classic='classic.txt')
# What tests skip themselves for; of each line of OpenMMLab those that run there.
OF_RUNTIMES = {'onnx', 'onnxruntime', 'openvino', 'nir', 'h5py'}


def named(lock):
    """Requirements of a lock."""
    lines = (ROOT / 'requirements' / lock).read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith('#')]


def absent(requirements):
    """Names of those that are for this Python and not installed."""
    found = []
    for requirement in requirements:
        if requirement.marker is None or requirement.marker.evaluate():
            try:
                version(requirement.name)
            except PackageNotFoundError:
                found.append(requirement.name)
    return found


def test_all_that_the_lock_names_is_installed():
    if not Path(sys.prefix, '.installed').is_file():  # the Makefile's stamp
        pytest.skip('this environment was not made by make venv')
    classic = absent([Requirement('onedl-mmengine')])
    missing = absent(named(LOCKS['classic' if classic else 'default']))
    assert not missing, f'make venv installs {", ".join(missing)}'


def test_what_is_absent_is_seen():
    requirements = [Requirement('pytest'), Requirement('no-such-package; python_version < "3"'), Requirement('no-such')]
    assert absent(requirements) == ['no-such']


@pytest.mark.parametrize('lock', LOCKS.values())
@pytest.mark.parametrize('python', ['3.10', '3.11', '3.12', '3.13'])
def test_every_python_has_one_version_of_each(lock, python):
    here = dict(python_version=python, python_full_version=f'{python}.1')
    names = [r.name for r in named(lock) if r.marker is None or r.marker.evaluate(here)]
    assert len(names) == len(set(names)) and set(names) >= OF_RUNTIMES
    assert all(str(requirement.specifier).startswith('==') for requirement in named(lock))
