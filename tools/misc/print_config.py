"""Print a configuration as the tools see it: bases merged, options applied."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/misc/print_config.py configs/classification/NAME.py
  python tools/misc/print_config.py CONFIG --cfg-options train_cfg.max_epochs=1 --save-path short.py

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('print_config.py', __doc__, EXAMPLE)
    parser.add_argument('config', help='configuration file')
    parser.add_argument('--save-path', metavar='FILE', help='write it to a .py, .yaml, .yml or .json file instead')
    parser.add_cfg_options('train_cfg.max_epochs=1')
    args = parser.parse_args(argv)
    if args.save_path and not args.save_path.endswith(('.py', '.yaml', '.yml', '.json')):
        parser.error(f'--save-path must end in .py, .yaml, .yml or .json, got {args.save_path}')
    return args


def print_config(args: argparse.Namespace) -> None:
    """Print or save the configuration."""
    from qsdt_mm.cli import load_config
    from qsdt_mm.fileio.atomic import atomic_path

    cfg = load_config(args.config, args.cfg_options)
    if args.save_path is None:
        print(cfg.pretty_text)
        return
    with atomic_path(args.save_path) as path:
        if args.save_path.endswith('.py'):
            path.write_text(cfg.pretty_text, encoding='utf-8')
        else:
            from mmengine.fileio import dump

            dump(cfg.to_dict(), path)
    print(f'saved to {args.save_path}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('print_config.py', lambda session: print_config(args), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
