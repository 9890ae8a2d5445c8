"""Detectors of stock mmdet with spiking parts: they learn, they detect, and every view of a network works on them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_backbones import biases_before_another_norm
from trained_networks import exact_forms

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis import audit, measure_energy
from qsdt_mm.models import QuantConvTranspose2d, SpikeUnit
from qsdt_mm.models.neurons import SpikingNeuron

mmdet = pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from torch import nn  # noqa: E402

ORDERS = (torch.contiguous_format, torch.channels_last)
BASES = Path(mmdet.__file__).parent / '.mim/configs/_base_/models'
WIDTH = 32


def spiking(bits):
    """mmdet's own models with our parts in place of theirs, made small."""
    part = dict(weight_bits=bits)
    arch = dict(family='qsd', widths=(8, 16, 24, 32, 40), depths=(0, 1, 1, 1, 1), strides=(2, 2, 2, 2, 2))
    backbone = dict(type='SpikeDrivenTransformer', arch=arch, out_indices=(1, 2, 3, 4))
    neck = dict(type='SpikeFPN', in_channels=[16, 24, 32, 40], out_channels=WIDTH, **part)
    rpn = dict(type='SpikeRPNHead', in_channels=WIDTH, feat_channels=WIDTH, **part)
    box = dict(type='SpikeShared2FCBBoxHead', in_channels=WIDTH, fc_out_channels=48, num_classes=3, **part)
    mask = dict(type='SpikeFCNMaskHead', in_channels=WIDTH, conv_out_channels=WIDTH, num_classes=3, **part)
    return backbone, neck, rpn, box, mask


def detector(name, bits=4):
    cfg = Config.fromfile(BASES / f'{name}_r50_fpn.py').model
    backbone, neck, rpn, box, mask = spiking(bits)
    cfg.backbone = backbone
    cfg.neck.update(neck)
    if name == 'retinanet':
        cfg.bbox_head.update(
            type='SpikeRetinaHead',
            in_channels=WIDTH,
            feat_channels=WIDTH,
            stacked_convs=2,
            num_classes=3,
            norm_cfg=dict(type='BN'),
            weight_bits=bits,
        )
        cfg.neck.update(start_level=1)
        cfg.test_cfg.score_thr = 0.0
    else:
        cfg.rpn_head.update(rpn)
        roi = cfg.roi_head
        for key in ('bbox_roi_extractor', 'mask_roi_extractor'):
            roi[key].out_channels = WIDTH
        for head in roi.bbox_head if isinstance(roi.bbox_head, list) else [roi.bbox_head]:
            head.update(box)
        roi.mask_head.update(mask)
        cfg.test_cfg.rcnn.update(score_thr=0.0, max_per_img=20)
        cfg.test_cfg.rpn.update(nms_pre=200, max_per_img=50)
        cfg.train_cfg.rpn.allowed_border = -1  # or no anchor of the coarse max_spike_count fits into these images
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
        model.init_weights()
    return model


def batch(model, training, sizes=(2, 0)):
    """Images with so many instances each."""
    from mmdet.structures import DetDataSample
    from mmdet.structures.mask import BitmapMasks

    samples = []
    for count in sizes:
        shape = (96, 128)
        sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1, 1), pad_shape=shape))
        boxes = torch.tensor([[5.0, 5, 50, 60], [60, 20, 100, 90]])[:count]
        masks = BitmapMasks(np.ones((count, *shape), np.uint8), *shape)
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 2])[:count], masks=masks)
        samples.append(sample)
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, 96, 128), dtype=torch.uint8, generator=generator) for _ in sizes]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training)


def total(losses):
    parts = (v if isinstance(v, (list, tuple)) else [v] for k, v in losses.items() if 'loss' in k)
    return sum(x.sum() for part in parts for x in part)


def settled(model):
    """In evaluation mode, with statistics of one batch."""
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None
    model.train()
    with torch.no_grad():
        model(**batch(model, True), mode='loss')
    return model.eval()


NAMES = ['mask-rcnn', 'cascade-mask-rcnn', 'retinanet']


@pytest.mark.parametrize('name', NAMES)
def test_gradients_reach_every_parameter(name):
    """One image has two instances, the other none."""
    model = detector(name).train()
    for _ in range(4):  # anchors are sampled at random: none may be of one level
        loss = total(model(**batch(model, True), mode='loss'))
        loss.backward()
        assert loss.isfinite()
    learned = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    assert all(grad is not None for grad in learned.values())
    assert {n for n, grad in learned.items() if not grad.any()} <= biases_before_another_norm(model)


@pytest.mark.parametrize('name', NAMES)
def test_images_without_instances_train(name):
    model = detector(name).train()
    loss = total(model(**batch(model, True, (0, 0)), mode='loss'))
    loss.backward()
    assert loss.isfinite()


@pytest.mark.parametrize('name', NAMES)
def test_integer_and_spike_detect_the_same(name):
    model = settled(detector(name))
    found = {}
    with torch.no_grad():
        for mode, network in dict(float=model, **exact_forms(model)).items():
            found[mode] = [s.pred_instances for s in network(**batch(model, False), mode='predict')]
    for plain, integer, *spiking in zip(*found.values()):
        assert len(spiking) == 2 and len(integer) == len(plain) > 0
        for field in integer.keys():  # noqa: SIM118  InstanceData is no dict
            assert all(torch.equal(integer[field], spike[field]) for spike in spiking), field
        # A membrane at a threshold may round to the other side, and change which of two boxes stays.
        assert (integer.scores - plain.scores).abs().mean() < 5e-3


