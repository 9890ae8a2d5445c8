"""Recordings in folders: which files they are, which class and part each belongs to."""

from __future__ import annotations

import csv
import random
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from qsdt_mm.errors import InputError, why_no_file

from .files import natural
from .readers.detection import SUFFIXES

SPLITS = ('train', 'val', 'test')
TEXTS = ('.txt', '.csv')
LABELS = '_labels.csv'


class Part(NamedTuple):
    """A part of a recording with a label.

    Args:
        label: number of the class, None where there is none.
        start, end: microseconds, None: all of it.
        suffix: what tells its files from those of other parts.

    >>> Part(label=3).start is None
    True
    """

    label: int | None
    start: int | None = None
    end: int | None = None
    suffix: str = ''


class Recording(NamedTuple):
    """A file of events, and what is to become of it.

    Args:
        path: the file.
        target: where its samples go, below the data set's folder, without suffix.
        split: train, val or test.
        parts: which of it has which label.

    >>> Recording(Path('a/left/1.raw'), Path('left/1'), 'train', [Part(0)]).split
    'train'
    """

    path: Path
    target: Path
    split: str
    parts: Sequence[Part]


def read_labels(path: Path) -> list[tuple[int, int, int]]:
    """Return (class, start, end) of each line of ``class,startTime_usec,endTime_usec``, as in DVS128 Gesture.

    Raises:
        InputError: the file cannot be read, or a line is none; the line is named.
    """
    absent = why_no_file(path)
    if absent:
        raise InputError(f'{path} {absent}')
    found = []
    try:
        with open(path, encoding='utf-8-sig', newline='') as file:
            for number, row in enumerate(csv.reader(file), 1):
                cells = [cell.strip() for cell in row if cell.strip()]
                if not cells or number == 1 and not cells[0].isdecimal():
                    continue
                if len(cells) < 3 or not all(cell.isdecimal() and len(cell) < 19 for cell in cells[:3]):
                    raise InputError(
                        f'{path}, line {number}: expected class,start,end in microseconds, got {row!r:.80}'
                    )
                label, start, end = map(int, cells[:3])
                if start >= end:
                    raise InputError(f'{path}, line {number}: a part from {start} to {end} us')
                found.append((label, start, end))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f'{path} is no table ({error})') from error
    if not found:
        raise InputError(f'{path} lists no part')
    return found


def find_files(source: Path, pattern: str | None) -> list[Path]:
    """Return the recordings in a folder and those below it, numbers in names as numbers; hidden ones are not.

    Raises:
        InputError: there is none.
    """
    absent = why_no_file(source, folder=not source.is_file())
    if absent:
        raise InputError(f'{source} {absent}')
    if source.is_file():
        return [source]
    files = [
        path
        for path in source.rglob(pattern or '*')
        if path.is_file()
        and not any(part.startswith('.') for part in path.relative_to(source).parts)
        and not path.name.endswith(LABELS)
        and (pattern or path.suffix.lower() in SUFFIXES)
    ]
    if pattern is None and any(path.suffix.lower() not in TEXTS for path in files):
        files = [path for path in files if path.suffix.lower() not in TEXTS]  # lists and notes beside recordings
    if not files:
        raise InputError(f'{source} holds no {pattern or "recording: " + ", ".join(SUFFIXES)}')
    return sorted(files, key=lambda path: [natural(part) for part in path.relative_to(source).parts])


def find_recordings(
    source: Path, pattern: str | None = None, val: float | None = None, seed: int = 0
) -> tuple[list[Recording], list[str]]:
    """Return the recordings of a folder with their labels and parts, and the names of the classes.

    Args:
        source: a folder, or one recording.
        pattern: names of the recordings; None: those of known suffixes.
        val: share of the recordings of each class that go into val.
        seed: which those are.

    Raises:
        InputError: there is none, names clash, or labels are malformed.
    """
    files = find_files(source, pattern)
    root = source.parent if source.is_file() else source
    below = {path: path.relative_to(root) for path in files}
    split_of = {path: name.parts[0].lower() if len(name.parts) > 1 else '' for path, name in below.items()}
    given = set(split_of.values()) <= set(SPLITS)
    if given and val is not None:
        raise InputError(
            f'{source} is divided into {", ".join(sorted(set(split_of.values())))}: --val divides it again'
        )
    targets: dict[Path, Path] = {}
    for path in files:
        other = targets.setdefault(below[path].with_suffix(''), path)
        if other != path:
            raise InputError(f'{other} and {path} would both become {below[path].stem}.npz: choose with --pattern')
    tables = {path: path.with_name(path.stem + LABELS) for path in files}
    tables = {path: read_labels(table) for path, table in tables.items() if table.is_file()}
    if tables:
        without = [path for path in files if path not in tables]
        if without:
            raise InputError(f'{without[0]} has no {without[0].stem}{LABELS}, and {next(iter(tables))} has one')
        numbers = sorted({label for rows in tables.values() for label, _, _ in rows})
        classes = [str(number) for number in numbers]
        kind = dict.fromkeys(files, 0)
        parts = {
            path: [
                Part(numbers.index(label), start, end, f'_{i:02}') for i, (label, start, end) in enumerate(tables[path])
            ]
            for path in files
        }
    else:
        folders = {path: below[path].parts[given:-1] for path in files}
        flat = [path for path, names in folders.items() if not names]
        if flat and len(flat) < len(files):
            raise InputError(f'{flat[0]} lies in no folder of a class, others do')
        classes = sorted({names[0] for names in folders.values() if names}, key=natural)
        kind = {path: classes.index(names[0]) if names else None for path, names in folders.items()}
        parts = {path: [Part(kind[path])] for path in files}
    chosen = split_of if given else divided(files, kind, val, seed)
    return [Recording(path, below[path].with_suffix(''), chosen[path], parts[path]) for path in files], classes


def divided(files: Sequence[Path], kind: dict[Path, int | None], val: float | None, seed: int) -> dict[Path, str]:
    """Return train or val for each recording: of each class with two or more at least one goes into each part."""
    chosen = dict.fromkeys(files, 'train')
    for label in sorted(set(kind.values()), key=str) if val is not None else ():
        those = [path for path in files if kind[path] == label]
        number = min(max(round(val * len(those)), 1), len(those) - 1)
        for path in random.Random(f'{seed} {label}').sample(those, number):
            chosen[path] = 'val'
    return chosen
