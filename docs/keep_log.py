"""Keeps the log of a run: what was measured after each epoch, without weights and without pictures.

    python docs/keep_log.py WORK_DIR [WORK_DIR ...]

writes ``docs/logs/NAME.json`` for each work directory, where NAME is the config's, or ``CONFIG--WORK_DIR`` where the
directory has a name of its own. A row stands for an epoch (or, where a run counts iterations, for a line of its log):
means of losses and times, the last learning rate, metrics of the validation, the mean firing rate of all neurons. Parts
of a run that was stopped and continued are put together; what was computed twice counts once.
"""

from __future__ import annotations

import json
import sys
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qsdt_mm.fileio.reports import write_json

LOGS = Path(__file__).resolve().parent / 'logs'
LEFT_OUT = ('base_lr', 'data_time', 'step', 'iter', 'epoch', 'memory')
DIGITS = 6


def entries(work_dir: Path) -> list[dict[str, Any]]:
    """Lines of all parts of a run, in the order in which they were written."""
    files = sorted(work_dir.glob('*/vis_data/scalars.json'))
    if not files:
        raise FileNotFoundError(f'{work_dir} has no log: no */vis_data/scalars.json below it')
    return [json.loads(line) for file in files for line in file.read_text(encoding='utf-8').splitlines() if line]


def rows(lines: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """One row for each epoch, or each logged iteration."""
    training: dict[int, dict[int, dict[str, float]]] = {}  # by epoch and iteration
    rates: dict[int, float] = {}  # by iteration
    validation: dict[int, dict[str, float]] = {}
    epoch_of: dict[int, int] = {}
    for line in lines:
        step = int(line['step'])
        firing = [value for key, value in line.items() if key.startswith('firing/') and key.endswith('/rate')]
        if 'lr' in line:
            point = int(line.get('epoch', step))
            epoch_of[step] = point
            training.setdefault(point, {})[step] = line
        elif firing:
            rates[step] = sum(firing) / len(firing)
        else:
            validation[step] = line
    steps, found = sorted(epoch_of), {}
    for step, rate in rates.items():  # of the next line of the training log, or of the last
        found.setdefault(epoch_of[steps[min(bisect_left(steps, step), len(steps) - 1)]], []).append(rate)
    out = []
    for point in sorted({*training, *validation}):
        row: dict[str, Any] = {'at': point}
        logged = training.get(point, {})
        for key in {key: None for line in logged.values() for key in line if key not in LEFT_OUT}:
            values = [line[key] for _, line in sorted(logged.items()) if key in line]
            row[key] = values[-1] if key == 'lr' else sum(values) / len(values)
        if point in found:
            row['firing_rate'] = sum(found[point]) / len(found[point])
        row.update((k, v) for k, v in validation.get(point, {}).items() if k not in (*LEFT_OUT, 'time'))
        out.append({key: float(f'{value:.{DIGITS}g}') if key != 'at' else value for key, value in row.items()})
    return out


def keep(work_dir: Path) -> Path:
    """Write the log of a work directory; return where it is."""
    configs = sorted(work_dir.glob('*.py'))
    config = configs[0].stem if configs else work_dir.name
    name = config if work_dir.name == config else f'{config}--{work_dir.name}'
    lines = entries(work_dir)
    by_epoch = any('epoch' in line for line in lines)
    LOGS.mkdir(parents=True, exist_ok=True)
    path = LOGS / f'{name}.json'
    write_json(path, {'config': config, 'counted_in': 'epochs' if by_epoch else 'iterations', 'rows': rows(lines)})
    return path


def main(arguments: Sequence[str]) -> int:
    """Keep the logs of work directories."""
    if not arguments:
        print('keep_log.py: error: no work directory was given', file=sys.stderr)
        return 2
    for argument in arguments:
        try:
            print(keep(Path(argument)).relative_to(LOGS.parent.parent))
        except FileNotFoundError as error:
            print(f'keep_log.py: error: {error}', file=sys.stderr)
            return 2
    return 0


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
