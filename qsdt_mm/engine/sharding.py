"""Training with parameters, gradients and optimizer states spread over processes (FSDP2, torch's ``fully_shard``)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.dist import broadcast, get_world_size
from mmengine.optim import BaseOptimWrapper
from mmengine.registry import MODEL_WRAPPERS
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from qsdt_mm.compat.sharded import let_copy, shard_states, whole_parameters, whole_states
from qsdt_mm.errors import InputError, require
from qsdt_mm.models.layers import SpikeUnit

from .cpu_distributed import synchronise
from .run_state import wrappers_of

LAYERS = ('Block', 'Stage')
ALONE = (SpikeUnit, _BatchNorm)
"""Modules that others look into: attention calls its units' methods, the border of a padded norm reads its weights."""


def _fully_shard() -> Callable:
    try:
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise InputError(f'FullyShardedModel needs torch 2.6 or later, this is {torch.__version__}') from error
    return fully_shard


@MODEL_WRAPPERS.register_module()
class FullyShardedModel(nn.Module):
    """Wrapper that spreads a model over processes: each holds a part of every parameter, gradient and optimizer state.

    Layers gather their parameters when they are run, and let them go afterwards. :class:`SafeRunner` trains with it,
    and saves and loads the checkpoints that it has without it.

    Args:
        module: the model, the same in every process or to be loaded; sharded in place.
        layers: names of classes whose modules gather their parameters one at a time; the rest of the model is gathered
            for all of a step. Modules that are called, not their methods alone. None: blocks and stages of
            ``SpikeDrivenTransformer``.
        reshard_after_forward: whether parameters are let go between a layer's forward and backward pass; False
            communicates less and keeps more.
        sync_bn: whether batch norms count over all processes; on CPUs, for ``sync_bn`` in a config does it on GPUs.

    Raises:
        InputError: torch is older than 2.6, or the model has no module of one of ``layers``.

    >>> model_wrapper_cfg = dict(type='FullyShardedModel')  # in a config, for tools/train.py CONFIG --launcher pytorch
    >>> MODEL_WRAPPERS.get(model_wrapper_cfg['type']) is FullyShardedModel
    True
    """

    def __init__(
        self,
        module: nn.Module,
        layers: Sequence[str] | None = None,
        reshard_after_forward: bool = True,
        sync_bn: bool = False,
    ) -> None:
        super().__init__()
        from torch.distributed.device_mesh import init_device_mesh

        kinds = {layers} if isinstance(layers, str) else set(LAYERS if layers is None else layers)
        parts = [(part, kinds & {kind.__name__ for kind in type(part).__mro__}) for part in module.modules()]
        unknown = kinds.difference(*(found for _, found in parts)) if layers is not None else ()
        refused = sorted(unknown or {name for part, found in parts if isinstance(part, ALONE) for name in found})
        allowed = 'classes of modules of the model that are called, such as blocks'
        require(not refused, 'layers', refused, allowed, InputError)
        if sync_bn:
            synchronise(module)
        shard = partial(
            _fully_shard(),
            mesh=init_device_mesh(get_device(), (get_world_size(),)),
            reshard_after_forward=reshard_after_forward,
        )
        for part, found in reversed(parts):  # inner ones first
            if part is not module and found and next(part.parameters(), None) is not None:
                shard(part)
        self.module = shard(module)
        let_copy(module)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: Any) -> dict[str, Tensor]:
        """Train one batch, as the model does by itself: the sum of processes is in its gradients."""
        return self.module.train_step(data, optim_wrapper)

    def val_step(self, data: Any) -> list:
        """Predict a batch of validation; all processes call it as often as each other."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> list:
        """Predict a batch of a test; all processes call it as often as each other."""
        return self.module.test_step(data)


class ShardingRunner(Runner):
    """A ``Runner`` whose model may be a :class:`FullyShardedModel`; with others, it is mmengine's.

    >>> issubclass(ShardingRunner, Runner)
    True
    """

    @property
    def sharded(self) -> bool:
        """Return whether the model is spread over processes."""
        return isinstance(self.model, FullyShardedModel)

    @contextmanager
    def _whole(self, to_save: bool = False) -> Iterator[None]:
        """Give the network, the averages that hooks hold of it and, to save them, optimizers whole tensors."""
        if not self.sharded:
            yield
            return
        averages = [hook.ema_model for hook in self.hooks if isinstance(getattr(hook, 'ema_model', None), nn.Module)]
        with ExitStack() as stack:
            stack.enter_context(whole_parameters(self.model.module, *averages, to_save=to_save))
            if to_save and isinstance(self.optim_wrapper, BaseOptimWrapper):
                optimizers = [wrapper.optimizer for wrapper in wrappers_of(self.optim_wrapper).values()]
                stack.enter_context(whole_states(*optimizers))
            yield

    def _init_model_weights(self) -> None:
        if not self.sharded:
            super()._init_model_weights()
        elif hasattr(self.model.module, 'init_weights'):
            with self._whole():
                self.model.module.init_weights()
            for buffer in self.model.module.buffers():
                broadcast(buffer)

    def build_optim_wrapper(self, optim_wrapper: Any) -> Any:
        """Build an optimizer wrapper as mmengine does; of sharded parameters, states that are loaded are sharded."""
        built = super().build_optim_wrapper(optim_wrapper)
        if self.sharded and built is not optim_wrapper:
            for wrapper in wrappers_of(built).values():
                wrapper.optimizer.register_load_state_dict_post_hook(shard_states)
        return built

    def save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """Save a checkpoint as mmengine does, with whole tensors; all processes call it together."""
        with self._whole(to_save=True):
            super().save_checkpoint(*args, **kwargs)

    def build_val_loop(self, loop: Any) -> BaseLoop:
        """Build the validation as mmengine does; a sharded model needs as many batches in each process."""
        return self._even(super().build_val_loop(loop))

    def build_test_loop(self, loop: Any) -> BaseLoop:
        """Build the test as mmengine does; a sharded model needs as many batches in each process."""
        return self._even(super().build_test_loop(loop))

    def _even(self, loop: BaseLoop) -> BaseLoop:
        loader = loop.dataloader
        if self.sharded and getattr(loader.sampler, 'round_up', True) is False:
            count, processes = len(loader.dataset), get_world_size()
            if count % processes:
                raise InputError(
                    f'sampler.round_up=False gives {processes} processes unequal shares of {count} samples, and '
                    'FullyShardedModel needs equal ones: set sampler.round_up=True'
                )
        return loop
