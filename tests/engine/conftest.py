"""Make the toy model, its configuration and the helpers importable, here and in data loading workers."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'engine'))


@pytest.fixture(autouse=True)
def plain_environment(monkeypatch):
    """The tools set variables for the launchers; no test sees another's."""
    for name in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'QSDT_TRACEBACK', 'TOY_TRACE'):
        monkeypatch.setenv(name, 'x')
        monkeypatch.delenv(name)
