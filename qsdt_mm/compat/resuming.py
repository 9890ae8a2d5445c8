"""Resuming of mmengine's loops at their place in the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch.utils.data import DataLoader, IterableDataset


class Advancing:
    """An iterator that calls back once, after so many items: older loops fetch and drop what was trained on already.

    Args:
        iterator: a loop's iterator over its loader.
        steps: items that the loop will drop.
        then: called before the first item that it keeps.
        before: called with an item's number before it is dropped.

    >>> list(Advancing(iter('abc'), steps=1, then=lambda: print('here the run goes on'), before=lambda _: None))
    here the run goes on
    ['a', 'b', 'c']
    """

    def __init__(
        self, iterator: Iterator[Any], steps: int, then: Callable[[], None], before: Callable[[int], None]
    ) -> None:
        self.iterator, self.steps, self.then, self.before = iterator, steps, then, before
        self.dropped = 0

    def __iter__(self) -> Advancing:
        return self

    def __next__(self) -> Any:
        if self.dropped < self.steps:
            self.before(self.dropped)
        elif self.dropped == self.steps:
            self.then()
        self.dropped += 1
        return next(self.iterator)


def skips_samples(iterator: Any) -> bool:
    """Return whether a loop's iterator finds its place by skipping samples in the sampler, so that none is fetched."""
    return bool(
        hasattr(iterator, 'skip_iter')
        and getattr(iterator, '_resolve_sampler', lambda: None)()
        and getattr(iterator, '_resolve_batch_size', lambda: None)()
    )


def reseed_while_advancing(loop: Any, seed: Callable[[int], None]) -> None:
    """Have an iteration-based loop that resumes see the random numbers that it saw when it had not stopped.

    A loop that fetches what was trained on already, to drop it, fetches each batch with the numbers of its iteration:
    data loading workers, which keep their random state, are then where they were.

    Args:
        loop: of training, about to find its place.
        seed: sets the random numbers with which the batch of an iteration is fetched.
    """
    iterator, done = getattr(loop, 'dataloader_iterator', None), loop.iter
    if iterator is None or done == 0:
        return
    if not hasattr(iterator, 'skip_iter'):  # mmengine 0.10.7
        loop.dataloader_iterator = Advancing(iterator, done, lambda: seed(done), seed)
        return
    if skips_samples(iterator):
        return

    def skip_iter(steps: int) -> None:
        for step in range(steps):
            seed(step)
            iterator._next_data(skip_loading=True)
        seed(done)

    iterator.skip_iter = skip_iter


class _Rest:
    """A loader without its first batches; the loop gets the whole one back when the iteration begins."""

    def __init__(self, loop: Any, loader: DataLoader, batches: int) -> None:
        self.loop, self.loader, self.batches = loop, loader, batches
        self.then: Callable[[], None] = lambda: None

    def __len__(self) -> int:
        return len(self.loader)

    def __getattr__(self, name: str) -> Any:
        return getattr(vars(self)['loader'], name)

    def __iter__(self) -> Iterator[Any]:
        self.loop.dataloader = self.loader
        iterator = iter(self.loader)
        unseen = self.loader.num_workers == 0 and hasattr(iterator, '_next_index')
        unseen = unseen and not isinstance(self.loader.dataset, IterableDataset)
        for _ in range(self.batches):
            iterator._next_index() if unseen else next(iterator)
        self.then()
        yield from iterator


def skip_in_epoch(loop: Any, batches: int) -> None:
    """Let an epoch-based loop begin its next epoch after so many batches, which it has trained on already.

    Args:
        loop: of training, before its epoch begins.
        batches: that are dropped; hooks see the numbers of the others as if none had been.
    """
    loop.dataloader = _Rest(loop, loop.dataloader, batches)
    run_iter, run_epoch = loop.run_iter, loop.run_epoch

    def rest_of_epoch() -> None:
        loop.run_iter = lambda idx, data_batch: run_iter(idx + batches, data_batch)
        try:
            run_epoch()
        finally:
            vars(loop).pop('run_iter', None)
            vars(loop).pop('run_epoch', None)

    loop.run_epoch = rest_of_epoch


def skipped_in_epoch(loop: Any) -> int:
    """Return how many batches :func:`skip_in_epoch` drops from the epoch that begins."""
    return loop.dataloader.batches if isinstance(loop.dataloader, _Rest) else 0


def call_after_skipping(loop: Any, then: Callable[[], None]) -> None:
    """Call ``then`` when :func:`skip_in_epoch` has dropped its batches, before the next is fetched."""
    if isinstance(loop.dataloader, _Rest):
        loop.dataloader.then = then
