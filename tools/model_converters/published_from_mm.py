"""Write a classifier trained here as a checkpoint that the papers' own code loads."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/model_converters/published_from_mm.py work_dirs/qsd-15m_8xb196_in1k/epoch_300.pth published.pth

The way back of published_to_mm.py, for classifiers: QSD, E-SpikeFormer, networks for events. Names and shapes are those
of the published checkpoints, under "model"; beside each LSQ step go init_state = 1, without which the papers' code
would set the step anew, and the quantizer of activations that it never uses. What that code cannot be told (another
stem, other strides or heads, bits other than 4) is refused. D, T and the worth of a spike leave no trace in tensors:
they have to be the published ones.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('published_from_mm.py', __doc__, EXAMPLE)
    parser.add_argument('src', metavar='SRC', help='checkpoint of a classifier of this package')
    parser.add_argument('dst', metavar='DST', help='file to write')
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    parser.add_argument('--json', metavar='FILE', help='write the report to a JSON file')
    return parser.parse_args(argv)


def publish(args: argparse.Namespace) -> None:
    """Write the file, and say what is in it."""
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.atomic import atomic_open
    from qsdt_mm.published import built_with, publish_file

    if args.json and (
        Path(args.json).is_dir() or Path(args.json).resolve() in (Path(args.src).resolve(), Path(args.dst).resolve())
    ):
        raise InputError(f'--json {args.json} is a directory, or SRC or DST')
    result = publish_file(args.src, args.dst, overwrite=args.overwrite)
    added = ', '.join(f'{count} {kind}' for kind, count in result.added.items())
    lines = dict(
        family=result.arch.family,
        tensors=f'{len(result.state_dict)}' + (f', of them added {added}' if added else ''),
        build=built_with(result),
        wrote=args.dst,
    )
    for name, value in lines.items():
        print(f'{name:<12} {value}')
    for note in result.notes:
        print(f'{"note":<12} {note}')
    if args.json:
        with atomic_open(args.json, 'w', encoding='utf-8') as file:
            report = dict(source=args.src, destination=args.dst, **lines, added=result.added, notes=result.notes)
            json.dump(report, file, indent=2)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('published_from_mm.py', lambda session: publish(args), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
