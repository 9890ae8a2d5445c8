"""Turn a folder of event recordings, of whatever format, into a data set of .npz files with lists to train on."""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/dataset_converters/events_to_npz.py recordings data/mine --window 50ms --stride 50ms --val 0.2
  python tools/dataset_converters/events_to_npz.py DvsGesture data/gesture --window 500ms --pattern '*.aedat'
  python tools/dataset_converters/events_to_npz.py one.raw data/one

Reads AEDAT 2.0, 3.1 and 4.0, Prophesee .raw (EVT 2.0, 2.1, 3.0) and .dat, N-MNIST .bin, HDF5, .npy, .npz and text, each
told by its content. The class of a recording is the folder that it lies in: SOURCE/CLASS/a.raw, or
SOURCE/{train,val,test}/CLASS/a.raw. A file a_labels.csv beside a.aedat (class,startTime_usec,endTime_usec) says which
parts of it are which class, as in DVS128 Gesture; the rest is left out.

Writes OUT/.../a.npz, with --window OUT/.../a_00000.npz and so on (the number times the stride is the time from the
start), the lists OUT/{train,val,test}.txt of lines "path label" for EventFiles, and meta.json. Recordings go whole
into one list, never some of their windows. Memory holds one window and one block of a file.

exit status: 0 done, 2 bad input, 130 interrupted
"""
SPLITS = ('train', 'val', 'test')
SHOWN = 5


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('events_to_npz.py', __doc__, EXAMPLE)
    parser.add_argument('source', type=Path, help='folder of recordings, or one recording')
    parser.add_argument('folder', type=Path, metavar='OUT', help='folder to make')
    parser.add_argument('--window', metavar='TIME', help='cut recordings into samples of 50ms, 0.5s, 2000us, ...')
    parser.add_argument('--stride', metavar='TIME', help='from one sample to the next (default: --window)')
    parser.add_argument(
        '--min-events', type=int, default=1, metavar='N', help='leave out samples of fewer (default: 1)'
    )
    parser.add_argument(
        '--val', type=float, metavar='SHARE', help='put this share of the recordings of each class into val'
    )
    parser.add_argument('--seed', type=int, default=0, help='which recordings go there (default: 0)')
    parser.add_argument('--pattern', metavar='GLOB', help='names of the recordings (default: what is known to be one)')
    parser.add_argument(
        '--sensor', metavar='HxW', help='size of the sensor (default: what files say, else the smallest)'
    )
    parser.add_argument(
        '--time-unit',
        choices=['s', 'ms', 'us', 'ns'],
        help='of text and arrays (default: s if broken numbers, else us)',
    )
    parser.add_argument('--keep-cut', action='store_true', help='read files that end within an event up to there')
    parser.add_argument(
        '--on-error',
        choices=['stop', 'skip'],
        default='stop',
        help='at a malformed file (default: stop, write nothing)',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a data set that this tool made')
    args = parser.parse_args(argv)
    from qsdt_mm.datasets.events.windows import duration

    for name in ('window', 'stride'):
        try:
            setattr(args, name, getattr(args, name) and duration(getattr(args, name)))
        except ValueError as error:
            parser.error(f'--{name}: {error}')
    if args.stride and not args.window:
        parser.error('--stride needs --window')
    args.stride = args.stride or args.window
    if args.min_events < 1:
        parser.error(f'--min-events must be at least 1, got {args.min_events}')
    if args.val is not None and not 0 < args.val < 1:
        parser.error(f'--val must be between 0 and 1, got {args.val}')
    if args.sensor is not None:
        sides = re.fullmatch(r'(\d{1,5})x(\d{1,5})', args.sensor)
        if not sides or '0' in sides.groups():
            parser.error(f'--sensor must be HEIGHTxWIDTH, got {args.sensor}')
        args.sensor = tuple(map(int, sides.groups()))
    return args


class Totals:
    """What has been written and left out."""

    def __init__(self) -> None:
        self.samples: dict[str, list[str]] = {split: [] for split in SPLITS}
        self.counts: list[int] = []
        self.size = (0, 0)
        self.said: set[tuple[int, int]] = set()
        self.formats: dict[str, int] = {}
        self.short = 0
        self.faults: list[str] = []


def convert_one(recording, args: argparse.Namespace, beside: Path, totals: Totals, progress) -> None:
    """Convert a recording and list its samples."""
    from qsdt_mm.datasets.events.readers.detection import open_events
    from qsdt_mm.datasets.events.windows import windows
    from qsdt_mm.datasets.events.writing import stream_npz, write_npz

    reader = open_events(recording.path, args.keep_cut)
    reader.time_unit = args.time_unit
    reader.sensor_size = args.sensor or reader.sensor_size
    lines, counts, sizes, short, written = [], [], [], 0, []

    def watched(blocks) -> Iterator:
        for block in blocks:
            progress(reader.position)
            yield block

    def note(path: Path, label: int | None, count: int, size: tuple[int, int]) -> None:
        counts.append(count)
        sizes.append(size)
        if label is not None:
            lines.append(f'{path.relative_to(beside).as_posix()} {label}')

    try:
        for part in recording.parts:
            base = beside / recording.target
            base = base.with_name(base.name + part.suffix)
            base.parent.mkdir(parents=True, exist_ok=True)
            if args.window is None:
                path = base.with_name(f'{base.name}.npz')
                written.append(path)
                if part.start is None:
                    count, size = stream_npz(path, watched(reader.events()))
                else:
                    events = reader.read(part.start, part.end)
                    write_npz(path, events)
                    count, size = len(events.t), events.sensor_size
                if count < args.min_events:
                    path.unlink()
                    short += 1
                else:
                    note(path, part.label, count, size)
                continue
            for window in watched(windows(reader, args.window, args.stride, part.start, part.end)):
                if len(window.events.t) < args.min_events:
                    short += 1
                    continue
                path = base.with_name(f'{base.name}_{window.number:05}.npz')
                written.append(path)
                write_npz(path, window.events)
                note(path, part.label, len(window.events.t), window.events.sensor_size)
    except BaseException:
        for path in written:
            path.unlink(missing_ok=True)
        raise
    totals.samples[recording.split] += lines
    totals.counts += counts
    totals.short += short
    totals.said.add(reader.sensor_size)
    totals.size = tuple(max(sides) for sides in zip(totals.size, *sizes)) if sizes else totals.size
    totals.formats[reader.FORMAT] = totals.formats.get(reader.FORMAT, 0) + 1


def convert(args: argparse.Namespace, session) -> None:
    """Find, read, write beside, then rename."""
    import rich.console
    import rich.progress

    from qsdt_mm.datasets.events.recordings import find_recordings
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.made_folders import made_folder

    out, tool = args.folder, Path(__file__).name
    if args.source.resolve() == out.resolve() or args.source.resolve().is_relative_to(out.resolve()):
        raise InputError(f'{args.source} lies in {out}, which would be replaced: name another folder')
    recordings, classes = find_recordings(args.source, args.pattern, args.val, args.seed)
    totals = Totals()
    columns = (*rich.progress.Progress.get_default_columns(), rich.progress.DownloadColumn())
    with (
        made_folder(out, tool, args.overwrite) as beside,
        rich.progress.Progress(*columns, console=rich.console.Console(stderr=True)) as bar,
    ):
        sizes = [recording.path.stat().st_size for recording in recordings]
        task, done = bar.add_task('recordings', total=sum(sizes)), 0
        for recording, size in zip(recordings, sizes):
            bar.update(task, description=recording.path.name[:30])
            try:
                convert_one(
                    recording,
                    args,
                    beside,
                    totals,
                    lambda at, done=done, size=size: bar.update(task, completed=done + min(at, size)),
                )
            except InputError as error:
                if args.on_error == 'stop':
                    raise
                totals.faults.append(str(error))
            done += size
            bar.update(task, completed=done)
        if not totals.counts:
            raise InputError(
                totals.faults[0] if totals.faults else f'{args.source}: no sample of {args.min_events} events or more'
            )
        size = args.sensor or tuple(max(sides) for sides in zip(*filter(None, totals.said), totals.size))
        for split, lines in totals.samples.items():
            if lines:
                (beside / f'{split}.txt').write_text('\n'.join(lines) + '\n', encoding='utf-8')
        meta = dict(
            made_by=tool,
            settings=dict(
                source=str(args.source),
                window_us=args.window,
                stride_us=args.stride,
                min_events=args.min_events,
                val=args.val,
                seed=args.seed,
            ),
            classes=classes,
            sensor_size=size,
            samples={split: len(lines) for split, lines in totals.samples.items() if lines},
            mean_events=sum(totals.counts) / len(totals.counts),
        )
        (beside / 'meta.json').write_text(json.dumps(meta, indent=2, ensure_ascii=False) + '\n', encoding='utf-8')
    report(args, totals, classes, size, len(recordings))


def report(args: argparse.Namespace, totals: Totals, classes: list[str], size: tuple[int, int], number: int) -> None:
    """Say what was made, and what a config needs to know of it."""
    counts = totals.counts
    formats = ', '.join(f'{count} {name}' for name, count in sorted(totals.formats.items()))
    print(f'read     {number - len(totals.faults)} of {number} recordings: {formats}')
    print(f'folder   {args.folder}')
    parts = ', '.join(f'{len(lines)} {split}' for split, lines in totals.samples.items() if lines)
    print(f'samples  {len(counts)}{f" ({parts})" if parts else ""}')
    print(f'events   {sum(counts) / len(counts):.0f} a sample, {min(counts)} to {max(counts)}')
    if totals.short:
        print(f'left out {totals.short} samples of fewer than {args.min_events} events')
    if totals.faults:
        print(f'left out {len(totals.faults)} malformed recordings: ' + '; '.join(totals.faults[:SHOWN]))
    if classes:
        print(f'in the config: sensor_size = {tuple(size)!r}, classes = {tuple(classes)!r}')
    else:
        print(f'sensor   {size[0]} x {size[1]}; no list: recordings in folders, one for each class, would have labels')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('events_to_npz.py', lambda session: convert(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
