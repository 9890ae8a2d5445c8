"""Figures of a run: drawn, whole, and of what happened."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
import toy_runs as toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from qsdt_mm.engine.hooks import figures as figures_module
from qsdt_mm.engine.hooks.figures import LearningCurvesHook, PredictionGridHook
from qsdt_mm.visualization.curves import running_mean
from qsdt_mm.visualization.predictions import to_picture

pytestmark = pytest.mark.usefixtures('as_in_use')
PNG = b'\x89PNG\r\n\x1a\n'
CURVES = """
default_hooks = dict(curves=dict(type='LearningCurvesHook'))
"""


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.floats(-100, 100), min_size=1, max_size=30), st.integers(1, 40))
def test_running_mean(values, window):
    expected = [np.mean(values[max(i + 1 - window, 0) : i + 1]) for i in range(len(values))]
    assert np.allclose(running_mean(np.array(values), window), expected, atol=1e-9)


@pytest.fixture
def drawn(monkeypatch):
    """What was drawn, as figures."""
    figures = []
    real = figures_module.save_figure

    def keep(figure, path):
        figures.append(figure)
        real(figure, path)

    monkeypatch.setattr(figures_module, 'save_figure', keep)
    return figures


def points(figure):
    """Iterations of the loss curve, and the first validation curve."""
    left, right = figure.axes
    return left.lines[0].get_xydata(), right.lines[0].get_xydata()


def test_a_resumed_run_draws_all_of_its_history(tmp_path, drawn):
    config = toy.variant(tmp_path / 'curves.py', CURVES)
    straight, resumed = tmp_path / 'straight', tmp_path / 'resumed'
    changes = dict(config=config, train_dataloader__num_workers=0, train_cfg__val_interval=1, randomness__seed=0)
    assert toy.train(straight, **changes) == 0
    losses, metric = points(drawn[-1])
    assert losses[-1, 0] == 4 and metric[:, 0].tolist() == [1, 2, 3, 4]
    assert (straight / 'learning_curves.png').read_bytes().startswith(PNG)
    assert not list(straight.glob('.*.tmp'))
    toy.copy_start(straight, resumed, 'epoch_2.pth')
    assert toy.train(resumed, '--resume', **changes) == 0
    again, metric = points(drawn[-1])
    assert np.array_equal(again, losses)
    assert metric[:, 0].tolist() == [1, 2, 3, 4]


def test_results_that_are_numpys_are_drawn(tmp_path, drawn):
    """As mmseg gives them, in 32 bits."""
    hub = SimpleNamespace(runtime_info={}, log_scalars={'train/loss': SimpleNamespace(data=([1.0, 0.5], [1, 1]))})
    hub.update_info = hub.runtime_info.__setitem__
    runner = SimpleNamespace(message_hub=hub, iter=2, work_dir=str(tmp_path), train_loop=None)
    hook = LearningCurvesHook()
    hook.before_train(runner)
    hook.after_val_epoch(runner, dict(mIoU=np.float32(41.5), names=['a']))
    assert drawn[-1].axes[1].lines[0].get_xydata().tolist() == [[2, 41.5]]


def test_validation_alone_draws_nothing(tmp_path):
    hook = LearningCurvesHook()
    hook.after_val_epoch(SimpleNamespace(work_dir=str(tmp_path)), dict(top1=3.0))
    assert not list(tmp_path.iterdir())


class Sample(dict):
    __getattr__ = dict.__getitem__


def test_mistakes_come_first(tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr(figures_module, 'save_figure', lambda figure, path: figures.append(figure))
    dataset = SimpleNamespace(metainfo=dict(classes=('cat', 'dog')))
    runner = SimpleNamespace(
        work_dir=str(tmp_path),
        model=SimpleNamespace(data_preprocessor=SimpleNamespace(to_rgb=True)),
        test_dataloader=SimpleNamespace(dataset=dataset),
    )
    hook = PredictionGridHook(rows=2, columns=3)
    for _ in range(2):  # a second test starts anew
        hook.before_test_epoch(runner)
        for truth in (0, 0, 1, 0):
            images = torch.zeros(1, 3, 4, 4, dtype=torch.uint8)
            images[:, 2] = 255  # BGR: red
            scores = torch.tensor([0.75, 0.25])
            hook.after_test_iter(
                runner, 0, dict(inputs=images), [Sample(gt_label=torch.tensor([truth]), pred_score=scores)]
            )
        hook.after_test_epoch(runner)
    titles = [axes.get_title() for axes in figures[-1].axes]
    assert titles == ['said cat (75 %),\nis dog', 'cat 75 %', 'cat 75 %', 'cat 75 %', '', ''][: len(titles)]
    assert figures[-1].get_suptitle() == '3 of 4 right (75.0 %)'
    assert figures[-1].axes[0].images[0].get_array()[0, 0].tolist() == [1, 0, 0]


def test_other_tasks_are_left_alone(tmp_path):
    hook = PredictionGridHook()
    hook.before_test_epoch(None)
    hook.after_test_iter(None, 0, dict(inputs=torch.zeros(1, 3, 4, 4)), [Sample(pred_instances=1)])
    hook.after_test_epoch(SimpleNamespace(work_dir=str(tmp_path)))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('channels, shape', [(1, (4, 5)), (2, (4, 5)), (3, (4, 5, 3)), (6, (4, 5, 3))])
def test_pictures(channels, shape):
    assert to_picture(torch.full((channels, 4, 5), 255, dtype=torch.uint8)).shape == shape
    picture = to_picture(torch.randn(channels, 4, 5) * 9)
    assert picture.shape == shape and picture.min() >= 0 and picture.max() <= 1


def test_pictures_of_event_frames():
    frames = torch.zeros(3, 2, 4, 5)
    frames[0, 1, 0, 0] = frames[2, 0, 3, 4] = 1
    picture = to_picture(frames)
    assert picture.shape == (4, 5, 3) and picture.min() >= 0 and (picture.max(-1) == 1).mean() >= 0.9
    assert picture[0, 0].argmax() == 0 and picture[3, 4].argmax() == 2  # brighter red, darker blue


@pytest.mark.parametrize('name', ['/tmp/x.png', '../x.png', 'a/../../x.png'])
def test_pictures_stay_in_the_work_directory(name):
    from qsdt_mm.engine.hooks import LearningCurvesHook, PredictionGridHook

    for hook in (LearningCurvesHook, PredictionGridHook):
        with pytest.raises(ValueError, match='expected a file in the work directory'):
            hook(filename=name)
