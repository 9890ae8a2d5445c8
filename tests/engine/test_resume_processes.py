"""Processes that train together each go on with what they had of their own."""

from types import SimpleNamespace

import pytest
import torch
import toy_runs as toy
import toy_states as states
from torch import nn

from qsdt_mm.engine import run_state


def process(seed):
    """A runner's network and optimizer, in the middle of a step."""
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3), nn.Linear(3, 1))
    nn.init.ones_(model[0].weight)
    model[2].requires_grad_(seed == 0)
    model[1](torch.randn(4, 3))
    model[0](torch.randn(4, 2)).square().sum().backward()
    wrapper = SimpleNamespace(optimizer=torch.optim.SGD(model.parameters(), lr=0.1))
    return SimpleNamespace(model=model, optim_wrapper=wrapper)


def test_what_each_process_has_of_its_own(monkeypatch):
    runners = [process(seed) for seed in (0, 1)]
    expected = [
        (run_state.gradients(r), {name: value.clone() for name, value in r.model.named_buffers()}) for r in runners
    ]
    sent = [dict(gradients=run_state.gradients(r), buffers=run_state.own_buffers(r)) for r in runners]
    monkeypatch.setattr(run_state, 'get_world_size', lambda: 2)
    monkeypatch.setattr(run_state, 'gather_object', lambda state: sent)
    saved = run_state.of_each_process(runners[0])
    assert [sorted(state['buffers']) for state in saved] == [[], ['1.running_mean', '1.running_var']]
    assert [sorted(state['gradients']) for state in saved] == [['0.bias', '0.weight']] * 2
    for rank, (gradients, buffers) in enumerate(expected):
        fresh = process(0)  # weights and statistics of the first process, as a checkpoint gives them
        monkeypatch.setattr(run_state, 'get_rank', lambda rank=rank: rank)
        assert run_state.put_back_process(fresh, saved)
        assert toy.differences(gradients, run_state.gradients(fresh)) == []
        found = dict(fresh.model.named_buffers())
        assert toy.differences(buffers, found) == []
    monkeypatch.setattr(run_state, 'get_world_size', lambda: 3)
    assert not run_state.put_back_process(process(0), saved)


@pytest.mark.slow
@pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there')
@pytest.mark.parametrize('iterations', [True, False])
def test_two_processes(tmp_path, iterations):
    """Gradients are under way, and statistics of norms differ between the processes."""
    config = states.config(
        tmp_path / 'c.py', f'optim_wrapper = dict(accumulative_counts={2 + iterations})\n', iterations
    )

    def train(work_dir, *words):
        run = toy.start(
            ['bash', toy.ROOT / 'tools/dist_train.sh', config, '2', '--work-dir', work_dir, *words]
            + toy.options(train_dataloader__batch_size=2),
            PORT=toy.free_port(),
        )
        out, error = run.communicate(timeout=300)
        assert run.returncode == 0, out[-2000:] + error[-2000:]

    names = ['iter_4', 'iter_9'] if iterations else ['epoch_1', 'epoch_3']
    train(tmp_path / 'straight')
    toy.copy_start(tmp_path / 'straight', tmp_path / 'resumed', f'{names[0]}.pth')
    saved = toy.state(tmp_path / 'straight' / f'{names[0]}.pth')['run_state']['processes']
    assert len(saved) == 2 and saved[1]['gradients'] and saved[1]['buffers'] and not saved[0]['buffers']
    train(tmp_path / 'resumed', '--resume')
    first, second = (tmp_path / name / f'{names[1]}.pth' for name in ('straight', 'resumed'))
    assert states.all_differences(first, second) == []
