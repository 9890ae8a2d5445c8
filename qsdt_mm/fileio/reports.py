"""Reports of the tools as JSON files."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any

from .atomic import atomic_open


def write_json(path: str | Path, report: Mapping[str, Any]) -> None:
    """Write a report, whole or not at all; what JSON does not know is put into its words by :func:`to_json`.

    Args:
        path: where the file is to appear; its directory is made when missing.
        report: values by name.

    Raises:
        OSError: the file cannot be written (what was there before is left alone).
    """
    text = json.dumps(to_json(report), indent=2, allow_nan=False)
    with atomic_open(path, 'w', encoding='utf-8') as file:
        file.write(f'{text}\n')


def to_json(value: Any) -> Any:
    """Put a value into JSON's types: numbers that are not finite become null, tensors lists, paths strings."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        value = dataclasses.asdict(value)
    elif hasattr(value, 'tolist'):  # tensors, arrays and their scalars
        value = value.tolist()
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, (str, bool, int, type(None))):
        return value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, Set):
        value = sorted(value, key=str)
    if isinstance(value, Iterable) and not isinstance(value, (bytes, Path)):
        return [to_json(item) for item in value]
    return str(value)
