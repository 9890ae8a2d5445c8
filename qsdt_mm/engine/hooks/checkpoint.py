"""Checkpoints that survive being killed at any moment."""

from collections.abc import Iterator
from contextlib import contextmanager
from inspect import signature
from typing import Any

from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from qsdt_mm.validation import require

from ..storage import AtomicLocalBackend  # noqa: F401  (registers the backend)


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
        self.pending.append((self.backend.rmtree, path))


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """mmengine's ``CheckpointHook``, with whole files only and with the old removed after the new is there.

    mmengine writes in place (a process killed meanwhile leaves a truncated file) and, with
    ``max_keep_ckpts`` or ``save_best``, removes the old file first (a process killed meanwhile leaves
    none). Here local files are written beside and renamed, and removals wait until everything has been
    written. It is registered under its own name and takes the same arguments.

    Args:
        out_dir: As in ``CheckpointHook``. A remote one (``s3://...``) keeps that storage's own way of
            writing.
        backend_args: As in ``CheckpointHook``; ``dict(backend='atomic_local')`` unless given.
        **kwargs: As in ``CheckpointHook``; the rest goes to ``Runner.save_checkpoint``.

    Raises:
        ValueError: An argument is unknown, which mmengine would say when the first checkpoint is due, or is no number.
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
        for remove, path in later.pending:  # only reached when everything was written
            if path not in kept:
                remove(path)

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
