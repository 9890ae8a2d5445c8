"""Trainings as their work directories tell of them: results by step, firing rates, and in what configs differ."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from qsdt_mm.errors import InputError

from .last_lines import ranked

NOT_RESULTS = {'lr', 'base_lr', 'time', 'data_time', 'iter', 'step', 'epoch', 'memory', 'grad_norm'}
NOT_SETTINGS = ('work_dir', 'experiment_name', 'load_from', 'resume', 'launcher', 'filename')
"""Keys of a configuration in which any two runs differ."""
WRITTEN_AT = re.compile(r'(\d{4}/\d\d/\d\d \d\d:\d\d:\d\d) - ')
ITERATIONS = re.compile(r'Epoch\(train\)\s+\[\s*\d+\]\[\s*\d+/(\d+)\]')
FIRING = re.compile(r'firing/(.+)/(rate|silent|saturated)')
OF_PICTURES = re.compile(r'default_hooks\.(curves|predictions|classes|energy|report)(\.|$)')
SMALLER_IS_BETTER = ('loss', 'error', 'mae', 'rmse')


@dataclass
class Run:
    """One training.

    Args:
        name: of its work directory.
        results: of each validation: the step, and figures by name.
        losses: pairs of an iteration and the training loss.
        rate: mean firing rate over neurons when they were last watched; None if they never were.
        settings: of its configuration, flat, by ``a.b.c``.
        firing: each time that neurons were watched: the iteration, and by neuron the firing rate and the shares of
            silent and of saturated channels.
        per_epoch: iterations of an epoch; None where a run counts iterations.
        seconds: that it took, from the first line of its logs to the last; None if they do not tell.
        energy: theoretical energy of the operations for an image, in mJ, by ``energy.json`` in the work directory.
        dense_energy: that of the dense network.

    >>> Run('first', results=[(1, {'accuracy/top1': 90.0})]).results[-1][0]
    1
    """

    name: str
    results: list[tuple[int, dict[str, float]]] = field(default_factory=list)
    losses: list[tuple[int, float]] = field(default_factory=list)
    rate: float | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    firing: list[tuple[int, dict[str, tuple[float, float, float]]]] = field(default_factory=list)
    per_epoch: int | None = None
    seconds: float | None = None
    energy: float | None = None
    dense_energy: float | None = None

    def curve(self, metric: str) -> list[tuple[int, float]]:
        """Return pairs of a step and a result."""
        return [(step, values[metric]) for step, values in self.results if metric in values]


def flat(node: Any, prefix: str = '') -> dict[str, Any]:
    """Return the leaves of nested dicts and lists by their path.

    >>> flat(dict(model=dict(bits=4), steps=[8, 11], hooks=[dict(type='A')]))
    {'model.bits': 4, 'steps': [8, 11], 'hooks.0.type': 'A'}
    """
    if isinstance(node, Mapping) and node:
        pairs = node.items()
    elif isinstance(node, (list, tuple)) and any(isinstance(item, (Mapping, list, tuple)) for item in node):
        pairs = enumerate(node)
    else:
        return {prefix: node}
    return {key: value for name, part in pairs for key, value in flat(part, f'{prefix}.{name}'.lstrip('.')).items()}


def read_run(folder: Path, name: str, settings: bool = True) -> Run:
    """Read a work directory; of a training that was resumed, later lines take the place of earlier ones.

    Args:
        folder: the work directory.
        name: to be shown.
        settings: read the configuration, too.

    Raises:
        InputError: it holds no ``scalars.json`` of a training, or one cannot be read.
    """
    files = sorted(folder.glob('*/vis_data/scalars.json'))
    parts = [(file, _figures(file)) for file in files]
    # A training that began anew (--overwrite) logs all steps again: what was there before is another's.
    begins = [min((step for step, values in lines if 'lr' in values), default=None) for _, lines in parts]
    known = [begin for begin in begins if begin is not None]
    if known:
        newest = max(i for i, begin in enumerate(begins) if begin is not None and begin <= known[0])
        parts = parts[newest:]
    results: dict[int, dict[str, float]] = {}
    losses: dict[int, float] = {}
    firing: dict[int, dict[str, tuple[float, float, float]]] = {}
    run = Run(name)
    for _, lines in parts:
        for step, values in lines:
            if watched := _firing_of(values):
                run.rate = sum(rate for rate, *_ in watched.values()) / len(watched)
                firing[step] = watched
            elif 'lr' in values:
                losses.update({step: values['loss']} if isinstance(values.get('loss'), (int, float)) else {})
            else:
                found = {k: v for k, v in ranked(values).items() if k not in NOT_RESULTS and '/lr' not in k}
                results.update({step: found} if found else {})
    if not losses and not results:
        raise InputError(f'{folder} holds no training (no */vis_data/scalars.json with figures)')
    run.results, run.losses, run.firing = sorted(results.items()), sorted(losses.items()), sorted(firing.items())
    for file, _ in parts:
        _read_log(file.parents[1], run)
    run.energy, run.dense_energy = _energies(folder / 'energy.json')
    configs = sorted(files[-1].parent.glob('config.py'))
    if settings and configs:
        from .cfg_options import names_read
        from .config import load_config

        cfg = load_config(str(configs[0]))
        names = names_read(cfg).difference(NOT_SETTINGS)  # without variables, of which the others have been made
        run.settings = flat({name: value for name, value in cfg._cfg_dict.to_dict().items() if name in names})
    return run


def _figures(file: Path) -> list[tuple[int, dict[str, Any]]]:
    """Return the steps and figures of ``scalars.json``; a last line may be cut off, where the run was killed."""
    found = []
    lines = file.read_text(encoding='utf-8', errors='replace').splitlines()
    for number, line in enumerate(lines, 1):
        try:
            values = json.loads(line)
            found.append((int(values['step']), values))
        except (ValueError, TypeError, KeyError):
            if number < len(lines):
                raise InputError(f'{file}, line {number}: no JSON with a step') from None
    return found


def _firing_of(values: Mapping[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Return rate, silent and saturated share by neuron."""
    found: dict[str, dict[str, float]] = {}
    for key, value in values.items():
        match = FIRING.fullmatch(key)
        if match and isinstance(value, (int, float)):
            found.setdefault(match[1], {})[match[2]] = float(value)
    return {
        neuron: (each['rate'], each.get('silent', 0.0), each.get('saturated', 0.0))
        for neuron, each in found.items()
        if 'rate' in each
    }


