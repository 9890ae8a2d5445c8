"""Convert a published QSD, E-SpikeFormer or Spike-MAE checkpoint into one for mmpretrain."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/model_converters/published_to_mm.py published.pth converted.pth
  python tools/model_converters/published_to_mm.py published.pth converted.pth --arch qsd-55m --json report.json

The network is recognised from the tensors. Heads, strides and the bits of a weight leave no trace there: the published
values are taken unless options say otherwise. Of a Spike-MAE checkpoint the encoder is taken: fine-tuning starts from
it with backbone.init_cfg = dict(type='Pretrained', checkpoint=DST, prefix='backbone.').

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('published_to_mm.py', __doc__, EXAMPLE)
    parser.add_argument('src', metavar='SRC', help='published checkpoint')
    parser.add_argument('dst', metavar='DST', help='file to write')
    parser.add_argument('--arch', metavar='PRESET', help='preset that SRC must be, e.g. qsd-15m, e-83m')
    parser.add_argument(
        '--weights',
        choices=['model', 'ema'],
        default='model',
        help='which weights, where SRC has averaged ones (model_ema) too (default: model)',
    )
    parser.add_argument(
        '--weight-bits',
        type=int,
        choices=[2, 3, 4, 8, 32],
        help='bits of a weight (default: what SRC says, else 4 with LSQ steps, 32 without)',
    )
    parser.add_argument('--num-heads', type=int, metavar='N', help='attention heads (default: 8)')
    parser.add_argument('--overwrite', action='store_true', help='replace DST if it exists')
    parser.add_argument('--json', metavar='FILE', help='write the report to a JSON file')
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> None:
    """Convert, and say what became of every tensor."""
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.published import convert_file

    if args.json and (
        Path(args.json).is_dir() or Path(args.json).resolve() in (Path(args.src).resolve(), Path(args.dst).resolve())
    ):
        raise InputError(f'--json {args.json} is a directory, or SRC or DST')
    try:
        result = convert_file(
            args.src,
            args.dst,
            overwrite=args.overwrite,
            arch=args.arch,
            num_heads=args.num_heads,
            weight_bits=args.weight_bits,
            weights=args.weights,
        )
    except ValueError as error:  # an option out of range
        raise InputError(str(error)) from error
    network, figures = result.meta(Path(args.src).name), result.report()
    dropped = ', '.join(f'{count} {kind}' for kind, count in result.dropped.items())
    lines = {
        name: network[name] for name in ('family', 'arch', 'in_channels', 'num_classes', 'weight_bits', 'rounding')
    }
    if result.num_classes is None:
        lines['num_classes'] = 'none: the encoder of Spike-MAE'
    lines |= {
        'matched': f'{result.matched} tensors',
        'dropped': f'{sum(result.dropped.values())} tensors' + (f' ({dropped})' if dropped else ''),
        'missing': f'{len(result.missing)} tensors' + (', filled in: counters of batches' if result.missing else ''),
    }
    if result.derived:
        lines['derived'] = f'{len(result.derived)} LSQ steps, from the weights'
    for name, value in lines.items():
        print(f'{name:<12} {value}')
    for note in result.notes:
        print(f'{"note":<12} {note}')
    print(f'{"wrote":<12} {args.dst}')
    if args.json:
        write_json(args.json, {'source': args.src, 'destination': args.dst, 'network': network, **figures})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('published_to_mm.py', lambda session: convert(args), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
