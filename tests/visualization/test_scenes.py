"""Images beside their truth: which have most mistakes, and where what was found is drawn."""

from types import SimpleNamespace

import pytest
import torch

from qsdt_mm.engine.hooks import PredictionGridHook
from qsdt_mm.engine.hooks import figures as figures_module
from qsdt_mm.visualization.scenes import colours_of, mistakes_of, scene_of


class Sample(dict):
    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


def boxes(*rows, scores=None):
    found = Sample(
        bboxes=torch.tensor([row[:4] for row in rows]).float(), labels=torch.tensor([row[4] for row in rows]).long()
    )
    return Sample(found, scores=torch.tensor(scores)) if scores is not None else found


def label_map(truth, found):
    maps = (SimpleNamespace(data=torch.tensor([rows])) for rows in (truth, found))
    return Sample(zip(('gt_sem_seg', 'pred_sem_seg'), maps))


@pytest.mark.parametrize(
    ('truth', 'found', 'mistakes'),
    [
        ([(0, 0, 4, 4, 0)], [(0, 0, 4, 4, 0)], 0),
        ([(0, 0, 4, 4, 0)], [(0, 0, 4, 4, 1)], 2),  # another class: one missed, one too many
        ([(0, 0, 4, 4, 0)], [(0, 0, 4, 4, 0), (0, 0, 4, 3, 0)], 1),  # found twice
        ([(0, 0, 4, 4, 0)], [(0, 0, 4, 1, 0)], 2),
        ([], [(0, 0, 4, 4, 0)], 1),
        ([(0, 0, 4, 4, 0)], [], 1),
        ([], [], 0),
    ],
)
def test_missed_and_too_many(truth, found, mistakes):
    pairs = [(each.bboxes.reshape(-1, 4), each.labels) for each in (boxes(*truth), boxes(*found))]
    assert mistakes_of(*pairs) == mistakes


def test_pixels_that_count_nowhere():
    scene = scene_of(torch.zeros(3, 2, 2), label_map([[0, 255], [2, 1]], [[1, 1], [0, 1]]), ignored=2)
    assert scene.mistakes == 0.5


def test_unsure_boxes_do_not_count():
    sample = Sample(
        gt_instances=boxes((0, 0, 4, 4, 0)), pred_instances=boxes((0, 0, 4, 4, 0), (1, 1, 2, 2, 0), scores=[0.9, 0.29])
    )
    scene = scene_of(torch.zeros(3, 4, 4), sample)
    assert scene.mistakes == 0 and len(scene.found[0]) == 1


@pytest.mark.parametrize('sample', [Sample(), Sample(pred_instances=boxes(scores=[])), label_map([[0, 1]], [[0]])])
def test_there_is_no_scene_without_its_truth(sample):
    assert scene_of(torch.zeros(3, 4, 4), sample) is None


def test_colours():
    assert colours_of(dict(palette=[(255, 0, 0), (0, 0, 255)]), 2).tolist() == [[1, 0, 0], [0, 0, 1]]
    for palette in (None, [], [(1, 2, 3)], 'random', [(1, 2), (3, 4)]):
        assert colours_of(dict(palette=palette), 2).shape == (2, 3)


def drawn(monkeypatch, *samples, size=4):
    figures, hook = [], PredictionGridHook(rows=2)
    monkeypatch.setattr(figures_module, 'save_figure', lambda figure, path: figures.append(figure))
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=('a$b$', 'b'))))
    model = SimpleNamespace(data_preprocessor=SimpleNamespace(channel_conversion=True))
    runner = SimpleNamespace(model=model, test_dataloader=loader, work_dir='.')
    hook.before_test_epoch(runner)
    for sample in samples:
        hook.after_test_iter(runner, 0, dict(inputs=[torch.rand(3, size, size)]), [sample])
    hook.after_test_epoch(runner)
    (figure,) = figures
    figure.canvas.draw()
    return figure


def test_the_worst_segmentations_are_drawn(monkeypatch):
    truth = [[0, 0], [1, 1]]
    figure = drawn(monkeypatch, *(label_map(truth, found) for found in (truth, [[1, 1], [1, 1]], [[1, 1], [0, 0]])))
    assert [axes.get_ylabel() for axes in figure.axes[::3]] == ['100.0 % wrong', '50.0 % wrong']
    assert figure.get_suptitle() == 'The worst 2 of 3 images'


def test_boxes_lie_where_the_file_has_them(monkeypatch):
    """The network saw it twice as large, and padded below."""
    sample = Sample(
        gt_instances=boxes((1, 2, 3, 4, 0)), pred_instances=boxes((1, 2, 3, 4, 7), scores=[0.5]),
        ori_shape=(4, 8), scale_factor=(2.0, 2.0),
    )  # fmt: skip
    figure = drawn(monkeypatch, sample, size=16)
    truth, found = figure.axes
    for axes in (truth, found):
        assert axes.images[0].get_extent() == [0, 8, 8, 0] and axes.get_ylim() == (4, 0)
        assert axes.patches[0].get_bbox().extents.tolist() == [1, 2, 3, 4]
    assert found.texts[0].get_text() == '7 0.50'  # a class that the data set does not name
