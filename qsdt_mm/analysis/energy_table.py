"""Energies of additions, multiplications and memory accesses by bit width: those at 45 nm, and those of a file."""

from __future__ import annotations

import ast
import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qsdt_mm.errors import InputError

KINDS = ('weights', 'activations', 'membranes')
"""Data that are read and written; activations are spikes, counts or real values."""
ARITHMETIC = ('add', 'multiply', 'float_add', 'float_multiply')


def _between(points: Mapping[int, float], x: float, power: int) -> float:
    """Interpolate linearly in ``x = bits^power`` between zero and given bits; beyond the last, in proportion to it."""
    below = 0.0, 0.0
    for width, energy in sorted(points.items()):
        above = float(width**power), energy
        if x <= above[0]:
            break
        below = above
    else:
        return above[1] * x / above[0]
    return below[1] + (above[1] - below[1]) * (x - below[0]) / (above[0] - below[0])


@dataclass(frozen=True)
class EnergyTable:
    """Energies in pJ, of one technology.

    Args:
        name: where they are from.
        add: of an integer addition, by bits of the sum.
        multiply: of an integer multiplication, by bits of both operands.
        float_add, float_multiply: of floats, by their bits.
        levels: of one bit that is read or written, by memory level: a number, or ``dict(read=..., write=...)``.
        placement: the level in which weights, activations and membranes lie.

    Widths in between are interpolated: of additions by bits, of multiplications by the product of both operands' bits.

    >>> table = EnergyTable('mine', add={8: 0.03, 32: 0.1}, multiply={8: 0.2, 32: 3.1})
    >>> table.of_add(32), table.of_multiply(8, 8), table.of_multiply(4, 4), round(table.of_multiply(4, 16), 3)
    (0.1, 0.2, 0.05, 0.2)
    >>> table.of_access('sram', 'read', 32)
    5.0
    """

    name: str
    add: Mapping[int, float] = field(default_factory=lambda: {8: 0.03, 32: 0.1})
    multiply: Mapping[int, float] = field(default_factory=lambda: {8: 0.2, 32: 3.1})
    float_add: Mapping[int, float] = field(default_factory=lambda: {16: 0.4, 32: 0.9})
    float_multiply: Mapping[int, float] = field(default_factory=lambda: {16: 1.1, 32: 3.7})
    levels: Mapping[str, Any] = field(
        default_factory=lambda: {
            'register': 1 / 32,
            'sram': 5 / 32,
            'sram_32k': 10 / 32,
            'sram_1m': 50 / 32,
            'dram': 640 / 32,
        }
    )
    placement: Mapping[str, str] = field(default_factory=lambda: dict.fromkeys(KINDS, 'sram'))

    def of_add(self, bits: int, floats: bool = False) -> float:
        """Return the energy of an addition."""
        return _between(self.float_add if floats else self.add, bits, 1)

    def of_multiply(self, left_bits: int, right_bits: int, floats: bool = False) -> float:
        """Return the energy of a multiplication."""
        return _between(self.float_multiply if floats else self.multiply, left_bits * right_bits, 2)

    def of_access(self, level: str, way: str, bits: float) -> float:
        """Return the energy of reading or writing so many bits (``way`` is 'read' or 'write')."""
        energy = self.levels[level]
        return bits * (energy[way] if isinstance(energy, Mapping) else energy)

    def placing(self, placement: Mapping[str, str]) -> EnergyTable:
        """Return the table with other levels for weights, activations or membranes.

        Raises:
            InputError: there is no such kind or level.
        """
        for kind, level in placement.items():
            if kind not in KINDS or level not in self.levels:
                raise InputError(
                    f'{kind}={level} is no place: expected one of {", ".join(KINDS)} and one of '
                    f'{", ".join(self.levels)} ({self.name})'
                )
        return replace(self, placement={**self.placement, **placement})

    def as_dict(self) -> dict[str, Any]:
        """Return all numbers, in types that JSON has."""
        return {key: dict(value) if isinstance(value, Mapping) else value for key, value in asdict(self).items()}


HOROWITZ = EnergyTable('45 nm')
"""Energies at 45 nm and 0.9 V: arithmetic and caches of 8 kB (``sram``), 32 kB and 1 MB by Horowitz, Computing's energy
problem (ISSCC 2014), figure 1.1.9; register file and DRAM by 32-bit word as Han et al., Learning both weights and
connections (NeurIPS 2015), table 1, have them from there. One access is so many bits of a word: in proportion."""


