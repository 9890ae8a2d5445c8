"""Configs for boxes of one's own: data described in one place, strides of the maps, a step and an evaluation."""

from pathlib import Path

import pytest
import torch
from coco_set import make_coco_set
from config_runs import short_run

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it

pytest.importorskip('mmdet')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402

from qsdt_mm import cli  # noqa: E402

FOLDER = Path(__file__).parents[1] / 'configs/detection'
CONFIGS = sorted(
    path.stem for path in FOLDER.glob('*.py') if path.stem.endswith('-320px') or 'faster-rcnn' in path.stem
)
SMALL = [name for name in CONFIGS if not name.endswith('_coco')]


def test_both_kinds_of_detectors_are_there():
    assert {name.partition('_')[0] for name in SMALL} == {'faster-rcnn', 'rtmdet'}


def strides(cfg):
    """Those that the points or anchors, and the RoI extractors, of a config believe in."""
    head = cfg.model.get('rpn_head') or cfg.model.bbox_head
    found = [list(head.anchor_generator.strides)]
    if 'roi_head' in cfg.model:
        found.append(list(cfg.model.roi_head.bbox_roi_extractor.featmap_strides))
    return found


@pytest.mark.parametrize('name', CONFIGS)
def test_strides_are_those_of_the_maps(name):
    """Otherwise anchors would lie outside the image."""
    cfg = cli.load_config(str(FOLDER / f'{name}.py'))
    size = 320 if name in SMALL else 128
    if name not in SMALL:
        cfg.model.backbone.arch = dict(preset=cfg.model.backbone.arch, depths=(0, 1, 1, 1, 1))
    with DefaultScope.overwrite_default_scope('mmdet'), torch.device('meta'), torch.no_grad():  # shapes alone
        neck, backbone = (MODELS.build(cfg.model[part]).eval() for part in ('neck', 'backbone'))
        maps = neck(backbone(torch.zeros(1, 3, size, size)))
    real = [size // level.shape[-1] for level in maps]
    assert all(real[: len(believed)] == believed for believed in strides(cfg))


@pytest.mark.parametrize('name', SMALL)
def test_data_is_described_in_one_place(name):
    """Root, names, files and number of classes say the same everywhere."""
    cfg = cli.load_config(str(FOLDER / f'{name}.py'))
    for part, loader in (('train', cfg.train_dataloader), ('val', cfg.val_dataloader), ('val', cfg.test_dataloader)):
        data = loader.dataset
        assert (data.data_root, data.metainfo.classes) == (cfg.data_root, cfg.classes)
        assert (data.ann_file, data.data_prefix) == (cfg[part].ann_file, cfg[part].data_prefix)
    for evaluator in (cfg.val_evaluator, cfg.test_evaluator):
        assert evaluator.ann_file == cfg.data_root + cfg.val.ann_file and evaluator.metric == 'bbox'
    head = cfg.model.roi_head.bbox_head if 'roi_head' in cfg.model else cfg.model.bbox_head
    assert head.num_classes == len(cfg.classes)


def test_the_page_s_lines_go_with_rtmdet(tmp_path):
    """As docs/en/own_data.md says: another base, and classes in its only head."""
    text = (FOLDER / 'faster-rcnn_qsd-small_fpn_1xb4_shapes.py').read_text(encoding='utf-8')
    base = str(FOLDER / 'rtmdet_qsd-small_1xb4-18e_cells-320px.py')
    text = text.replace("'./faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px.py'", repr(base))
    text = text.replace(
        'dict(roi_head=dict(bbox_head=dict(num_classes=len(classes))))', 'dict(bbox_head=dict(num_classes=3))'
    )
    (tmp_path / 'mine.py').write_text(text)
    cfg = cli.load_config(str(tmp_path / 'mine.py'))
    assert cfg.model.type == 'RTMDet' and 'roi_head' not in cfg.model and cfg.model.bbox_head.num_classes == 3
    assert cfg.test_dataloader.dataset.metainfo.classes == cfg.classes == ('circle', 'square', 'triangle')


@pytest.mark.parametrize(
    'name',
    [
        'faster-rcnn_qsd-small_fpn_1xb4-18e_cells-320px',
        # models/heads/test_rtmdet.py trains a smaller one
        pytest.param('rtmdet_qsd-small_1xb4-18e_cells-320px', marks=pytest.mark.slow),
    ],
)
def test_two_iterations_and_an_evaluation(name, tmp_path):
    make_coco_set(tmp_path)
    cfg = cli.load_config(str(FOLDER / f'{name}.py'))
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.update(num_workers=0, batch_size=min(loader.batch_size, 2))
        names = dict(classes=('green', 'red'))
        loader.dataset.update(data_root=str(tmp_path), ann_file='set.json', data_prefix=dict(img=''), metainfo=names)
        loader.dataset.pop('filter_cfg', None)
        loader.dataset.pipeline = [
            dict(step, scale=(128, 96))
            if 'scale' in step
            else dict(step, crop_size=(96, 96))
            if 'crop_size' in step
            else step
            for step in loader.dataset.pipeline
        ]
    (cfg.model.roi_head.bbox_head if 'roi_head' in cfg.model else cfg.model.bbox_head).num_classes = 2
    cfg.val_evaluator.ann_file = str(tmp_path / 'set.json')
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.default_hooks.checkpoint.update(interval=-1, save_best=None)
    runner = short_run(cfg, tmp_path / 'run', [part for part in ('backbone', 'neck', 'bbox_head') if part in cfg.model])
    assert runner.iter == 2 and 'val/coco/bbox_mAP' in runner.message_hub.log_scalars
