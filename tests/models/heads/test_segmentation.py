"""Segmentors of stock mmseg with spiking parts."""

import pytest
import torch

import qsdt_mm  # noqa: F401
from qsdt_mm.analysis import audit
from qsdt_mm.inference import convert

pytest.importorskip('mmseg')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from torch import nn  # noqa: E402

NORM = dict(type='BN')


def segmentor(head='SpikeFPNHead', mode='whole'):
    arch = dict(family='espike', widths=(8, 16, 24, 32, 40), depths=(0, 1, 1, 1, 1))
    part = dict(norm_cfg=NORM, weight_bits=4)
    heads = dict(
        SpikeFPNHead=dict(in_channels=[16] * 4, in_index=[0, 1, 2, 3], feature_strides=[2, 4, 8, 16], channels=16),
        SpikeFCNHead=dict(in_channels=16, in_index=0, channels=16, num_convs=1),
    )
    test_cfg = dict(mode=mode) if mode == 'whole' else dict(mode=mode, crop_size=(64, 64), stride=(48, 48))
    cfg = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size_divisor=32),
        backbone=dict(type='SpikeDrivenTransformer', arch=arch, weight_bits=4, out_indices=(0, 1, 2, 4)),
        neck=dict(type='SpikeFPN', in_channels=[8, 16, 24, 40], out_channels=16, num_outs=4, weight_bits=4),
        decode_head=dict(type=head, num_classes=3, **heads[head], **part),
        train_cfg=dict(),
        test_cfg=test_cfg,
    )
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg)
        model.init_weights()
    return model


def batch(model, training, size):
    from mmseg.structures import SegDataSample

    samples = []
    for _ in range(2):
        sample = SegDataSample(metainfo=dict(img_shape=size, ori_shape=size, pad_shape=size))
        sample.gt_sem_seg = PixelData(data=torch.randint(0, 3, (1, *size)))
        samples.append(sample)
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for _ in samples]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training)


@pytest.mark.parametrize('head', ['SpikeFPNHead', 'SpikeFCNHead'])
def test_it_learns(head):
    model = segmentor(head).train()
    losses = model(**batch(model, True, (64, 96)), mode='loss')
    losses['decode.loss_ce'].backward()
    skipped = [] if head == 'SpikeFPNHead' else ['fpn_convs.1', 'fpn_convs.2', 'fpn_convs.3']  # the head sees one level
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    # A bias before batch norm has no gradient but rounding.
    dead = [n for n in dead if not any(s in n for s in skipped) and not n.endswith('synapse.bias')]
    assert losses['decode.loss_ce'].isfinite() and not dead


@pytest.mark.parametrize('head', ['SpikeFPNHead', 'SpikeFCNHead'])
def test_classes_start_as_far_apart_as_a_unit_puts_them(head):
    """mmseg's own deviation of 0.01 suits sums of ReLUs; spikes that are worth 1/4 would say next to nothing."""
    model = segmentor(head).train()
    with torch.no_grad():
        logits = model(**batch(model, True, (64, 96)) | dict(data_samples=None), mode='tensor')
    assert logits.std(1).mean() > 0.3


@pytest.mark.parametrize('mode', ['whole', 'slide'])
def test_integer_and_spike_give_the_same_map_of_the_images_size(mode):
    size = (97, 131)
    model = segmentor(mode=mode)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -0.2, 0.4)
    model.eval()
    data = batch(model, False, size)
    with torch.no_grad():
        integer, spike = (convert(model, mode)(**data, mode='predict') for mode in ('integer', 'spike'))
    for a, b in zip(integer, spike):
        assert a.pred_sem_seg.data.shape == (1, *size)
        assert torch.equal(a.pred_sem_seg.data, b.pred_sem_seg.data)
        assert torch.equal(a.seg_logits.data, b.seg_logits.data)


def test_every_layer_is_driven_by_spikes_but_the_first():
    model = segmentor()
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    rows = audit(model)
    assert sorted(row.name for row in rows) == sorted(layers)
    assert [row.name for row in rows if row.driven_by != 'spikes'] == ['backbone.stages.0.downsample.synapse']
