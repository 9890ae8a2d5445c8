"""Resuming of mmengine's iteration-based loops at their place in the data."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any


class Advancing:
    """An iterator that calls back once, after so many items: older loops fetch and drop what was trained on already.

    Args:
        iterator: a loop's iterator over its loader.
        steps: items that the loop will drop.
        then: called before the first item that it keeps.

    >>> list(Advancing(iter('abc'), steps=1, then=lambda: print('here the run goes on')))
    here the run goes on
    ['a', 'b', 'c']
    """

    def __init__(self, iterator: Iterator[Any], steps: int, then: Callable[[], None]) -> None:
        self.iterator, self.steps, self.then = iterator, steps, then

    def __iter__(self) -> Advancing:
        return self

    def __next__(self) -> Any:
        if self.steps == 0:
            self.then()
        self.steps -= 1
        return next(self.iterator)


def call_after_advance(loop: Any, then: Callable[[], None]) -> None:
    """Call ``then`` before the first batch of a resumed loop is fetched, if the loop fetches those before it, too.

    mmengine 0.10.7 does; loops whose iterator has ``skip_iter`` skip them unseen.
    """
    iterator = getattr(loop, 'dataloader_iterator', None)
    if iterator is not None and not hasattr(iterator, 'skip_iter') and loop.iter > 0:
        loop.dataloader_iterator = Advancing(iterator, loop.iter, then)
