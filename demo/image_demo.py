"""Run a network on one image: its prediction, and the places where its backbone fires."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python demo/image_demo.py photo.jpg configs/classification/NAME.py work_dirs/NAME/epoch_10.pth
  python demo/image_demo.py photo.jpg CONFIG CHECKPOINT --out-dir pictures --score-thr 0.5

Writes <image>_found.png and <image>_firing.png. Works for image classification, detection and segmentation.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('image_demo.py', __doc__, EXAMPLE)
    parser.add_argument('image', help='image file')
    parser.add_argument('config', help='configuration file; its default_scope says which task')
    parser.add_argument('checkpoint', help='checkpoint file, or a packed folder that can be trained')
    parser.add_argument('--out-dir', default='.', metavar='DIR', help='where the pictures go (default: here)')
    parser.add_argument('--score-thr', type=float, default=0.3, help='lowest score of a detection (default: 0.3)')
    parser.add_require_spikes()
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    return parser.parse_args(argv)


def packed(cfg, path: str) -> dict:
    """Return the image as the configuration's test pipeline packs it."""
    from mmengine.dataset import Compose, pseudo_collate

    steps = [dict(step) for step in cfg.test_dataloader.dataset.pipeline]
    steps = [step for step in steps if step['type'] not in ('LoadAnnotations', 'CheckLabels')]
    if steps[0]['type'] != 'LoadImageFromFile':  # the configuration's own data come as arrays
        grey = cfg.model.backbone.get('in_channels', 3) == 1
        steps.insert(0, dict(type='LoadImageFromFile', color_type='grayscale' if grey else 'color'))
    return pseudo_collate([Compose(steps)(dict(img_path=path, img_id=0))])


def look(args: argparse.Namespace, session) -> None:
    """Run, and write both pictures."""
    import mmcv
    import torch
    from mmengine.registry import DefaultScope

    from qsdt_mm import SpikeDrivenTransformer, cli
    from qsdt_mm.cli.deployment import metainfo
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.atomic import atomic_path
    from qsdt_mm.models.layers.float_layers import float_share
    from qsdt_mm.models.neurons import SpikingNeuron
    from qsdt_mm.visualization.firing import draw_firing
    from qsdt_mm.visualization.predictions import draw_found

    if not Path(args.image).is_file():
        raise InputError(f'image {args.image} does not exist')
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        with session.stage(f'reading {args.image}'):
            data = packed(cfg, args.image)
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
