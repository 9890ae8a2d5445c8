"""Networks that come with the package: what their cards say, and the libraries' own ways to them."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from mmengine.infer import BaseInferencer

import qsdt_mm
from qsdt_mm.compat import inferencers
from qsdt_mm.deploy import listing
from qsdt_mm.deploy.listing import card_facts
from qsdt_mm.deploy.settings import config_of
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.shipped import located, shipped_folders

ROOT = Path(__file__).parents[2]
DIGITS = 'qsd-tiny_1xb32_digits'
CELLS = 'semantic-fpn_qsd-small_1xb8-500i_cells-256x256'


def test_cards_say_all():
    found = qsdt_mm.list_pretrained()
    assert list(found) == list(shipped_folders())
    for name, facts in found.items():
        assert set(facts) == {'task', 'data', 'metrics', 'megabytes'} and facts['megabytes'] <= 5
        text = (located(name) / 'README.md').read_text()
        for part in ('## Use', '## Figures', '## Training', '## Limits', 'Firing rate: 0.', 'python tools/train.py'):
            assert part in text, name
        for metric, value in facts['metrics'].items():
            assert f' {value} |' in text, metric
    assert found[DIGITS]['metrics']['top-1, deploy'] == 98.5916


def test_a_card_without_a_head_is_one_line(tmp_path):
    with pytest.raises(InputError, match='cannot be read'):
        card_facts(tmp_path)
    (tmp_path / 'README.md').write_text('# Mine')
    with pytest.raises(InputError, match='is no card'):
        card_facts(tmp_path)


def test_from_pretrained_takes_names(tmp_path, monkeypatch):
    pytest.importorskip('mmpretrain')
    monkeypatch.chdir(tmp_path)
    model, plan = qsdt_mm.from_pretrained(DIGITS), qsdt_mm.from_pretrained(DIGITS, kind='deploy')
    image = torch.arange(1024).remainder(256).byte().view(1, 1, 32, 32)
    assert plan(image).argmax() == model((image.float() - 77) / 85).argmax()
    assert model.classes == plan.classes == list('0123456789') and not model.training
    with pytest.raises(InputError, match=rf'did you mean {DIGITS}\?'):
        qsdt_mm.from_pretrained('qsd-tiny_1xb32_digit')


@pytest.mark.slow
def test_listing_imports_no_library():
    code = (
        'import sys, qsdt_mm; qsdt_mm.list_pretrained(); '
        "print([m for m in ('mmpretrain', 'mmdet', 'mmseg') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout.strip().endswith('[]')


@pytest.fixture
def registered(monkeypatch):
    """The libraries as they were, afterwards."""
    hub = pytest.importorskip('mmpretrain.apis.model').ModelHub
    monkeypatch.setattr(hub, '_models_dict', dict(hub._models_dict))
    monkeypatch.setattr(hub, 'register_model_index', hub.register_model_index)
    monkeypatch.setattr(inferencers, 'MODELS', {})
    monkeypatch.setattr(BaseInferencer, 'list_models', BaseInferencer.list_models)
    monkeypatch.setattr(BaseInferencer, '_load_model_from_metafile', BaseInferencer._load_model_from_metafile)
    assert qsdt_mm.register_models() == qsdt_mm.register_models() == sorted(shipped_folders())


@torch.no_grad()
def test_mmpretrain_knows_classifiers(registered):
    from mmpretrain import ImageClassificationInferencer, get_model, list_models

    assert list_models('qsd-tiny') == list_models('qsd*digits', task='Image Classification') == [DIGITS]
    model, own = get_model(DIGITS, pretrained=True), qsdt_mm.from_pretrained(DIGITS)
    image = torch.randn(2, 1, 32, 32)
    assert torch.equal(model(image), own(image)) and not torch.equal(get_model(DIGITS)(image), own(image))
    assert model._dataset_meta['classes'] == tuple('0123456789')
    found = ImageClassificationInferencer(DIGITS)(torch.zeros(8, 8, 3).byte().numpy())
    assert found[0]['pred_class'] in '0123456789'


def test_an_index_that_lists_them_too_can_be_registered(registered):
    """As this project's does: what comes with the package keeps its weights, the rest is there as well."""
    from mmpretrain import get_model
    from mmpretrain.apis.model import ModelHub

    before = set(ModelHub._models_dict)
    ModelHub.register_model_index(ROOT / 'model-index.yml', config_prefix=ROOT)
    assert {'qsd-15m_8xb196_in1k', DIGITS} <= set(ModelHub._models_dict) - before | {DIGITS}
    assert ModelHub.get(DIGITS).weights == str(located(DIGITS))
    assert sum(value.numel() for value in get_model('qsd-15m_8xb196_in1k', device='meta').parameters()) == 15_160_432
    with pytest.raises(ValueError, match='conflict'):  # of others, as ever
        ModelHub.register_model_index(ROOT / 'model-index.yml', config_prefix=ROOT)
    assert qsdt_mm.register_models() == sorted(shipped_folders())
    assert ModelHub.get(DIGITS).weights == str(located(DIGITS))


def test_inferencers_know_others(registered):
    pytest.importorskip('mmseg')
    from mmseg.apis import MMSegInferencer

    infer = MMSegInferencer(CELLS, device='cpu', show_progress=False)
    assert infer.model.dataset_meta == dict(classes=('background', 'nucleus'), palette=[[0, 0, 0], [220, 20, 60]])
    own = qsdt_mm.from_pretrained(CELLS).state_dict()
    assert all(torch.equal(value, own[name]) for name, value in infer.model.state_dict().items())
    ours = [name for name in qsdt_mm.list_pretrained() if name.startswith('semantic-fpn_qsd')]
    assert CELLS in ours and BaseInferencer.list_models('mmseg', 'semantic-fpn_qsd') == ours


def test_a_library_that_is_absent_is_passed_over(monkeypatch):
    monkeypatch.setattr(inferencers, 'MODELS', {})
    monkeypatch.setattr(listing, 'find_spec', lambda name: None)
    monkeypatch.setattr(listing, '_add_classifiers', lambda folders: False)
    assert qsdt_mm.register_models() == [] and inferencers.MODELS == {}


@pytest.mark.parametrize('load', [qsdt_mm.from_pretrained, config_of], ids=['network', 'configuration'])
def test_a_network_of_an_absent_library_says_what_brings_it(load, monkeypatch):
    for name in [name for name in sys.modules if name.partition('.')[0] == 'mmseg'] + ['mmseg']:
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match=r'needs mmseg, which is not installed: pip install (onedl-)?mmsegmentation$'):
        load(located(CELLS))


def test_inferencers_still_know_their_own(registered):
    pytest.importorskip('mmdet')
    cfg = Config(dict(a=1))
    inferencers.add_inferencer_models('mmdet', {'Mine': lambda: (cfg, 'folder')})
    inferencer = SimpleNamespace(scope='mmdet')
    assert BaseInferencer._load_model_from_metafile(inferencer, 'MINE') == (cfg, 'folder')
    with pytest.raises(ValueError, match='none-such'):
        BaseInferencer._load_model_from_metafile(inferencer, 'none-such')
    names = BaseInferencer.list_models('mmdet', 'mine|retinanet_r18')
    assert names[-1] == 'mine' and len(names) > 1
