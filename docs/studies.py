"""Trains the variants of a study, keeps what was measured, and prints the table of means and deviations.

    python docs/studies.py run STUDY [--runs DIR] [--only VARIANT ...] [--seeds N ...] [--dry-run]
    python docs/studies.py keep STUDY [--runs DIR]
    python docs/studies.py table STUDY

``docs/studies/STUDY.yml`` names a config, arguments of ``tools/train.py`` and, for each variant, what it changes:
``options`` (as ``--cfg-options``), or another ``config``. In options ``{runs}`` is the folder of the runs, ``{seed}``
the seed. ``run`` trains each variant with each seed, one after the other, into ``DIR/VARIANT--SEED``, goes on where it
was stopped, and leaves finished runs alone. ``keep`` writes ``docs/logs/studies/STUDY.json``: metrics by epoch of each
run, without weights.
"""

from __future__ import annotations

import argparse
import json
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from keep_log import entries, rows

from qsdt_mm.fileio.reports import write_json

ROOT = Path(__file__).resolve().parents[1]
STUDIES, LOGS = ROOT / 'docs/studies', ROOT / 'docs/logs/studies'


def load(name: str) -> dict[str, Any]:
    """Read a study by its name."""
    path = STUDIES / f'{name}.yml'
    if not path.is_file():
        known = ', '.join(sorted(path.stem for path in STUDIES.glob('*.yml')))
        raise ValueError(f'STUDY={name} is not allowed: expected one of {known}')
    return yaml.safe_load(path.read_text(encoding='utf-8'))


def folder_name(variant: str, seed: int) -> str:
    """Return the name of a run's folder."""
    return f'{re.sub("[^A-Za-z0-9.-]+", "_", variant)}--{seed}'


def runs_of(study: Mapping[str, Any], only: Sequence[str] = (), seeds: Sequence[int] = ()) -> Iterator[tuple[str, int]]:
    """Yield variants and seeds, the first seed of all variants first: what is stopped early has a row for each."""
    unknown = set(only) - set(study['variants'])
    if unknown:
        raise ValueError(f'--only={sorted(unknown)[0]} is not allowed: expected one of {", ".join(study["variants"])}')
    seeds_of = {variant: change.get('seeds', study['seeds']) for variant, change in study['variants'].items()}
    for seed in seeds or sorted({seed for own in seeds_of.values() for seed in own}):
        for variant, own in seeds_of.items():
            if (not only or variant in only) and seed in own:
                yield variant, seed


def command(study: Mapping[str, Any], variant: str, seed: int, runs: Path) -> list[str]:
    """Return the command that trains one run."""
    change = study['variants'][variant]
    options = [*study.get('options', []), *change.get('options', []), f'randomness.seed={seed}']
    arguments = [*study.get('arguments', []), *change.get('arguments', [])]
    return [
        'tools/train.py',
        change.get('config', study['config']),
        *map(str, arguments),
        '--work-dir',
        str(runs / folder_name(variant, seed)),
        '--resume',
        'auto',
        '--cfg-options',
        *(str(option).format(runs=runs, seed=seed) for option in options),
    ]


def run(name: str, runs: Path, only: Sequence[str], seeds: Sequence[int], dry: bool) -> int:
    """Train what is not finished yet; return how many runs failed."""
    study, failed = load(name), 0
    for variant, seed in runs_of(study, only, seeds):
        done = runs / folder_name(variant, seed) / 'done'
        if done.exists():
            continue
        line = command(study, variant, seed, runs)
        print(shlex.join(['python', *line]), flush=True)
        if dry:
            continue
        done.parent.parent.mkdir(parents=True, exist_ok=True)
        with open(done.parent.parent / f'{done.parent.name}.log', 'a', encoding='utf-8') as log:
            code = subprocess.run([sys.executable, *line], cwd=ROOT, stdout=log, stderr=subprocess.STDOUT).returncode
        if code:
            failed += 1
            print(f'exit status {code}: {log.name}', file=sys.stderr, flush=True)
        else:
            done.touch()
    return failed


def keep(name: str, runs: Path) -> Path:
    """Write the metrics by epoch of the finished runs of a study, by variant and seed."""
    study = load(name)
    path = LOGS / f'{name}.json'
    kept = json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}
    for variant, seed in runs_of(study):
        work_dir = runs / folder_name(variant, seed)
        if (work_dir / 'done').exists():
            kept.setdefault(variant, {})[str(seed)] = rows(entries(work_dir))
    LOGS.mkdir(parents=True, exist_ok=True)
    write_json(path, {variant: kept[variant] for variant in study['variants'] if variant in kept})
    return path


def finals(name: str) -> dict[str, list[float]]:
    """Return the metric after the last epoch of each kept run, in percent, by variant; pre-training has none."""
    metric = load(name)['metric']
    kept = json.loads((LOGS / f'{name}.json').read_text(encoding='utf-8'))
    factor = 100 if metric.startswith('coco') else 1
    return {
        variant: [factor * [row[metric] for row in log if metric in row][-1] for log in by_seed.values()]
        for variant, by_seed in kept.items()
        if all(any(metric in row for row in log) for log in by_seed.values())
    }


def spread(values: Sequence[float]) -> str:
    """Write a mean and, of several values, their standard deviation (n - 1)."""
    mean = f'{statistics.mean(values):.2f}'
    return mean if len(values) == 1 else f'{mean} ± {statistics.stdev(values):.2f}'


def table(name: str) -> str:
    """Return the rows of a study as a table."""
    study, found = load(name), finals(name)
    lines = [f'| variant | {study["unit"]} | runs |', '|---|---|---|']
    lines += [f'| {variant} | {spread(values)} | {len(values)} |' for variant, values in found.items()]
    return '\n'.join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('action', choices=['run', 'keep', 'table'])
    parser.add_argument('study')
    parser.add_argument('--runs', type=Path, help='folder of the runs; work_dirs/studies/STUDY unless given')
    parser.add_argument('--only', nargs='+', default=[], metavar='VARIANT')
    parser.add_argument('--seeds', nargs='+', type=int, default=[], metavar='N')
    parser.add_argument('--dry-run', action='store_true', help='print the commands')
    args = parser.parse_args(arguments)
    runs = args.runs or Path('work_dirs/studies') / args.study
    try:
        if args.action == 'run':
            return 1 if run(args.study, runs, args.only, args.seeds, args.dry_run) else 0
        print(keep(args.study, runs).relative_to(ROOT) if args.action == 'keep' else table(args.study))
    except (ValueError, FileNotFoundError) as error:
        print(f'studies.py: error: {error}', file=sys.stderr)
        return 2
    return 0


if __name__ == '__main__':
    sys.exit(main())
