"""Checks of arguments: one line that names the argument, what was given and what is allowed."""

from __future__ import annotations

from typing import Any


def require(condition: bool, argument: str, given: Any, allowed: str, error: type[ValueError] = ValueError) -> None:
    """Raise ``ValueError`` in this package's one form unless ``condition`` holds.

    Args:
        condition: what must be true.
        argument: name of the argument, as the user wrote it.
        given: the value that was given.
        allowed: the values that are allowed, in words.
        error: a kind of ``ValueError`` to raise.

    Raises:
        ValueError: ``condition`` is false.
    """
    if not condition:
        raise error(f'{argument}={given!r} is not allowed: expected {allowed}')


def require_positive_int(argument: str, given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` is an integer of 1 or more."""
    require(isinstance(given, int) and not isinstance(given, bool) and given >= 1, argument, given, 'an integer >= 1')


def require_positive(argument: str, given: Any) -> None:
    """Raise ``ValueError`` unless ``given`` is a finite number above 0."""
    require(isinstance(given, (int, float)) and 0 < given < float('inf'), argument, given, 'a number > 0')
