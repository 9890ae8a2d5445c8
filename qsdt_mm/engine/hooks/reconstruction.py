"""Reconstructions of masked images, drawn while a masked autoencoder trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require_positive_int
from qsdt_mm.visualization.reconstruction import draw_reconstructions


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Draws images, masked and reconstructed, to ``reconstructions.png`` while a masked autoencoder trains.

    Args:
        interval: epochs between figures; the last epoch is always drawn.
        images: how many.
        filename: name of the file in the work directory.

    Raises:
        ValueError: ``interval`` or ``images`` is not a positive integer.

    >>> hook = HOOKS.build(dict(type='ReconstructionHook', interval=10))
    >>> hook.interval, hook.filename
    (10, 'reconstructions.png')
    """

    priority = 'VERY_LOW'

    def __init__(self, interval: int = 1, images: int = 6, filename: str = 'reconstructions.png') -> None:
        require_positive_int('interval', interval)
        require_positive_int('images', images)
        self.interval, self.images, self.filename = interval, images, filename
        self._batch: Any = None

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Keep the first batch of the run: later figures show the same images."""
        if self._batch is None:
            self._batch = data_batch

    @master_only
    def after_train_epoch(self, runner) -> None:
        """Write the figure, when it is time."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            model = unwrap(runner.model)
            inputs = model.data_preprocessor(self._batch, False)['inputs'][: self.images]
            draw_reconstructions(model, inputs, Path(runner.work_dir) / self.filename)
