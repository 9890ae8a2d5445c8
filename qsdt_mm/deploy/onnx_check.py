"""Comparison of a plan's ONNX file with the plan, bit by bit, in each runtime and at each level of optimisation."""

from __future__ import annotations

from importlib.util import find_spec
from typing import NamedTuple

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from .plan import Plan
from .runtimes import LEVELS, Runtime, optimised_operators
from .steps import Convolve


class Agreement(NamedTuple):
    """Result of comparing a file with its plan.

    Args:
        runtime: its name, and the level of optimisation.
        pictures: how many were looked at.
        different: names of those whose outputs differ in any bit.

    >>> print(Agreement('openvino', pictures=7, different=['all 0']))
    openvino: 1 of 7 pictures differ from the plan: all 0
    """

    runtime: str
    pictures: int
    different: list[str]

    def __str__(self) -> str:
        if not self.different:
            return f'{self.runtime}: the same bits as the plan on {self.pictures} pictures'
        names = ', '.join(self.different[:5])
        return f'{self.runtime}: {len(self.different)} of {self.pictures} pictures differ from the plan: {names}'


def extreme_pictures(shape: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    """Return pictures that networks seldom see, uint8 of a shape ``(..., H, W)``, by name."""
    generator = torch.Generator().manual_seed(seed)
    height, width = shape[-2:]
    ramp = torch.arange(height * width).view(height, width) * 255 // max(height * width - 1, 1)
    return {
        'all 0': torch.zeros(shape, dtype=torch.uint8),
        'all 255': torch.full(shape, 255, dtype=torch.uint8),
        'noise': torch.randint(256, shape, generator=generator, dtype=torch.uint8),
        'noise of 0 and 255': torch.randint(2, shape, generator=generator, dtype=torch.uint8) * 255,
        'ramp': ramp.to(torch.uint8).expand(shape).contiguous(),
    }


def check_bits(plan: Plan, content: bytes, pictures: dict[str, Tensor]) -> list[Agreement]:
    """Compare the outputs of a plan's ONNX file with the plan's, in ONNX Runtime and, where it is, OpenVINO.

    Args:
        plan: that the file was written from.
        content: of the file.
        pictures: uint8, each of the plan's shape, by name.

    Raises:
        InputError: a package is missing, or a runtime does not take the file.
    """
    kinds = [('onnxruntime', level) for level in LEVELS]
    kinds += [('openvino', 'all')] if find_spec('openvino') else []
    expected: list[list[Tensor]] = []
    found = []
    for backend, level in kinds:
        runtime = Runtime(content, backend, level)
        groups = _groups(list(pictures), runtime.batch or 1)
        images = [torch.stack([pictures[name] for name in names]) for names in groups]
        if not expected:
            expected = [tree_flatten(plan(group))[0] for group in images]
        different: list[str] = []
        for names, group, outputs in zip(groups, images, expected):
            got = tree_flatten(runtime(group))[0]
            same = len(got) == len(outputs) and all(_equal(a, b) for a, b in zip(got, outputs))
            different += [] if same else list(dict.fromkeys(names))
        name = f'{backend}, optimisation {level}' if backend == 'onnxruntime' else backend
        found.append(Agreement(name, len(pictures), different))
    return found


def _groups(names: list[str], size: int) -> list[list[str]]:
    """Return names in groups of a size; the last is filled up with its last name."""
    groups = [names[i : i + size] for i in range(0, len(names), size)]
    return [group + group[-1:] * (size - len(group)) for group in groups]


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and a.dtype == b.dtype == torch.float32 and bool((a.numpy() == b.cpu().numpy()).all())


class Kernels(NamedTuple):
    """Convolutions of a plan and what ONNX Runtime makes of them.

    Args:
        fused: 8-bit kernels (QLinearConv) in the optimised graph.
        possible: convolutions of counts or bytes to counts or bytes.
        all: convolutions.

    >>> print(Kernels(fused=20, possible=20, all=21))
    20 of 21 convolutions run as 8-bit kernels (QLinearConv), and no other could
    """

    fused: int
    possible: int
    all: int

    def __str__(self) -> str:
        rest = 'and no other could' if self.fused == self.possible else f'{self.possible} could'
        return f'{self.fused} of {self.all} convolutions run as 8-bit kernels (QLinearConv), {rest}'


def kernels(plan: Plan, content: bytes) -> Kernels:
    """Return how many convolutions of a plan are 8-bit kernels once ONNX Runtime has optimised its file."""
    convolutions = [step for step in plan.steps if isinstance(step, Convolve) and step.layer != 'linear']
    small = [
        step
        for step in convolutions
        if step.layer == 'conv' and step.to_kind in ('count', 'byte') and step.source in ('count', 'byte')
    ]
    return Kernels(optimised_operators(content)['QLinearConv'], len(small), len(convolutions))
