"""Random numbers that depend on where the training is, not on how it came there."""

import functools
import hashlib
import random
import warnings
from typing import Any

import numpy as np
import torch
from mmengine.dataset import worker_init_fn as mmengine_worker_init_fn
from mmengine.dist import get_rank
from mmengine.hooks import CheckpointHook, Hook
from mmengine.registry import FUNCTIONS, HOOKS

from qsdt_mm.compat.resuming import call_after_advance


def mix_seed(*parts: int | str) -> int:
    """Mix numbers and words into one seed of 63 bits, the same in every process and on every machine."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, 'little') >> 1


def seed_everything(seed: int) -> None:
    """Seed Python's, numpy's and torch's generators (those of the GPUs too)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


@FUNCTIONS.register_module()
def seed_worker(worker_id: int, silence_warnings: bool = False) -> None:
    """Seed a data loading worker from the base seed that the loader drew from the main process.

    mmengine's own function gives a worker the same seed in every epoch, so that each epoch repeats the same
    random augmentations. This one follows the main generator, so epochs differ, and repeat when that
    generator is reseeded.

    Args:
        worker_id: The worker's number, given by the loader.
        silence_warnings: Whether workers other than the first keep their warnings to themselves.
    """
    seed_everything(mix_seed('worker', torch.initial_seed()))  # torch has added the worker's number already
    if silence_warnings and worker_id != 0:
        warnings.simplefilter('ignore')


@HOOKS.register_module()
class ReseedHook(Hook):
    """Reseed before every epoch and iteration, so that a resumed run equals an uninterrupted one.

    Seeds come from the runner's seed (kept in its checkpoints), the rank, the epoch and the iteration. The
    train loader's workers get :func:`seed_worker` in place of mmengine's function; any other function is
    left alone.

    What is exact on CPU, weights and optimizer bit for bit:

    - epoch-based training resumed from an epoch's checkpoint, with any number of workers, if
      ``persistent_workers=False`` (a warning says so otherwise: such workers carry their random state along);
    - iteration-based training with an ``InfiniteSampler``, with any number of workers, if checkpoints fall on
      multiples of ``restart_workers_every``: there the loader is started anew, as it is when resuming.

    What is not: gradients accumulated over several iterations and not yet applied at the checkpoint;
    iteration-based training with another sampler and random augmentation in workers (samples and dropout
    repeat, augmentation does not); ``fast_forward_on_resume=True``; hooks and data sets with a random state
    of their own.

    Args:
        restart_workers_every: In iteration-based training, start the loader anew after so many iterations,
            so that its workers' random state is known there. ``'auto'`` takes the interval of the
            checkpoint hook, ``None`` never restarts.

    Raises:
        ValueError: ``restart_workers_every`` is not a positive int, ``'auto'`` or ``None``.

    >>> from types import SimpleNamespace
    >>> hook, runner = ReseedHook(), SimpleNamespace(seed=0, epoch=2, iter=7)
    >>> hook.before_train_iter(runner, 0)
    >>> drawn = torch.rand(4)
    >>> hook.before_train_iter(runner, 0)  # in another process, say, that resumes here
    >>> torch.equal(torch.rand(4), drawn)
    True
    """

    priority = 'HIGHEST'

    def __init__(self, restart_workers_every: int | str | None = 'auto') -> None:
        number = isinstance(restart_workers_every, int) and not isinstance(restart_workers_every, bool)
        if not (restart_workers_every in ('auto', None) or (number and restart_workers_every > 0)):
            raise ValueError(
                f'restart_workers_every must be a positive int, "auto" or None, got {restart_workers_every!r}'
            )
        self.restart_workers_every = restart_workers_every
        self._restart: int | None = None
        self._training = False

    def _seed(self, runner, what: str, iteration: int) -> None:
        seed_everything(mix_seed(what, runner.seed, get_rank(), runner.epoch, iteration))

    def before_train(self, runner) -> None:
        """Replace mmengine's seeding of workers and settle when the loader is started anew."""
        self._training = True
        loader = runner.train_loop.dataloader
        if getattr(loader, 'num_workers', 0) > 0:
            current = loader.worker_init_fn
            if isinstance(current, functools.partial) and current.func is mmengine_worker_init_fn:
                silent = current.keywords.get('disable_subprocess_warning', False)
                loader.worker_init_fn = functools.partial(seed_worker, silence_warnings=silent)
            if loader.persistent_workers:
                runner.logger.warning(
                    'persistent_workers=True keeps the random state of the workers from epoch to '
                    'epoch: a resumed run will not repeat their augmentations exactly'
                )
        self._restart = self.restart_workers_every
        if self._restart == 'auto':
            intervals = [
                hook.interval
                for hook in runner.hooks
                if isinstance(hook, CheckpointHook) and not hook.by_epoch and hook.interval > 0
            ]
            self._restart = min(intervals) if intervals else None
        iterator = getattr(runner.train_loop, 'dataloader_iterator', None)
        if not (hasattr(iterator, 'skip_iter') and hasattr(getattr(loader, 'sampler', None), 'skip')):
            self._restart = None  # the position in the data could not be found again cheaply

    def before_train_epoch(self, runner) -> None:
        """Seed what is drawn while an epoch starts, the workers' base seed among it."""
        self._seed(runner, 'data', runner.iter)
        call_after_advance(runner.train_loop, lambda: self._seed(runner, 'data', runner.iter))

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed what the model draws: dropped paths, mixed batches."""
        self._seed(runner, 'model', runner.iter)

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: dict | None = None) -> None:
        """Seed what is drawn while the next batch is fetched in this process."""
        done = runner.iter + 1
        loop = runner.train_loop
        if self._restart and done % self._restart == 0 and done < runner.max_iters:
            loop.dataloader_iterator = type(loop.dataloader_iterator)(loop.dataloader)
            loop.dataloader_iterator.skip_iter(done)
        self._seed(runner, 'data', done)

    def after_val(self, runner) -> None:
        """Undo what the validation drew."""
        if self._training:
            self._seed(runner, 'data', runner.iter)
