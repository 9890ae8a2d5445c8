"""Images read as arrays, many at a time."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
from mmengine.dist import is_main_process

from qsdt_mm.errors import InputError, is_own_fault, one_line

from .image_files import TAILS, check_whole, is_local

LONG = 10_000
"""Images of which reading takes so long that a line says how far it is."""
CHUNK = 256
"""Images that a thread reads in one go."""


def read_pixels(info: Mapping, steps: Sequence[Callable]) -> dict[str, Any]:
    """Return what is known of an image, its pixels in ``img`` among it, ``(H, W)`` or ``(H, W, C)`` uint8."""
    result = dict(info)
    name, path = name_of(info), info.get('img_path')
    try:
        if is_local(path) and 'img' not in info:
            _check_end(path)
        for step in steps:
            result = step(result)
            if result is None:
                raise InputError(f'{name}: {type(step).__name__} gives no image')
    except InputError:
        raise
    except Exception as error:
        if is_own_fault(error):
            raise
        text = one_line(error)
        raise InputError(text if name in text else f'{name}: {text}') from error
    image = result.get('img')
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim not in (2, 3):
        kind = f'{image.dtype} {image.shape}' if isinstance(image, np.ndarray) else type(image).__name__
        raise InputError(f'{name} is read as {kind}: images in memory are arrays of uint8, (H, W, C)')
    return result


def _check_end(path: str) -> None:
    """Refuse a file that is cut short; decoders fill the rest with grey."""
    with open(path, 'rb') as file:
        file.seek(0, os.SEEK_END)
        file.seek(-min(file.tell(), 4096), os.SEEK_END)
        end = file.read()
    if not any(mark in end for mark in TAILS.values()):
        check_whole(path, decode=True)


def name_of(info: Mapping) -> str:
    """Return an image's file, or what else it can be called."""
    return str(info.get('img_path') or f'an image of class {info.get("gt_label")}')


def size_of(image: np.ndarray) -> str:
    """Return width, height and channels in words."""
    return f'{image.shape[1]} x {image.shape[0]} pixels' + (f' of {image.shape[2]} channels' if image.ndim == 3 else '')


def check_memory(size: int, what: str) -> None:
    """Refuse what is larger than the machine's memory: asking for it succeeds, filling it would end the process."""
    try:
        there = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE')
    except (AttributeError, ValueError, OSError):  # no such question on this system
        return
    if size > 0.9 * there:
        raise InputError(f'{what} take {size / 1e9:.1f} GB in memory, this machine has {there / 1e9:.1f}')


@contextmanager
def progress(what: str, number: int) -> Iterator[Callable[[int], None]]:
    """Show how far something is; the block is given a function that takes how many more are done.

    Where the error stream is no terminal, a line says at the start what is done.
    """
    if number < LONG or not is_main_process():
        yield lambda done: None
        return
    from rich.console import Console
    from rich.progress import Progress

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f'{what}: {number:,}', soft_wrap=True, highlight=False, markup=False)
        yield lambda done: None
        return
    with Progress(console=console, transient=True) as shown:
        task = shown.add_task(what, total=number)
        yield lambda done: shown.advance(task, done)


def for_all(do: Callable[[int], None], number: int, threads: int | None = None) -> None:
    """Call a function with each of 0 to ``number - 1``, in threads; the first error of one ends all."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1

    def do_some(start: int) -> int:
        rows = range(start, min(start + CHUNK, number))
        for row in rows:
            do(row)
        return len(rows)

    with ThreadPoolExecutor(threads or min(8, cores)) as pool, progress('reading images into memory', number) as told:
        try:
            for done in pool.map(do_some, range(0, number, CHUNK)):
                told(done)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
