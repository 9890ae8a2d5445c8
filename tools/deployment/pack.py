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

FOLDER gets config.json, model.safetensors and README.md; with --kind both, in a folder of each kind.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('pack.py', __doc__, EXAMPLE)
    parser.add_argument('config', help='configuration file; its default_scope says which library')
    parser.add_argument('checkpoint', help="checkpoint file, or a packed folder of kind 'trainable'")
    parser.add_argument('folder', help='folder to write; it must not exist yet')
    parser.add_argument(
        '--kind',
        choices=['deploy', 'trainable', 'both'],
        default='deploy',
        help='deploy: a plan that computes from pixels; trainable: weights to go on from (default: deploy)',
    )
    parser.add_calibrate()
    parser.add_argument('--overwrite', action='store_true', help='replace FOLDER if it is a packed one')
    parser.add_cfg_options('test_dataloader.dataset.data_root=data/mine')
    args = parser.parse_args(argv)
    if args.calibrate < 1:
        parser.error(f'--calibrate must be at least 1, got {args.calibrate}')
    return args


def pack(args: argparse.Namespace, session) -> None:
    """Build, load, calibrate, write."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli
    from qsdt_mm.cli.calibration import calibration_batches
    from qsdt_mm.cli.class_names import metainfo
    from qsdt_mm.deploy.evaluation import preprocessed
    from qsdt_mm.deploy.pretrained import folder_bytes, save_pretrained
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.folders import whole_folder

    with whole_folder_is_free(whole_folder, args):
        pass
    cfg = cli.load_config(args.config, args.cfg_options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        model = cli.build_model(cfg, args.checkpoint, session)
    return model
