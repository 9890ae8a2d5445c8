"""The hook that watches firing while a network trains."""

from types import SimpleNamespace

import pytest
import torch
from mmengine.runner import EpochBasedTrainLoop
from torch import nn

from qsdt_mm import IELIF
from qsdt_mm.engine.hooks.firing import FiringRateHook, channel_activity


def test_channels():
    """Of four channels one is silent, one saturated."""
    count = torch.tensor([[0.0, 4, 1, 0], [0, 4, 0, 2]])
    expected = [count.mean().item() / 4, 0.25, 0.25]
    for output in (count, count.view(2, 4, 1, 1).expand(2, 4, 3, 3)):
        assert channel_activity(output * 0.1, 0.1, 4).tolist() == pytest.approx(expected)


class Run:
    """As much of a runner as the hook sees."""

    def __init__(self, model):
        self.model, self.iter, self.logged, self.warnings = model, 0, {}, []
        self.visualizer = SimpleNamespace(add_scalars=lambda values, step: self.logged.__setitem__(step, values))
        self.logger = SimpleNamespace(warning=self.warnings.append)

    def step(self, hook, image):
        hook.before_train_iter(self, self.iter)
        self.model(image)
        hook.after_train_iter(self, self.iter)
        self.iter += 1


def test_it_logs_every_n_iterations_and_warns_once():
    model = nn.Sequential(IELIF(), nn.Conv2d(3, 3, 1), IELIF(threshold=1e6))
    run, hook = Run(model), FiringRateHook(interval=2)
    for _ in range(6):
        run.step(hook, torch.full((1, 3, 2, 2), 2.0))
    assert sorted(run.logged) == [2, 4, 6]
    assert run.logged[4]['firing/0/rate'] == 0.5
    assert run.logged[4]['firing/0/silent'] == run.logged[4]['firing/0/saturated'] == 0
    assert run.logged[4]['firing/2/silent'] == 1
    assert run.warnings == ['2 fires no spike at iteration 2: what follows learns nothing']
    assert not model[0]._forward_hooks


def test_the_last_iteration_of_an_epoch_is_watched():
    run, hook = Run(nn.Sequential(IELIF())), FiringRateHook(interval=100)
    run.train_dataloader, run.train_loop = range(3), object.__new__(EpochBasedTrainLoop)
    for _ in range(2):
        for batch in range(3):
            hook.before_train_iter(run, batch)
            run.model(torch.ones(1, 3))
            hook.after_train_iter(run, batch)
            run.iter += 1
    assert sorted(run.logged) == [3, 6]


def test_bad_interval():
    with pytest.raises(ValueError, match='interval=0'):
        FiringRateHook(interval=0)
