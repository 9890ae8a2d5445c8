"""The values that a membrane can have: multiples of a step, or half a step beside them, and so never on a half.

A byte that is rounded down is worth its middle, half a step more. A neuron whose membrane lies half a step beside a
grid that has the halves compares as if nothing had been rounded; on the grid, all that rounds to a half would fire.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .steps import GRID


@dataclass(frozen=True)
class Grid:
    """Values that are whole multiples of a step, plus half of it where they lie beside; in thresholds.

    Args:
        step: powers of two, ``(C,)`` float64.
        beside: ``(C,)`` of bool.

    >>> coarse = Grid(torch.tensor([0.25]), torch.tensor([True]))
    >>> coarse.plus(coarse).off_halves.tolist(), coarse.plus(Grid(coarse.step, ~coarse.beside)).off_halves.tolist()
    ([False], [True])
    """

    step: Tensor
    beside: Tensor

    @property
    def off_halves(self) -> Tensor:
        """Return where no value is half way between two whole numbers."""
        return self.beside & (self.step <= 0.5)

    @property
    def on_finest(self) -> Tensor:
        """Return where all values are multiples of :data:`~qsdt_mm.deploy.steps.GRID`."""
        return self.step >= torch.where(self.beside, 2 * GRID, GRID)

    def plus(self, other: Grid) -> Grid:
        """Return where sums lie."""
        step = torch.minimum(self.step, other.step)
        return Grid(step, (self.beside & (self.step == step)) ^ (other.beside & (other.step == step)))

    def nudged(self, where: Tensor) -> Grid:
        """Return where values lie once half of the finest step is added to some, which are its multiples."""
        return Grid(torch.where(where, GRID, self.step), self.beside | where)


def finest(channels: int) -> Grid:
    """Return multiples of the finest step, plus half of it."""
    return Grid(torch.full((channels,), GRID, dtype=torch.float64), torch.ones(channels, dtype=torch.bool))


def largest_power(units: Tensor, least: float) -> Tensor:
    """Return the largest powers of two that numbers are multiples of; as they are below ``least``.

    >>> largest_power(torch.tensor([0.25, 0.75]).double(), GRID).tolist()
    [0.25, 0.25]
    """
    whole = (units / least).round().long()
    return torch.where(whole * least == units, (whole & -whole) * least, units)


def lies_beside(units: Tensor, known: Grid | None) -> Tensor:
    """Return in which channels increments are to be rounded down, and so to lie half a step beside their grid.

    Args:
        units: what one unit of an increment is worth, ``(C,)``.
        known: grid of what it is added to; None: of nothing.
    """
    within = units <= 0.5
    if known is None:
        return within
    return within & ((units < known.step) | (units == known.step) & ~known.beside)


def arranged(grids: list[Grid | None], function: str, arguments: dict, channels: int) -> Grid | None:
    """Return the grid of values that an arrangement has moved; None where it is not one for each channel."""
    first = grids[0]
    if function == 'relu' or any(grid is None for grid in grids):
        return None
    if function in ('nearest', 'max_pool'):
        return first
    pair = torch.cat([grid.step for grid in grids]), torch.cat([grid.beside for grid in grids])
    if function == 'cat' and arguments['dim'] == 1:
        return Grid(*pair)
    if function == 'chunk' and arguments['dim'] == 1:
        return Grid(*(values.chunk(arguments['chunks'])[arguments['index']] for values in pair))
    if all(bool((values == values[0]).all()) for values in pair):
        return Grid(*(values[:1].expand(channels) for values in pair))
    return None
