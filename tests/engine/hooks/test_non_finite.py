"""A value that is not finite ends the run, is explained, and is never saved."""

import pytest
import torch
import toy_runs as toy

from qsdt_mm.engine.hooks.non_finite import first_non_finite


def test_nan_loss_stops_and_names_the_module(tmp_path, capsys):
    assert toy.train(tmp_path / 'run', model__nan_at=9) == 1
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1
    for words in (
        'loss_toy is nan',
        'iteration 9',
        'epoch 2',
        'middle.overflow (Overflow)',
        'its weights are finite',
        f'the last good checkpoint is {tmp_path}/run/epoch_1.pth',
    ):
        assert words in lines[0], words
    saved = sorted(path.name for path in (tmp_path / 'run').glob('*.pth'))
    assert saved == ['epoch_1.pth']
    weights = toy.state(tmp_path / 'run' / 'epoch_1.pth')['state_dict']
    assert all(torch.isfinite(value).all() for value in weights.values())


def test_spoilt_weight_is_not_saved_and_the_last_checkpoint_stays(tmp_path, capsys):
    config = toy.variant(
        tmp_path / 'poison.py',
        "custom_hooks = [dict(type='PoisonHook', at=12)]\ndefault_hooks = dict(checkpoint=dict(max_keep_ckpts=1))",
    )
    assert toy.train(tmp_path / 'run', config=config) == 1
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and 'head.bias is not finite after iteration 12' in lines[0]
    assert [path.name for path in (tmp_path / 'run').glob('*.pth')] == ['epoch_1.pth']
    assert toy.state(tmp_path / 'run' / 'epoch_1.pth')['meta']['epoch'] == 1


def test_spoilt_weight_is_named_in_the_next_iteration(tmp_path, capsys):
    config = toy.variant(tmp_path / 'poison.py', "custom_hooks = [dict(type='PoisonHook', at=2)]")
    assert toy.train(tmp_path / 'run', config=config) == 1
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and 'head (Linear), whose bias is already not finite' in lines[0]
    assert 'no checkpoint had been saved' in lines[0] and 'iteration 3' in lines[0]
    assert not list((tmp_path / 'run').glob('*.pth'))


def test_the_hook_lets_go_of_the_model(tmp_path, monkeypatch):
    from mmengine.runner import Runner

    kept = []
    original = Runner.train
    monkeypatch.setattr(Runner, 'train', lambda self: kept.append(self) or original(self))
    assert toy.train(tmp_path / 'run', train_cfg__max_epochs=1) == 0
    assert not kept[0].model._forward_hooks and not kept[0].model._forward_pre_hooks


class Root(torch.nn.Module):
    def __init__(self, body):
        super().__init__()
        self.body = body

    def forward(self, x, scale=1.0):
        return dict(loss=self.body(x * scale).sum())


class Divide(torch.nn.Module):
    """A container whose own arithmetic goes wrong."""

    def __init__(self):
        super().__init__()
        self.inner = torch.nn.Identity()

    def forward(self, x):
        return dict(out=[self.inner(x) / torch.zeros(1)])['out'][0]


def test_first_non_finite():
    body = torch.nn.Sequential(torch.nn.Linear(2, 2), Divide(), torch.nn.ReLU())
    name, module = first_non_finite(Root(body), (torch.ones(1, 2),), dict(scale=2.0))
    assert name == 'body.1' and isinstance(module, Divide)
    assert first_non_finite(Root(body[0]), (torch.ones(1, 2),), {}) is None
    assert first_non_finite(Root(body[0]), (torch.ones(1, 2),), dict(scale=float('inf')))[0] == 'body'
    assert not any(module._forward_hooks for module in body.modules())


def test_accuracies_and_evaluation_are_not_judged():
    from types import SimpleNamespace

    from qsdt_mm.engine.hooks.non_finite import _LossGuard
    from qsdt_mm.errors import NonFiniteLossError

    class Model(torch.nn.Module):
        def forward(self, x, mode='loss'):
            return dict(loss=[x.sum(), x.mean()], accuracy=torch.tensor(float('nan')))

    model = Model()
    runner = SimpleNamespace(iter=4, epoch=0, message_hub=SimpleNamespace(runtime_info={}))
    guard = _LossGuard(runner)
    guard.attach(model)
    model(torch.ones(2), mode='loss')
    bad = torch.tensor([1.0, float('inf')])
    model.eval()(bad, mode='loss')
    model.train()(bad, mode='tensor')
    with pytest.raises(NonFiniteLossError, match='loss is inf at iteration 5.*input of the model already'):
        model(bad, mode='loss')
