"""Checkpoints that survive being killed at any moment, and that are the run's own."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from qsdt_mm.errors import require
from qsdt_mm.fileio.atomic import AtomicLocalBackend  # noqa: F401  (registers the backend)
from qsdt_mm.fileio.own_files import keep_to_own_files, place


class _RemoveLater:
    """A storage backend that remembers what it was asked to remove."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.pending: list[tuple[Any, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        self.pending.append((self.backend.remove, path))

    def rmtree(self, path: str) -> None:
        self.pending.append((self.backend.remove if os.path.islink(path) else self.backend.rmtree, path))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with whole files only and with the old removed after the new is there.

    mmengine writes in place (a process killed meanwhile leaves a truncated file) and, with
    ``max_keep_ckpts`` or ``save_best``, removes the old file first (a process killed meanwhile leaves
    none). Here local files are written beside and renamed, and removals wait until everything has been
    written. A run that goes on from another run's checkpoint leaves that run's files alone. It is registered under its
    own name and takes the same arguments.

    Args:
        out_dir: As in ``CheckpointHook``. A remote one (``s3://...``) keeps that storage's own way of
            writing.
        backend_args: As in ``CheckpointHook``; ``dict(backend='atomic_local')`` unless given.
        **kwargs: As in ``CheckpointHook``; the rest goes to ``Runner.save_checkpoint``.

    Raises:
        ValueError: An argument is unknown, which mmengine would say when the first checkpoint is due, or is no number.

    >>> HOOKS.build(dict(type='SafeCheckpointHook', interval=2, save_best='auto')).interval
    2
    >>> SafeCheckpointHook(save_bset='auto')
    Traceback (most recent call last):
        ...
    ValueError: save_bset='auto' is not allowed: expected an argument of CheckpointHook
    """

    def __init__(self, *args, out_dir: str | None = None, backend_args: dict | None = None, **kwargs) -> None:
        known = {name for c in (CheckpointHook.__init__, Runner.save_checkpoint) for name in signature(c).parameters}
        for name, value in kwargs.items():
            require(name in known - {'self', 'kwargs'}, name, value, 'an argument of CheckpointHook')
        for name in ('interval', 'max_keep_ckpts', 'save_begin'):
            value = kwargs.get(name, 1)
            require(isinstance(value, int) and not isinstance(value, bool), name, value, 'an integer')
        remote = out_dir is not None and '://' in str(out_dir)
        if backend_args is None and kwargs.get('file_client_args') is None and not remote:
            backend_args = dict(backend='atomic_local')
        super().__init__(*args, out_dir=out_dir, backend_args=backend_args, **kwargs)

    @contextmanager
    def _removals_last(self) -> Iterator[None]:
        if not hasattr(self, 'file_backend'):  # no training: validation alone saves nothing
            yield
            return
        backend, later = self.file_backend, _RemoveLater(self.file_backend)
        self.file_backend = later
        try:
            yield
        finally:
            self.file_backend = backend
        kept = {
            self.last_ckpt,
            getattr(self, 'best_ckpt_path', None),
            *getattr(self, 'best_ckpt_path_dict', {}).values(),
        }
        kept = {place(path) for path in kept if path}
        for remove, path in later.pending:  # only reached when everything was written
            if place(path) not in kept:
                remove(path)

    def before_train(self, runner) -> None:
        """Forget the files of another run, then settle where to save."""
        keep_to_own_files(runner, self.out_dir)
        super().before_train(runner)

    def _publish_model(self, runner, ckpt_path: str | None) -> None:
        if ckpt_path is not None:  # of several metrics, one may not have improved on the run before
            super()._publish_model(runner, ckpt_path)

    def after_train_epoch(self, runner) -> None:
        """Save after an epoch, then remove what is no longer kept."""
        with self._removals_last():
            super().after_train_epoch(runner)

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Save after an iteration, then remove what is no longer kept."""
        if self.by_epoch:
            return
        with self._removals_last():
            super().after_train_iter(runner, batch_idx, data_batch, outputs)

    def after_val_epoch(self, runner, metrics: dict[str, float] | None = None) -> None:
        """Save the best model, then remove the one it replaces."""
        with self._removals_last():
            super().after_val_epoch(runner, metrics or {})


def protect_other_runs(runner: Runner) -> None:
    """Have mmengine's own checkpoint hooks leave other runs' files alone, and write whole files, as ours does.

    Args:
        runner: when its checkpoint has been loaded, before the hooks' ``before_train``.
    """
    for hook in runner.hooks:
        if not isinstance(hook, CheckpointHook) or isinstance(hook, SafeCheckpointHook):
            continue
        keep_to_own_files(runner, hook.out_dir)
        if hook.backend_args is None and hook.file_client_args is None and '://' not in str(hook.out_dir):
            hook.backend_args = dict(backend='atomic_local')  # writing in place would go through links
