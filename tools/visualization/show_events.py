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

Takes events (arrays t, x, y, p, or one structured array) and ready-made frames (array frames, T x 2 x H x W). Writes
FILE_events.png and FILE_frames.gif. Red: brighter, blue: darker.

exit status: 0 done, 2 bad input, 130 interrupted
"""
MOST_POINTS = 20_000  # in the picture
VIDEO_SIDE = 320  # of the video, in pixels, at least


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('show_events.py', __doc__, EXAMPLE)
    parser.add_argument('file', help='npz file')
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
    """Events or None, and frames."""
    import numpy as np

    from qsdt_mm.datasets.events.files import read_events, read_frames
    from qsdt_mm.datasets.events.transforms import frames_of
    from qsdt_mm.errors import InputError

    try:
        with np.load(args.file, allow_pickle=False) as archive:
            ready = 'frames' in archive.files
    except Exception:  # what is wrong is said below
        ready = False
    if ready:
        return None, read_frames(args.file)
    events = read_events(args.file, args.sensor)
    size = args.sensor or events.sensor_size
    if size[0] * size[1] * args.num_frames > 2**28:
        raise InputError(f'{args.file}: {args.num_frames} frames of {size[0]} x {size[1]} are too many to draw')
    return events, frames_of(events, args.num_frames, args.split_by, size, size)


def draw(events, frames, args: argparse.Namespace, path: Path) -> None:
    """Draw events in time and space, and the frames."""
    from qsdt_mm.visualization.figures import event_picture, new_figure, save_figure

    columns = min(len(frames), 8)
    rows = -(-len(frames) // columns)
    figure = new_figure(1.6 * columns + 2, 1.7 * rows + (4 if events else 0.5))
    upper, lower = figure.subfigures(2, 1, height_ratios=(3.5, 1.7 * rows)) if events else (None, figure)
    if events:
        step = -(-len(events.t) // MOST_POINTS)
        shown = [values[::step] for values in events]
        colours = ['#b2182b' if p else '#2166ac' for p in shown[3]]
        height, width = frames.shape[-2:]
        for axes, values, what, side in zip(upper.subplots(1, 2), shown[1:3], ('column x', 'row y'), (width, height)):
            axes.scatter(shown[0], values, s=2, c=colours, linewidths=0)
            axes.set(xlabel='time t', ylabel=what, ylim=(-0.5, side - 0.5))
            axes.spines[['top', 'right']].set_visible(False)
        upper.suptitle(f'{len(events.t):,} events' + (f', one in {step} drawn' if step > 1 else ''), fontsize=10)
    most = frames.max()
    for i, axes in enumerate(lower.subplots(rows, columns, squeeze=False).flat):
        axes.set(xticks=[], yticks=[])
        axes.set_visible(i < len(frames))
        if i < len(frames):
            axes.imshow(event_picture(frames[i], most), interpolation='nearest')
            axes.set_title(f'{i + 1}: {frames[i].sum():,.0f}', fontsize=8)
    save_figure(figure, path)


def write_video(frames, args: argparse.Namespace, path: Path) -> None:
    """Write the frames one after the other."""
    from PIL import Image

    from qsdt_mm.fileio.atomic import atomic_open
    from qsdt_mm.visualization.figures import event_picture

    height, width = frames.shape[-2:]
    scale = max(1, -(-VIDEO_SIDE // max(height, width)))
    pictures = [
        Image.fromarray((event_picture(frame, frames.max()) * 255).astype('uint8')).resize(
            (width * scale, height * scale), Image.Resampling.NEAREST
        )
        for frame in frames
    ]
    with atomic_open(path) as file:
        pictures[0].save(
            file, format='GIF', save_all=True, append_images=pictures[1:], duration=round(1000 / args.fps), loop=0
        )


def show(args: argparse.Namespace, session) -> None:
    """Read, draw, and say what is there."""
    events, frames = read(args)
    stem, out = Path(args.file).stem, Path(args.out_dir)
    picture, moving = out / f'{stem}_events.png', out / f'{stem}_frames.gif'
    draw(events, frames, args, picture)
    write_video(frames, args, moving)
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
