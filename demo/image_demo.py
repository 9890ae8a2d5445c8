"""Run a network on one image, or one file of events: its prediction, and the places where its backbone fires."""

from __future__ import annotations

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python demo/image_demo.py photo.jpg configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python demo/image_demo.py photo.jpg CONFIG CHECKPOINT --out-dir pictures --score-thr 0.5
  python demo/image_demo.py data/moving_digits/val/00000.npz configs/neuromorphic/NAME.py CHECKPOINT

Writes <image>_found.png and <image>_firing.png. Works for image classification, detection and segmentation, and for
events, of which both show all frames as one.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('image_demo.py', __doc__, EXAMPLE)
    parser.add_argument('image', help='image file; for a network of events an npz file, or a folder of pictures')
    parser.add_argument('config', help='configuration file; its default_scope says which task')
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out-dir', default='.', metavar='DIR', help='where the pictures go (default: here)')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of a detection (default: 0.3)')
    parser.add_require_spikes()
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    return parser.parse_args(argv)


EVENT_STEPS = {'LoadEvents': 'an npz file of events', 'LoadEventFrames': 'an npz file of frames'}
FOLDER_STEPS = {'LoadDrawnEvents': 'a folder of pictures'}


def check_image(cfg, args: argparse.Namespace) -> bool | None:
    """Refuse what the configuration's pipeline does not read; return whether it reads events, None without one."""
    from qsdt_mm.errors import InputError, why_no_file

    steps = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline')
    first = str(steps[0]['type']).rpartition('.')[2] if steps else None
    absent = why_no_file(args.image, folder=first in FOLDER_STEPS)
    if absent:
        raise InputError(f'image {args.image} {absent}')
    wanted = {**EVENT_STEPS, **FOLDER_STEPS}.get(first)
    is_npz = Path(args.image).suffix.lower() == '.npz'
    if first in EVENT_STEPS and not is_npz:
        raise InputError(f'image {args.image}: the network of {args.config} takes {wanted}')
    if wanted is None and is_npz:
        raise InputError(
            f'image {args.image} is an npz file, of events or frames: the network of {args.config} takes pictures'
        )
    return wanted is not None if steps else None


def packed(cfg, path: str, events: bool) -> dict:
    """Return the image or the events as the configuration's test pipeline packs them."""
    from mmengine.dataset import Compose, pseudo_collate

    dataset, sample = cfg.test_dataloader.dataset, dict(img_path=path, img_id=0)
    steps = [dict(step) for step in dataset.pipeline]
    steps = [step for step in steps if step['type'] not in ('LoadAnnotations', 'CheckLabels')]
    if events:  # what their data sets add
        sizes = [getattr(kind, 'SENSOR_SIZE', None) for kind in kinds(cfg)]
        sample['sensor_size'] = dataset.get('sensor_size') or next((size for size in sizes if size), None)
        sample['num_frames'] = dataset.get('num_frames')
    elif steps[0]['type'] != 'LoadImageFromFile':  # the configuration's own data come as arrays
        grey = cfg.model.backbone.get('in_channels', 3) == 1
        steps.insert(0, dict(type='LoadImageFromFile', color_type='grayscale' if grey else 'color'))
    return pseudo_collate([Compose(steps)(sample)])


def kinds(cfg) -> list:
    """Return what the registries know by the name of the test data set's type."""
    from mmengine.registry import DATASETS

    from qsdt_mm.cli.cfg_options import resolve_type

    kind = cfg.test_dataloader.dataset.type
    return [*resolve_type(kind, cfg.get('default_scope')), DATASETS.get(kind)]


def metainfo(cfg) -> dict:
    """Return the names and colours of the classes, from the configuration or its data set's class."""
    from mmengine.registry import DATASETS

    dataset = cfg.test_dataloader.dataset
    given = dataset.get('metainfo') or {}
    if given.get('classes'):
        return given
    if isinstance(dataset.get('classes'), (list, tuple)):
        return dict(classes=dataset.classes)
    for kind in kinds(cfg):
        known = getattr(kind, 'METAINFO', None) or {}
        if known.get('classes'):
            return known
    with contextlib.suppress(Exception):  # named by the folders of the data, if they are here
        return DATASETS.build(dataset).metainfo
    return {}


def look(args: argparse.Namespace, session) -> None:
    """Run, and write both pictures."""
    import mmcv
    import numpy as np
    import torch
    from mmengine.registry import DefaultScope

    from qsdt_mm import SpikeDrivenTransformer, cli
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.atomic import atomic_path
    from qsdt_mm.models.layers.float_layers import float_share
    from qsdt_mm.models.neurons import SpikingNeuron
    from qsdt_mm.visualization.firing import draw_firing
    from qsdt_mm.visualization.predictions import draw_found, to_picture

    cfg = cli.load_config(args.config, args.cfg_options)
    events = check_image(cfg, args)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        if events is None:
            raise InputError(f'config {args.config} has no test_dataloader.dataset.pipeline')
        with session.stage(f'reading {args.image}'):
            data = packed(cfg, args.image, events)
        backbones = [m for m in model.modules() if isinstance(m, SpikeDrivenTransformer)]
        if not backbones:
            raise InputError(f'the network of {args.config} has no SpikeDrivenTransformer')
        if args.require_spikes:
            try:
                float_share(model, lambda network: network.test_step(data)).require_spikes()
            except ValueError as error:
                raise InputError(str(error)) from error
        rates: dict[int, list] = {}

        def watch(stage: int):
            def hook(neuron, inputs, output) -> None:
                rates.setdefault(stage, []).append(
                    (output / (neuron.scale * neuron.max_spike_count)).mean((0, 1)).numpy()
                )

            return hook

        for index, stage in enumerate(backbones[0].stages):
            for neuron in (m for m in stage.blocks.modules() if isinstance(m, SpikingNeuron)):
                neuron.register_forward_hook(watch(index))
        with torch.no_grad():
            sample = model.test_step(data)[0]
        if events:
            image = np.ascontiguousarray(255 * to_picture(data['inputs'][0])).round().astype(np.uint8)
        else:
            image = mmcv.imread(args.image, channel_order='rgb')
        stem = Path(args.image).stem
        found, firing = (Path(args.out_dir) / f'{stem}_{what}.png' for what in ('found', 'firing'))
        meta = metainfo(cfg)
        with atomic_path(found) as path:
            draw_found(cfg, sample, image, meta, path, args.score_thr)
    draw_firing(image, {stage: [m for m in maps if m.ndim == 2] for stage, maps in rates.items()}, firing)
    if 'pred_score' in sample:
        best = int(sample.pred_score.argmax())
        classes = meta.get('classes')
        print(f'class    {classes[best] if classes else best} ({100 * sample.pred_score[best]:.1f} %)')
    print(f'found    {found}\nfiring   {firing}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('image_demo.py', lambda session: look(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
