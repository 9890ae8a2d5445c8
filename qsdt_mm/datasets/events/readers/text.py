"""Text files of events, one a line: ``t x y p`` (also ``x y t p``, ``x y p t``, or columns with names)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events, Reader, fault
from .columns import guess_order, time_unit, to_events
from .fields import FIELDS, named

LINES = 1 << 15  # read at a time
LONGEST_LINE = 1 << 10
SEPARATORS = re.compile(r'[,;\s]+')


class TextReader(Reader):
    """Reads ``.txt`` and ``.csv``: columns with commas, semicolons, tabs or spaces between them, comments after # or %.

    A first line of names says which column is which; one of two whole numbers, or a comment ``geometry WIDTHxHEIGHT``,
    is the sensor's width and height. Times that are no whole numbers are seconds, others microseconds.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, 'a.csv').write_text('x,y,p,t' + chr(10) + '3,0,1,500' + chr(10) + '1,2,0,900')
    ...     TextReader(f'{folder}/a.csv').read().t.tolist()
    [500, 900]
    """

    FORMAT = 'text'

    def __init__(self, path: str | Path, keep_cut: bool = False) -> None:
        super().__init__(path, None, keep_cut)
        self.names: list[str] | None = None
        self.skipped, offset = 0, 0
        with open(path, 'rb') as file:
            for number in range(200):
                line = file.readline(LONGEST_LINE + 1)
                if len(line) > LONGEST_LINE:
                    raise fault(path, offset, f'line {number + 1} has over {LONGEST_LINE} characters')
                text = line.decode('utf-8-sig', 'replace').strip()
                words = [word.strip('"\'') for word in SEPARATORS.split(text) if word]
                if text.startswith(('#', '%')) or not words:
                    self._remark(text)
                elif not re.match(r'[-+.\d]', words[0]) and self.names is None:
                    if not all(named(path, words, aliases) for aliases in FIELDS.values()):
                        reason = f'line {number + 1} is no event, nor does it name columns t, x, y, p'
                        raise fault(path, offset, reason)
                    self.names = words
                elif len(words) == 2 and self.sensor_size is None and all(word.isdecimal() for word in words):
                    self._size(int(words[0][:9]), int(words[1][:9]))
                else:
                    break
                if not line:
                    break
                offset, self.skipped = offset + len(line), number + 1
        self.offset = offset

    def _size(self, width: int, height: int) -> None:
        if not (0 < width < 1 << 16 and 0 < height < 1 << 16):
            raise fault(self.path, 0, f'a sensor of {width} x {height}')
        self.sensor_size = (height, width)

    def _remark(self, text: str) -> None:
        found = re.search(r'geometry[:\s]+(\d{1,9})\s*[x,]\s*(\d{1,9})', text)
        if found:
            self._size(int(found[1]), int(found[2]))
        words = [word for word in SEPARATORS.split(text.lstrip('#% ')) if word]
        if self.names is None and len(words) >= 4 and all(named(self.path, words, alias) for alias in FIELDS.values()):
            self.names = words  # names in a comment

    def blocks(self, start: int | None = None, end: int | None = None) -> Iterator[Events]:
        """Yield events."""
        order, unit, first = None, self.time_unit, 0
        for rows in self._tables():
            order = order or self._order(rows)
            parts = {key: rows[:, index] for key, index in order.items()}
            unit = unit or time_unit(parts['t'])
            yield to_events(self.path, parts, unit, first)
            first += len(rows)

    def _order(self, rows: np.ndarray) -> dict[str, int]:
        if self.names is not None:
            found = {key: named(self.path, self.names, aliases) for key, aliases in FIELDS.items()}
            if len(self.names) != rows.shape[1]:
                names = ', '.join(self.names)[:200]
                raise fault(self.path, self.offset, f'lines of {rows.shape[1]} numbers under the names {names}')
            return {key: self.names.index(name) for key, name in found.items()}
        if rows.shape[1] != 4:
            raise fault(self.path, self.offset, f'{rows.shape[1]} columns without names: expected t x y p')
        order = guess_order(self.path, rows.T)
        return {key: order.index(key) for key in order}

    def _tables(self) -> Iterator[np.ndarray]:
        """Yield the numbers of each block of lines."""
        with open(self.path, 'rb') as file:
            file.seek(self.offset)
            line, offset = self.skipped + 1, self.offset
            while lines := list(islice(iter(lambda: file.readline(LONGEST_LINE + 1), b''), LINES)):
                data = b''.join(lines)
                text = data.translate(bytes.maketrans(b',;\t\r', b'    '))
                if b'#' in text or b'%' in text:
                    lines = [one for one in text.splitlines() if one.strip() and one.strip()[:1] not in b'#%']
                else:
                    lines = text.splitlines()
                try:
                    if any(len(one) > LONGEST_LINE for one in lines):
                        raise ValueError('a line is too long')
                    text_lines = [one for one in (raw.decode('ascii') for raw in lines) if not one.isspace() and one]
                    rows = np.loadtxt(text_lines, np.float64, comments=None, ndmin=2) if text_lines else None
                except (ValueError, UnicodeDecodeError) as error:
                    raise self._fault(data, line, offset) from error
                if rows is not None:
                    yield rows
                line, offset = line + data.count(b'\n'), offset + len(data)
                self.position = offset

    def _fault(self, data: bytes, line: int, offset: int) -> InputError:
        """Return the error that names the first line that is no event."""
        width = None
        for raw in data.split(b'\n'):
            text = raw.decode('ascii', 'replace').strip()
            words = [word for word in SEPARATORS.split(text) if word]
            if words and not text.startswith(('#', '%')):
                try:
                    [float(word) for word in words]
                    good = width in (None, len(words)) and len(raw) <= LONGEST_LINE
                except ValueError:
                    good = False
                if not good:
                    return fault(self.path, offset, f'line {line} is no event: {text[:60]!r}')
                width = len(words)
            line, offset = line + 1, offset + len(raw) + 1
        return fault(self.path, offset, 'the text cannot be read')
