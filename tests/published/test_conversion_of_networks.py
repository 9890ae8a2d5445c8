"""Published detectors, segmentors and networks for events: what is read off tensors, asked for, folded and refused."""

import argparse
import re

import pytest
import torch
from torch.nn import functional as F

from qsdt_mm import load_published
from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.published import convert, convert_file
from qsdt_mm.published.files import load_file, read_converted

DETECTORS = ['det_maskrcnn_public', 'det_maskrcnn_e_public', 'det_retina_public']
SEGMENTORS = ['seg_fpn_public', 'seg_fpn_qsd_public']
EVENTS = ['hardvs_public', 'dvs_if_public']
NEEDS = dict.fromkeys(DETECTORS, 'mmdet') | dict.fromkeys(SEGMENTORS, 'mmseg') | dict.fromkeys(EVENTS, 'mmpretrain')


@pytest.fixture
def published(golden):
    """A published checkpoint, to be changed at will."""

    def load(name):
        path = golden(f'{name}.pth')
        pytest.importorskip(NEEDS[name])
        return load_file(path)

    return load


def tensors_of(checkpoint):
    return checkpoint['model'] if 'model' in checkpoint else checkpoint['state_dict']


KINDS = {
    'det_maskrcnn_public': ('mask-rcnn', 'qsd', 3, dict(fpn_channels=32, fc_channels=64, mask_norm=False, roi_size=7)),
    'det_maskrcnn_e_public': ('mask-rcnn', 'espike', 3, dict(rpn_channels=32, box_linears=2, neck_max_spike_count=1)),
    'det_retina_public': (
        'retinanet',
        'qsd',
        3,
        dict(fpn_channels=32, feat_channels=32, neck_max_spike_count=1, max_spike_count=4),
    ),
    'seg_fpn_public': ('semantic-fpn', 'espike', 5, dict(fpn_channels=24, head_channels=24, spike_worth=0.25)),
    'seg_fpn_qsd_public': ('semantic-fpn', 'qsd', 5, dict(spike_worth=0.25, max_spike_count=4)),
    'hardvs_public': (
        'event-classifier',
        'espike',
        10,
        dict(max_spike_count=4, spike_worth=1.0, stateful=False, time_steps=4),
    ),
    'dvs_if_public': (
        'event-classifier',
        'espike',
        10,
        dict(max_spike_count=8, spike_worth=1 / 8, stateful=True, time_steps=4),
    ),
}


@pytest.mark.parametrize('name', KINDS)
def test_what_tensors_show(published, name):
    kind, family, num_classes, settings = KINDS[name]
    result = convert(published(name))
    assert (result.kind, result.arch.family, result.num_classes) == (kind, family, num_classes)
    assert settings.items() <= result.settings.items()
    scaled = family == 'qsd' or kind in ('semantic-fpn', 'event-classifier')
    assert (result.arch.layer_scale is not None) == scaled
    assert result.arch.separable_conv == (name != 'dvs_if_public')
    assert not result.missing and not result.derived
    assert result.matched + sum(result.dropped.values()) == len(tensors_of(published(name)))


@pytest.mark.parametrize('name', KINDS)
@pytest.mark.parametrize('prefix', ['module.', 'module.module.'])
def test_wrappers_and_what_mmengine_keeps_beside_the_weights(published, name, prefix):
    plain = published(name)
    extra = dict(message_hub={}, optimizer={}, param_schedulers=[], meta=plain.get('meta', {}))
    key = 'model' if 'model' in plain else 'state_dict'
    wrapped = dict(extra, **{key: {prefix + k: v for k, v in tensors_of(plain).items()}}, args=plain.get('args'))
    one, other = convert(plain), convert(wrapped)
    assert list(one.state_dict) == list(other.state_dict) and one.settings == other.settings
    assert all(torch.equal(tensor, other.state_dict[k]) for k, tensor in one.state_dict.items())


@pytest.mark.parametrize('name', [*DETECTORS, *SEGMENTORS])
def test_names_of_the_classes_stay(published, golden, name):
    meta = published(name)['meta']['dataset_meta']
    model = load_published(golden(f'{name}.pth'))
    assert model.dataset_meta['classes'] == tuple(meta['classes'])
    checkpoint = published(name)
    checkpoint['meta']['dataset_meta']['classes'] = ('one', 'too', 'many', 'or', 'so', 'it', 'is')
    result = convert(checkpoint)
    assert result.dataset_meta == {} and any('names left out' in note for note in result.notes)


