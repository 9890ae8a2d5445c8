"""Draw a file of events: a picture of them and of the frames made of them, and a video of the frames."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/visualization/show_events.py data/moving_digits/val/00000.npz
  python tools/visualization/show_events.py FILE.npz --sensor 128x128 --num-frames 16 --split-by number

Takes events in any format that is read and ready-made frames (npz, array frames, T x 2 x H x W). Writes
FILE_events.png and FILE_frames.gif. Red: brighter, blue: darker.

exit status: 0 done, 2 bad input, 130 interrupted
"""


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('show_events.py', __doc__, EXAMPLE)
    parser.add_argument('file', help='file of events, or of frames')
    parser.add_argument('--num-frames', type=int, default=8, metavar='T', help='frames to make (default: 8)')
    parser.add_argument('--split-by', choices=['time', 'number'], default='time', help='(default: time)')
    parser.add_argument('--sensor', metavar='HxW', help='size of the sensor (default: the smallest that fits)')
    parser.add_argument('--fps', type=float, default=4, help='frames of the video a second (default: 4)')
    parser.add_argument('--out-dir', default='.', metavar='DIR', help='where the pictures go (default: here)')
    args = parser.parse_args(argv)
    if args.sensor is not None:
        sides = re.fullmatch(r'(\d+)x(\d+)', args.sensor)
        if not sides or '0' in sides.groups():
            parser.error(f'--sensor must be HEIGHTxWIDTH, got {args.sensor}')
        args.sensor = tuple(map(int, sides.groups()))
    if args.num_frames < 1:
        parser.error(f'--num-frames must be at least 1, got {args.num_frames}')
    if not 0.1 <= args.fps <= 50:
        parser.error(f'--fps must be 0.1 to 50, got {args.fps:g}')
    return args


def read(args: argparse.Namespace):
    """Read events, None where there are none, and frames."""
    from qsdt_mm.datasets.events.files import holds_frames, read_events, read_frames, sensor_size_of
    from qsdt_mm.datasets.events.transforms import frames_of
    from qsdt_mm.errors import InputError

    if holds_frames(args.file):
        return None, read_frames(args.file)
    size = args.sensor or sensor_size_of(args.file)
    events = read_events(args.file, size)
    size = size or events.sensor_size
    if size[0] * size[1] * args.num_frames > 2**28:
        raise InputError(f'{args.file}: {args.num_frames} frames of {size[0]} x {size[1]} are too many to draw')
    return events, frames_of(events, args.num_frames, args.split_by, size, size)


def show(args: argparse.Namespace, session) -> None:
    """Read, draw, and say what is there."""
    from qsdt_mm.visualization.events import draw_events, write_video

    events, frames = read(args)
    stem, out = Path(args.file).stem, Path(args.out_dir)
    picture, moving = out / f'{stem}_events.png', out / f'{stem}_frames.gif'
    draw_events(events, frames, picture)
    write_video(frames, args.fps, moving)
    lines = {}
    if events:
        on = int(events.p.sum())
        lines['events'] = f'{len(events.t):,}: {on:,} brighter, {len(events.t) - on:,} darker'
        lines['time'] = f'{events.t[0]} to {events.t[-1]}'
    lines['sensor'] = '{} x {}'.format(*frames.shape[-2:])
    lines['frames'] = f'{len(frames)}, {", ".join(f"{frame.sum():,.0f}" for frame in frames[:16])} events' + (
        ' ...' if len(frames) > 16 else ''
    )
    lines |= {'picture': picture, 'video': moving}
    for name, value in lines.items():
        print(f'{name:<8} {value}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('show_events.py', lambda session: show(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
