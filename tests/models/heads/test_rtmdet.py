"""RTMDet of stock mmdet with spiking parts: its levels share convolutions, and every view of a network works on it."""

from pathlib import Path

import pytest
import torch
from trained_networks import exact_forms

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis import audit, measure_energy
from qsdt_mm.models import SpikeUnit

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402
from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmengine.structures import InstanceData  # noqa: E402
from torch import nn  # noqa: E402

CONFIG = Path(__file__).parents[3] / 'configs/_base_/models/rtmdet_spike.py'


def build(seed):
    """A small one with weights of 4 bits."""
    cfg = Config.fromfile(CONFIG).model
    cfg.backbone.arch = dict(family='qsd', widths=(8, 8, 16, 16, 24), depths=(0, 1, 1, 1, 1), strides=(2, 2, 2, 2, 2))
    cfg.neck.update(in_channels=[16, 16, 24], out_channels=16, weight_bits=4)
    cfg.bbox_head.update(num_classes=3, in_channels=16, feat_channels=16, weight_bits=4)
    cfg.test_cfg.update(score_thr=0.0, max_per_img=20)
    torch.manual_seed(seed)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg)
        model.init_weights()
    return model


@pytest.fixture
def model():
    """With statistics of one batch in its norms."""
    model = build(seed=0)
    for norm in (m for m in model.modules() if isinstance(m, nn.BatchNorm2d)):
        norm.momentum = None
    with torch.no_grad():
        model.train()(**batch(model), mode='loss')
    return model


def batch(model, training=True):
    """An image with an object for each level, one without."""
    from mmdet.structures import DetDataSample

    shape, samples = (64, 96), []
    for count in (3, 0):
        sample = DetDataSample(metainfo=dict(img_shape=shape, ori_shape=shape, scale_factor=(1, 1), pad_shape=shape))
        boxes = torch.tensor([[70.0, 4, 80, 14], [60, 30, 90, 60], [0, 0, 64, 62]])[:count]
        sample.gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([0, 1, 2])[:count])
        samples.append(sample)
    generator = torch.Generator().manual_seed(1)
    images = [torch.randint(0, 256, (3, *shape), dtype=torch.uint8, generator=generator) for _ in samples]
    return model.data_preprocessor(dict(inputs=images, data_samples=samples), training)


def test_gradients_reach_every_parameter(model):
    losses = model.train()(**batch(model), mode='loss')
    total = sum(loss.sum() for part in losses.values() for loss in (part if isinstance(part, list) else [part]))
    total.backward()
    assert total.isfinite()
    assert not [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]


def test_levels_share_convolutions_and_nothing_else(model):
    """One weight with one quantizer; each level has neuron and norm of its own."""
    for branch in (model.bbox_head.cls_convs, model.bbox_head.reg_convs):
        for units in zip(*branch):
            assert all(isinstance(unit, SpikeUnit) for unit in units)
            assert len({unit.synapse for unit in units}) == 1
            assert len({unit.norm for unit in units}) == len({unit.neuron for unit in units}) == 3
    plain = model.bbox_head.rtm_cls
    assert len({unit.synapse for unit in plain}) == 3


def test_scores_begin_low_and_branches_fire(model):
    """mmdet would give every convolution a deviation of 0.01, and leave the neurons after it silent."""
    with torch.no_grad():
        scores, boxes = model.eval()(batch(model, False)['inputs'], mode='tensor')
    assert all(0.003 < level.sigmoid().mean() < 0.03 for level in scores)
    assert all((level > 0).all() for level in boxes)
    for unit in (unit for branch in model.bbox_head.cls_convs for unit in branch):
        fan_in = unit.synapse.weight[0].numel()
        assert unit.synapse.weight.std() > 0.3 * fan_in**-0.5


def test_integer_and_spike_detect_the_same_as_floats(model):
    found = {}
    with torch.no_grad():
        for mode, network in dict(float=model.eval(), **exact_forms(model.eval())).items():
            found[mode] = [s.pred_instances for s in network(**batch(model, False), mode='predict')]
    for plain, integer, *spiking in zip(*found.values()):
        assert len(spiking) == 2 and len(integer) == len(plain) > 0
        for field in integer.keys():  # noqa: SIM118  InstanceData is no dict
            assert all(torch.equal(integer[field], spike[field]) for spike in spiking), field
        assert (integer.scores - plain.scores).abs().mean() < 5e-3


def test_every_layer_is_in_a_unit_and_each_level_is_counted(model):
    rows = audit(model)
    assert {row.weight_bits for row in rows} == {4}
    assert all(row.driven_by == 'spikes' for row in rows if not row.name.startswith('backbone'))

    def run(data):
        model(**data, mode='predict')
        return len(data['inputs'])

    counted = [row.name for row in measure_energy(model.eval(), [batch(model, False)], run=run).layers]
    for branch in ('cls_convs', 'reg_convs'):
        for level in range(3):
            assert any(f'bbox_head.{branch}.{level}.' in name for name in counted), (branch, level)


def test_a_checkpoint_loads_whole(model):
    other = build(seed=1)
    data = batch(model, False)['inputs']
    with torch.no_grad():
        other.load_state_dict(model.state_dict())
        assert all(map(torch.equal, model.eval()(data)[0], other.eval()(data)[0]))
