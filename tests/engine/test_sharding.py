"""A model whose parameters two processes share trains, saves and resumes as one that both hold (DDP) does."""

from types import SimpleNamespace

import pytest
import torch
import torch._dynamo  # seconds, which each process would take for itself otherwise
import toy_runs as toy
from copies import joined
from torch import nn

from qsdt_mm.compat.sharded import shard_states
from qsdt_mm.engine import sharding
from qsdt_mm.engine.runner import SafeRunner
from qsdt_mm.models.layers import SpikeUnit
from qsdt_mm.models.neurons import IELIF

fsdp = pytest.importorskip('torch.distributed.fsdp')
if not hasattr(fsdp, 'fully_shard'):
    pytest.skip('torch 2.6 and later', allow_module_level=True)
import torch.distributed.tensor  # noqa: E402, F401  likewise

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there')

SHARDED = dict(model_wrapper_cfg__type='FullyShardedModel')
PLAIN = dict(
    train_dataloader__num_workers=0,
    train_dataloader__batch_size=4,
    train_dataloader__dataset__augment=False,
    train_cfg__max_epochs=1,
)
SPIKING = """model = dict(_delete_=True, type='SpikingToy')
randomness = dict(seed=0)
val_cfg = val_dataloader = val_evaluator = None"""


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64, with AdamW, averaged weights and a schedule."""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', SPIKING)


def two(work_dir, *words, config, **changes):
    """Train in two processes; what each complained about."""
    words = [str(config), '--launcher', 'pytorch', '--work-dir', str(work_dir), *map(str, words)]
    words += toy.options(**{**PLAIN, **changes})
    return [complaint for _, complaint in joined(lambda: toy.tool('train').main(words), 2, toy.free_port())]


@pytest.fixture(scope='module')
def copies(config, tmp_path_factory):
    """Two epochs of two processes that both hold the model, with synchronised norms."""
    work_dir = tmp_path_factory.mktemp('copies') / 'run'
    two(work_dir, config=config, sync_bn='torch', train_cfg__max_epochs=2)
    return work_dir


def check_same(one, two):
    assert toy.training_differences(one, two) == []
    first, second = (toy.state(path) for path in (one, two))
    assert first['meta']['iter'] == second['meta']['iter']
    assert toy.differences(first['run_state']['processes'][1], second['run_state']['processes'][1]) == []


def test_what_copies_saved_goes_on_sharded(config, copies, tmp_path):
    """Bit for bit: weights, averages, states of the optimizer, in an ordinary file."""
    toy.copy_start(copies, tmp_path / 'run', 'epoch_1.pth')
    two(tmp_path / 'run', '--resume', config=config, sync_bn='torch', train_cfg__max_epochs=2, **SHARDED)
    held = toy.state(tmp_path / 'run' / 'epoch_2.pth')
    assert all(
        type(value) is torch.Tensor for value in (*held['state_dict'].values(), *held['ema_state_dict'].values())
    )
    check_same(copies / 'epoch_2.pth', tmp_path / 'run' / 'epoch_2.pth')


@pytest.mark.slow
def test_what_was_saved_sharded_goes_on_in_copies(config, copies, tmp_path):
    settings = dict(config=config, sync_bn='torch', train_cfg__max_epochs=2)
    two(tmp_path / 'sharded', **settings, **SHARDED)
    check_same(copies / 'epoch_2.pth', tmp_path / 'sharded' / 'epoch_2.pth')
    toy.copy_start(tmp_path / 'sharded', tmp_path / 'run', 'epoch_1.pth')
    two(tmp_path / 'run', '--resume', **settings)
    check_same(copies / 'epoch_2.pth', tmp_path / 'run' / 'epoch_2.pth')


@pytest.mark.slow
def test_clipped_gradients(tmp_path):
    """Their norm is summed in another order."""
    config = toy.variant(tmp_path / 'c.py', SPIKING + '\noptim_wrapper = dict(clip_grad=dict(max_norm=0.1))')
    two(tmp_path / 'copies', config=config)
    two(tmp_path / 'sharded', config=config, **SHARDED)
    one, other = (toy.state(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('copies', 'sharded'))
    for name, value in one.items():
        torch.testing.assert_close(other[name], value, rtol=0, atol=1e-8, msg=name)


@pytest.mark.slow
def test_gradients_under_way_are_resumed(tmp_path):
    """Two gradients make a step, and an epoch has three."""
    config = toy.variant(tmp_path / 'c.py', SPIKING + '\noptim_wrapper = dict(accumulative_counts=2)')
    two(tmp_path / 'straight', config=config, train_cfg__max_epochs=2, **SHARDED)
    toy.copy_start(tmp_path / 'straight', tmp_path / 'resumed', 'epoch_1.pth')
    held = toy.state(tmp_path / 'straight' / 'epoch_1.pth')['run_state']['processes']
    assert all(type(g) is torch.Tensor or g == 0 for process in held for g in process['gradients'].values())
    assert held[1]['gradients']
    two(tmp_path / 'resumed', '--resume', config=config, train_cfg__max_epochs=2, **SHARDED)
    check_same(tmp_path / 'straight' / 'epoch_2.pth', tmp_path / 'resumed' / 'epoch_2.pth')


@pytest.mark.slow
@pytest.mark.parametrize('compiled', [False, True])
def test_training_with_validation(compiled, tmp_path):
    """A model without blocks; averaged weights are validated, and the best are kept."""
    settings = dict(train_cfg__val_interval=1, default_hooks__checkpoint__save_best='acc')
    config = toy.CONFIG
    if compiled:
        config = toy.variant(tmp_path / 'c.py', SPIKING + "\ncompile = dict(backend='eager')")
        settings = {}
    two(tmp_path / 'run', config=config, **settings, **SHARDED)
    two(tmp_path / 'copies', config=config, **settings)
    assert toy.training_differences(tmp_path / 'run/epoch_1.pth', tmp_path / 'copies/epoch_1.pth') == []
    assert compiled or list((tmp_path / 'run').glob('best_acc_*.pth'))


@pytest.mark.slow
def test_a_loss_that_is_not_finite_is_explained(tmp_path):
    with pytest.raises(AssertionError) as caught:
        two(tmp_path / 'run', config=toy.CONFIG, model__nan_at=2, **SHARDED)
    assert 'the first module whose output is not finite is middle.overflow (Overflow)' in str(caught.value)


@pytest.mark.parametrize(
    ('layers', 'wrong'),
    [('Blok', ['Blok']), (['SpikeUnit'], ['SpikeUnit']), (['Linear', 'BatchNorm2d'], ['BatchNorm2d'])],
)
def test_layers_that_cannot_be_sharded(layers, wrong):
    model = nn.Sequential(SpikeUnit(IELIF(), nn.Linear(2, 2)), nn.Linear(2, 2), nn.BatchNorm2d(2))
    with pytest.raises(ValueError, match=rf"layers=\['{wrong[0]}'\] is not allowed: expected classes of modules"):
        sharding.FullyShardedModel(model, layers)


def test_older_torch(monkeypatch):
    monkeypatch.delattr(fsdp, 'fully_shard')
    with pytest.raises(ValueError, match='FullyShardedModel needs torch 2.6 or later, this is'):
        sharding.FullyShardedModel(nn.Linear(2, 2))


def test_unequal_shares_of_validation(monkeypatch):
    """Where a process has more batches than another it would wait for ever."""
    runner = SafeRunner.__new__(SafeRunner)
    loop = SimpleNamespace
    loader = loop(dataset=range(5), sampler=loop(round_up=False))
    monkeypatch.setattr(sharding, 'get_world_size', lambda: 2)
    monkeypatch.setattr(SafeRunner, 'sharded', True)
    with pytest.raises(ValueError, match='unequal shares of 5 samples'):
        runner._even(loop(dataloader=loader))
    loader.dataset = range(4)
    assert runner._even(loop(dataloader=loader))


def test_states_without_known_parts(monkeypatch):
    """Those of Adafactor, say."""
    parameter = nn.Parameter(torch.ones(2, 3))
    optimizer = torch.optim.SGD([parameter], lr=1)
    optimizer.state[parameter] = dict(step=torch.tensor(1.0), row=torch.ones(2, 1))
    shard_states(optimizer)
    monkeypatch.setattr('qsdt_mm.compat.sharded.is_sharded', lambda value: value is parameter)
    with pytest.raises(ValueError, match=r'row=\(2, 1\) of SGD is not allowed: expected the shape of its parameter'):
        shard_states(optimizer)