@pytest.mark.parametrize('name', NAMES)
def test_every_layer_is_in_a_unit(name):
    model = detector(name)
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d, nn.Linear))]
    rows = {row.name: row for row in audit(model)}
    assert sorted(rows) == sorted(layers)
    assert {row.weight_bits for row in rows.values()} == {4}
    outside = [row for row in rows.values() if not row.name.startswith('backbone')]
    assert outside and all(row.driven_by == 'spikes' for row in outside)
    assert not [n for n, m in model.named_modules() if isinstance(m, nn.ReLU)]


def test_energy_counts_neck_and_heads():
    model = settled(detector('mask-rcnn'))

    def run(data):
        model(**data, mode='predict')
        return len(data['inputs'])

    report = measure_energy(model, [batch(model, False)], run=run)
    parts = {row.name.split('.')[0] for row in report.layers if row.sops > 0}
    assert parts == {'backbone', 'neck', 'rpn_head', 'roi_head'}
    (deconv,) = (row for row in report.layers if row.kind.startswith('deconv'))
    assert deconv.sops > 0 and deconv.macs > 0


def test_the_mask_head_keeps_firing():
    """With its norms; without them the published note says that later layers fall silent."""
    rates = {}
    for norm in ('BN', None):
        torch.manual_seed(0)
        with DefaultScope.overwrite_default_scope('mmdet'):
            head = MODELS.build(
                dict(
                    type='SpikeFCNMaskHead',
                    in_channels=WIDTH,
                    conv_out_channels=WIDTH,
                    num_classes=3,
                    norm_cfg=norm and dict(type=norm),
                    loss_mask=dict(type='CrossEntropyLoss', use_mask=True, loss_weight=1.0),
                )
            )
            head.init_weights()
        seen = []
        for module in head.modules():
            if isinstance(module, SpikingNeuron):
                module.register_forward_hook(
                    lambda n, _, out, seen=seen: seen.append((out / n.scale / n.max_spike_count).mean().item())
                )
        with torch.no_grad():
            head.train()(0.3 * torch.randn(8, WIDTH, 14, 14))  # weak input, as from few spikes
        rates[norm] = seen
    assert len(rates['BN']) == 6 and min(rates['BN'][1:]) > 0.05
    assert rates[None][3] < 0.01


def test_part_types_and_arguments():
    model = detector('mask-rcnn', bits=32)
    units = [m for m in model.roi_head.mask_head.modules() if isinstance(m, SpikeUnit)]
    assert len(units) == 6 and isinstance(units[4].synapse, QuantConvTranspose2d)
    assert units[0].norm is not None and units[5].norm is None
    with DefaultScope.overwrite_default_scope('mmdet'), pytest.raises(ValueError, match='weight_bits=5'):
        MODELS.build(dict(type='SpikeFPN', in_channels=[8], out_channels=8, num_outs=1, weight_bits=5))


def test_a_shared_neuron_of_retinanet_carries_what_did_not_fire():
    """As published: the neuron before the last convolutions sees the scores' membranes, then those of the boxes."""
    from qsdt_mm.models.heads.detection import SpikeRetinaHead

    torch.manual_seed(0)
    head = SpikeRetinaHead(2, 4, stacked_convs=1, feat_channels=4, neuron=dict(type='LIF', tau=2.0), shared_neuron=True)
    assert head.retina_cls.neuron is head.retina_reg.neuron and head.retina_cls.neuron.time_steps == 2
    x = 3 * torch.randn(2, 4, 5, 6)
    with torch.no_grad():
        scores, boxes = head.forward_single(x)
        first, second = head.cls_convs[0](x).relu(), head.reg_convs[0](x).relu()
        fires = (first / 2 >= 1).float()
        left = (first / 2) * (1 - fires)
        also = (left + (second - left) / 2 >= 1).float()
        assert torch.equal(scores, head.retina_cls.drive(fires))
        assert torch.equal(boxes, head.retina_reg.drive(also))
    assert not torch.equal(also, (second / 2 >= 1).float())


def test_only_a_neuron_that_spikes_can_be_shared():
    from qsdt_mm.models.heads.detection import SpikeRetinaHead

    with pytest.raises(ValueError, match='neuron=.*ReLU'):
        SpikeRetinaHead(2, 4, feat_channels=4, neuron=dict(type='ReLU'), shared_neuron=True)


def test_maps_in_any_order_are_computed_in_one():
    """The backbone puts out contiguous maps; what spikes behind it computes in the order that convolutions prefer."""
    neck = MODELS.build(dict(type='qsdt_mm.SpikeFPN', in_channels=[4, 8], out_channels=8, num_outs=3)).eval()
    maps = [torch.randn(2, 4, 8, 8), torch.randn(2, 8, 4, 4)]
    with torch.no_grad():
        plain, last = (neck([m.contiguous(memory_format=order) for m in maps]) for order in ORDERS)
    for one, other in zip(plain, last, strict=True):
        assert torch.equal(one, other) and one.is_contiguous(memory_format=torch.channels_last)
