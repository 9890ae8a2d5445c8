"""Energy of a trained network, counted at the end of a training."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.dataset import pseudo_collate
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch.utils.data import IterableDataset

from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis.energy import EnergyReport
from qsdt_mm.compat.sharded import is_sharded
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import one_line, require_positive_int
from qsdt_mm.fileio.reports import write_json
from qsdt_mm.models.neurons import SpikingNeuron
from qsdt_mm.visualization.energy import plot_energy


@HOOKS.register_module()
class EnergyHook(Hook):
    """Counts operations and theoretical energy on a few validation images when a training is over.

    ``energy.json`` and ``energy.png`` in the work directory are what ``energy.py`` gives, of the last weights, without
    memory. There are none of a network without spiking neurons, without validation data, or spread over processes;
    what cannot be counted is a warning and no more.

    Args:
        images: to count on.
        seconds: after which no further image is begun.

    Raises:
        ValueError: ``images`` is not a positive integer.

    >>> HOOKS.build(dict(type='EnergyHook', images=4)).images
    4
    """

    priority = 'VERY_LOW'

    def __init__(self, images: int = 8, seconds: float = 20.0) -> None:
        require_positive_int('images', images)
        self.images, self.seconds = images, seconds
        self.report: EnergyReport | None = None

    @master_only
    def after_train(self, runner: Any) -> None:
        """Count, write and draw."""
        model = unwrap(runner.model)
        spiking = any(isinstance(module, SpikingNeuron) for module in model.modules())
        if runner.val_loop is None or not spiking or any(is_sharded(parameter) for parameter in model.parameters()):
            return
        training = model.training
        model.eval()
        try:
            self.report = measure_energy(model, self._batches(runner.val_dataloader), run=run_on(model))
        except (ValueError, TypeError, LookupError, RuntimeError, NotImplementedError) as error:
            runner.logger.warning(f'energy was not counted: {one_line(error)}')
            return
        finally:
            model.train(training)
        folder = Path(runner.work_dir)
        try:
            write_json(folder / 'energy.json', self.report.as_dict())
            plot_energy(self.report, folder / 'energy.png')
        except OSError as error:  # the training is done, and as good without
            runner.logger.warning(f'energy was not written: {one_line(error)}')

    def _batches(self, loader: Any) -> Iterator[Any]:
        """Yield batches of one image, until there are enough or it took long enough."""
        dataset, collate, began = loader.dataset, loader.collate_fn or pseudo_collate, time.monotonic()
        if isinstance(dataset, IterableDataset):
            return
        for i in range(min(self.images, len(dataset))):
            yield collate([dataset[i]])
            if time.monotonic() - began > self.seconds:
                return


def run_on(model: Any) -> Any:
    """Return a function that passes a batch of one image through a network."""

    def run(batch: Any) -> int:
        model.test_step(batch)
        return 1

    return run
