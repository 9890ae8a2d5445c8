"""Remember how a run went, for what is said of it at its end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.models.neurons import SpikingNeuron


@HOOKS.register_module()
class OutcomeHook(Hook):
    """Remembers when a run began, its last metrics, and the mean firing rate of its last validation or test.

    The rate is ``spikes / (elements * D)`` over all neurons and the first ``batches`` batches, in [0, 1], time steps
    being elements; None of a network without spiking neurons, and of one that nobody validates.

    Args:
        batches: in which neurons are watched.

    >>> from types import SimpleNamespace
    >>> from qsdt_mm.models import IELIF
    >>> runner = SimpleNamespace(model=torch.nn.Sequential(IELIF(max_spike_count=4)))
    >>> hook = OutcomeHook()
    >>> hook.before_test_iter(runner, 0)
    >>> counts = runner.model(torch.ones(2, 3))  # one spike of four, everywhere
    >>> hook.after_test_iter(runner, 0)
    >>> hook.after_test_epoch(runner, {'accuracy/top1': 98.0})
    >>> hook.firing_rate, hook.metrics
    (0.25, {'accuracy/top1': 98.0})
    """

    priority = 'VERY_LOW'

    def __init__(self, batches: int = 4) -> None:
        self.batches = batches
        self.began, self.started = time.monotonic(), time.time()
        self.metrics: dict[str, Any] = {}
        self.firing_rate: float | None = None
        self._handles: list = []
        self._spikes: list[Tensor] = []
        self._places = 0

    def before_train(self, runner: Any) -> None:
        """Note the time."""
        self.began, self.started = time.monotonic(), time.time()

    def before_test(self, runner: Any) -> None:
        """Note the time."""
        self.began, self.started = time.monotonic(), time.time()

    @property
    def seconds(self) -> float:
        """Return how long ago the run began."""
        return time.monotonic() - self.began

    @torch.no_grad()
    def _see(self, neuron: SpikingNeuron, args: tuple, output: Tensor) -> None:
        self._spikes.append(output.detach().sum(dtype=torch.float64) / neuron.scale)
        self._places += output.numel() * neuron.max_spike_count

    def _watch(self, runner: Any, batch_idx: int) -> None:
        if batch_idx == 0:
            self._spikes, self._places = [], 0
        if batch_idx < self.batches and not self._handles:
            neurons = (m for m in unwrap(runner.model).modules() if isinstance(m, SpikingNeuron))
            self._handles = [neuron.register_forward_hook(self._see) for neuron in neurons]

    def _rest(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _close(self, metrics: Mapping[str, Any] | None) -> None:
        self._rest()
        self.metrics = dict(metrics or {})
        if self._places:
            self.firing_rate = float(torch.stack(self._spikes).sum()) / self._places

    def before_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the neurons of the first batches."""
        self._watch(runner, batch_idx)

    def before_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Watch the neurons of the first batches."""
        self._watch(runner, batch_idx)

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Watch no longer."""
        self._rest()

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Watch no longer."""
        self._rest()

    def after_val_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Note the results."""
        self._close(metrics)

    def after_test_epoch(self, runner: Any, metrics: Mapping[str, float] | None = None) -> None:
        """Note the results."""
        self._close(metrics)
