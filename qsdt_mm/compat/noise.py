"""Remarks that the libraries make at import and that are known to be harmless here."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import sys
import warnings
from collections.abc import Iterator
from typing import TextIO

HARMLESS = (
    r'Line NMS is not compiled',
    r'Fail to import ``MultiScaleDeformableAttention``',
    r'Could not import OneDL',
    r'faster_coco_eval is not installed',
    r'"FileClient" will be deprecated',
    r'"HardDiskBackend" is the alias',
    r'Default ``avg_non_ignore`` is False',
    r'The draw is False, it means that the hook',
    r'The prefix is not set in metric class',
)
_PATTERN = re.compile('|'.join(HARMLESS))


BULKY = (
    'Config:',
    'Hooks will be executed',
    'paramwise_options',
    'System environment:',
    'Distributed training is not used',
    'Exp name:',
)
REPEATED = re.compile(r'base_lr: (\S+) (?=lr: \1\s)')
"""The rate before what a constructor makes of it for each parameter, where that is the same."""
COPIED = re.compile(r'\w+_copypaste: ')
"""A line of what the table above and the line below it say."""
OF_NONE = re.compile(r'= -1\.000\s*$')
"""Lines of COCO's table about sizes that no object has."""
OF_NONE_SHORT = re.compile(r'\S+_(?:[sml]|[sml]@\d+): -1\.0+  ')
NOTHING_FOUND = 'The testing results of the whole dataset is empty.'


class _Bulky(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not (message.lstrip('-\n').startswith(BULKY) or COPIED.match(message))


class _Shorter(logging.Formatter):
    """Leaves out of a line for the console what says nothing; the log file has all of it."""

    def __init__(self, formatter: logging.Formatter) -> None:
        super().__init__()
        self.formatter = formatter

    def format(self, record: logging.LogRecord) -> str:
        return OF_NONE_SHORT.sub('', REPEATED.sub('', self.formatter.format(record)))


class _Harmless(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        if record.msg == NOTHING_FOUND:  # mmdet's error for what the first epochs of a detector are like
            record.levelno, record.levelname = logging.WARNING, 'WARNING'
            record.msg = 'Nothing was found in any image: there is no average precision yet'
        return not _PATTERN.search(record.getMessage())


def quiet_imports() -> None:
    """Keep back these remarks where they are warnings or go to mmengine's log."""
    from mmengine.logging import MMLogger

    for pattern in HARMLESS:
        warnings.filterwarnings('ignore', message=r'\s*' + pattern)
    quiet_logger(MMLogger.get_current_instance())


def shorten_console(logger: logging.Logger) -> None:
    """Keep hundreds of lines (configuration, environment, hooks, options of each parameter) in the log file only."""
    for handler in logger.handlers:
        if type(handler) is logging.StreamHandler and not any(isinstance(f, _Bulky) for f in handler.filters):
            handler.addFilter(_Bulky())
            if handler.formatter is not None:
                handler.setFormatter(_Shorter(handler.formatter))


def quiet_logger(logger: logging.Logger) -> None:
    """Keep these remarks out of a log."""
    if not any(isinstance(f, _Harmless) for f in logger.filters):
        logger.addFilter(_Harmless())


class _WithoutEmptyLines(io.TextIOBase):
    """Passes on what is printed, line by line, but for those of ``OF_NONE``."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.held = stream, ''

    def write(self, text: str) -> int:
        *lines, self.held = (self.held + text).split('\n')
        for line in lines:
            if not OF_NONE.search(line):
                self.stream.write(f'{line}\n')
        return len(text)

    def finish(self) -> None:
        """Pass on a last line without an end."""
        if self.held:
            self.stream.write(self.held)
        self.stream.flush()


@contextlib.contextmanager
def without_sizes_of_none() -> Iterator[None]:
    """Keep back the lines of COCO's table that are -1, for sizes that no object of the data set has."""
    shorter = _WithoutEmptyLines(sys.stdout)
    try:
        with contextlib.redirect_stdout(shorter):
            yield
    finally:
        shorter.finish()


@contextlib.contextmanager
def without_noise() -> Iterator[None]:
    """Keep back these remarks where they are printed; anything else that is printed appears at the end."""
    held = io.StringIO()
    try:
        with contextlib.redirect_stdout(held):
            yield
    finally:
        for line in held.getvalue().splitlines():
            if not _PATTERN.search(line):
                print(line)


@contextlib.contextmanager
def without_log(level: int = logging.CRITICAL) -> Iterator[None]:
    """Keep back what is logged up to a level, in the block, mmengine's logs too.

    These remember of each level whether they may speak, whatever ``logging.disable`` says later.
    """
    from mmengine.logging import MMLogger

    before = logging.root.manager.disable
    loggers = [(logger, logger.level) for logger in MMLogger._instance_dict.values()]
    logging.disable(level)
    for logger, _ in loggers:
        logger.setLevel(level + 1)
    try:
        yield
    finally:
        logging.disable(before)
        for logger, own in loggers:
            logger.setLevel(own)


@contextlib.contextmanager
def warnings_only(logger: logging.Logger) -> Iterator[None]:
    """Keep back what a log says for information: of new weights, three lines for each parameter."""
    before = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(before)