def test_the_last_shared_layer_is_folded(published):
    tensors = tensors_of(published('det_maskrcnn_public'))
    result = convert(published('det_maskrcnn_public'))
    head = {k.removeprefix('roi_head.bbox_head.'): v.double() for k, v in tensors.items() if 'bbox_head' in k}
    hidden = torch.rand(5, 64, dtype=torch.float64)
    for name in ('fc_cls', 'fc_reg'):
        inner = F.linear(hidden, head['shared_fcs.1.1.0.weight'], head['shared_fcs.1.1.0.bias'])
        wanted = F.linear(inner, head[f'{name}.weight'], head[f'{name}.bias'])
        ours = f'roi_head.bbox_head.{name}.synapse'
        found = F.linear(hidden, *(result.state_dict[f'{ours}.{leaf}'].double() for leaf in ('weight', 'bias')))
        torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-6)
    assert not any('shared_fcs.1' in name for name in result.state_dict)
    assert len(result.folded) == 2 and any('spikes drive every layer' in note for note in result.notes)


def test_spikes_drive_every_layer_of_a_converted_detector(golden, published):
    from qsdt_mm.models.layers import SpikeUnit

    published('det_maskrcnn_public')
    model = load_published(golden('det_maskrcnn_public.pth'))
    drivers = [unit.driven_by for unit in model.modules() if isinstance(unit, SpikeUnit)]
    assert drivers.count('image') == 1 and set(drivers) == {'image', 'spikes'}


def test_halves_and_worth_are_those_of_each_part(golden, published):
    published('seg_fpn_qsd_public')
    model = load_published(golden('seg_fpn_qsd_public.pth'))
    neurons = {name: m for name, m in model.named_modules() if hasattr(m, 'rounding')}
    inside = {(n.threshold, n.rounding) for name, n in neurons.items() if name.startswith('backbone.')}
    after = {(n.threshold, n.scale, n.rounding) for name, n in neurons.items() if not name.startswith('backbone.')}
    assert inside == {(0.25, 'half_up')} and after == {(1.0, 0.25, 'half_even')}
    half = load_published(golden('seg_fpn_qsd_public.pth'), spike_worth=0.5)
    assert {m.scale for m in [*half.neck.modules(), *half.decode_head.modules()] if hasattr(m, 'scale')} >= {0.5}


# Cascade Mask R-CNN, of which there is no published output: names and shapes as read


def cascade(checkpoint, classes=3, channels=32, hidden=48, stages=3):
    """A published Mask R-CNN with the heads of a published Cascade Mask R-CNN in place of its own."""
    torch.manual_seed(0)
    tensors = {k: v for k, v in tensors_of(checkpoint).items() if not k.startswith('roi_head.')}
    masks = {k: v for k, v in tensors_of(checkpoint).items() if k.startswith('roi_head.mask_head.')}
    for stage in range(stages):
        boxes = f'roi_head.bbox_head.{stage}'
        for i in range(4):
            conv = f'{boxes}.shared_convs.{i}.1.0'
            tensors[f'{conv}.conv.weight'] = torch.randn(channels, channels, 3, 3) / 17
            norm = torch.nn.BatchNorm2d(channels).state_dict()
            tensors |= {f'{conv}.bn.{k}': v for k, v in norm.items()}
        for name, out, width in (
            ('shared_fcs.0.1.0', hidden, channels * 49),
            ('fc_cls', classes + 1, hidden),
            ('fc_reg', 4 * classes, hidden),
        ):
            tensors[f'{boxes}.{name}.weight'] = torch.randn(out, width) / width**0.5
            tensors[f'{boxes}.{name}.bias'] = torch.rand(out)
        tensors |= {k.replace('mask_head.', f'mask_head.{stage}.'): v for k, v in masks.items()}
    return dict(checkpoint, state_dict=tensors)


def test_cascade_by_names_and_shapes(published, tmp_path):
    checkpoint = cascade(published('det_maskrcnn_e_public'))
    torch.save(checkpoint, tmp_path / 'cascade.pth')
    result = convert_file(tmp_path / 'cascade.pth', tmp_path / 'out.pth')
    assert result.kind == 'cascade-mask-rcnn' and result.matched == len(checkpoint['state_dict'])
    assert any('names and shapes only' in note for note in result.notes)
    model = load_published(tmp_path / 'out.pth')
    assert type(model).__name__ == 'CascadeRCNN' and len(model.roi_head.mask_head) == 3
    head = model.roi_head.bbox_head[1]
    assert head.reg_decoded_bbox and not head.reg_class_agnostic and head.loss_bbox.loss_weight == 10
    region, units = torch.rand(2, 32, 7, 7), head.shared_convs
    with torch.no_grad():
        scores, boxes = head(region)
        for unit in units:
            region = unit(region)
        state = {k.removeprefix('roi_head.bbox_head.1.'): v for k, v in checkpoint['state_dict'].items()}
        spikes = head.fc_cls.fire(region.flatten(1))
        inner = F.linear(spikes, state['shared_fcs.0.1.0.weight'], state['shared_fcs.0.1.0.bias'])
        for found, name in ((scores, 'fc_cls'), (boxes, 'fc_reg')):
            torch.testing.assert_close(found, F.linear(inner, state[f'{name}.weight'], state[f'{name}.bias']))


