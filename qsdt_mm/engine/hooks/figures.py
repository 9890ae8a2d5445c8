"""Pictures of a run in its work directory: learning curves while it trains, predictions when it is tested."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real  # numpy's numbers, too
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import is_main_process, master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import require
from qsdt_mm.visualization.curves import draw_learning_curves
from qsdt_mm.visualization.figures import save_figure
from qsdt_mm.visualization.predictions import draw_prediction_grid
from qsdt_mm.visualization.scenes import Scene, draw_scenes, scene_of

from .classes import ignored_by


def inside_name(filename: str) -> str:
    """Return the name of a file in the work directory.

    Raises:
        ValueError: it leads out of it.
    """
    path = Path(filename)
    require(not path.is_absolute() and '..' not in path.parts, 'filename', filename, 'a file in the work directory')
    return filename


@HOOKS.register_module()
class LearningCurvesHook(Hook):
    """Draws the training loss and the validation metrics to ``learning_curves.png``, anew after each validation.

    The history lives in mmengine's message hub, which checkpoints keep: a resumed run draws all of it.

    Args:
        filename: name of the file in the work directory.
        metrics: the validation metrics to draw; None draws the first four.

    >>> HOOKS.build(dict(type='LearningCurvesHook', metrics=['accuracy/top1'])).filename
    'learning_curves.png'
    """

    priority = 'VERY_LOW'
    HISTORY = 'qsdt_mm_validation_history'

    def __init__(self, filename: str = 'learning_curves.png', metrics: Sequence[str] | None = None) -> None:
        self.filename = inside_name(filename)
        self.metrics = metrics
        self._training = False

    def before_train(self, runner) -> None:
        """Note that validation from here on belongs to the training."""
        self._training = True

    @master_only
    def after_val_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        """Note the metrics and draw."""
        if not self._training:
            return
        numbers = {key: float(value) for key, value in (metrics or {}).items() if isinstance(value, Real)}
        history = list(runner.message_hub.runtime_info.get(self.HISTORY, []))
        runner.message_hub.update_info(self.HISTORY, [*history, dict(iter=runner.iter, **numbers)])
        self.draw(runner)

    @master_only
    def after_train(self, runner) -> None:
        """Draw the whole run."""
        self.draw(runner)
        self._training = False

    def draw(self, runner) -> None:
        """Write the figure."""
        losses = runner.message_hub.log_scalars.get('train/loss')
        if losses is None:
            return
        values, _ = losses.data
        points = runner.message_hub.runtime_info.get(self.HISTORY, [])
        names = self.metrics or list(dict.fromkeys(key for point in points for key in point if key != 'iter'))[:4]
        # Iterations become epochs where there are any.
        per_unit = len(runner.train_dataloader) if runner.train_loop.__class__.__name__.startswith('Epoch') else 1
        unit = 'epoch' if per_unit > 1 else 'iteration'
        last = runner.iter
        times = np.arange(last - len(values) + 1, last + 1) / per_unit
        curves = {
            name: [(point['iter'] / per_unit, point[name]) for point in points if name in point] for name in names
        }
        drawn = {name: curve for name, curve in curves.items() if curve}
        figure = draw_learning_curves(times, np.asarray(values, dtype=float), drawn, unit)
        save_figure(figure, Path(runner.work_dir) / self.filename)


@HOOKS.register_module()
class PredictionGridHook(Hook):
    """Draws images with what was predicted to ``predictions.png``, of a test or a training's last validation.

    Of a classifier mistakes come first, so that they are seen; the title says how many there are. Of a segmenter or
    detector those images are drawn that have most mistakes, beside their truth. In a training the figure is drawn once,
    at its end.

    Args:
        filename: name of the file in the work directory.
        rows, columns: of the grid; segmenters and detectors have a row for each image.

    >>> HOOKS.build(dict(type='PredictionGridHook', rows=2, columns=4)).filename
    'predictions.png'
    """

    priority = 'VERY_LOW'

    def __init__(self, filename: str = 'predictions.png', rows: int = 4, columns: int = 8) -> None:
        self.filename = inside_name(filename)
        self.rows, self.columns = rows, columns
        self._reset()

    def _reset(self) -> None:
        self._right: list[tuple] = []
        self._wrong: list[tuple] = []
        self._scenes: list[Scene] = []
        self._count = self._mistakes = 0

    def before_val_epoch(self, runner) -> None:
        """Start anew."""
        self._reset()

    def before_test_epoch(self, runner) -> None:
        """Start anew."""
        self._reset()

    def after_val_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None) -> None:
        """Keep what may be drawn."""
        self._keep(runner, 'val_loop', data_batch, outputs)

    def after_test_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Sequence | None = None) -> None:
        """Keep what may be drawn."""
        self._keep(runner, 'test_loop', data_batch, outputs)

    def _keep(self, runner: Any, loop: str, data_batch: Any, outputs: Sequence | None) -> None:
        if not is_main_process() or not isinstance(data_batch, Mapping):
            return
        most = self.rows * self.columns
        for image, sample in zip(data_batch['inputs'], outputs or []):
            if not ('gt_label' in sample and 'pred_score' in sample):
                if not hasattr(sample, 'get'):
                    return
                scene = scene_of(image, sample, ignored_by(getattr(runner, loop, None)))
                if scene is not None:
                    self._count += 1
                    self._scenes = sorted([*self._scenes, scene], key=lambda each: -each.mistakes)[: self.rows]
                continue
            truth, scores = int(sample.gt_label[0]), sample.pred_score
            label = int(scores.argmax())
            self._count += 1
            self._mistakes += label != truth
            kept = self._wrong if label != truth else self._right
            if len(kept) < most:
                kept.append((image.cpu(), truth, label, float(scores[label])))

    @master_only
    def after_test_epoch(self, runner, metrics: Mapping[str, float] | None = None) -> None:
        """Write the figure."""
        self._draw(runner, 'test_dataloader')

    @master_only
    def after_train(self, runner) -> None:
        """Write the figure of the last validation."""
        self._draw(runner, 'val_dataloader')

    def _draw(self, runner, loader: str) -> None:
        if not self._count:
            return
        preprocessor = unwrap(runner.model).data_preprocessor
        kinds = ('to_rgb', 'channel_conversion', '_channel_conversion')
        reverse = any(getattr(preprocessor, kind, False) for kind in kinds)
        meta = getattr(getattr(runner, loader).dataset, 'metainfo', None) or {}
        if self._scenes:
            figure = draw_scenes(self._scenes, self._count, meta, reverse)
        else:
            shown = (self._wrong[: self.rows * self.columns // 2] + self._right)[: self.rows * self.columns]
            right = self._count - self._mistakes
            figure = draw_prediction_grid(shown, self.columns, right, self._count, meta.get('classes'), reverse)
        save_figure(figure, Path(runner.work_dir) / self.filename)
