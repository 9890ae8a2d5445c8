"""Results by class that a run leaves, in its work directory and on the console."""

import json
import logging
from types import SimpleNamespace

import pytest
import torch

from qsdt_mm.analysis.class_results import ClassResults
from qsdt_mm.cli.last_lines import _worst
from qsdt_mm.engine.hooks import ClassResultsHook
from qsdt_mm.engine.hooks.classes import TABLE_OF_CLASSES, take_precisions
from qsdt_mm.visualization import classes as drawing
from qsdt_mm.visualization.classes import draw_classes, shortened

NAMES = ('cat', '$dog$', '<b>\x1b[31m')


class Sample(dict):
    __getattr__ = dict.__getitem__


def picture(truth, label, count=3):
    return Sample(gt_label=torch.tensor([truth]), pred_score=torch.eye(count)[label])


def run(folder, metrics=(), names=NAMES, length=100):
    dataset = SimpleNamespace(metainfo=dict(classes=names))
    dataset = type('Data', (), dict(metainfo=dataset.metainfo, __len__=lambda self: length))()
    loop = SimpleNamespace(dataloader=SimpleNamespace(dataset=dataset), evaluator=SimpleNamespace(metrics=[*metrics]))
    return SimpleNamespace(
        work_dir=str(folder), test_loop=loop, val_loop=loop, train_loop=None, iter=7, logger=logging.Logger('x')
    )


def evaluated(runner, *batches, metrics=None):
    hook = ClassResultsHook()
    runner.hooks = [hook]
    hook.before_test_epoch(runner)
    for batch in batches:
        hook.after_test_iter(runner, 0, None, batch)
    hook.after_test_epoch(runner, metrics)
    return hook


def test_a_classifier(tmp_path):
    runner = run(tmp_path)
    hook = evaluated(runner, [picture(0, 0), picture(0, 1)], [picture(1, 1), picture(2, 2)])
    assert hook.results.matrix == [[1, 1, 0], [0, 1, 0], [0, 0, 1]]
    assert ClassResults.from_dict(json.loads((tmp_path / 'classes.json').read_text())) == hook.results
    assert (tmp_path / 'confusion.png').read_bytes()[:4] == b'\x89PNG'
    assert _worst(runner) == 'cat 50.0 % (right, by class)'


def test_samples_that_fill_the_last_batch_up_do_not_count(tmp_path):
    hook = evaluated(run(tmp_path, length=3), [picture(0, 0)] * 2, [picture(1, 1)] * 2)
    assert sum(hook.results.counts) == 3


def test_a_segmenter_leaves_out_what_its_metric_ignores(tmp_path):
    truth, label = torch.tensor([[[0, 0, 2, 255]]]), torch.tensor([[[0, 1, 2, 2]]])
    sample = Sample(gt_sem_seg=SimpleNamespace(data=truth), pred_sem_seg=SimpleNamespace(data=label))
    hook = evaluated(run(tmp_path, [SimpleNamespace(ignore_index=2)]), [sample])
    assert hook.results.matrix == [[1, 1, 0], [0, 0, 0], [0, 0, 0]] and hook.results.scores[0] == 0.5


def test_other_tasks_have_neither(tmp_path):
    two_labels = Sample(gt_label=torch.tensor([0, 1]), pred_score=torch.ones(3))
    hook = evaluated(run(tmp_path), [3, two_labels, Sample(pred_instances=1)])
    assert hook.results is None and not list(tmp_path.iterdir())


class Coco:
    """As much of mmdet's metric as the hook sees."""

    prefix, classwise, cat_ids = 'coco', False, [3, 5, 9]
    dataset_meta = dict(classes=NAMES)
    _coco_api = SimpleNamespace(getAnnIds=lambda catIds: [0] * catIds[0])


def test_a_detector(tmp_path):
    metric, found = Coco(), {'coco/bbox_mAP': 0.4, 'coco/cat_precision': 0.25, 'coco/$dog$_precision': 0.5}
    hook = evaluated(run(tmp_path, [metric]), [Sample(pred_instances=1)], metrics=found)
    assert metric.classwise and found == {'coco/bbox_mAP': 0.4}  # the log is spared a figure for each class
    assert hook.results.scores[:2] == [0.25, 0.5] and hook.results.counts == [3, 5, 9]
    assert hook.results.worst(3) == [0, 1] and (tmp_path / 'classes.png').is_file()


def test_who_asks_for_figures_by_class_gets_them():
    metric, found = Coco(), {'coco/cat_precision': 0.25}
    metric.classwise = True
    assert take_precisions(metric, found, '').scores[0] == 0.25 and found


def test_the_table_by_class_is_known():
    tables = pytest.importorskip('terminaltables')
    table = tables.AsciiTable([['category', 'mAP', 'mAP_50'], ['cat', '0.1', '0.2']]).table
    assert TABLE_OF_CLASSES.match('\n' + table) and not TABLE_OF_CLASSES.match(table.replace('category', 'Class'))


@pytest.mark.parametrize('count', [1, 3, 20, 40])
@pytest.mark.parametrize('things', ['images', 'pixels', 'objects'])
def test_any_number_of_classes(tmp_path, monkeypatch, count, things):
    figures = []
    monkeypatch.setattr(drawing, 'save_figure', lambda figure, path: figures.append(figure))
    names = [f'$class {i} \x00 with a long name' for i in range(count)]
    results = ClassResults.of_matrix(torch.arange(count * count).reshape(count, count) % 7, names, things)
    if things == 'objects':
        results.matrix, results.score = None, 'AP'
    draw_classes(results, tmp_path / 'x.png')
    axes = figures[0].axes
    assert len(axes) == (1 if things == 'objects' else 2)
    bars = len(axes[-1].texts)
    assert bars == (count if count <= 30 else min(20, len(results.worst(99))))


def test_names_stay_letters():
    assert shortened('$x^2$ \n') == r'\$x^2\$  ' and len(shortened('x' * 99)) == 20
