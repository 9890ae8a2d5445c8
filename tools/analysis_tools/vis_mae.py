"""Draw images, what a masked autoencoder sees of them, and what it makes of that."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/vis_mae.py configs/selfsup/NAME.py work_dirs/NAME/epoch_20.pth
  python tools/analysis_tools/vis_mae.py CONFIG CHECKPOINT --images a.jpg b.jpg --out mae.png --seed 3

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('vis_mae.py', __doc__, EXAMPLE)
    parser.add_network('configuration file of masked pre-training', 'checkpoint file')
    parser.add_argument('--images', nargs='+', metavar='FILE', help='images (default: the first of the training set)')
    parser.add_argument('--number', type=int, default=6, metavar='N', help='how many of the training set (default: 6)')
    parser.add_argument('--out', default='reconstructions.png', metavar='FILE', help='default: reconstructions.png')
    parser.add_argument('--seed', type=int, default=0, help='of the mask (default: 0)')
    parser.add_cfg_options('model.mask_ratio=0.75')
    args = parser.parse_args(argv)
    if args.number < 1:
        parser.error(f'--number must be at least 1, got {args.number}')
    return args


def draw(args: argparse.Namespace, session) -> int:
    """Write the figure."""
    from pathlib import Path

    from mmengine.dataset import Compose, default_collate
    from mmengine.registry import DATASETS, DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.errors import InputError, why_no_file
    from qsdt_mm.visualization.reconstruction import draw_reconstructions

    for path in args.images or []:
        absent = why_no_file(path)
        if absent:
            raise InputError(f'image {path} {absent}')
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        if not hasattr(model, 'draw_visible'):
            raise InputError(f'{args.config}: model.type={cfg.model.type} is not a masked autoencoder (SpikeMAE)')
        with session.stage('reading the images'):
            config = cfg.train_dataloader.dataset
            if args.images:
                steps = Compose(config.pipeline)
                samples = [steps(dict(img_path=path)) for path in args.images]
            else:
                dataset = DATASETS.build(config)
                samples = [dataset[i] for i in range(min(args.number, len(dataset)))]
        inputs = model.data_preprocessor(default_collate(samples), False)['inputs']
    draw_reconstructions(model, inputs, Path(args.out), args.seed)
    print(args.out)
    session.begin()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('vis_mae.py', lambda session: draw(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
