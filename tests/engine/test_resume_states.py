"""Whatever a run holds, it holds after a stop: the last checkpoints are equal in all numbers, bit for bit."""

from types import SimpleNamespace

import pytest
import toy_runs as toy
import toy_states as states
from torch import nn

ACCUMULATED = 'optim_wrapper = dict(accumulative_counts=2)\n'
WITH_BEST = "default_hooks = dict(checkpoint=dict(save_best='acc', rule='greater', max_keep_ckpts=2))\n"
# what is held: configuration, by iteration or not, the checkpoint that the run goes on from
CASES = {
    'gradients': (ACCUMULATED, False, 1),
    'gradients, by iteration': ('optim_wrapper = dict(accumulative_counts=3)\n', True, 4),
    'gradients of zeros': (
        'model = dict(drop=0.0)\noptim_wrapper = dict(accumulative_counts=2, clip_grad=dict(max_norm=0.1))\n',
        False,
        1,
    ),
    'more gradients than the run has': ('optim_wrapper = dict(accumulative_counts=7)\n', False, 2),
    'loss scaler': (
        "optim_wrapper = dict(type='CpuScalingOptimWrapper', accumulative_counts=2,"
        ' loss_scale=dict(init_scale=64.0, growth_interval=2))\n',
        False,
        1,
    ),
    'two optimizers': (
        "model = dict(type='TwoStepToy')\noptim_wrapper = dict(_delete_=True, constructor='TwoOptimizers')\n",
        False,
        1,
    ),
    'averages that begin later': (
        "custom_hooks = [dict(type='EMAHook', ema_type='MomentumAnnealingEMA', begin_iter=2, interval=2,"
        ' update_buffers=True)]\n',
        False,
        2,
    ),
    'equal averages': ("custom_hooks = [dict(type='EMAHook', ema_type='StochasticWeightAverage')]\n", True, 4),
    'schedules': (
        "param_scheduler = [dict(type='LinearLR', start_factor=0.1, end=4, by_epoch=False), dict(type='MultiStepLR',"
        " milestones=[2], begin=1), dict(type='CosineAnnealingMomentum', T_max=9, by_epoch=False)]\n",
        False,
        1,
    ),
    'schedules that follow results': (
        "param_scheduler = [dict(type='ReduceOnPlateauLR', monitor='acc', rule='greater', patience=0)]\n"
        + states.SCORES.format({3: 0.5, 6: 0.4, 9: 0.3}),
        False,
        1,
    ),
    'patience and the best score': (
        "custom_hooks = [dict(type='EarlyStoppingHook', monitor='acc', min_delta=0.0, patience=2)]\n"
        'train_cfg = dict(max_epochs=5, val_interval=1)\n'
        + WITH_BEST
        + states.SCORES.format({3: 0.5, 6: 0.4, 9: 0.3, 12: 0.9}),
        False,
        2,
    ),
    'a spiking network': (
        "model = dict(_delete_=True, type='SpikingToy')\nval_cfg = val_dataloader = val_evaluator = None\n"
        'optim_wrapper = dict(accumulative_counts=2)\n',
        False,
        1,
    ),
    'a hook of its own': ("custom_hooks = [dict(type='DriftingHook')]\n", False, 1),
}


@pytest.fixture(scope='module')
def straight(tmp_path_factory):
    """Runs without a stop: the configuration, the work directory and the last checkpoint of each case."""
    made = {}

    def run(case):
        if case not in made:
            folder = tmp_path_factory.mktemp('straight')
            rest, iterations, _ = CASES[case]
            config, work_dir = states.config(folder / 'c.py', rest, iterations), folder / 'run'
            assert toy.train(work_dir, config=config) == 0
            made[case] = config, work_dir, (work_dir / 'last_checkpoint').read_text().split('/')[-1]
        return made[case]

    return run


def resumed(tmp_path, straight, case):
    """Go on from the case's checkpoint; return the last checkpoint without a stop and the one with it."""
    config, work_dir, last = straight(case)
    toy.copy_start(work_dir, tmp_path / 'run', f'{"iter" if CASES[case][1] else "epoch"}_{CASES[case][2]}.pth')
    assert toy.train(tmp_path / 'run', '--resume', config=config) == 0
    return work_dir / last, tmp_path / 'run' / last


@pytest.mark.parametrize('case', CASES)
def test_held(tmp_path, straight, case, capsys):
    assert states.all_differences(*resumed(tmp_path, straight, case)) == []
    said = capsys.readouterr()
    assert 'warning' not in said.err and 'is lost' not in said.out  # nothing is another than it was


@pytest.mark.parametrize(
    ('case', 'function'),
    [
        ('gradients', 'put_back_gradients'),
        ('two optimizers', 'put_back_counts'),
        ('a hook of its own', 'put_back_hooks'),
    ],
)
def test_what_is_not_put_back_is_missed(tmp_path, straight, monkeypatch, case, function):
    """Without one part of the state the comparison above fails: it sees that part."""
    from qsdt_mm.engine import run_state

    monkeypatch.setattr(run_state, function, lambda *args: None)
    assert states.all_differences(*resumed(tmp_path, straight, case)) != []


def test_early_stopping_stays_stopped(tmp_path, straight, capsys):
    """A run that has stopped early has nothing left to train, unless it is given more patience."""
    config, work_dir, last = straight('patience and the best score')
    assert last == 'epoch_3.pth'
    assert sorted(path.name for path in work_dir.glob('*.pth')) == ['best_acc_epoch_1.pth', 'epoch_2.pth', last]
    assert toy.train(work_dir, '--resume', config=config) == 0
    assert not (work_dir / 'epoch_4.pth').exists()
    assert toy.train(work_dir, '--resume', config=config, custom_hooks__0__patience=3) == 0
    assert (work_dir / 'best_acc_epoch_4.pth').exists() and (work_dir / 'epoch_5.pth').exists()


def test_what_a_library_keeps_beside_its_buffers():
    """The size to which mmdet resizes batches stays for some iterations."""
    preprocessors = pytest.importorskip('mmdet.models.data_preprocessors')
    from qsdt_mm.engine import run_state

    saved, fresh = (
        SimpleNamespace(model=nn.Sequential(preprocessors.BatchSyncRandomResize((32, 64), 10))) for _ in range(2)
    )
    saved.model[0]._input_size = (32, 48)
    run_state.put_back_attributes(fresh, run_state.plain_attributes(saved))
    assert fresh.model[0]._input_size == (32, 48)


def test_a_state_that_cannot_be_read_as_data_is_not_saved():
    from qsdt_mm.engine import run_state

    said = []
    hook = states.DriftingHook()
    runner = SimpleNamespace(hooks=[hook, states.DriftingHook(2.0)], logger=SimpleNamespace(warning=said.append))
    hook.value = object()
    assert run_state.hook_states(runner) == {'DriftingHook.2': dict(value=2.0)}
    assert 'state_dict of DriftingHook' in said.pop()
