"""Lengths of runs: schedules that are stretched with them, and those that are cut."""

import math
from types import SimpleNamespace

import pytest
from mmengine.config import Config

from qsdt_mm.cli.schedule import cut_short, end_of, rates, stretch, without_empty
from qsdt_mm.errors import InputError

SCHEDULES = {
    'cosine': [
        dict(type='LinearLR', start_factor=0.01, by_epoch=True, end=2, convert_to_iter_based=True),
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=True, begin=2, end=12, convert_to_iter_based=True),
    ],
    'cosine without end': [dict(type='CosineAnnealingLR', T_max=12, by_epoch=True)],
    'steps after a warm-up in iterations': [
        dict(type='LinearLR', start_factor=0.001, by_epoch=False, begin=0, end=500),
        dict(type='MultiStepLR', begin=0, end=12, by_epoch=True, milestones=[8, 11], gamma=0.1),
    ],
    'one': dict(type='PolyLR', power=0.9, eta_min=1e-4, begin=0, end=12, by_epoch=True),
    'by name': dict(
        optimizer=[dict(type='LinearLR', start_factor=1.0, end_factor=0.1, begin=0, end=12, by_epoch=True)]
    ),
}


def config(scheduler, **train):
    train = train or dict(by_epoch=True, max_epochs=12)
    return Config(
        dict(
            train_cfg=train,
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='SGD', lr=0.1)),
            param_scheduler=scheduler,
            custom_hooks=[dict(type='PipelineSwitchHook', switch_epoch=10)],
        )
    )


@pytest.mark.parametrize('name', SCHEDULES)
@pytest.mark.parametrize('epochs', [1, 2, 3, 6, 24, 100])
def test_a_stretched_schedule_ends_with_the_run_and_at_the_same_rate(name, epochs):
    cfg = config(SCHEDULES[name])
    (before,) = rates(cfg, [12])
    said = stretch(cfg, epochs, '--epochs')
    assert cfg.train_cfg.max_epochs == epochs and f'{epochs} epoch' in said and ' in place of 12, ' in said
    assert cut_short(cfg) is None or epochs == 1
    if epochs > 3:  # shorter runs may not have every step
        assert math.isclose(rates(cfg, [epochs])[0], before, rel_tol=0.3, abs_tol=0.01)
        assert cfg.custom_hooks[0].switch_epoch == round(10 * epochs / 12)


def test_iterations_of_a_warm_up_stay():
    cfg = config(SCHEDULES['steps after a warm-up in iterations'])
    stretch(cfg, 6, '--epochs')
    assert cfg.param_scheduler[0].end == 500
    assert cfg.param_scheduler[1].milestones == [4, 5] and cfg.param_scheduler[1].end == 6


def test_warm_ups_that_mmengine_counts_in_iterations_become_parts_of_epochs():
    cfg = config(SCHEDULES['cosine'])
    stretch(cfg, 3, '--epochs')
    warm_up, cosine = cfg.param_scheduler
    assert warm_up.end == cosine.begin == 0.5 and cosine.end == 3


def test_a_warm_up_of_less_than_an_iteration_goes():
    cfg = config(SCHEDULES['cosine'])
    stretch(cfg, 1, '--epochs')
    warm_up, cosine = schedulers = list(cfg.param_scheduler)
    assert without_empty(schedulers, SimpleNamespace(dataloader=[0] * 2)) == [cosine]
    assert without_empty(schedulers, SimpleNamespace(dataloader=[0] * 20)) == [warm_up, cosine]


def test_runs_that_count_iterations():
    poly = [dict(type='PolyLR', eta_min=1e-4, power=0.9, begin=0, end=160000, by_epoch=False)]
    cfg = config(poly, type='IterBasedTrainLoop', max_iters=160000)
    stretch(cfg, 1000, '--iters')
    assert cfg.train_cfg.max_iters == cfg.param_scheduler[0].end == end_of(cfg) == 1000
    with pytest.raises(InputError, match='this run counts iterations .* use --iters'):
        stretch(cfg, 3, '--epochs')
    with pytest.raises(InputError, match='this run counts epochs .* use --epochs'):
        stretch(config(poly), 3, '--iters')
    cfg.train_cfg.max_iters = 400
    assert 'the schedule ends at iteration 1000, training at 400: the last learning rate is 0.063, not' in cut_short(
        cfg
    )


@pytest.mark.parametrize('epochs', [0, -3])
def test_lengths_that_are_none(epochs):
    with pytest.raises(InputError, match='--epochs'):
        stretch(config(SCHEDULES['cosine']), epochs, '--epochs')


def test_a_cut_schedule_is_named_with_its_last_rate():
    cfg = config(SCHEDULES['cosine'])
    cfg.train_cfg.max_epochs = 2
    text = cut_short(cfg)
    assert text.startswith('the schedule ends at epoch 12, training at 2: the last learning rate is 0.1, not 1e-05')
    assert '--epochs 2' in text


@pytest.mark.parametrize(
    'scheduler',
    [
        None,
        [],
        dict(type='ReduceOnPlateauLR', monitor='loss', by_epoch=True),
        [dict(type='LinearLR', start_factor=0.1, by_epoch=True, end=1)],
        [dict(type='ConstantLR', factor=1.0, by_epoch=True, end=100)],  # the same rate before and after
        [dict(type='LinearLR', start_factor=0.1, by_epoch=False, end=100000)],
    ],
)
def test_nothing_is_said_of_schedules_that_are_not_cut(scheduler):
    assert cut_short(config(scheduler)) is None


def test_a_scheduler_of_somebodys_own_is_cut_without_a_rate():
    text = cut_short(config([dict(type='NoSuchLR', by_epoch=True, end=20)]))
    assert text.startswith('the schedule ends at epoch 20, training at 12 (--epochs 12')
