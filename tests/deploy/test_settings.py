"""Configurations in packed folders come back as they were, and are data: what does more than describe is refused."""

import json
import shutil
from pathlib import Path

import pytest
from mmengine.config import Config

from qsdt_mm.deploy.settings import KEPT, check_settings, config_of, known_types, plain_settings, settings_in
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.shipped import located, shipped_folders

pytest.importorskip('mmpretrain')

DIGITS = 'qsd-tiny_1xb32_digits'
ROOT = Path(__file__).parents[2]


def test_a_configuration_comes_back_with_its_tuples():
    file = Config.fromfile(str(ROOT / f'configs/classification/{DIGITS}.py'))
    found = config_of(located(DIGITS))
    for key in (key for key in KEPT if file.get(key) is not None):
        assert found[key] == file[key], key  # lists and tuples differ
    assert found.default_scope == 'mmpretrain' and 'custom_imports' not in found
    assert json.loads(json.dumps(plain_settings(found))) == plain_settings(file)


@pytest.mark.slow
def test_configurations_of_all_tasks_are_taken():
    names = known_types('mmpretrain', 'mmdet', 'mmseg')
    configs = sorted((ROOT / 'configs').glob('[!_]*/*.py'))
    for path in configs:
        file = Config.fromfile(str(path)).to_dict()
        settings = json.loads(json.dumps(plain_settings(file), allow_nan=False))
        check_settings(settings, names)
        assert settings_in(settings) == {key: file[key] for key in KEPT if file.get(key) is not None}, path
    assert len(configs) > 40


@pytest.mark.parametrize('name', shipped_folders())
def test_folders_of_the_package_name_no_place_of_ours(name):
    text = (located(name) / 'config.json').read_text()
    assert not any(word in text for word in ('/work', '/tmp', '/home'))


NAMES = {'Hook', 'Digits', 'LearningCurvesHook'}


@pytest.mark.parametrize(
    'settings',
    [
        dict(train_dataloader=dict(dataset=dict(type='os.system'))),
        dict(custom_hooks=[dict(type='Other')]),
        dict(custom_hooks=[dict(type=3)]),
        dict(custom_hooks=[dict(type='Hook', _scope_='os')]),
        dict(custom_hooks=[dict(type='Hook', _scope_=['os'])]),
        dict(custom_hooks=[dict(type='os.Hook')]),
        dict(test_dataloader=dict(dataset=dict(type='Digits', ann_file='http://host/a.json'))),
        dict(test_dataloader=dict(dataset=dict(type='Digits', ann_file='s3:x'))),
        dict(test_dataloader=dict(dataset=dict(type='Digits', ann_file='data/x.PKL'))),
        dict(test_dataloader=dict(dataset=dict(type='Digits', ann_file='../../x.json'))),
        dict(custom_hooks=[dict(type='Hook', out_dir='/etc')]),
        dict(test_evaluator=dict(type='Hook', outfile_prefix='/etc/x')),
        dict(test_evaluator=dict(type='Hook', out_file_path='x')),
        dict(custom_hooks=[dict(type='Hook', json_trace_path='x')]),
        dict(custom_hooks=[dict(type='Hook', filename='x')]),
        dict(visualizer=dict(type='Hook', save_dir='x')),
        dict(tta_model=dict(type='Hook', init_cfg=dict(type='Pretrained', checkpoint='x'))),
        dict(tta_model=dict(type='Hook', pretrained='x.pth')),
        dict(train_cfg={'tuple': 3}),
        dict(train_cfg={'tuple': [], 'b': 1}),
        dict(train_cfg={'a b': 1}),
        dict(randomness=dict(seed=1e300)),
        dict(log_level='x' * 2000),
        dict(log_level='{{ $HOME:x }}'),
    ],
    ids=lambda value: str(value)[:60],
)
def test_settings_that_do_more_than_describe_are_refused(settings):
    with pytest.raises(InputError, match='is not allowed') as caught:
        check_settings(settings, NAMES)
    assert '\n' not in str(caught.value)


def test_hooks_whose_files_stay_in_the_work_directory_may_name_them():
    check_settings(dict(custom_hooks=[dict(type='LearningCurvesHook', filename='curves.png')]), NAMES)
    check_settings(dict(custom_hooks=[dict(type='Hook', _scope_='mmdet')]), NAMES)
    check_settings(dict(default_hooks=dict(checkpoint=dict(type='Hook', interval=1))), NAMES)


@pytest.mark.parametrize(
    'change, word',
    [
        (dict(kind='trainable'), '--kind complete packs'),
        (dict(settings=3), '--kind complete packs'),
        (dict(settings=dict(custom_imports=dict(imports=['os']))), 'custom_imports'),
        (dict(settings=dict(load_from='x.pth')), 'load_from'),
        (dict(settings=dict(work_dir='/etc')), 'work_dir'),
        (dict(default_scope='os'), 'default_scope'),
        (dict(model=dict(type='os.system')), 'a registered name'),
        (dict(model=None), 'a dict'),
    ],
)
def test_folders_whose_configuration_is_none(change, word, tmp_path):
    shutil.copytree(located(DIGITS), tmp_path / 'net')
    path = tmp_path / 'net/config.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(InputError, match=word) as caught:
        config_of(tmp_path / 'net')
    assert '\n' not in str(caught.value)
