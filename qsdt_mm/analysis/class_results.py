"""Results by class: scores, and what is taken for what."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.errors import require


def count_pairs(truth: Tensor, predicted: Tensor, classes: int, ignored: int | None = None) -> Tensor:
    """Return how often each class was taken for each, ``matrix[truth, predicted]``.

    Args:
        truth, predicted: labels of the same shape; what is no class on either side is left out.
        classes: how many there are.
        ignored: a label of the truth that is left out, too.

    Returns:
        ``(classes, classes)``, int64.

    >>> count_pairs(torch.tensor([0, 0, 1, 255]), torch.tensor([0, 1, 1, 0]), 2).tolist()
    [[1, 1], [0, 1]]
    """
    truth, predicted = truth.flatten().long(), predicted.flatten().long()
    known = (truth >= 0) & (truth < classes) & (predicted >= 0) & (predicted < classes)
    if ignored is not None:
        known &= truth != ignored
    places = truth[known] * classes + predicted[known]
    return torch.bincount(places, minlength=classes * classes).reshape(classes, classes)


@dataclass
class ClassResults:
    """A figure for each class, and the confusion matrix where there is one.

    Args:
        names: of the classes.
        counts: of ``things`` in each.
        scores: from 0 to 1, one a class; NaN where a class does not occur.
        score: what they are: 'right', 'IoU' or 'AP'.
        things: what is counted: 'images', 'pixels' or 'objects'.
        matrix: ``[truth][predicted]``, or None.
        when: the evaluation, in words.

    >>> results = ClassResults.of_matrix(torch.tensor([[3, 1], [0, 4]]), ['cat', 'dog'], 'images')
    >>> results.scores, results.worst(1), results.pairs()
    ([0.75, 1.0], [0], [(0, 1, 1)])
    """

    names: list[str]
    counts: list[int]
    scores: list[float]
    score: str
    things: str
    matrix: list[list[int]] | None = None
    when: str = ''

    @classmethod
    def of_matrix(cls, matrix: Tensor, names: Sequence[str], things: str, when: str = '') -> ClassResults:
        """Return the share of each class that is right, or of pixels the intersection over union.

        ``right_k = m_kk / sum_j m_kj``, ``IoU_k = m_kk / (sum_j m_kj + sum_i m_ik - m_kk)``.

        Args:
            matrix: ``[truth, predicted]``.
            names: of the classes.
            things: 'images' or 'pixels'.
            when: the evaluation, in words.
        """
        m = matrix.double()
        hits, counts = m.diagonal(), m.sum(1)
        whole = counts + m.sum(0) - hits if things == 'pixels' else counts
        return cls(
            [str(name) for name in names],
            matrix.sum(1).tolist(),
            (hits / whole).tolist(),
            'IoU' if things == 'pixels' else 'right',
            things,
            matrix.tolist(),
            when,
        )

    def worst(self, most: int) -> list[int]:
        """Return the classes with the lowest scores, lowest first."""
        known = [i for i, score in enumerate(self.scores) if math.isfinite(score)]
        return sorted(known, key=lambda i: (self.scores[i], -self.counts[i]))[:most]

    def pairs(self, most: int = 20) -> list[tuple[int, int, int]]:
        """Return the commonest mistakes: truth, what was predicted, how often."""
        found = [
            (i, j, count) for i, row in enumerate(self.matrix or []) for j, count in enumerate(row) if i != j and count
        ]
        return sorted(found, key=lambda pair: -pair[2])[:most]

    def shown(self, i: int) -> str:
        """Return the score of a class in a few digits."""
        score = self.scores[i]
        if not math.isfinite(score):
            return '-'
        return f'{score:.3f}' if self.score == 'AP' else f'{100 * score:.1f} %'

    def as_dict(self) -> dict[str, Any]:
        """Return all of it, in types that JSON has."""
        rows = [
            dict(name=name, count=count, score=score)
            for name, count, score in zip(self.names, self.counts, self.scores)
        ]
        return dict(when=self.when, things=self.things, score=self.score, classes=rows, matrix=self.matrix)

    @classmethod
    def from_dict(cls, found: Mapping[str, Any]) -> ClassResults:
        """Return what :meth:`as_dict` gave.

        Raises:
            ValueError: it is something else.
        """
        try:
            rows, matrix = found['classes'], found['matrix']
            scores = [math.nan if row['score'] is None else float(row['score']) for row in rows]
            counts = [int(row['count']) for row in rows]
            if matrix is not None:
                matrix = [[int(value) for value in line] for line in matrix]
                require(
                    {len(rows)} == {len(matrix), *map(len, matrix)},
                    'matrix',
                    len(matrix),
                    f'{len(rows)} rows of as many',
                )
            words = (str(found[key]) for key in ('score', 'things'))
            return cls([str(row['name']) for row in rows], counts, scores, *words, matrix, str(found['when']))
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f'no results of classes: {error!r}') from error
