"""``report.html``: all that a run has left in its work directory, on one page that loads nothing."""

from __future__ import annotations

import base64
import contextlib
import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from qsdt_mm.analysis.class_results import ClassResults
from qsdt_mm.errors import one_line
from qsdt_mm.fileio.atomic import atomic_open
from qsdt_mm.version import __version__
from qsdt_mm.visualization.classes import draw_classes
from qsdt_mm.visualization.curves import draw_learning_curves
from qsdt_mm.visualization.figures import save_figure
from qsdt_mm.visualization.firing_rates import FILE as RATES
from qsdt_mm.visualization.firing_rates import MARKED, draw_firing_rates, parts_of

from .last_lines import chosen, duration, ranked, shown
from .run_notes import read_notes, write_notes
from .run_report_template import TEMPLATE
from .runs import Run, best_of, read_run

NAME = 'report.html'
LARGEST = 8_000_000  # bytes of a picture
MOST_NEURONS = 12  # that are listed
MOST_CLASSES = 100
MOST_SETTINGS = 200
LONGEST = 300  # letters of a setting


def write_report(work_dir: Path, path: Path | None = None) -> Path:
    """Write the page of a run, whole or not at all, and ``firing_rates_by_epoch.png`` beside it.

    Pictures that the run has not drawn, because it was stopped, are drawn now as far as its figures go.

    Args:
        work_dir: of the run, which may go on.
        path: of the page; None: ``report.html`` in ``work_dir``.

    Returns:
        The path.

    Raises:
        InputError: ``work_dir`` holds no training.
        OSError: something cannot be written.
    """
    from jinja2 import Environment, StrictUndefined

    run = read_run(work_dir, work_dir.resolve().name, settings=False)
    classes = read_classes(work_dir / 'classes.json')
    draw_missing(work_dir, run, classes)
    page = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    text = page.from_string(TEMPLATE).render(
        **head_of(work_dir, run),
        **firing_of(run),
        classes=class_rows(classes),
        things=classes.things if classes else '',
        score=classes.score if classes else '',
        pictures=pictures_of(work_dir),
        version=__version__,
        written=f'{datetime.now():%Y-%m-%d %H:%M}',
    )
    path = path or work_dir / NAME
    with atomic_open(path, 'w', encoding='utf-8', errors='replace') as file:
        file.write(text)
    return path


def read_classes(path: Path) -> ClassResults | None:
    """Return the results by class of a file, None if there are none or they cannot be read."""
    try:
        return ClassResults.from_dict(json.loads(path.read_text(encoding='utf-8')))
    except (OSError, ValueError):
        return None


def draw_missing(work_dir: Path, run: Run, classes: ClassResults | None) -> None:
    """Draw firing rates by epoch, and curves and results by class where their pictures are missing."""
    per_unit, unit = (run.per_epoch, 'epoch') if run.per_epoch else (1, 'iteration')
    if run.firing:
        times = [step / per_unit for step, _ in run.firing]
        save_figure(draw_firing_rates(times, [seen for _, seen in run.firing], unit), work_dir / RATES)
    if run.losses and not (work_dir / 'learning_curves.png').is_file():
        times, losses = (np.array(values, dtype=float) for values in zip(*run.losses))
        names = list(dict.fromkeys(name for _, values in run.results for name in values))[:4]
        curves = {name: run.curve(name) for name in names}
        save_figure(draw_learning_curves(times / per_unit, losses, curves, unit), work_dir / 'learning_curves.png')
    if classes is not None:
        name = 'classes.png' if classes.matrix is None else 'confusion.png'
        if not (work_dir / name).is_file():
            draw_classes(classes, work_dir / name)


def head_of(work_dir: Path, run: Run) -> dict[str, Any]:
    """Return what stands at the top of the page, and what was noted when the run began."""
    names = list(dict.fromkeys(name for _, values in run.results for name in values))
    metric = chosen(dict.fromkeys(names, 0.0))
    tiles: list[tuple[str, str, str]] = []
    unit = 'epoch' if run.per_epoch else 'iteration'
    if metric:
        curve = run.curve(metric)
        step, best = best_of(curve, metric)
        tiles.append((f'best {metric}', shown(metric, best), f'{unit} {step}; last {shown(metric, curve[-1][1])}'))
    elif run.losses:
        tiles.append(('last loss', f'{run.losses[-1][1]:.4g}', f'iteration {run.losses[-1][0]}'))
    if tested := last_test(work_dir):
        name = chosen(tested)
        rest = ', '.join(f'{key} {shown(key, value)}' for key, value in list(tested.items())[1:3])
        tiles.append((f'test: {name}', shown(name, tested[name]), rest))
    if run.rate is not None:
        tiles.append(('mean firing rate', f'{run.rate:.3f}', 'of neurons, when they were last watched'))
    if run.energy and run.dense_energy:
        factor = f'{run.dense_energy / run.energy:.1f} times less than dense ({run.dense_energy:.3g} mJ)'
        tiles.append(('energy of operations', f'{run.energy:.3g} mJ', f'an image; {factor}'))
    if run.seconds is not None:
        last = max((steps[-1][0] for steps in (run.losses, run.firing) if steps), default=0)
        tiles.append(('time', duration(run.seconds), f'{last:,} iterations'))
    notes = read_notes(work_dir)
    rows = notes.get('differences')
    rows = [row for row in rows if isinstance(row, list) and len(row) == 3] if isinstance(rows, list) else []
    settings = [[cut(each) for each in row] for row in rows[:MOST_SETTINGS]]
    known = notes.get('versions')
    return dict(
        title=run.name,
        tiles=tiles,
        command=str(notes.get('command') or ''),
        config=str(notes.get('config') or ''),
        settings=settings,
        more_settings=max(len(rows) - MOST_SETTINGS, 0),
        versions=known if isinstance(known, Mapping) else {},
        device=str(notes.get('device') or ''),
        checkpoints=sorted(path.name for path in work_dir.glob('*.pth')),
    )