# Options


@pytest.mark.parametrize(
    'name, option, words',
    [
        (
            'seg_fpn_public',
            dict(neck_max_spike_count=1),
            'neck_max_spike_count=1 .*a semantic-fpn takes max_spike_count, spike_worth',
        ),
        ('det_retina_public', dict(spike_worth=1.0), 'spike_worth=1.0 is not allowed'),
        ('det_maskrcnn_public', dict(neck_max_spike_count=0), 'neck_max_spike_count=0'),
        ('hardvs_public', dict(time_steps=0), 'time_steps=0'),
        ('hardvs_public', dict(stateful=1), 'stateful=1'),
        ('hardvs_public', dict(spike_worth=-1.0), 'spike_worth=-1.0'),
        ('det_maskrcnn_public', dict(arch='qsd-15m'), 'widths'),
    ],
)
def test_options_out_of_range_are_refused(published, name, option, words):
    with pytest.raises(ValueError, match=words):
        convert(published(name), **option)


@pytest.mark.parametrize('name', KINDS)
def test_options_reach_the_file_and_the_model(published, golden, tmp_path, name):
    published(name)
    option = {
        'mask-rcnn': dict(neck_max_spike_count=4),
        'retinanet': dict(neck_max_spike_count=2),
        'semantic-fpn': dict(spike_worth=0.5),
        'event-classifier': dict(spike_worth=0.5, stateful=True, max_spike_count=6),
    }[KINDS[name][0]]
    convert_file(golden(f'{name}.pth'), tmp_path / 'out.pth', **option)
    again = read_converted(load_file(tmp_path / 'out.pth'))
    assert option.items() <= again.settings.items()
    direct, loaded = load_published(golden(f'{name}.pth'), **option), load_published(tmp_path / 'out.pth')
    assert str(direct) == str(loaded) and str(direct) != str(load_published(golden(f'{name}.pth')))


def test_an_event_network_s_worth_follows_its_levels():
    from qsdt_mm.models.backbones.presets import Arch
    from qsdt_mm.published.networks import settle_options

    arch = Arch('espike', (8, 8, 16, 16, 24), (1, 1, 2, 3, 1), layer_scale=1e-6, separable_conv=False)
    assert settle_options('event-classifier', arch, dict(max_spike_count=4))['spike_worth'] == 0.25
    assert settle_options('event-classifier', arch, {}) == dict(
        max_spike_count=8, spike_worth=1 / 8, stateful=True, time_steps=8
    )


@pytest.mark.parametrize('args, steps', [(argparse.Namespace(time_steps=5), 5), (dict(time_steps=True), 8), (None, 8)])
def test_time_steps_come_from_the_script_s_arguments(published, args, steps):
    result = convert(dict(published('hardvs_public'), args=args))
    assert result.settings['time_steps'] == steps
    assert convert(dict(published('hardvs_public'), args=args), time_steps=2).settings['time_steps'] == 2


# Refusals


@pytest.mark.parametrize('name', [*DETECTORS, *SEGMENTORS])
def test_anything_left_over_is_named(published, name):
    checkpoint = published(name)
    extra = 'decode_head.extra.weight' if name in SEGMENTORS else 'neck.downsample_convs.0.weight'
    tensors_of(checkpoint)[extra] = torch.ones(1)
    tensors_of(checkpoint)['auxiliary_head.conv_seg.weight'] = torch.ones(1)
    with pytest.raises(CheckpointError, match=f'has left over {extra}, auxiliary_head.conv_seg.weight$'):
        convert(checkpoint)


