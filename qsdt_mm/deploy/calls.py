"""Functions of torch that compute (sums, factors, means, resizing), told apart by how they were called."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from .recording import Node


def _operands(node: Node) -> tuple[list[Node], list[Any]]:
    """Return the nodes and the constants that a binary function was called with."""
    nodes = [a for a in node.args if isinstance(a, Node)]
    return nodes, [a for a in node.args if not isinstance(a, Node)]


MULTIPLY = {Tensor.mul, Tensor.__mul__, Tensor.__rmul__, torch.mul, Tensor.mul_, Tensor.__imul__}
DIVIDE = {Tensor.div, Tensor.__truediv__, torch.div, torch.true_divide}
PLUS = {Tensor.add, Tensor.__add__, Tensor.__radd__, torch.add, Tensor.add_, Tensor.__iadd__}


def factor_of(node: Node) -> Tensor | None:
    """Return the constant that a call multiplies by, one or one for each channel; None if it does something else."""
    if node.kind != 'call' or node.kwargs:
        return None
    nodes, constants = _operands(node)
    if len(nodes) != 1 or len(constants) != 1:
        return None
    constant = torch.as_tensor(constants[0]) if isinstance(constants[0], (int, float, Tensor)) else None
    if constant is None:
        return None
    spread = constant.dim() and constant.numel() > 1
    if spread and (constant.dim() < 2 or constant.numel() != constant.shape[-len(node.shape) + 1 :].numel()):
        return None
    if spread and constant.shape[1 - len(node.shape)] != constant.numel():
        return None  # not one for each channel
    if node.function in MULTIPLY:
        return constant
    return 1 / constant.double() if node.function in DIVIDE and node.args[0] is nodes[0] else None


def is_sum(node: Node) -> bool:
    """Return whether a call adds two values of the network."""
    return node.function in PLUS and len(_operands(node)[0]) == 2 and not node.kwargs


def adds_nothing(node: Node) -> bool:
    """Return whether a call adds zero, as ``sum`` does at first."""
    nodes, constants = _operands(node)
    return node.function in PLUS and len(nodes) == 1 and len(constants) == 1 and constants[0] == 0 and not node.kwargs


def is_mean_over_positions(node: Node) -> bool:
    """Return whether a call averages over height and width."""
    size = [*node.args[1:], *node.kwargs.values()][:1]
    return node.function is F.adaptive_avg_pool2d and size in ([1], [(1, 1)], [[1, 1]])


def is_doubling(node: Node) -> bool:
    """Return whether a call resizes bilinearly by powers of two."""
    if node.function is not F.interpolate or len(node.inputs) != 1:
        return False
    bound = dict(zip(('input', 'size', 'scale_factor', 'mode', 'align_corners'), node.args), **node.kwargs)
    ratios = [new / old for new, old in zip(node.shape[2:], node.inputs[0].shape[2:])]
    powers = all(ratio >= 1 and math.frexp(ratio)[0] == 0.5 for ratio in ratios)
    return bound.get('mode') == 'bilinear' and not bound.get('align_corners') and powers
