"""Whole configs that evaluate converted networks as the released scripts do: ``tools/test.py OUT.py OUT``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from .networks import LIBRARIES, Network, model_config, stock_config

EVALUATION_SIZE = {'qsd': 256, 'espike': 232, 'espike-large': 232}
"""Short edge of ImageNet's images before the centre of 224 px is cut out, by family."""
COCO_CLASSES, ADE_CLASSES, IMAGENET_CLASSES = 80, 150, 1000
HARDVS_CLASSES, GESTURES = 300, 11


def config_text(network: Network, source: str, dataset_meta: Mapping[str, Any] | None = None) -> str:
    """Return the config of a network, as Python.

    Args:
        network: what was converted; no encoder.
        source: the published file, for the first line.
        dataset_meta: names (and colours) of the classes.
    """
    head = f'"""{network.kind} converted from {source!r} by qsdt_mm, to be evaluated as published."""\n\n'
    return head + Config(whole_config(network, dataset_meta or {})).pretty_text


def whole_config(network: Network, dataset_meta: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same, as a dict: model, test data, metric and what a run needs."""
    data = dict(mmpretrain=_events if network.kind == 'event-classifier' else _images, mmdet=_coco, mmseg=_scenes)[
        LIBRARIES[network.kind]
    ]
    loader, evaluator = data(network, dict(dataset_meta))
    loader = (
        dict(batch_size=1, num_workers=4, persistent_workers=False, sampler=dict(type='DefaultSampler', shuffle=False))
        | loader
    )
    return dict(
        model=model_config(network),
        test_dataloader=loader,
        test_evaluator=evaluator,
        test_cfg=dict(),
        **_runtime(network),
    )


def _runtime(network: Network) -> dict[str, Any]:
    library = LIBRARIES[network.kind]
    hook, visualizer = dict(
        mmpretrain=('VisualizationHook', 'UniversalVisualizer'),
        mmdet=('DetVisualizationHook', 'DetLocalVisualizer'),
        mmseg=('SegVisualizationHook', 'SegLocalVisualizer'),
    )[library]
    if network.kind == 'event-classifier':
        hook = 'EventVisualizationHook'
    return dict(
        default_scope=library,
        custom_imports=dict(imports=['qsdt_mm']),
        default_hooks=dict(
            timer=dict(type='IterTimerHook'),
            logger=dict(type='LoggerHook', interval=50),
            visualization=dict(type=hook),
        ),
        env_cfg=dict(
            cudnn_benchmark=False,
            mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
            dist_cfg=dict(backend='nccl'),
        ),
        visualizer=dict(type=visualizer, vis_backends=[dict(type='LocalVisBackend')]),
        log_level='INFO',
        load_from=None,
        resume=False,
    )


def _images(network: Network, dataset_meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """ImageNet, or folders of classes where the classes are others."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(
            type='ResizeEdge',
            scale=EVALUATION_SIZE[network.arch.family],
            edge='short',
            backend='pillow',
            interpolation='bicubic',
        ),
        dict(type='CenterCrop', crop_size=224),
        dict(type='PackInputs'),
    ]
    dataset = dict(type='ImageNet', data_root='data/imagenet', split='val', pipeline=pipeline)
    if network.num_classes != IMAGENET_CLASSES:
        dataset = dict(type='CustomDataset', data_root='data/images', data_prefix='val', pipeline=pipeline)
        dataset |= dict(metainfo=dict(classes=dataset_meta['classes'])) if dataset_meta else {}
    return dict(batch_size=128, dataset=dataset), _accuracy(network)


def _accuracy(network: Network) -> dict[str, Any]:
    return dict(type='Accuracy', topk=(1, 5) if network.num_classes > 5 else (1,))


def _events(network: Network, dataset_meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """HAR-DVS as drawn pictures, without state; with it, for which no script was released, a set of events."""
    settings = network.settings
    if not settings['stateful']:
        dataset = dict(type='HARDVSPictures', data_root='data/hardvs', split='test')
        load, usual = [dict(type='LoadDrawnEvents')], HARDVS_CLASSES
    else:
        load, usual = [dict(type='LoadEvents'), dict(type='EventsToFrames', split_by='time', size=128)], GESTURES
        dataset = dict(type='DVS128Gesture', data_root='data/dvs128_gesture', split='test')
        if network.num_classes != usual:
            dataset = dict(type='EventFiles', data_root='data/events', ann_file='test.txt', split='test')
    if network.num_classes != usual:
        dataset['metainfo'] = dict(classes=_class_names(network, dataset_meta))
    pack = dict(type='PackInputs', input_key='frames')
    dataset |= dict(num_frames=settings['time_steps'], pipeline=[*load, pack])
    return dict(batch_size=16, dataset=dataset), _accuracy(network)


def _class_names(network: Network, dataset_meta: dict[str, Any]) -> tuple[str, ...]:
    """Names of the classes, made up where the file has none."""
    return tuple(dataset_meta.get('classes') or (f'class_{i}' for i in range(network.num_classes)))


def _coco(network: Network, dataset_meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """mmdet's own COCO: images of 1333 x 800, boxes (and masks)."""
    name = 'coco_detection' if network.kind == 'retinanet' else 'coco_instance'
    stock = stock_config(f'_base_/datasets/{name}.py')
    loader, evaluator = stock['test_dataloader'], stock['test_evaluator']
    loader.update(num_workers=4, persistent_workers=False)
    if network.num_classes != COCO_CLASSES:
        loader['dataset']['metainfo'] = _metainfo(network, dataset_meta)
    return loader, evaluator


def _metainfo(network: Network, dataset_meta: dict[str, Any]) -> dict[str, Any]:
    classes = _class_names(network, dataset_meta)
    colours = [tuple(37 * (i + 1) * k % 256 for k in (1, 3, 7)) for i in range(len(classes))]
    return dict(classes=classes, palette=dataset_meta.get('palette') or colours)


def _scenes(network: Network, dataset_meta: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """ADE20K at (2048, 512); other classes in the same folders, with the same labels: 0 is none."""
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(2048, 512), keep_ratio=True),
        dict(type='LoadAnnotations', reduce_zero_label=True),  # after resizing: the truth keeps its size
        dict(type='CheckLabels', num_classes=network.num_classes),
        dict(type='PackSegInputs'),
    ]
    dataset = dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
        pipeline=pipeline,
    )
    if network.num_classes != ADE_CLASSES:
        dataset.update(type='BaseSegDataset', reduce_zero_label=True, img_suffix='.jpg', seg_map_suffix='.png')
        dataset['metainfo'] = _metainfo(network, dataset_meta)
    return dict(dataset=dataset), dict(type='IoUMetric', iou_metrics=['mIoU'])
