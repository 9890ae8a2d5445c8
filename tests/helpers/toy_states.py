"""Parts of toy runs that hold states of their own, and the comparison of what two runs hold."""

from functools import partial

import torch
import toy_runs as toy
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.optim import AmpOptimWrapper, OptimWrapper, OptimWrapperDict
from mmengine.registry import (
    DATA_SAMPLERS,
    HOOKS,
    METRICS,
    MODELS,
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
)
from torch.utils.data import BatchSampler
from toy_parts import ToyModel

IMPORTS = "custom_imports = dict(imports=['qsdt_mm.engine.hooks', 'toy_parts', 'toy_states'])\n"
SMALL = """
train_dataloader = dict(num_workers=0, dataset=dict(count=12))
val_dataloader = dict(dataset=dict(count=12))
train_cfg = dict(max_epochs=3, val_interval=1)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=3, by_epoch=True, convert_to_iter_based=True)]
randomness = dict(seed=3)
"""
ITERATIONS = """
train_dataloader['sampler'] = dict(_delete_=True, type='InfiniteSampler', shuffle=True)
train_cfg = dict(_delete_=True, by_epoch=False, max_iters=9, val_interval=4)
param_scheduler = [dict(type='CosineAnnealingLR', T_max=9, by_epoch=False)]
default_hooks = dict(checkpoint=dict(by_epoch=False, interval=4))
log_processor = dict(by_epoch=False)
"""
SCORES = 'val_evaluator = dict(_delete_=True, type="ScoresByIteration", scores={})\n'
TIMES = ('time', 'data_time', 'memory')


def config(path, rest='', iterations=False):
    """Write a configuration of three epochs of three iterations, or of nine iterations."""
    return toy.variant(path, IMPORTS + SMALL + (ITERATIONS if iterations else '') + rest)


def held(path):
    """All that a checkpoint holds of a run, but times and names of files."""
    checkpoint = toy.state(path)
    hub = checkpoint['message_hub']
    scalars = {
        key: (buffer.data[0].tolist(), buffer.data[1].tolist())
        for key, buffer in hub['log_scalars'].items()
        if key.rpartition('/')[2] not in TIMES
    }
    info = {key: hub['runtime_info'].get(key) for key in ('keep_ckpt_ids', 'best_score', 'iter', 'epoch')}
    parts = ('state_dict', 'ema_state_dict', 'optimizer', 'param_schedulers', 'run_state')
    return dict({part: checkpoint.get(part) for part in parts}, scalars=scalars, info=info)


def all_differences(a, b):
    """The places in which two checkpoints differ, bit for bit."""
    first, second = held(a), held(b)
    assert first['run_state'] and first['optimizer'] and first['scalars']
    return toy.differences(first, second)


@HOOKS.register_module()
class InterruptHook(Hook):
    """Ctrl-C in the validation that follows an iteration."""

    def __init__(self, at):
        self.at = at

    def before_val_epoch(self, runner):
        if runner.iter == self.at:
            raise KeyboardInterrupt


@HOOKS.register_module()
class DriftingHook(Hook):
    """Moves a weight by a number that it counts up."""

    def __init__(self, value=0.0):
        self.value = value

    def state_dict(self):
        return dict(value=self.value)

    def load_state_dict(self, state):
        self.value = state['value']

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.value += 0.125
        with torch.no_grad():
            runner.model.head.bias += self.value


@METRICS.register_module()
class ScoresByIteration(BaseMetric):
    """``acc`` by the number of iterations done; notes when it was asked."""

    asked: list = []

    def __init__(self, scores, collect_device='cpu', prefix=None):
        super().__init__(collect_device, prefix)
        self.scores = {int(key): value for key, value in scores.items()}

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        done = (MessageHub.get_current_instance().runtime_info.get('iter') or 0) + 1
        self.asked.append(done)
        return dict(acc=self.scores.get(done, 0.0))


@OPTIM_WRAPPERS.register_module()
class CpuScalingOptimWrapper(AmpOptimWrapper):
    """mmengine's wrapper with a loss scaler that works on CPUs."""

    def __init__(self, loss_scale, **kwargs):
        OptimWrapper.__init__(self, **kwargs)
        self._scale_update_param, self.cast_dtype = None, torch.bfloat16
        self.loss_scaler = torch.amp.GradScaler(device='cpu', **loss_scale)

    optim_context = OptimWrapper.optim_context


@MODELS.register_module()
class TwoStepToy(ToyModel):
    """Trains its stem and its head with optimizers of their own."""

    def train_step(self, data, optim_wrapper):
        data = self.data_preprocessor(data, True)
        loss = self(**data, mode='loss')['loss_toy']
        for wrapper in optim_wrapper.values():
            wrapper.update_params(loss if wrapper is optim_wrapper['stem'] else self(**data, mode='loss')['loss_toy'])
        return dict(loss=loss)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class TwoOptimizers:
    """Builds an optimizer for the stem, one for the head, with gradients of two and of three batches."""

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        pass

    def __call__(self, model):
        adam = partial(torch.optim.Adam, lr=0.01)
        return OptimWrapperDict(
            stem=OptimWrapper(adam(model.stem.parameters()), accumulative_counts=2),
            head=OptimWrapper(torch.optim.SGD(model.head.parameters(), lr=0.1, momentum=0.9), accumulative_counts=4),
        )


@DATA_SAMPLERS.register_module()
class PairedBatches(BatchSampler):
    """Batches of samples that fit together, as detectors sort pictures: how many were drawn is not known."""

    def __init__(self, sampler, batch_size, drop_last=False):
        super().__init__(sampler, batch_size, drop_last)

    def __iter__(self):
        groups = [[], []]
        for index in self.sampler:
            group = groups[index % 2]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
