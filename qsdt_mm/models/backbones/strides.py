"""Strides of a backbone's outputs: which stages have to be strided how, so that they come."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate
from operator import mul
from typing import Any

from qsdt_mm.errors import require

from .presets import Arch


def with_output_strides(arch: Arch, out_indices: Sequence[int], output_strides: Any) -> Arch:
    """Return an architecture whose outputs have given strides; no weight gets another shape by it.

    A stage that is not put out keeps its stride where that divides those of the outputs after it. Of two outputs of
    one stage the smaller stride is the stage's: the other one is pooled.

    Args:
        arch: the architecture.
        out_indices: outputs, as of the backbone.
        output_strides: their strides, one for each, or one for all.

    Raises:
        ValueError: they are not so many positive integers, or a later stage's is no multiple of an earlier one's.

    >>> from .presets import resolve_arch
    >>> with_output_strides(resolve_arch('qsd-15m'), (1, 2, 3, 4), (4, 8, 16, 32)).strides
    (2, 2, 2, 2, 2)
    >>> with_output_strides(resolve_arch('qsd-15m'), (4,), 8).strides
    (2, 2, 2, 1, 1)
    """
    given = tuple(output_strides) if isinstance(output_strides, Iterable) else (output_strides,) * len(out_indices)
    numbers = all(isinstance(stride, int) and not isinstance(stride, bool) and stride >= 1 for stride in given)
    require(
        numbers and len(given) == len(out_indices),
        'output_strides',
        output_strides,
        f'{len(out_indices)} integers >= 1, one for each of out_indices={tuple(out_indices)}',
    )
    wanted: dict[int, list[int]] = {}
    for output, stride in zip(out_indices, given):
        wanted.setdefault(arch.stage_of(output), []).append(stride)
    goals = {stage: min(strides) for stage, strides in sorted(wanted.items())}
    steps = [1, *goals.values()]
    fits = all(b % a == 0 for a, b in zip(steps, steps[1:]))
    fits &= all(stride % goals[stage] == 0 for stage in goals for stride in wanted[stage])
    require(fits, 'output_strides', output_strides, 'each a multiple of the ones of stages before')
    strides, reached = list(arch.strides), 1
    for stage, usual in enumerate(accumulate(arch.strides, mul)):
        goal = next((goals[later] for later in goals if later >= stage), None)
        if goal is None:  # not built
            break
        total = goal if stage in goals else _between(reached, min(max(usual, reached), goal), goal)
        strides[stage], reached = total // reached, total
    return replace(arch, strides=tuple(strides))


def _between(reached: int, usual: int, goal: int) -> int:
    """Return the largest stride up to the usual one that is a multiple of what is reached and divides the goal."""
    return max(total for total in range(reached, usual + 1, reached) if goal % total == 0)


def strides_of(arch: Arch, out_indices: Sequence[int]) -> tuple[int, ...]:
    """Return the strides of an architecture's outputs."""
    totals = list(accumulate(arch.strides, mul))
    return tuple(totals[arch.stage_of(output)] for output in out_indices)
