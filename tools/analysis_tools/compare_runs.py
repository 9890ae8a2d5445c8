"""Compare trainings: where their configs differ, how well they did, what they fire and cost; a table and a picture."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/analysis_tools/compare_runs.py work_dirs/first work_dirs/first-binary
  python tools/analysis_tools/compare_runs.py work_dirs/* --metric accuracy/top1 --out runs.png

Columns: the name of the work directory, settings in which runs differ, best result and its step, last result, mean
firing rate when neurons were last watched (FiringRateHook), theoretical energy of the operations for an image in mJ
(energy.json in the work directory, which train.py and "energy.py --json" write), minutes. A run that goes on may be
compared. The picture sets the best result against energy, or where no run tells it against the firing rate.

exit status: 0 done, 2 bad input, 130 interrupted
"""
MOST = 6  # settings that have a column
LONGEST = 24  # letters of a value


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('compare_runs.py', __doc__, EXAMPLE)
    parser.add_argument('runs', nargs='+', metavar='WORK_DIR', help='work directories; other folders are passed over')
    parser.add_argument('--metric', metavar='NAME', help='result to compare (default: the usual one of the task)')
    parser.add_argument('--out', metavar='FILE.png', help='draw the runs, too')
    args = parser.parse_args(argv)
    if args.out and not args.out.endswith('.png'):
        parser.error(f'--out must end in .png, got {args.out}')
    return args


def names_of(folders: Sequence[Path]) -> list[str]:
    """Return a short name for each folder: its own, or as many above it as tell it from the others."""
    parts = [folder.resolve().parts for folder in folders]
    depth = 1
    while depth < max(map(len, parts)) and len({part[-depth:] for part in parts}) < len(set(parts)):
        depth += 1
    return ['/'.join(part[-depth:]) for part in parts]


def read(args: argparse.Namespace, session) -> list:
    """Read the runs; among several, folders that hold none are passed over with a note."""
    from qsdt_mm.cli.runs import read_run
    from qsdt_mm.errors import InputError, why_no_file

    folders = list(dict.fromkeys(Path(path) for path in args.runs))
    runs = []
    for folder, name in zip(folders, names_of(folders)):
        absent = why_no_file(folder, folder=True)
        try:
            if absent:
                raise InputError(f'work directory {folder} {absent}')
            runs.append(read_run(folder, name))
        except InputError as error:
            if len(folders) == 1:
                raise
            session.note(f'passed over: {error}')
    if not runs:
        raise InputError('none of these folders holds a training')
    return runs


def compare(args: argparse.Namespace, session) -> None:
    """Print the table and draw."""
    from rich.console import Console
    from rich.table import Table

    from qsdt_mm.cli.last_lines import chosen, shown
    from qsdt_mm.cli.runs import best_of, differences
    from qsdt_mm.errors import InputError
    from qsdt_mm.visualization.figures import save_figure
    from qsdt_mm.visualization.runs import draw_runs

    runs = read(args, session)
    names = list(dict.fromkeys(name for run in runs for _, values in run.results for name in values))
    metric = args.metric or chosen(dict.fromkeys(names, 0.0))
    if args.metric and args.metric not in names:
        raise InputError(f'--metric {args.metric}: no run has it; there is {", ".join(names) or "none"}')
    curves = {run.name: run.curve(metric) if metric else run.losses for run in runs}
    metric = metric or 'loss'
    differing = differences(runs)
    table = Table(box=None, pad_edge=False)
    for title in ('run', *list(differing)[:MOST], f'best {metric}', 'at step', 'last', 'firing rate', 'mJ', 'minutes'):
        table.add_column(title, overflow='fold')
    dots, of_energy = {}, any(run.energy is not None for run in runs)
    for i, run in enumerate(runs):
        curve = curves[run.name]
        best = best_of(curve, metric) if curve else None
        cost = run.energy if of_energy else run.rate
        if best and cost is not None:
            dots[run.name] = cost, best[1]
        table.add_row(
            run.name,
            *('-' if values[i] is None else str(values[i])[:LONGEST] for values in list(differing.values())[:MOST]),
            shown(metric, best[1]) if best else '-',
            str(best[0]) if best else '-',
            shown(metric, curve[-1][1]) if curve else '-',
            '-' if run.rate is None else f'{run.rate:.3f}',
            '-' if run.energy is None else f'{run.energy:.3g}',
            '-' if run.seconds is None else f'{run.seconds / 60:.1f}',
        )
    Console(width=None if sys.stdout.isatty() else 200, highlight=False, markup=False).print(table)
    if len(differing) > MOST:
        more = list(differing)[MOST : 3 * MOST]
        rest = f' and {len(differing) - 3 * MOST} more' if len(differing) > 3 * MOST else ''
        print(f'they differ in {", ".join(more)}{rest}, too')
    if args.out:
        save_figure(draw_runs(metric, curves, {run.name: run.losses for run in runs}, dots, of_energy), Path(args.out))
        print(f'picture  {args.out}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('compare_runs.py', lambda session: compare(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
