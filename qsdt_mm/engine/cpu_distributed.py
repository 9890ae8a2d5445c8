"""Processes on CPUs that train together: their wrapper, and batch norm over the batches of all of them."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODEL_WRAPPERS
from torch import Tensor, nn

KINDS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class _SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes, and of its gradient."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        values = values.clone()
        dist.all_reduce(values)
        return values

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        return _SumOverProcesses.apply(grad.contiguous())


class _SyncMixin:
    """Batch norm whose statistics in training are those of all processes' batches together.

    What torch's ``SyncBatchNorm`` is on GPUs, in the plain operations that gloo can do.
    """

    def forward(self, inputs: Tensor) -> Tensor:
        """Normalize ``(N, C, ...) -> (N, C, ...)``; batches may differ in N."""
        if not self.training or not dist.is_initialized() or dist.get_world_size() == 1:
            return super().forward(inputs)
        axes = [axis for axis in range(inputs.dim()) if axis != 1]
        shape = (1, -1, *[1] * (inputs.dim() - 2))
        count = inputs.new_tensor([inputs.numel() / inputs.shape[1]])
        sums = _SumOverProcesses.apply(torch.cat([inputs.sum(axes), count]))
        total = sums[-1].detach()
        mean = sums[:-1] / total
        centred = inputs - mean.view(shape)
        variance = _SumOverProcesses.apply(centred.square().sum(axes)) / total
        if self.track_running_stats:
            self._follow(mean.detach(), variance.detach() * total / (total - 1).clamp_min(1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return out * self.weight.view(shape) + self.bias.view(shape) if self.affine else out

    @torch.no_grad()
    def _follow(self, mean: Tensor, variance: Tensor) -> None:
        self.num_batches_tracked += 1
        share = 1 / self.num_batches_tracked.item() if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), share)
        self.running_var.lerp_(variance.to(self.running_var.dtype), share)


SYNCED = {kind: type(f'Sync{kind.__name__}', (_SyncMixin, kind), {}) for kind in KINDS}


def synchronise(model: nn.Module) -> nn.Module:
    """Make the batch norms of a model count over all processes, in place; parameters and statistics stay."""
    for module in model.modules():
        if type(module) in SYNCED:
            module.__class__ = SYNCED[type(module)]
    return model


@MODEL_WRAPPERS.register_module()
class CpuDistributedDataParallel(MMDistributedDataParallel):
    """mmengine's wrapper for processes without GPUs.

    Args:
        module: the model.
        sync_bn: whether batch norms count over all processes. Other arguments are those of
            ``mmengine.model.MMDistributedDataParallel``.
    """

    def __init__(self, module: nn.Module, *args: Any, sync_bn: bool = False, **kwargs: Any) -> None:
        super().__init__(synchronise(module) if sync_bn else module, *args, **kwargs)
