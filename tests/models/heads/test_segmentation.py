"""Segmentors of stock mmseg with spiking parts."""

import pytest
import torch
from trained_networks import exact_forms

import qsdt_mm  # noqa: F401
from qsdt_mm.analysis import audit, measure_energy

pytest.importorskip('mmseg')

from mmengine.config import ConfigDict  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmengine.structures import PixelData  # noqa: E402
from torch import nn  # noqa: E402

NORM = dict(type='BN')
HEADS = ['SpikeFPNHead', 'SpikeFCNHead', 'SpikeUPerHead']


def segmentor(head='SpikeFPNHead', mode='whole'):
    arch = dict(family='espike', widths=(8, 16, 24, 32, 40), depths=(0, 1, 1, 1, 1))
    part = dict(norm_cfg=NORM, weight_bits=4)
    heads = dict(
        SpikeFPNHead=dict(in_channels=[16] * 4, in_index=[0, 1, 2, 3], feature_strides=[2, 4, 8, 16], channels=16),
        SpikeFCNHead=dict(in_channels=16, in_index=0, channels=16, num_convs=1),
        SpikeUPerHead=dict(in_channels=[16, 24, 32, 40], in_index=[0, 1, 2, 3], channels=16),
    )
    test_cfg = dict(mode=mode) if mode == 'whole' else dict(mode=mode, crop_size=(64, 64), stride=(48, 48))
    no_neck = head == 'SpikeUPerHead'
    cfg = ConfigDict(
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3, size_divisor=32),
        backbone=dict(
            type='SpikeDrivenTransformer',
            arch=arch,
            weight_bits=4,
            out_indices=(1, 2, 3, 4) if no_neck else (0, 1, 2, 4),
        ),
        neck=None
        if no_neck
        else dict(type='SpikeFPN', in_channels=[8, 16, 24, 40], out_channels=16, num_outs=4, weight_bits=4),
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


@pytest.mark.parametrize('head', HEADS)
def test_it_learns(head):
    model = segmentor(head).train()
    losses = model(**batch(model, True, (64, 96)), mode='loss')
    losses['decode.loss_ce'].backward()
    index = model.decode_head.in_index
    seen = [index] if isinstance(index, int) else index
    skipped = [f'fpn_convs.{i}.' for i in range(4) if i not in seen]  # of the neck: the pyramid adds from the top down
    skipped += [f'lateral_convs.{i}.' for i in range(min(seen))]
    dead = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    dead = [n for n in dead if not (n.startswith('neck.') and any(s in n for s in skipped))]
    dead = [n for n in dead if not n.endswith('synapse.bias')]  # before batch norm it has no gradient but rounding
    assert losses['decode.loss_ce'].isfinite() and not dead


@pytest.mark.parametrize('head', HEADS)
def test_classes_start_as_far_apart_as_a_unit_puts_them(head):
    """mmseg's own deviation of 0.01 suits sums of ReLUs; spikes that are worth 1/4 would say next to nothing."""
    model = segmentor(head).train()
    with torch.no_grad():
        logits = model(**batch(model, True, (64, 96)) | dict(data_samples=None), mode='tensor')
    assert logits.std(1).mean() > 0.3


@pytest.mark.parametrize(('head', 'mode'), [*((head, 'whole') for head in HEADS), (HEADS[0], 'slide')])
def test_integer_and_spike_give_the_same_map_of_the_images_size(head, mode):
    size = (97, 131)
    model = segmentor(head, mode)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -0.2, 0.4)
    model.eval()
    data = batch(model, False, size)
    with torch.no_grad():
        found = [network(**data, mode='predict') for network in exact_forms(model).values()]
    for integer, *spiking in zip(*found):
        assert integer.pred_sem_seg.data.shape == (1, *size) and len(spiking) == 2
        for spike in spiking:
            assert torch.equal(integer.pred_sem_seg.data, spike.pred_sem_seg.data)
            assert torch.equal(integer.seg_logits.data, spike.seg_logits.data)


@pytest.mark.parametrize('head', HEADS)
def test_every_layer_is_driven_by_spikes_but_the_first(head):
    model = segmentor(head)
    layers = [n for n, m in model.named_modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    rows = audit(model)
    assert sorted(row.name for row in rows) == sorted(layers)
    assert [row.name for row in rows if row.driven_by != 'spikes'] == ['backbone.stages.0.downsample.synapse']


@pytest.mark.parametrize('head', HEADS)
def test_energy_counts_every_layer_of_the_head(head):
    """Each of them costs something, and all but the backbone's first are additions that spikes drive."""
    model = segmentor(head).eval()

    def run(data):
        model(**data, mode='predict')
        return len(data['inputs'])

    report = measure_energy(model, [batch(model, False, (64, 64))], run=run).as_dict()
    rows = {row['name']: row for row in report['layers'] if row['name'].startswith('decode_head.')}
    layers = {n for n, m in model.decode_head.named_modules() if isinstance(m, nn.Conv2d)}
    assert {name.removeprefix('decode_head.') for name in rows} == layers
    for row in rows.values():
        assert row['driven_by'] == 'spikes' and row['sops'] > 0 and row['macs'] > 0


def test_pooling_sees_membranes_and_every_level_reaches_the_classes():
    """Of the UPerNet head: its units get real values, and a level that is changed changes the map."""
    head = segmentor('SpikeUPerHead').eval().decode_head
    seen = []
    for branch in head.psp_modules:
        branch[1].register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    sides = (16, 8, 4, 4)  # strides 4, 8, 16, 16 of 64 px
    max_spike_count = [torch.randn(1, width, side, side) for width, side in zip((16, 24, 32, 40), sides)]
    with torch.no_grad():
        before = head(max_spike_count)
        assert before.shape == (1, 3, 16, 16)
        assert [tuple(x.shape[-2:]) for x in seen] == [(1, 1), (2, 2), (3, 3), (6, 6)]
        assert torch.equal(seen[0].flatten(), max_spike_count[3].mean((2, 3)).flatten()) and (seen[0] % 1 != 0).all()
        for i in range(4):
            changed = [level + 5 * (i == j) for j, level in enumerate(max_spike_count)]
            assert not torch.equal(head(changed), before), i
