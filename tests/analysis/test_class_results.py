"""Results by class: counted, ordered, written and read back."""

import json
import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsdt_mm.analysis.class_results import ClassResults, count_pairs
from qsdt_mm.fileio.reports import to_json

LABELS = st.lists(st.tuples(st.integers(-1, 5), st.integers(-1, 5)), max_size=30)


@given(LABELS, st.sampled_from([None, 0, 3, 255]))
def test_pairs_are_counted_as_by_hand(pairs, ignored):
    truth, predicted = (torch.tensor([pair[i] for pair in pairs], dtype=torch.int64) for i in (0, 1))
    expected = [[0] * 4 for _ in range(4)]
    for t, p in pairs:
        if 0 <= t < 4 and 0 <= p < 4 and t != ignored:
            expected[t][p] += 1
    assert count_pairs(truth, predicted, 4, ignored).tolist() == expected


def test_mmpretrain_counts_the_same():
    single_label = pytest.importorskip('mmpretrain.evaluation.metrics.single_label')
    truth, predicted = torch.randint(5, (2, 200))
    expected = single_label.ConfusionMatrix.calculate(predicted, truth, 5)
    assert torch.equal(count_pairs(truth, predicted, 5), expected)


def test_mmseg_finds_the_same_intersections_over_unions():
    mmseg = pytest.importorskip('mmseg.evaluation')
    truth, predicted = torch.randint(4, (2, 12, 12))
    truth[0] = 255
    areas = mmseg.IoUMetric.intersect_and_union(predicted, truth, 4, 255)
    results = ClassResults.of_matrix(count_pairs(truth, predicted, 4, 255), 'abcd', 'pixels')
    assert results.scores == pytest.approx((areas[0] / areas[1]).tolist(), rel=1e-6)
    assert results.counts == areas[3].int().tolist()


def test_a_class_that_does_not_occur_is_not_the_worst():
    results = ClassResults.of_matrix(torch.tensor([[2, 2, 0], [0, 0, 0], [1, 0, 9]]), ['a', 'b', 'c'], 'images')
    assert math.isnan(results.scores[1]) and results.worst(3) == [0, 2] and results.shown(1) == '-'
    assert results.pairs() == [(0, 1, 2), (2, 0, 1)]


def test_there_and_back():
    results = ClassResults.of_matrix(torch.tensor([[3, 1], [0, 0]]), ['<b>', 'ü'], 'images', 'test')
    again = ClassResults.from_dict(json.loads(json.dumps(to_json(results.as_dict()))))
    assert again.as_dict()['classes'][0] == results.as_dict()['classes'][0] and math.isnan(again.scores[1])
    assert (again.matrix, again.when, again.score) == ([[3, 1], [0, 0]], 'test', 'right')


@pytest.mark.parametrize(
    'found', [{}, [], dict(classes=3), dict(classes=[dict(name='a', count=1, score=1)], matrix=[[1, 2]])]
)
def test_something_else(found):
    with pytest.raises(ValueError, match='results of classes|matrix'):
        ClassResults.from_dict(found)
