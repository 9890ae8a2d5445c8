"""Remarks that the libraries make at import and that are known to be harmless here."""

from __future__ import annotations

import contextlib
import io
import logging
import re
import warnings
from collections.abc import Iterator

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
)


class _Bulky(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        return not record.getMessage().lstrip('-\n').startswith(BULKY)


class _Harmless(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
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


def quiet_logger(logger: logging.Logger) -> None:
    """Keep these remarks out of a log."""
    if not any(isinstance(f, _Harmless) for f in logger.filters):
        logger.addFilter(_Harmless())


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
