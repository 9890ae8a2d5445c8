"""The data of a resumed run: the same samples, augmented alike, whatever the sampler and wherever the stop was."""

import pytest
import toy_runs as toy
import toy_states as states

EPOCHS = 'train_cfg = dict(max_epochs=2)\ndefault_hooks = dict(checkpoint=dict(by_epoch=False, interval=2))\n'
CASES = {
    'in the middle of an epoch': (EPOCHS, False, 'iter_2', 'iter_6'),
    'at the end of an epoch, by iteration': (EPOCHS.replace('interval=2', 'interval=3'), False, 'iter_3', 'iter_6'),
    'in the middle of gradients': (
        EPOCHS.replace('interval=2', 'interval=1') + 'optim_wrapper = dict(accumulative_counts=3)\n',
        False,
        'iter_4',
        'iter_6',
    ),
    'a best checkpoint between the others': (
        "train_cfg.update(val_interval=3)\ndefault_hooks['checkpoint'].update(interval=2, save_best='acc',"
        ' rule="greater")\nval_evaluator = dict(_delete_=True, type="ScoresByIteration", scores={3: 0.5})\n',
        True,
        'iter_3',
        'iter_9',
    ),
    'several checkpoint hooks': (
        "default_hooks['checkpoint'].update(interval=4)\n"
        "custom_hooks = [dict(type='SafeCheckpointHook', by_epoch=False, interval=6, filename_tmpl='other_{}.pth')]\n",
        True,
        'other_6',
        'iter_9',
    ),
    'a sampler of epochs in a loop of iterations': (
        "train_dataloader['sampler'] = dict(_delete_=True, type='DefaultSampler', shuffle=True)\n",
        True,
        'iter_4',
        'iter_9',
    ),
    'batches of another kind': (
        "train_dataloader['batch_sampler'] = dict(type='PairedBatches')\n",
        True,
        'iter_4',
        'iter_9',
    ),
}


def with_workers():
    """Each case with a worker; without one where that takes another path."""
    others = 'in the middle of an epoch', 'batches of another kind'
    for case in CASES:
        yield pytest.param(case, 1)
        yield pytest.param(case, 0, marks=[] if case in others else [pytest.mark.slow])


@pytest.mark.parametrize(('case', 'workers'), list(with_workers()))
def test_data(tmp_path, case, workers):
    rest, iterations, start, last = CASES[case]
    config = states.config(tmp_path / 'c.py', rest, iterations)
    changes = dict(train_dataloader__num_workers=workers)
    assert toy.train(tmp_path / 'straight', config=config, **changes) == 0
    toy.copy_start(tmp_path / 'straight', tmp_path / 'resumed', f'{start}.pth')
    assert toy.train(tmp_path / 'resumed', '--resume', config=config, **changes) == 0
    first, second = (tmp_path / name / f'{last}.pth' for name in ('straight', 'resumed'))
    assert states.all_differences(first, second) == []


def test_gradients_of_another_count_are_dropped(tmp_path, capsys):
    config = states.config(tmp_path / 'c.py', 'optim_wrapper = dict(accumulative_counts=2)\n')
    assert toy.train(tmp_path / 'run', config=config, train_cfg__max_epochs=2) == 0
    toy.copy_start(
        tmp_path / 'run', tmp_path / 'other', 'epoch_1.pth'
    )  # the last iteration of a run always makes a step
    capsys.readouterr()
    assert toy.train(tmp_path / 'other', '--resume', config=config, optim_wrapper__accumulative_counts=3) == 0
    assert 'Gradients that wait for the next step are dropped' in capsys.readouterr().out


def test_an_epoch_of_another_length_begins_anew(tmp_path, capsys):
    config = states.config(tmp_path / 'c.py', EPOCHS)
    assert toy.train(tmp_path / 'run', config=config, train_cfg__max_epochs=1) == 0
    toy.copy_start(tmp_path / 'run', tmp_path / 'other', 'iter_2.pth')
    capsys.readouterr()
    assert toy.train(tmp_path / 'other', '--resume', config=config, train_dataloader__batch_size=6) == 0
    said = capsys.readouterr()
    assert 'Epoch 1 begins anew' in said.out and 'the batch size was 4, not 6' in said.err
