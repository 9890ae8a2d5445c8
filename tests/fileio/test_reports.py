"""Reports of tools: strict JSON, whole or not at all."""

import dataclasses
import json
import os
from collections import Counter, OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from qsdt_mm.fileio.reports import to_json, write_json

NUMBERS = st.floats() | st.integers() | st.booleans() | st.none() | st.text()
VALUES = st.recursive(
    NUMBERS,
    lambda inner: st.lists(inner) | st.tuples(inner) | st.dictionaries(st.text() | st.integers(), inner),
    max_leaves=20,
)


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


@given(value=VALUES)
def test_whatever_it_is_comes_out_as_strict_json(value):
    plain = to_json(dict(value=value))
    assert strict(json.dumps(plain, allow_nan=False)) == plain


@dataclasses.dataclass
class Row:
    name: str
    rate: float


@pytest.mark.parametrize(
    ('value', 'expected'),
    [
        (float('nan'), None),
        (-float('inf'), None),
        (np.float32(0.5), 0.5),
        (np.float64('inf'), None),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (torch.tensor([1.0, float('nan')]), [1.0, None]),
        (np.array([[1, 2]]), [[1, 2]]),
        (Row('a', float('nan')), dict(name='a', rate=None)),
        (Counter(a=2), dict(a=2)),
        (OrderedDict([(1, (2, {3}))]), {'1': [2, [3]]}),
        (iter((1, 2)), [1, 2]),
        (Path('a/b'), 'a/b'),
        (torch.float32, 'torch.float32'),
    ],
    ids=lambda value: type(value).__name__,
)
def test_values(value, expected):
    assert to_json(value) == expected


def test_a_file_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    path = tmp_path / 'new' / 'report.json'
    write_json(path, dict(a=1))
    assert path.read_text() == '{\n  "a": 1\n}\n'

    def fail(descriptor):
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr(os, 'fsync', fail)
    with pytest.raises(OSError, match='No space left'):
        write_json(path, dict(a=2))
    assert strict(path.read_text()) == dict(a=1) and list(path.parent.iterdir()) == [path]
