"""Convert a published checkpoint into one for mmpretrain, mmdet or mmseg, and write a config that evaluates it."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/model_converters/published_to_mm.py published.pth converted.pth
  python tools/test.py converted.pth.py converted.pth
  python tools/model_converters/published_to_mm.py published.pth converted.pth --arch qsd-55m --json report.json
  python tools/model_converters/published_to_mm.py maskrcnn.pth to_train_on.pth --neck-max-spike-count 4

Takes classifiers (QSD, E-SpikeFormer, HAR-DVS), Mask R-CNN, Cascade Mask R-CNN, RetinaNet, Semantic FPN and Spike-MAE.
The network is recognised from the tensors. What leaves no trace there (heads, strides, bits, D, T, what a spike is
worth, the neck's D when tested) is as the released scripts set it unless options say otherwise; the report names it.
DST.py is a whole config with the released strides, means and rounding: --cfg-options test_dataloader.dataset... gives
it your data.

Of a Spike-MAE checkpoint the encoder is taken, without a config: fine-tuning starts from it with
backbone.init_cfg = dict(type='Pretrained', checkpoint=DST, prefix='backbone.'). The way back: published_from_mm.py.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('published_to_mm.py', __doc__, EXAMPLE)
    parser.add_argument('src', metavar='SRC', help='published checkpoint')
    parser.add_argument('dst', metavar='DST', help='file to write; the config is DST.py')
    parser.add_argument('--arch', metavar='PRESET', help='preset that the backbone must be, e.g. qsd-15m, e-83m')
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
        help='bits of a weight of the backbone (default: what SRC says, else 4 with LSQ steps, 32 without)',
    )
    parser.add_argument('--num-heads', type=int, metavar='N', help='attention heads (default: 8)')
    parser.add_argument(
        '--max-spike-count',
        type=int,
        metavar='D',
        help="D of the backbone's neurons (default: 4; 8 of the event network with state)",
    )
    parser.add_argument(
        '--neck-max-spike-count',
        type=int,
        metavar='D',
        help="D of a detector's neck: 1 as it is tested (default), 4 as it was trained",
    )
    parser.add_argument(
        '--spike-worth',
        type=float,
        metavar='X',
        help="what a spike is worth in a segmentor's neck and head (default: 0.25), in a network for events (default: "
        '1 without state, 1 / D with it)',
    )
    parser.add_argument(
        '--time-steps', type=int, metavar='T', help='T of a network for events (default: what SRC says, else 8)'
    )
    parser.add_argument(
        '--stateful',
        action=argparse.BooleanOptionalAction,
        help='whether a network for events carries membranes from frame to frame (default: only the one whose '
        'transformer blocks have no separable convolution)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace DST and DST.py if they exist')
    parser.add_argument('--json', metavar='FILE', help='write the report to a JSON file')
    return parser.parse_args(argv)


def convert(args: argparse.Namespace) -> None:
    """Convert, and say what became of every tensor."""
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.reports import write_json
    from qsdt_mm.published import config_path, convert_file

    config = config_path(args.dst)
    if args.json and (
        Path(args.json).is_dir()
        or Path(args.json).resolve() in (Path(args.src).resolve(), Path(args.dst).resolve(), config.resolve())
    ):
        raise InputError(f'--json {args.json} is a directory, or SRC, DST or DST.py')
    try:
        result = convert_file(
            args.src,
            args.dst,
            overwrite=args.overwrite,
            arch=args.arch,
            num_heads=args.num_heads,
            weight_bits=args.weight_bits,
            weights=args.weights,
            max_spike_count=args.max_spike_count,
            neck_max_spike_count=args.neck_max_spike_count,
            spike_worth=args.spike_worth,
            time_steps=args.time_steps,
            stateful=args.stateful,
        )
    except ValueError as error:  # an option out of range
        raise InputError(str(error)) from error
    network, figures = result.meta(Path(args.src).name), result.report()
    dropped = ', '.join(f'{count} {kind}' for kind, count in result.dropped.items())
    shown = ('family', 'arch', 'in_channels', 'num_classes', 'weight_bits', 'rounding')
    lines = {'kind': result.kind, **{name: network[name] for name in shown}}
    if result.num_classes is None:
        lines['num_classes'] = 'none: the encoder of Spike-MAE'
    lines |= {
        'matched': f'{result.matched} tensors',
        'dropped': f'{sum(result.dropped.values())} tensors' + (f' ({dropped})' if dropped else ''),
        'missing': f'{len(result.missing)} tensors' + (', filled in: counters of batches' if result.missing else ''),
    }
    if result.derived:
        lines['derived'] = f'{len(result.derived)} LSQ steps, from the weights'
    if result.folded:
        lines['folded'] = f'{len(result.folded)} tensors, into those of the next layer or norm'
    for name, value in lines.items():
        print(f'{name:<12} {value}')
    for note in result.notes:
        print(f'{"note":<12} {note}')
    print(f'{"wrote":<12} {args.dst}')
    print(f'{"config":<12} {config if result.kind != "encoder" else "none: an encoder has nothing to evaluate"}')
    if args.json:
        write_json(args.json, {'source': args.src, 'destination': args.dst, 'network': network, **figures})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('published_to_mm.py', lambda session: convert(args), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
