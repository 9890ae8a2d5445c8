"""From columns of numbers, as arrays and text files hold them, to checked events in microseconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from qsdt_mm.errors import InputError

from .base import Events

ORDERS = ('txyp', 'xytp', 'xypt')  # of four columns without names, as data sets have them
UNITS = dict(s=1_000_000.0, ms=1_000.0, us=1.0, ns=0.001)
FARTHEST = 1 << 62  # microseconds
WIDEST = 1 << 16  # pixels


def guess_order(path: str | Path, columns: Sequence[np.ndarray]) -> str:
    """Return which of four columns is t, x, y and p: the first of ``ORDERS`` that fits.

    Polarity is 0, 1 or -1; places are whole numbers of 0 or more; time does not go back, and goes on for at least 1 %
    of what it would in another order that fits.

    Raises:
        InputError: they fit none.
    """
    fitting = {}
    for order in ORDERS:
        part = dict(zip(order, columns))
        back = np.diff(part['t']) < 0
        if (
            np.isin(part['p'], (-1, 0, 1)).all()
            and back.sum() <= 0.01 * len(back)
            and all(((part[name] >= 0) & (part[name] == np.floor(part[name]))).all() for name in 'xy')
        ):
            fitting[order] = float(part['t'][-1]) - float(part['t'][0])
    if fitting:
        return next(order for order, span in fitting.items() if span >= 0.01 * max(fitting.values()))
    shown = ', '.join(f'{column[0]:g}' for column in columns)
    raise InputError(
        f'{path}: which column is time and which polarity (0 and 1, or -1 and 1)? The first event is {shown}; columns '
        f'without names are read as {", ".join(" ".join(order) for order in ORDERS)}'
    )


def time_unit(times: np.ndarray) -> str:
    """Return the unit of time stamps: their own where they are of numpy's time types, s of broken numbers, else us."""
    if times.dtype.kind in 'mM':
        return 'own'
    return 's' if times.dtype.kind == 'f' and (times != np.floor(times)).any() else 'us'


def to_events(path: str | Path, fields: Mapping[str, np.ndarray], unit: str, first: int = 0) -> Events:
    """Return events with times in microseconds.

    Args:
        path: the file, for messages.
        fields: t, x, y and p, ``(N,)`` each.
        unit: of time, one of ``UNITS`` or 'own'.
        first: number of the first of these events in the file.

    Raises:
        InputError: numbers make no events.
    """
    t = fields['t']
    if unit == 'own':
        if np.isnat(t).any():
            raise InputError(f'{path}: time stamps must be finite numbers')
        t = t.astype(f'{t.dtype.kind}8[us]' if np.datetime_data(t.dtype)[0] != 'generic' else np.int64).astype(np.int64)
    else:
        if t.dtype.kind not in 'iuf' or not np.isfinite(t).all():
            raise InputError(f'{path}: time stamps must be finite numbers')
        if len(t) and (t.max() > FARTHEST / UNITS[unit] or t.min() < -FARTHEST / UNITS[unit]):
            raise InputError(f'{path}: a time stamp of {t.max():g} {unit} is too far away')
        if t.dtype.kind == 'f' or unit not in ('us',):
            t = np.rint(t.astype(np.float64) * UNITS[unit]) if unit != 'us' else np.rint(t)
        t = t.astype(np.int64)
    x, y = (whole(path, name, fields[name], 0, WIDEST - 1, first) for name in 'xy')
    p = whole(path, 'polarity', fields['p'], -1, 1, first)
    return Events(t, x.astype(np.uint16), y.astype(np.uint16), (p > 0).astype(np.uint8))


def whole(path: str | Path, name: str, values: np.ndarray, least: int, most: int, first: int) -> np.ndarray:
    """Return values that are whole numbers in a range.

    Raises:
        InputError: one is not.
    """
    if values.dtype.kind not in 'biuf':
        raise InputError(f'{path}: {name} must be whole numbers, got {values.dtype}')
    wrong = np.zeros(len(values), bool)
    if values.dtype.kind != 'b':
        wrong = ~((values >= least) & (values <= most))  # NaN is neither
        if values.dtype.kind == 'f':
            wrong |= values != np.floor(values)
    if wrong.any():
        at = int(wrong.argmax())
        allowed = '0 and 1, or -1 and 1' if least < 0 else f'a whole number, {least} to {most}'
        raise InputError(f'{path}: {name} {values[at]} of event {first + at}: expected {allowed}')
    return values
