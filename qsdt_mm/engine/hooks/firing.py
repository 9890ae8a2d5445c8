"""Watch what neurons fire while a network trains."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop
from torch import Tensor

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require_positive_int
from qsdt_mm.models.neurons import SpikingNeuron


@torch.no_grad()
def channel_activity(output: Tensor, scale: float, max_spike_count: int) -> Tensor:
    """Return mean firing rate, share of silent and share of saturated channels of a neuron's output, as ``(3,)``.

    A channel is silent if it never fires, saturated if it always fires D spikes, over batch, time and space.

    Args:
        output: ``n * scale``, ``(N, C, ...)``.
        scale, max_spike_count: of the neuron.
    """
    by_channel = output.detach().flatten(2) if output.dim() > 2 else output.detach().unsqueeze(-1)
    lowest, highest = by_channel.amin((0, 2)), by_channel.amax((0, 2))
    # Half a spike of room: scaled counts are floats.
    silent, saturated = highest < scale / 2, lowest > (max_spike_count - 0.5) * scale
    return torch.stack([output.mean() / (scale * max_spike_count), silent.float().mean(), saturated.float().mean()])


@HOOKS.register_module()
class FiringRateHook(Hook):
    """Logs, for each neuron, its firing rate and the shares of silent and saturated channels.

    Every ``interval`` iterations, and at the last of each epoch where a run counts epochs, the neurons are watched
    during one training step, on the main process, and ``firing/<neuron>/{rate,silent,saturated}`` goes to the
    visualizer's backends. A neuron that fires nothing at all is named once in the log as a warning.

    Args:
        interval: iterations between measurements.

    Raises:
        ValueError: ``interval`` is not a positive integer.

    >>> from types import SimpleNamespace
    >>> from qsdt_mm.models import IELIF
    >>> visualizer = SimpleNamespace(add_scalars=lambda scalars, step: print(scalars))
    >>> runner = SimpleNamespace(model=torch.nn.Sequential(IELIF(max_spike_count=4)), iter=0, visualizer=visualizer)
    >>> hook = FiringRateHook(interval=1)
    >>> hook.before_train_iter(runner, 0)
    >>> counts = runner.model(torch.ones(2, 3))  # one spike of four, everywhere
    >>> hook.after_train_iter(runner, 0)
    {'firing/0/rate': 0.25, 'firing/0/silent': 0.0, 'firing/0/saturated': 0.0}
    """

    priority = 'LOW'
    NAMES = ('rate', 'silent', 'saturated')

    def __init__(self, interval: int = 100) -> None:
        require_positive_int('interval', interval)
        self.interval = interval
        self._handles: list = []
        self._seen: dict[str, Tensor] = {}
        self._warned: set[str] = set()
        self.mean_rate: float | None = None  # over neurons, when they were last watched

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Start watching, when it is time."""
        last = isinstance(getattr(runner, 'train_loop', None), EpochBasedTrainLoop) and self.end_of_epoch(
            runner.train_dataloader, batch_idx
        )
        if not (last or self.every_n_train_iters(runner, self.interval)) or not is_main_process():
            return
        model = unwrap(runner.model)
        for name, neuron in model.named_modules():
            if isinstance(neuron, SpikingNeuron):
                self._handles.append(neuron.register_forward_hook(self._watch(name)))

    def _watch(self, name: str):
        def hook(neuron: SpikingNeuron, args: tuple, output: Tensor) -> None:
            self._seen[name] = channel_activity(output, neuron.scale, neuron.max_spike_count)

        return hook

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Stop watching, and log."""
        if not self._handles:
            return
        for handle in self._handles:
            handle.remove()
        self._handles = []
        if not self._seen:
            return
        names, values = list(self._seen), torch.stack(list(self._seen.values())).tolist()  # one synchronisation
        self._seen = {}
        self.mean_rate = sum(row[0] for row in values) / len(values)
        scalars = {f'firing/{name}/{what}': v for name, row in zip(names, values) for what, v in zip(self.NAMES, row)}
        runner.visualizer.add_scalars(scalars, step=runner.iter + 1)
        for name, (rate, *_) in zip(names, values):
            if rate == 0 and name not in self._warned:
                self._warned.add(name)
                runner.logger.warning(
                    f'{name} fires no spike at iteration {runner.iter + 1}: what follows learns nothing'
                )