@pytest.mark.parametrize(
    'name, lost',
    [
        ('det_maskrcnn_public', 'neck.fpn_convs.2.1.0.conv.bias'),
        ('det_maskrcnn_public', 'roi_head.bbox_head.shared_fcs.1.1.0.bias'),
        ('det_maskrcnn_e_public', 'rpn_head.rpn_reg.1.0.weight'),
        ('det_maskrcnn_e_public', 'roi_head.bbox_head.fc_reg.bias'),
        ('det_retina_public', 'bbox_head.reg_convs.7.0.conv.weight'),
        ('seg_fpn_public', 'decode_head.scale_heads.3.4.2.running_var'),
        ('seg_fpn_qsd_public', 'neck.lateral_convs.1.1.running_mean'),
        ('seg_fpn_public', 'backbone.block3.0.layer_scale3'),
        ('hardvs_public', 'block4.1.layer_scale2'),
    ],
)
def test_anything_missing_is_named(published, name, lost):
    checkpoint = published(name)
    del tensors_of(checkpoint)[lost]
    with pytest.raises(CheckpointError, match=f'lacks .*{lost.removeprefix("backbone.")}'):
        convert(checkpoint)


def test_other_shapes_are_named(published):
    checkpoint = published('det_maskrcnn_public')
    tensors_of(checkpoint)['roi_head.bbox_head.fc_reg.weight'] = torch.ones(12, 65)
    with pytest.raises(CheckpointError, match=r'another shape .*fc_reg'):
        convert(checkpoint)
    checkpoint = published('det_maskrcnn_public')
    tensors_of(checkpoint)['rpn_head.rpn_cls.1.0.weight'] = torch.ones(9, 32, 1, 1)
    with pytest.raises(CheckpointError, match='rpn_cls.1.0.weight with 9 outputs: the released configs have 3'):
        convert(checkpoint)


@pytest.mark.parametrize('name', ['det_maskrcnn_public', 'seg_fpn_qsd_public'])
def test_a_backbone_of_sdt_v2_is_refused(published, name):
    """It has QSD's names without LSQ steps and layer scales; its LIF neurons have no tensors."""
    checkpoint = published(name)
    gone = re.compile(r'\.(alpha|init_state|layer_scale\d)$')
    kept = {k: v for k, v in tensors_of(checkpoint).items() if not gone.search(k)}
    with pytest.raises(CheckpointError, match='is a Spike-driven Transformer V2') as caught:
        convert(dict(checkpoint, state_dict=kept))
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize('name', ['det_maskrcnn_public', 'seg_fpn_public'])
def test_other_stages_than_the_neck_s_are_refused(published, golden, name):
    published(name)
    with pytest.raises(ValueError, match='out_indices'):
        load_published(golden(f'{name}.pth'), (0, 4))


def test_a_library_that_is_absent_is_named(published, monkeypatch):
    from qsdt_mm.published import networks

    checkpoint = published('seg_fpn_public')

    def absent(name):
        raise ModuleNotFoundError("No module named 'mmseg'", name='mmseg')

    monkeypatch.setattr(networks, 'import_module', absent)
    with pytest.raises(InputError, match='one of mmseg, which is not installed: pip install'):
        convert(checkpoint)


@pytest.mark.parametrize(
    'change, words',
    [
        (lambda m: m.update(settings=3), 'no dict under meta.settings'),
        (lambda m: m['settings'].pop('fc_channels'), 'no usable meta.settings.fc_channels'),
        (lambda m: m['settings'].update(mask_convs='4'), 'no usable meta.settings.mask_convs'),
        (lambda m: m['settings'].update(box_linears=3), 'lacks'),
        (lambda m: m['settings'].update(neck_max_spike_count='__import__'), 'neck_max_spike_count'),
        (lambda m: m.update(rounding='down'), 'rounding'),
    ],
)
def test_a_converted_file_that_was_tampered_with_is_refused(published, golden, tmp_path, change, words):
    published('det_maskrcnn_public')
    convert_file(golden('det_maskrcnn_public.pth'), tmp_path / 'out.pth')
    checkpoint = load_file(tmp_path / 'out.pth')
    change(checkpoint['meta'])
    with pytest.raises(ValueError, match=words):
        read_converted(checkpoint)


def test_presets_fit_networks_of_their_size_with_layer_scales():
    from dataclasses import replace

    from qsdt_mm.models.backbones.presets import ARCH_ZOO, resolve_arch
    from qsdt_mm.published.recognition import arch_config, complete_arch

    scaled = replace(ARCH_ZOO['e-19m'], layer_scale=1e-6)
    assert complete_arch(scaled, 'e-19m') == scaled and complete_arch(ARCH_ZOO['e-19m'], 'e-19m') == ARCH_ZOO['e-19m']
    assert arch_config(scaled) == dict(preset='e-19m', layer_scale=1e-6) and resolve_arch(arch_config(scaled)) == scaled
    with pytest.raises(CheckpointError, match='it has a layer scale'):
        complete_arch(scaled, dict(preset='e-19m'))
