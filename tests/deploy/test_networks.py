"""Configurations of networks as plain data: what names other files stays behind, what networks are made of may pass."""

from pathlib import Path

import pytest
import torch

from qsdt_mm.deploy.networks import _fits, check_config, plain_config, registered_names, scopes_in
from qsdt_mm.errors import InputError

CONFIGS = Path(__file__).parents[2] / 'configs'


def test_files_to_start_from_stay_behind():
    teacher = dict(type='TimmClassifier', model_name='resnet18', pretrained=True, checkpoint='teacher.pth')
    model = dict(
        type='Net',
        pretrained='open-mmlab://resnet50',
        init_cfg=dict(type='Pretrained', checkpoint='x'),
        teacher=teacher,
    )
    plain, scope = plain_config(dict(model=model, default_scope='mmpretrain'))
    assert scope == 'mmpretrain'
    assert plain == dict(
        type='Net', pretrained=None, teacher=dict(type='TimmClassifier', model_name='resnet18', pretrained=False)
    )


@pytest.mark.parametrize('name', ['pretrained', 'checkpoint', 'init_cfg'])
@pytest.mark.parametrize('value', [True, 'x', dict(type='Pretrained')])
def test_files_to_start_from_are_refused(name, value):
    with pytest.raises(InputError, match=f'model.inner.{name}='):
        check_config(dict(type='Linear', inner={name: value}), {'Linear'})


def test_what_detectors_look_up_elsewhere_may_pass():
    extractor = dict(roi_layer=dict(type='RoIAlign', output_size=7), test_cfg=dict(nms=dict(type='nms')))
    check_config(extractor, registered_names(None))


def test_libraries_that_types_name():
    config = dict(type='Net', backbone=dict(type='mmdet.ResNet'), heads=[dict(type='mmseg.FCNHead'), dict(type='os.x')])
    assert scopes_in(config) == {'mmdet', 'mmseg'}
    for _ in range(500):
        config = dict(inner=config)
    assert scopes_in(config) == set()
    with pytest.raises(InputError, match='deep at most'):
        check_config(config, {'Net'})


def test_weights_of_another_kind_do_not_fit():
    real, whole = torch.ones(2), torch.ones(2, dtype=torch.int64)
    assert _fits(real.half(), real) and _fits(whole.int(), whole)
    assert not _fits(whole, real) and not _fits(real, whole) and not _fits(torch.ones(3), real)


@pytest.mark.slow
@pytest.mark.parametrize('room', sorted(path.name for path in CONFIGS.iterdir() if path.name[0] != '_'))
def test_every_configuration_can_be_packed(room):
    from mmengine.config import Config

    names = {}
    for path in sorted((CONFIGS / room).glob('*.py')):
        plain, scope = plain_config(Config.fromfile(path))
        for key in ('teacher', 'distillation'):  # which a folder is without
            plain.pop(key, None)
        names[scope] = names.get(scope) or registered_names(scope)
        check_config(plain, names[scope])
