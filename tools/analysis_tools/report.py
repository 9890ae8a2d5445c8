"""Write the page of a training from its work directory: results, curves, firing rates, mistakes, energy, settings."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/report.py work_dirs/first
  python tools/analysis_tools/report.py work_dirs/first --out first.html

train.py leaves report.html in the work directory by itself. This tool writes it for a training that was stopped, that
goes on, or that is older than the page. It is one file with its pictures inside, and is written whole or not at all.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('report.py', __doc__, EXAMPLE)
    parser.add_argument('run', metavar='WORK_DIR', help='work directory of a training')
    parser.add_argument('--out', metavar='FILE.html', help='where the page goes (default: WORK_DIR/report.html)')
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith(('.html', '.htm')):
        parser.error(f'--out must end in .html, got {args.out}')
    return args


def report(args: argparse.Namespace, session) -> None:
    """Write the page and say where."""
    from qsdt_mm.cli.run_report import write_report
    from qsdt_mm.errors import InputError, why_no_file

    folder = Path(args.run)
    if absent := why_no_file(folder, folder=True):
        raise InputError(f'work directory {folder} {absent}')
    print(f'page     {write_report(folder, Path(args.out) if args.out else None)}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('report.py', lambda session: report(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
