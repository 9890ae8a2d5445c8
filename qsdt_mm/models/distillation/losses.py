"""Distillation losses: a teacher's classes, its probabilities, the structure of its attention."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qsdt_mm.errors import require, require_positive

Tokens = tuple[Tensor, Tensor, Tensor]
"""Query, key and value of one attention, ``(N, heads, channels, tokens)`` each."""


class View(NamedTuple):
    """Inputs of a loss from one network: its logits ``(N, classes)``, and q, k, v of each of its attentions.

    >>> View(torch.zeros(2, 10), attention=[]).logits.shape
    torch.Size([2, 10])
    """

    logits: Tensor
    attention: list[Tokens]


class DistillationLoss(nn.Module):
    """Base of the losses: ``weight * distance(student, teacher)``.

    Args:
        weight: factor, above 0.

    Raises:
        ValueError: ``weight`` is not a positive number.

    >>> class SquaredDistance(DistillationLoss):
    ...     def distance(self, student, teacher):
    ...         return (student.logits - teacher.logits).square().mean()
    >>> SquaredDistance(weight=0.5)(View(torch.zeros(2, 10), []), View(torch.ones(2, 10), [])).item()
    0.5
    """

    name = 'loss_distillation'
    needs_attention = False

    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        require_positive('weight', weight)
        self.weight = weight

    def forward(self, student: View, teacher: View) -> Tensor:
        """Return the weighted distance, a scalar."""
        return self.weight * self.distance(student, teacher)

    def distance(self, student: View, teacher: View) -> Tensor:
        """Return the distance without its weight."""
        raise NotImplementedError


class HardLogitDistillation(DistillationLoss):
    """Cross-entropy of the student's logits with the class that the teacher finds likeliest.

    Source: DeiT (arXiv 2012.12877); the recipe of SFA's large sizes (arXiv 2411.16061).

    >>> view = View(torch.zeros(2, 4), attention=[])
    >>> round(HardLogitDistillation()(view, view).item(), 4)  # log of 4 classes
    1.3863
    """

    name = 'loss_hard'

    def distance(self, student: View, teacher: View) -> Tensor:
        """Return the cross-entropy, a scalar."""
        return F.cross_entropy(student.logits, teacher.logits.argmax(1))


class SoftLogitDistillation(DistillationLoss):
    """``tau^2 KL(softmax(teacher / tau) || softmax(student / tau))``, averaged over images.

    Args:
        weight: factor, above 0.
        temperature: tau, above 0.

    Source: Hinton et al. (arXiv 1503.02531).

    >>> view = View(torch.tensor([[1.0, 2.0]]), attention=[])
    >>> SoftLogitDistillation(temperature=2.0)(view, view).item()
    0.0
    """

    name = 'loss_soft'

    def __init__(self, weight: float = 1.0, temperature: float = 1.0) -> None:
        super().__init__(weight)
        require_positive('temperature', temperature)
        self.temperature = temperature

    def distance(self, student: View, teacher: View) -> Tensor:
        """Return the divergence, a scalar."""
        ours, theirs = (F.log_softmax(view.logits / self.temperature, 1) for view in (student, teacher))
        return F.kl_div(ours, theirs, reduction='batchmean', log_target=True) * self.temperature**2


class FineGrainedDistillation(DistillationLoss):
    """Distance of token similarities in each attention: ``sum over q, k, v of |G_s - G_t|^2``, ``G = X^T X / |X^T X|``.

    ``X`` holds the channels of one head's tokens, ``G`` compares tokens with tokens, so the teacher may have other
    widths. The squared Frobenius distance is averaged over images, heads and blocks: it does not shrink with the number
    of tokens. A teacher on another square grid is resampled to the student's.

    Raises:
        ValueError: the networks differ in their number of attentions or heads, or their grids cannot be matched.

    Source: fine-grained distillation of QSD (arXiv 2501.13492); its exact form is not public, this is ours.

    >>> tokens = torch.ones(1, 2, 8, 16)  # 16 tokens, 2 heads of 8 channels
    >>> view = View(torch.zeros(1, 10), attention=[(tokens, tokens, tokens)])
    >>> FineGrainedDistillation()(view, view).item()
    0.0
    """

    name = 'loss_fgd'
    needs_attention = True

    def distance(self, student: View, teacher: View) -> Tensor:
        """Return the distance of the similarity matrices, a scalar."""
        ours, theirs = len(student.attention), len(teacher.attention)
        require(ours == theirs > 0, 'attentions of the teacher', theirs, f'{ours}, the number of the student, above 0')
        distances = [
            (similarity(one) - similarity(match(other, one))).square().sum((-2, -1)).mean()
            for pair in zip(student.attention, teacher.attention)
            for one, other in zip(*pair)
        ]
        return sum(distances) / ours


def similarity(tokens: Tensor) -> Tensor:
    """Compare token by token, at unit norm: ``(N, heads, channels, tokens) -> (N, heads, tokens, tokens)``."""
    tokens = tokens.float()  # squares of sums overflow half precision
    gram = tokens.mT @ tokens
    return gram / torch.linalg.matrix_norm(gram, keepdim=True).clamp_min(1e-12)


def match(teacher: Tensor, student: Tensor) -> Tensor:
    """Resample the teacher's tokens to the student's grid, when both grids are square."""
    require(
        teacher.shape[1] == student.shape[1],
        'heads of the teacher',
        teacher.shape[1],
        f"{student.shape[1]}, the student's",
    )
    tokens, wanted = teacher.shape[-1], student.shape[-1]
    if tokens == wanted:
        return teacher
    side, wanted_side = math.isqrt(tokens), math.isqrt(wanted)
    require(
        side**2 == tokens and wanted_side**2 == wanted,
        'tokens of the teacher',
        tokens,
        f"{wanted}, the student's, or a square grid for both",
    )
    grid = teacher.flatten(0, 1).unflatten(-1, (side, side))
    grid = F.interpolate(grid, size=(wanted_side, wanted_side), mode='bilinear', align_corners=False)
    return grid.flatten(2).unflatten(0, teacher.shape[:2])
