"""Pack a trained network into a folder: low-bit integers, or whole-number steps that give the same bits everywhere."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/deployment/pack.py CONFIG CHECKPOINT packed/NAME --calibrate 32
  python tools/deployment/pack.py CONFIG CHECKPOINT packed/NAME --kind trainable
  python tools/test.py CONFIG packed/NAME --inference deploy

FOLDER gets config.json, model.safetensors and README.md; with --kind both, a folder of each kind. Images for
calibration are those of the training data, in the test pipeline.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('pack.py', __doc__, EXAMPLE)
    parser.add_argument('config', help='configuration file; its default_scope says which library')
    parser.add_argument('checkpoint', help='checkpoint file, or a packed folder that can be trained')
    parser.add_argument('folder', help='folder to write')
    parser.add_argument(
        '--kind',
        choices=['deploy', 'trainable', 'both'],
        default='deploy',
        help='deploy: a plan that computes from pixels; trainable: weights to go on from (default: deploy)',
    )
    parser.add_argument(
        '--calibrate', type=int, default=32, metavar='N', help='show the plan so many images (default: 32)'
    )
    parser.add_argument('--overwrite', action='store_true', help='replace FOLDER if it is a packed one')
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    args = parser.parse_args(argv)
    if args.calibrate < 1:
        parser.error(f'--calibrate must be at least 1, got {args.calibrate}')
    if Path(args.folder).resolve() in (path := Path(args.checkpoint).resolve(), *path.parents):
        parser.error(f'FOLDER {args.folder} holds the checkpoint, and would take its place')
    parser.check_output(args.folder)
    return args


def pack(args: argparse.Namespace, session) -> None:
    """Build, load, calibrate, write."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.cli.deployment import calibration_batches, metainfo, run_of
    from qsdt_mm.cli.onnx_notes import task_of
    from qsdt_mm.deploy.evaluation import calibration_pixels
    from qsdt_mm.deploy.pretrained import save_pretrained, true_size
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.folders import require_free

    try:
        require_free(args.folder, args.overwrite)
    except InputError as error:
        hint = '' if args.overwrite else '; --overwrite replaces a packed one'
        raise InputError(f'{args.folder} is in the way: choose another FOLDER{hint}') from error
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        images, run = None, None
        if args.kind != 'trainable':
            task = task_of(model)
            if task == 'features':
                session.note(f'{type(model).__name__} has no single head: the plan ends with maps of backbone and neck')
            images = calibration_pixels(model, calibration_batches(cfg, args.calibrate, model, session))
            run = run_of(task)
        classes = metainfo(cfg).get('classes')
    with session.stage('packing'):
        folder = save_pretrained(
            model,
            args.folder,
            images=images,
            kind=args.kind,
            config=cfg,
            classes=classes,
            run=run,
            overwrite=args.overwrite,
        )
    for kind in ('deploy', 'trainable'):
        if args.kind in (kind, 'both'):
            place = Path(folder) / kind if args.kind == 'both' else folder
            print(f'{kind:<10} {place}\n{"":<10} {true_size(place, model)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('pack.py', lambda session: pack(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
