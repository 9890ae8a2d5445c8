"""Examples of docstrings as code: in Markdown alone each ``>>>`` would be a quotation in a quotation in a quotation."""

from __future__ import annotations

import re
from typing import Any

import griffe

EXAMPLE = re.compile(r'^( *)>>> .*(?:\n *\S.*)*', re.MULTILINE)


def fenced(docstring: str) -> str:
    """Return a docstring with its examples, each up to the next empty line, as fenced code."""
    return EXAMPLE.sub(r'\1```pycon\n\g<0>\n\1```', docstring)


class Doctests(griffe.Extension):
    """Extension for what reads the docstrings: changes them as they are read."""

    def on_instance(self, *, obj: griffe.Object, **_: Any) -> None:
        """Fence the examples of a class, function or module."""
        if obj.docstring:
            obj.docstring.value = fenced(obj.docstring.value)