def load_energy_table(path: str | Path) -> EnergyTable:
    """Read a table from a file: JSON, YAML, or Python assignments of plain values (nothing is executed).

    It says ``add``, ``multiply``, ``float_add``, ``float_multiply`` (pJ by bits), ``levels`` (pJ a bit) and
    ``placement`` as :class:`EnergyTable` does, and ``name``; what it leaves out is that of 45 nm, and the table's name
    says so.

    Raises:
        InputError: the file cannot be read, or an entry has no meaning.
    """
    path = Path(path)
    entries = _read(path)
    if not isinstance(entries, Mapping):
        raise InputError(f'{path} holds {type(entries).__name__}, not names and values')
    known = (*ARITHMETIC, 'levels', 'placement', 'name')
    for key in entries:
        if key not in known:
            raise InputError(f'{path}: {key!r} has no meaning: expected {", ".join(known)}')
    found: dict[str, Any] = {}
    for key in ARITHMETIC:
        if key in entries:
            found[key] = _by_bits(path, key, entries[key])
    levels = dict(HOROWITZ.levels)
    if 'levels' in entries:
        levels = _levels(path, entries['levels'])
    left_out = [key for key in (*ARITHMETIC, 'levels') if key not in entries]
    name = str(entries.get('name', path.name))
    name += f' ({", ".join(left_out)}: 45 nm)' if left_out else ''
    table = replace(HOROWITZ, name=name, levels=levels, **found)
    placement = entries.get('placement', {})
    if not isinstance(placement, Mapping):
        raise InputError(f'{path}: placement must be names and levels, got {placement!r}')
    try:
        return table.placing({**HOROWITZ.placement, **{str(k): str(v) for k, v in placement.items()}})
    except InputError as error:
        raise InputError(f'{path}: {error}') from error


def _read(path: Path) -> Any:
    suffix = path.suffix.lower()
    if suffix not in ('.json', '.yaml', '.yml', '.py'):
        raise InputError(f'{path} must end in .json, .yaml, .yml or .py')
    try:
        text = path.read_text(encoding='utf-8')
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f'{path} cannot be read: {getattr(error, "strerror", None) or error}') from error
    try:
        if suffix == '.json':
            return json.loads(text)
        if suffix == '.py':
            return _assignments(text)
        import yaml

        return yaml.safe_load(text)
    except Exception as error:  # of whatever kind each parser has; RecursionError among them
        raise InputError(f'{path} cannot be read: {" ".join(str(error).split()) or type(error).__name__}') from error


def _assignments(text: str) -> dict[str, Any]:
    """Return the plain values that Python text assigns to names."""
    entries = {}
    for i, statement in enumerate(ast.parse(text).body):
        if i == 0 and isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            continue  # a docstring
        names = statement.targets if isinstance(statement, ast.Assign) else []
        if len(names) != 1 or not isinstance(names[0], ast.Name):
            raise ValueError(f'line {statement.lineno} is no assignment to a name')
        try:
            entries[names[0].id] = ast.literal_eval(statement.value)
        except ValueError as error:
            raise ValueError(f'line {statement.lineno} assigns no plain value') from error
    return entries


def _energy(path: Path, name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < math.inf:
        raise InputError(f'{path}: {name} must be an energy in pJ, 0 or more, got {value!r}')
    return float(value)


def _by_bits(path: Path, key: str, entry: Any) -> dict[int, float]:
    """Return energies by bits; their names are text in JSON."""
    if not isinstance(entry, Mapping) or not entry:
        raise InputError(f'{path}: {key} must be energies by bits, such as {{8: 0.03, 32: 0.1}}, got {entry!r}')
    found = {}
    for bits, value in entry.items():
        if not str(bits).isascii() or not str(bits).isdigit() or not 1 <= int(bits) <= 1024:
            raise InputError(f'{path}: {key} must be energies by bits from 1 to 1024, got {bits!r}')
        found[int(bits)] = _energy(path, f'{key}[{bits}]', value)
    return found


def _levels(path: Path, entry: Any) -> dict[str, Any]:
    if not isinstance(entry, Mapping) or 'register' not in entry:
        raise InputError(f'{path}: levels must be energies of a bit by name, register among them, got {entry!r}')
    found: dict[str, Any] = {}
    for level, value in entry.items():
        if isinstance(value, Mapping):
            if set(value) != {'read', 'write'}:
                raise InputError(f'{path}: levels[{level}] must be a number or read and write, got {dict(value)!r}')
            found[str(level)] = {way: _energy(path, f'levels[{level}][{way}]', value[way]) for way in value}
        else:
            found[str(level)] = _energy(path, f'levels[{level}]', value)
    return found
