"""Reading of a COCO file, with a line that says so while it takes long."""

from __future__ import annotations

import contextlib
import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qsdt_mm.engine.launch import is_main_process
from qsdt_mm.errors import InputError

LONG = 20_000_000  # bytes, a second or so


@contextlib.contextmanager
def progress(path: str | Path) -> Iterator[Callable[[str], Any]]:
    """Show what is done with a file while it is, if the file is large; the block is given a function to say it with.

    Where the error stream is no terminal, a line says at the start what is read.
    """
    try:
        size = Path(path).stat().st_size
    except OSError:
        size = 0
    if size < LONG or not is_main_process():
        yield lambda what: None
        return
    from rich.console import Console
    from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    console, said = Console(stderr=True), f'{path} ({size / 1e6:.0f} MB)'
    if not console.is_terminal:
        console.print(f'reading {said}', soft_wrap=True, highlight=False, markup=False)
        yield lambda what: None
        return
    columns = SpinnerColumn(), TextColumn('{task.description}', markup=False), TimeElapsedColumn()
    with Progress(*columns, console=console, transient=True) as shown:
        task = shown.add_task(f'{said}: reading')

        def tick(what: str) -> None:
            shown.update(task, description=f'{said}: {what}')
            shown.refresh()

        yield tick


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Keep Python from looking for circles among millions of new objects, in the block and after it."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # until coco_files.forget
        if enabled:
            gc.enable()


def read_json(path: str | Path) -> Any:
    """Return what a JSON file holds.

    Raises:
        InputError: it cannot be read, or is no JSON file.
    """
    try:
        with open(path, encoding='utf-8') as file:
            return json.load(file)
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except (ValueError, RecursionError) as error:  # of JSON, or of UTF-8
        raise InputError(f'{path} is no JSON file: {" ".join(str(error).split())[:120]}') from error
