"""Make a data set of events: scikit-learn's digits moved before a simulated event camera.

Two tasks: which digit it is, and in which direction it moves. No single frame of all events tells the direction.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/dataset_converters/make_moving_digits_events.py
  python tools/dataset_converters/make_moving_digits_events.py data/moving_digits_8 --directions 8 --train 6000 --seed 1

Writes {train,val}/NUMBER.npz (arrays t in microseconds, x, y, p), the lists {train,val}_{digit,direction}.txt of lines
"path label", and meta.json. Digits of the two parts are different ones.

exit status: 0 done, 2 bad input, 130 interrupted
"""
SPLITS = {'train': 'train', 'val': 'test'}  # and the digits they are made of


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('make_moving_digits_events.py', __doc__, EXAMPLE)
    parser.add_argument('out', nargs='?', default='data/moving_digits', metavar='DIR', help='folder to make')
    parser.add_argument('--train', type=int, default=3000, metavar='N', help='samples to train on (default: 3000)')
    parser.add_argument('--val', type=int, default=400, metavar='N', help='samples to validate on (default: 400)')
    parser.add_argument('--directions', type=int, choices=[4, 8], default=4, help='of motion (default: 4)')
    parser.add_argument('--size', type=int, default=32, metavar='PX', help='side of the sensor (default: 32)')
    parser.add_argument('--digit', type=int, default=14, metavar='PX', help='side of a digit (default: 14)')
    parser.add_argument('--path', choices=['wavy', 'straight'], default='wavy', help='of a digit (default: wavy)')
    parser.add_argument('--contrast', type=float, default=0.6, help='of a digit, in log intensity (default: 0.6)')
    parser.add_argument('--threshold', type=float, default=0.25, help='of the camera, likewise (default: 0.25)')
    parser.add_argument('--noise', type=float, default=0.5, help='false events a pixel and second (default: 0.5)')
    parser.add_argument('--seed', type=int, default=0, help='of the random numbers (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace a data set that this tool made')
    args = parser.parse_args(argv)
    for name, least in (('train', 1), ('val', 1), ('size', 16), ('digit', 8), ('seed', 0)):
        if getattr(args, name) < least:
            parser.error(f'--{name} must be at least {least}, got {getattr(args, name)}')
    if args.size > 256:
        parser.error(f'--size must be at most 256, got {args.size}')
    if args.digit > args.size:
        parser.error(f'--digit {args.digit} does not fit --size {args.size}')
    for name in ('contrast', 'threshold'):
        if not 0 < getattr(args, name) < float('inf'):
            parser.error(f'--{name} must be above 0, got {getattr(args, name)}')
    if not 0 <= args.noise < float('inf'):
        parser.error(f'--noise must be 0 or more, got {args.noise}')
    return args


def write_split(folder: Path, split: str, args: argparse.Namespace, progress) -> list[int]:
    """Write one part; return the numbers of events of its samples."""
    import cv2
    import numpy as np

    from qsdt_mm.datasets.digits import Digits
    from qsdt_mm.datasets.events.moving_digits import draw_path, moving_digit

    digits = Digits(SPLITS[split])
    count = getattr(args, split)
    rng = np.random.default_rng([args.seed, list(SPLITS).index(split)])
    order = np.concatenate([rng.permutation(len(digits)) for _ in range(-(-count // len(digits)))])
    (folder / split).mkdir()
    numbers, lists = [], {'digit': [], 'direction': []}
    for i, chosen in zip(progress(range(count), split), order):
        digit = digits.get_data_info(int(chosen))
        side = (args.digit, args.digit)
        picture = cv2.resize(digit['img'][..., 0] / 240.0, side, interpolation=cv2.INTER_CUBIC).clip(0, 1)
        labels = dict(digit=digit['gt_label'], direction=i % args.directions)
        path = draw_path(
            rng, labels['direction'], args.directions, args.size, wobble=1.0 if args.path == 'wavy' else 0.0
        )
        bright = bool(rng.integers(2))
        events = moving_digit(picture, path, bright, rng, args.size, args.contrast, args.threshold, args.noise)
        if not len(events.t):
            from qsdt_mm.errors import InputError

            raise InputError(f'--contrast {args.contrast} with --threshold {args.threshold} fires no event')
        name = f'{split}/{i:05}.npz'
        np.savez_compressed(
            folder / name,
            t=events.t.astype(np.uint32),
            x=events.x.astype(np.uint8),
            y=events.y.astype(np.uint8),
            p=events.p.astype(np.uint8),
        )
        numbers.append(len(events.t))
        for task, lines in lists.items():
            lines.append(f'{name} {labels[task]}\n')
    for task, lines in lists.items():
        (folder / f'{split}_{task}.txt').write_text(''.join(lines), encoding='utf-8')
    return numbers


def make(args: argparse.Namespace, session) -> None:
    """Write beside, then rename."""
    import rich.console
    import rich.progress

    from qsdt_mm.datasets.events.moving_digits import DIRECTIONS
    from qsdt_mm.fileio.made_folders import made_folder

    out, console = Path(args.out), rich.console.Console(stderr=True)

    def progress(items, split):
        return rich.progress.track(items, description=split, console=console)

    with made_folder(out, Path(__file__).name, args.overwrite) as beside:
        numbers = {split: write_split(beside, split, args, progress) for split in SPLITS}
        settings = {key: value for key, value in vars(args).items() if key not in ('out', 'overwrite', 'traceback')}
        mean = sum(map(sum, numbers.values())) / sum(map(len, numbers.values()))
        meta = dict(
            made_by=Path(__file__).name,
            settings=settings,
            classes=dict(digit=list('0123456789'), direction=list(DIRECTIONS[args.directions])),
            mean_events=mean,
        )
        (beside / 'meta.json').write_text(json.dumps(meta, indent=2) + '\n', encoding='utf-8')
    size = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    lines = {
        'folder': f'{out} ({size / 1e6:.1f} MB)',
        'samples': ', '.join(f'{len(n)} {split}' for split, n in numbers.items()),
        'sensor': f'{args.size} x {args.size}',
        'events': f'{mean:.0f} a sample, {min(map(min, numbers.values()))} to {max(map(max, numbers.values()))}',
        'tasks': f'digit (10 classes), direction ({args.directions}: {", ".join(DIRECTIONS[args.directions])})',
        'seed': args.seed,
    }
    for name, value in lines.items():
        print(f'{name:<8} {value}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('make_moving_digits_events.py', lambda session: make(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
