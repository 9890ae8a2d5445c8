"""Each library's own training tool runs a plain config with our backbone, unchanged."""

import importlib.util
import runpy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))
import plain  # noqa: E402


def own_tool(library, name):
    """A tool as the library installs it."""
    spec = importlib.util.find_spec(library)
    return Path(spec.submodule_search_locations[0]) / f'.mim/tools/{name}.py'


@pytest.mark.parametrize('library', plain.CONFIGS)
def test_plain_config_trains(library, tmp_path, monkeypatch):
    pytest.importorskip(library)
    config = plain.write_config(tmp_path / 'plain.py', library, 'scope', plain.make_data(tmp_path / 'data'))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', ['train.py', str(config), '--work-dir', 'run'])
    runpy.run_path(str(own_tool(library, 'train')), run_name='__main__')
    weights = torch.load('run/epoch_1.pth', weights_only=False)['state_dict']
    assert any('.synapse' in name and name.startswith('backbone.') for name in weights)
    (scalars,) = Path('run').rglob('scalars.json')
    assert f'"{plain.METRIC[library]}": ' in scalars.read_text()
