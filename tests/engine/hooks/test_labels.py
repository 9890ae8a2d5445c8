"""Labels that no output stands for are found before they reach the device."""

from types import SimpleNamespace

import pytest
import torch
import toy_runs as toy
from mmengine.structures import InstanceData, PixelData
from torch import nn

from qsdt_mm.datasets.labels import Limits, check_labels
from qsdt_mm.engine.hooks import LabelRangeHook
from qsdt_mm.errors import InputError

CONFIG = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['qsdt_mm', 'fault_parts'])
model = dict(
    type='ImageClassifier',
    backbone=dict(type='LeNet5'),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=2, in_channels=120),
)
data_preprocessor = dict(num_classes=2)
train_dataloader = dict(
    batch_size=2, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False), dataset=dict(
        type='LabelledNoise', last={last}))
train_cfg = dict(by_epoch=True, max_epochs=1)
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
"""


def classifier(**preprocessor):
    from mmpretrain.models import ClsDataPreprocessor, LinearClsHead

    model = nn.Module()
    model.head = LinearClsHead(num_classes=3, in_channels=4)
    model.data_preprocessor = ClsDataPreprocessor(**preprocessor)
    return model


def detector(semantic=None):
    from mmdet.models.roi_heads.bbox_heads import Shared2FCBBoxHead

    model = nn.Module()
    model.roi_head = nn.Module()
    model.roi_head.bbox_head = Shared2FCBBoxHead(in_channels=4, roi_feat_size=1, fc_out_channels=4, num_classes=3)
    model.semantic_head = semantic
    return model


def segmenter():
    from mmseg.models.decode_heads import FCNHead

    def head(**kwargs):
        return FCNHead(in_channels=4, channels=4, num_convs=1, norm_cfg=dict(type='BN'), **kwargs)

    model = nn.Module()
    model.decode_head = head(num_classes=3, ignore_index=7)
    model.auxiliary_head = nn.ModuleList([head(num_classes=3)])
    return model


def samples(kind, label):
    """One sample of each library that has a label among others."""
    labels = torch.tensor([0, label, 2])
    if kind == 'mmpretrain':
        from mmpretrain.structures import DataSample

        return DataSample(metainfo=dict(img_path='a.png')).set_gt_label(labels)
    if kind == 'mmdet':
        from mmdet.structures import DetDataSample

        return DetDataSample(gt_instances=InstanceData(labels=labels), metainfo=dict(img_path='a.png'))
    from mmseg.structures import SegDataSample

    return SegDataSample(gt_sem_seg=PixelData(data=labels.view(1, 1, 3)), metainfo=dict(img_path='a.png'))


@pytest.mark.parametrize(
    ('kind', 'model', 'allowed'),
    [('mmpretrain', classifier, ()), ('mmdet', detector, ()), ('mmseg', segmenter, (7,))],
    ids=['mmpretrain', 'mmdet', 'mmseg'],
)
@pytest.mark.parametrize('packed', ['lists', 'tuple', 'nested'])
def test_stock_heads(kind, model, allowed, packed):
    pytest.importorskip(f'{kind}.models')
    hook = LabelRangeHook()
    runner = SimpleNamespace(model=model(), train_loop=SimpleNamespace(dataloader=SimpleNamespace()), iter=4)
    hook.before_train(runner)
    for label in (-1, 0, 1, 2, 3, 7, 255, 256):
        sample = samples(kind, label)
        batch = dict(
            lists=dict(inputs=[], data_samples=[sample]), tuple=(torch.ones(1), [sample]), nested=[dict(a=sample)]
        )
        if label in (0, 1, 2, *allowed):
            hook.before_train_iter(runner, 0, batch[packed])
            continue
        with pytest.raises(InputError, match=rf'^a\.png has the label {label}: expected 0 to 2, as the network has 3'):
            hook.before_train_iter(runner, 0, batch[packed])


def test_limits_are_those_of_the_narrowest_part():
    pytest.importorskip('mmpretrain.models')
    assert Limits.of(classifier(to_onehot=True, num_classes=2)).num_classes == 2
    assert Limits.of(classifier(num_classes=2)).num_classes == 3  # it makes no use of the number
    pytest.importorskip('mmseg.models')
    model = segmenter()
    model.auxiliary_head[0].num_classes = 2
    assert Limits.of(model).of_pixels == 2


def test_a_detector_with_a_map_of_classes_has_more_of_them_there():
    """Things and stuff in the map of a panoptic network, things in its boxes."""
    models = pytest.importorskip('mmdet.models')
    head = models.PanopticFPNHead(num_things_classes=3, num_stuff_classes=2, in_channels=4, inner_channels=32)
    limits = Limits.of(detector(head))
    sample = samples('mmdet', 2)
    sample.gt_sem_seg = PixelData(sem_seg=torch.tensor([[[0, 4, 255]]]))
    check_labels(sample, limits, 'a.png')
    assert (limits.num_classes, limits.of_pixels) == (3, 5)
    sample.gt_instances.labels[0] = 4
    with pytest.raises(InputError, match='label 4: expected 0 to 2'):
        check_labels(sample, limits, 'a.png')


@pytest.mark.parametrize('device', ['any', pytest.param('cuda', marks=pytest.mark.gpu)])
@pytest.mark.parametrize('last', [1, 2])
def test_a_data_set_without_a_pipeline(tmp_path, capsys, last, device):
    """One line and status 2, and a GPU that still works."""
    pytest.importorskip('mmpretrain')
    if device == 'cuda' and not torch.cuda.is_available():
        pytest.skip('no GPU')
    config = tmp_path / 'config.py'
    config.write_text(CONFIG.format(last=last))
    status = toy.tool('train').main([str(config), '--work-dir', str(tmp_path / 'run'), *toy.options()])
    error = capsys.readouterr().err
    if last == 1:
        assert status == 0, error
    else:
        assert status == 2 and [line for line in error.splitlines() if 'train.py' in line] == [
            'train.py: error: a sample of iteration 2 has the label 2: expected 0 to 1, as the network has 2 classes'
        ]
        assert 'Traceback' not in error
    if torch.cuda.is_available():
        assert torch.ones(2, device='cuda').sum().item() == 2