def _lines_of(folder: Path) -> Iterator[str]:
    """Yield the lines of a folder's logs; none of a log that cannot be read."""
    for path in sorted(folder.glob('*.log')):
        try:
            with path.open(encoding='utf-8', errors='replace') as file:
                yield from file
        except OSError:
            continue


def _read_log(folder: Path, run: Run) -> None:
    """Add the time between first and last line, and take the iterations of an epoch."""
    first = last = None
    for line in _lines_of(folder):
        if stamp := WRITTEN_AT.match(line):
            first, last = first or stamp[1], stamp[1]
        if run.per_epoch is None and (found := ITERATIONS.search(line)):
            run.per_epoch = int(found[1]) or None
    try:
        times = [datetime.strptime(stamp, '%Y/%m/%d %H:%M:%S') for stamp in (first, last)]
    except (TypeError, ValueError):
        return
    run.seconds = (run.seconds or 0.0) + max((times[1] - times[0]).total_seconds(), 0.0)


def _energies(path: Path) -> tuple[float | None, float | None]:
    """Return energy and dense energy as ``energy.json`` has them; None where there is no such file."""
    try:
        total = json.loads(path.read_text(encoding='utf-8'))['total']
        return float(total['energy_mj']), float(total['dense_energy_mj'])
    except (OSError, ValueError, TypeError, KeyError):
        return None, None


def differences(runs: Sequence[Run]) -> dict[str, list[Any]]:
    """Return the settings in which runs differ, each with its value in every run; None where a run lacks it.

    Hooks that only say how a run ended make no difference.
    """
    keys = dict.fromkeys(key for run in runs for key in run.settings if not OF_PICTURES.match(key))
    values = {key: [run.settings.get(key) for run in runs] for key in keys}
    return {key: given for key, given in values.items() if any(value != given[0] for value in given)}


def best_of(curve: Sequence[tuple[int, float]], metric: str) -> tuple[int, float]:
    """Return the best result and its step; of losses the smallest.

    >>> best_of([(1, 0.5), (2, 0.7), (3, 0.6)], 'coco/bbox_mAP')
    (2, 0.7)
    """
    smallest = any(word in metric.lower() for word in SMALLER_IS_BETTER)
    return (min if smallest else max)(curve, key=lambda point: point[1])