def cut(value: Any) -> str:
    """Return a setting as it is shown, not long; empty where there is none."""
    text = '' if value is None else str(value)
    return text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'


def last_test(work_dir: Path) -> dict[str, float]:
    """Return the newest test's results, which LoggerHook leaves in a JSON file with the name of its folder."""
    for folder in sorted((path for path in work_dir.iterdir() if path.is_dir()), reverse=True):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            found = json.loads((folder / f'{folder.name}.json').read_text(encoding='utf-8'))
            values = {key: value for key, value in found.items() if 'time' not in key}
            if results := ranked(values):
                return results
    return {}


def firing_of(run: Run) -> dict[str, Any]:
    """Return firing by part of the network, and the neurons that are silent or saturated at the end."""
    watched = [seen for _, seen in run.firing]
    if not watched:
        return dict(parts=[], neurons=[], more_neurons=0)
    parts = [
        dict(
            name=part.name,
            first=f'{part.rates[0]:.3f}',
            last=f'{part.rates[-1]:.3f}',
            shares=[(f'{100 * share[-1]:.0f} %', share[-1] >= MARKED) for share in (part.silent, part.saturated)],
        )
        for part in parts_of(watched)
    ]
    latest = {name: row for seen in watched for name, row in seen.items()}
    marked = sorted(
        ((name, row) for name, row in latest.items() if max(row[1:]) >= MARKED), key=lambda item: -max(item[1][1:])
    )
    neurons = [
        (name, f'{row[0]:.3f}', f'{100 * row[1]:.0f} %', f'{100 * row[2]:.0f} %') for name, row in marked[:MOST_NEURONS]
    ]
    return dict(parts=parts, neurons=neurons, more_neurons=len(marked) - len(neurons))


def class_rows(classes: ClassResults | None) -> list[tuple[str, str, str]]:
    """Return name, count and score of each class, the worst first; classes that do not occur come last."""
    if classes is None:
        return []
    order = classes.worst(MOST_CLASSES)
    order += [i for i in range(len(classes.names)) if i not in set(order)][: MOST_CLASSES - len(order)]
    return [(classes.names[i], f'{classes.counts[i]:,}', classes.shown(i)) for i in order]


def pictures_of(work_dir: Path) -> dict[str, str]:
    """Return the run's pictures as data addresses, by name; '' where there is none."""
    found = {}
    for name in ('learning_curves', RATES[:-4], 'confusion', 'classes', 'predictions', 'energy', 'reconstructions'):
        path, found[name] = work_dir / f'{name}.png', ''
        with contextlib.suppress(OSError):
            if path.is_file() and path.stat().st_size <= LARGEST:
                found[name] = f'data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}'
    return found


@HOOKS.register_module(name='RunReportHook', force=True)
class RunReportHook(Hook):
    """Writes ``report.html`` to the work directory when a training is over, and anew when a test follows it there.

    When the training begins, command, settings and versions are noted in ``run.json`` beside the log. A page that
    cannot be written is a warning: the training is as good without it.

    >>> RunReportHook().priority
    'LOWEST'
    """

    priority = 'LOWEST'  # all pictures are there

    @master_only
    def before_train(self, runner: Any) -> None:
        """Note what is known when a run begins."""
        try:
            write_notes(Path(runner.log_dir), runner.cfg)
        except OSError as error:
            runner.logger.warning(f'the notes of this run were not written: {one_line(error)}')

    @master_only
    def after_train(self, runner: Any) -> None:
        """Write the page."""
        self._write(runner)

    @master_only
    def after_test(self, runner: Any) -> None:
        """Write the page anew, with the test's pictures, where a training has left one."""
        if (Path(runner.work_dir) / NAME).is_file():
            self._write(runner)

    def _write(self, runner: Any) -> None:
        try:
            write_report(Path(runner.work_dir))
        except Exception as error:
            runner.logger.warning(f'report.html was not written: {one_line(error)}')
