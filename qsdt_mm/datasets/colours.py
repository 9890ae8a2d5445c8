"""Label images of colours, as people draw them, turned into maps of class numbers."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from qsdt_mm.errors import InputError

Colour = tuple[int, int, int]
NOWHERE = 65535  # in tables of labels: a colour that the palette does not have


class Entry:
    """A class of a palette.

    Args:
        name: of the class.
        colour: red, green, blue, 0 to 255.
        label: its number.

    >>> print(Entry('road', (128, 64, 128), label=0))
    road 128 64 128
    """

    def __init__(self, name: str, colour: Colour, label: int) -> None:
        self.name, self.colour, self.label = name, colour, label

    def __str__(self) -> str:
        return f'{self.name} {" ".join(map(str, self.colour))}'


def parse_palette(lines: Iterable[str], where: str, void: Sequence[str] = (), void_label: int = 255) -> list[Entry]:
    """Read lines ``name r g b``, also ``r g b name``, ``number name r g b``, with commas, or ``name #rrggbb``.

    Labels count the lines from 0, without those to ignore; a number in front of the name says the label itself. Empty
    lines, lines that begin with ``#`` and a first line without numbers are left out.

    Args:
        lines: the lines.
        where: their file, for messages.
        void: names of classes to ignore.
        void_label: the label of these.

    Raises:
        InputError: a line cannot be read, two have the same colour, or a name of ``void`` is not there.
    """
    entries: list[Entry] = []
    first = True
    for number, line in enumerate(lines, 1):
        place, text = f'{where}, line {number}', line.strip()
        if not text or text.startswith('# ') or text == '#':
            continue
        hexed = re.search(r'#([0-9a-fA-F]{6})\b', text)
        if hexed:
            text = text.replace(hexed[0], ' '.join(str(int(hexed[1][i : i + 2], 16)) for i in (0, 2, 4)))
        words = [word for word in re.split(r'[\s,;:()\[\]]+', text) if word]
        numeric = [i for i, word in enumerate(words) if re.fullmatch(r'\d+', word)]
        header, first = first and not numeric, False
        if header:
            continue
        own = None
        if len(numeric) == 4 and numeric[0] == 0 and numeric[1] > 1:  # a number, the name, a colour
            own, words, numeric = int(words[0]), words[1:], [i - 1 for i in numeric[1:]]
        if len(numeric) > 3 and 0 not in numeric:  # the name has numbers too
            numeric = numeric[-3:]
        if len(numeric) != 3 or numeric[2] - numeric[0] != 2 or len(words) < 4:
            raise InputError(f'{place}: expected "name r g b", got {line.strip()[:60]!r}')
        colour = tuple(int(words[i]) for i in numeric)
        name = '_'.join(word for i, word in enumerate(words) if i not in numeric)
        if max(colour) > 255 or (own or 0) > 255:
            raise InputError(f'{place}: {max(*colour, own or 0)} is not allowed: expected 0 to 255')
        twin = next((entry for entry in entries if entry.colour == colour), None)
        if twin:
            raise InputError(f'{place}: {name} has the colour {colour}, which {twin.name} has too')
        counted = sum(entry.name not in void for entry in entries)
        entries.append(Entry(name, colour, void_label if name in void else counted if own is None else own))
    if not entries:
        raise InputError(f'{where} has no colour: expected lines "name r g b"')
    absent = [name for name in void if name not in {entry.name for entry in entries}]
    if absent:
        raise InputError(f'{where} has no class {absent[0]!r}, which is to be ignored')
    clash = next((e for e in entries if e.name not in void and e.label == void_label), None) if void else None
    if clash or max(entry.label for entry in entries) > 255:
        raise InputError(f'{where}: too many classes for labels of one byte and {void_label} for pixels to ignore')
    return entries


def codes_of(path: Path) -> np.ndarray:
    """Return the colours of an image as numbers ``65536 r + 256 g + b``, ``(H, W)``; what is transparent has one too.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with Image.open(path) as image:
            values = np.array(image.convert('RGB'))
    except Exception as error:
        raise InputError(f'{path} cannot be read ({" ".join(str(error).split())[:80]})') from error
    return (values.astype(np.uint32) * np.array([65536, 256, 1], np.uint32)).sum(-1, dtype=np.uint32)


def colour_of(code: int) -> Colour:
    """Return red, green and blue of a number of :func:`codes_of`."""
    return int(code) >> 16, int(code) >> 8 & 255, int(code) & 255


def table_of(entries: Sequence[Entry]) -> np.ndarray:
    """Return the label of each of the 2^24 colours, ``NOWHERE`` for those that the palette does not have."""
    table = np.full(1 << 24, NOWHERE, np.uint16)
    for entry in entries:
        red, green, blue = entry.colour
        table[red << 16 | green << 8 | blue] = entry.label
    return table


def nearest(codes: np.ndarray, entries: Sequence[Entry]) -> np.ndarray:
    """Return the labels of the colours of a palette that are nearest to some, by the sum of squares."""
    colours = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], -1).astype(np.int64)
    known = np.array([entry.colour for entry in entries])
    return np.array([entry.label for entry in entries])[((colours[:, None] - known) ** 2).sum(-1).argmin(1)]


def find_palette(paths: Sequence[Path], most: int = 256) -> list[Entry]:
    """Return the colours of images in order, red first, as classes ``colour_0``, ``colour_1``, ...

    Raises:
        InputError: there are more than ``most``.
    """
    found: Counter = Counter()
    for path in paths:
        found.update(dict(zip(*map(np.ndarray.tolist, np.unique(codes_of(path), return_counts=True)))))
        if len(found) > most:
            raise InputError(
                f'{path} and those before have {len(found)} colours, more than {most}: these are no label images, or '
                'were saved as jpg or with soft edges; give the palette, and --unknown nearest'
            )
    return [Entry(f'colour_{label}', colour_of(code), label) for label, code in enumerate(sorted(found))]
