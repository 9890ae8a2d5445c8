"""Pack a trained network into a folder: low-bit integers, or whole-number steps that give the same bits everywhere."""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/deployment/pack.py CONFIG CHECKPOINT packed/NAME --calibrate 32
  python tools/deployment/pack.py CONFIG CHECKPOINT packed/NAME --kind trainable
  python tools/deployment/pack.py CONFIG CHECKPOINT packed/NAME --kind complete
  python tools/test.py packed/NAME
  python tools/test.py CONFIG packed/NAME --inference deploy

FOLDER gets config.json, model.safetensors and README.md; with --kind both, a folder of each kind. One that is complete
holds CONFIG as data, too, and takes the place of CONFIG and CHECKPOINT in all tools. Images for calibration are those
of the training data, in the test pipeline.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('pack.py', __doc__, EXAMPLE)
    parser.add_network(
        'configuration file; its default_scope says which library',
        'checkpoint file, or a packed folder that can be trained',
    )
    parser.add_argument('folder', help='folder to write')
    parser.add_argument(
        '--kind',
        choices=['deploy', 'trainable', 'both', 'complete'],
        default='deploy',
        help='deploy: a plan that computes from pixels; trainable: weights to go on from; both: a folder of each; '
        'complete: one with weights, configuration and, unless the network has two stages, the plan (default: deploy)',
    )
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='of the images that the plan takes (default: as the test pipeline makes them)',
    )
    parser.add_argument(
        '--calibrate',
        type=int,
        default=32,
        metavar='N',
        help='show the plan so many images (default: 32); 0 with --kind complete: make none',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace FOLDER if it is a packed one')
    parser.add_cfg_options('model.backbone.max_spike_count=8')
    args = parser.parse_args(argv)
    least = 0 if args.kind == 'complete' else 1
    for name, lowest, values in (('calibrate', least, [args.calibrate]), ('size', 1, args.size or [])):
        if any(value < lowest for value in values):
            parser.error(f'--{name} must be at least {lowest}, got {" ".join(map(str, values))}')
    from qsdt_mm.fileio.shipped import located

    path = (located(args.checkpoint) or Path(args.checkpoint)).resolve()
    if Path(args.folder).resolve() in (path, *path.parents):
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
    whole = copy.deepcopy(cfg)  # what is built adds defaults
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
        images, run = None, None
        task = task_of(model)
        if args.kind == 'complete' and task == 'features':
            session.note(f'{type(model).__name__} has no single head: the folder has no plan')
        elif args.kind != 'trainable' and args.calibrate:
            if task == 'features':
                session.note(f'{type(model).__name__} has no single head: the plan ends with maps of backbone and neck')
            samples = calibration_batches(cfg, args.calibrate, model, session)
            try:
                images, run = calibration_pixels(model, samples, args.size), run_of(task)
            except InputError as error:
                ways = '--size H W brings them to one'
                ways += ', --calibrate 0 leaves the plan out' if args.kind == 'complete' else ''
                raise InputError(f'{error}: {ways}' if args.size is None else str(error)) from error
        meta = metainfo(cfg)
    with session.stage('packing'):
        folder = save_pretrained(
            model,
            args.folder,
            images=images,
            kind=args.kind,
            config=whole,
            classes=meta.get('classes'),
            palette=meta.get('palette'),
            run=run,
            overwrite=args.overwrite,
        )
    for kind in ('deploy', 'trainable', 'complete'):
        if args.kind == kind or args.kind == 'both' and kind != 'complete':
            place = Path(folder) / kind if args.kind == 'both' else folder
            print(f'{kind:<10} {place}\n{"":<10} {true_size(place, model)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('pack.py', lambda session: pack(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
