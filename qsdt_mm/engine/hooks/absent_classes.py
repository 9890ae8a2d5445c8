"""Classes that no label of a validation holds: their scores say nothing, and the mean is of the others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.dist import all_reduce
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

from .labels import samples_of


@HOOKS.register_module()
class AbsentClassesHook(Hook):
    """Names, after a validation or a test of label maps, the classes that none of them holds.

    The tools of this package register it; elsewhere: ``custom_hooks = [dict(type='qsdt_mm.AbsentClassesHook')]``.
    The same classes are named once.

    >>> AbsentClassesHook().named
    set()
    """

    priority = 'LOW'

    def __init__(self) -> None:
        self.seen: torch.Tensor | None = None
        self.named: set[tuple[str, ...]] = set()

    def _begin(self, loop: Any) -> None:
        classes = (getattr(loop.dataloader.dataset, 'metainfo', None) or {}).get('classes')
        self.classes = [str(name) for name in classes or []]
        self.seen = torch.zeros(len(self.classes) + 1)  # the last: whether there was a map at all

    def before_val_epoch(self, runner: Any) -> None:
        """Begin to count."""
        self._begin(runner.val_loop)

    def before_test_epoch(self, runner: Any) -> None:
        """Begin to count."""
        self._begin(runner.test_loop)

    def _look(self, outputs: Sequence[Any]) -> None:
        if self.seen is None or len(self.seen) < 2:
            return
        for sample in samples_of(outputs):
            labels = getattr(getattr(sample, 'gt_sem_seg', None), 'data', None)
            if labels is not None:
                found = labels.unique().cpu()
                self.seen[found[(found >= 0) & (found < len(self.classes))].long()] = 1
                self.seen[-1] = 1

    def after_val_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the labels of a batch."""
        self._look(outputs)

    def after_test_iter(self, runner: Any, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Look at the labels of a batch."""
        self._look(outputs)

    def _end(self, what: str) -> None:
        seen, self.seen = self.seen, None
        if seen is None:
            return
        all_reduce(seen, 'max')
        absent = tuple(name for name, there in zip(self.classes, seen) if not there)
        if not seen[-1] or not absent or absent in self.named:
            return
        self.named.add(absent)
        names = ', '.join(absent[:10]) + (f' and {len(absent) - 10} more' if len(absent) > 10 else '')
        print_log(
            f'no label of the {what} data is {names}: their scores are nan, or 0 where they were predicted',
            logger='current',
            level=30,
        )

    def after_val_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Name the classes."""
        self._end('validation')

    def after_test_epoch(self, runner: Any, metrics: Any = None) -> None:
        """Name the classes."""
        self._end('test')
