"""Every detection config trains for two iterations and is evaluated, on a COCO set of four images made here."""

import json
from pathlib import Path

import pytest
import torch
from coco_set import make_coco_set
from config_runs import short_run

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it

pytest.importorskip('mmdet')

from mmengine.config import Config  # noqa: E402

from qsdt_mm import cli  # noqa: E402

ROOT = Path(__file__).parents[1]
CONFIGS = sorted((ROOT / 'configs/detection').glob('*_coco.py'))
WIDTHS = {'qsd-15m': 256, 'qsd-31m': 384, 'e-10m': 192, 'e-19m': 256}


@pytest.fixture(scope='module')
def coco(tmp_path_factory):
    root = tmp_path_factory.mktemp('coco')
    make_coco_set(root)
    return root


def listed(value):
    """Heads or stages: a cascade has several."""
    return value if isinstance(value, list) else [value]


def shrink(cfg, coco):
    """The same config on this set and on small images."""
    for name in ('train_dataloader', 'val_dataloader'):
        loader = cfg[name]
        loader.update(num_workers=0)
        loader.dataset.update(
            data_root=str(coco), ann_file='set.json', data_prefix=dict(img=''), metainfo=dict(classes=('green', 'red'))
        )
        loader.dataset.pop('filter_cfg', None)
        loader.dataset.pipeline = [
            dict(type='Resize', scale=(128, 96), keep_ratio=True)
            if step['type'] in ('RandomChoice', 'Resize')
            else step
            for step in loader.dataset.pipeline
        ]
    model = cfg.model
    model.backbone.arch = dict(preset=model.backbone.arch, depths=(0, 1, 1, 1, 1))
    if 'roi_head' in model:  # few proposals, and detections whatever their score
        model.train_cfg.rpn_proposal.update(nms_pre=100, max_per_img=40)
        for stage in listed(model.train_cfg.rcnn):
            stage.sampler.num = 16
        for head in [*listed(model.roi_head.bbox_head), *listed(model.roi_head.get('mask_head', []))]:
            head.update(num_classes=2)
        for head in listed(model.roi_head.bbox_head):
            head.fc_out_channels = 64
        model.test_cfg.rpn.update(nms_pre=100, max_per_img=20)
        model.test_cfg.rcnn.update(score_thr=0.0, max_per_img=5)
    else:
        model.bbox_head.num_classes = 2
        model.test_cfg.update(score_thr=0.0, nms_pre=100, max_per_img=5)
    cfg.val_evaluator.ann_file = str(coco / 'set.json')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.update(interval=-1, save_best=None)  # hundreds of megabytes each
    return cfg


# Each head once, both families: the others take most of the time, and run the same code. What sets them apart,
# widths and recipe, is in test_recipes; a small one of the last head is in test_own_boxes_configs.py.
QUICK = ('mask-rcnn_e-10m', 'cascade-mask-rcnn_e-10m', 'retinanet_qsd-15m')
SIZES = [path if path.stem.startswith(QUICK) else pytest.param(path, marks=pytest.mark.slow) for path in CONFIGS]


@pytest.mark.parametrize('path', SIZES, ids=lambda path: path.stem)
def test_two_iterations_and_an_evaluation(path, coco, tmp_path):
    cfg = shrink(cli.load_config(str(path)), coco)
    parts = [part for part in ('backbone', 'neck', 'roi_head', 'bbox_head') if cfg.model.get(part)]
    runner = short_run(cfg, tmp_path / 'run', parts)
    assert runner.iter == 2
    metrics = [k for k in runner.message_hub.log_scalars if k.startswith('val/coco/')]
    assert 'val/coco/bbox_mAP' in metrics and ('val/coco/segm_mAP' in metrics) == ('mask-rcnn' in path.stem)


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_recipes(path):
    cfg = Config.fromfile(path)
    preset = path.stem.split('_')[1]
    assert cfg.model.backbone.arch == preset and tuple(cfg.model.backbone.out_indices) == (1, 2, 3, 4)
    if cfg.model.get('neck'):
        assert cfg.model.neck.out_channels == WIDTHS[preset]
        with torch.device('meta'):
            backbone = qsdt_mm.SpikeDrivenTransformer(preset, out_indices=(1, 2, 3, 4))
        assert tuple(cfg.model.neck.in_channels) == backbone.out_channels
    optimizer = cfg.optim_wrapper.optimizer
    assert (optimizer.type, optimizer.lr, optimizer.weight_decay) == ('AdamW', 2e-4, 0.05)
    assert cfg.optim_wrapper.paramwise_cfg == dict(norm_decay_mult=0.0, custom_keys={'neuron.': dict(weight_decay=0.0)})
    warmup, steps = cfg.param_scheduler
    assert (warmup.start_factor, warmup.end, steps.milestones) == (0.001, 1000, [8, 11])
    assert cfg.train_cfg.max_epochs == 12 and cfg.train_dataloader.batch_size == 2
    assert cfg.auto_scale_lr.base_batch_size == 16
    if 'rcnn' in path.stem:
        sizes = {head.fc_out_channels for head in listed(cfg.model.roi_head.bbox_head)}
        assert sizes == {{256: 1024, 384: 1536, 192: 768}[WIDTHS[preset]]}


def test_the_truth_has_average_precision_one(coco):
    """CocoMetric on predictions equal to the annotations."""
    from mmdet.evaluation import CocoMetric
    from pycocotools import mask as rle

    data = json.loads((coco / 'set.json').read_text())
    metric = CocoMetric(ann_file=str(coco / 'set.json'), metric=['bbox', 'segm'])
    metric.dataset_meta = dict(classes=('green', 'red'))
    samples = []
    for image in data['images']:
        own = [a for a in data['annotations'] if a['image_id'] == image['id']]
        boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (a['bbox'] for a in own)]).reshape(-1, 4).float()
        masks = [rle.merge(rle.frPyObjects(a['segmentation'], 96, 128)) for a in own]
        pred = dict(
            bboxes=boxes,
            scores=torch.ones(len(own)),
            masks=masks,
            labels=torch.tensor([a['category_id'] - 1 for a in own]).long(),
        )
        samples.append(dict(img_id=image['id'], ori_shape=(96, 128), pred_instances=pred))
    metric.process({}, samples)
    figures = metric.evaluate(size=4)
    assert figures['coco/bbox_mAP'] == 1 and figures['coco/segm_mAP'] == 1
