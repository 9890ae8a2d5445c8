"""Names of the four fields of an event, as files call them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.errors import InputError

FIELDS = dict(
    t=('t', 'ts', 'time', 'times', 'timestamp', 'timestamps', 'time_stamp', 'time_stamps'),
    x=('x', 'xs'),
    y=('y', 'ys'),
    p=('p', 'ps', 'pol', 'pols', 'polarity', 'polarities'),
)
"""Names of fields, in small or capital letters; the first name goes before the others."""


def named(path: str | Path, names: Sequence[str], aliases: Sequence[str]) -> str | None:
    """Return which of the names stands for a field, None where there is none.

    Raises:
        InputError: several do equally well.
    """
    found = [name for name in names if name.casefold() in aliases]
    for wanted in (lambda name: name == aliases[0], lambda name: name.casefold() == aliases[0], lambda name: True):
        fitting = [name for name in found if wanted(name)]
        if len(fitting) > 1:
            raise InputError(f'{path} has both {" and ".join(fitting)}: expected one of them, or {aliases[0]}')
        if fitting:
            return fitting[0]
    return None
