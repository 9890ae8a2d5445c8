"""The last lines of a training or a test: how it ended, where its files lie, and what one may do next."""

from __future__ import annotations

import math
import os
import re
import shlex
import sys
from collections.abc import Iterable, Mapping
from numbers import Real
from pathlib import Path
from typing import Any

from qsdt_mm.engine.hooks.classes import ClassResultsHook
from qsdt_mm.engine.hooks.energy import EnergyHook
from qsdt_mm.engine.hooks.firing import FiringRateHook
from qsdt_mm.engine.hooks.outcome import OutcomeHook
from qsdt_mm.models.neurons import SpikingNeuron

PERCENT = re.compile(
    r'accuracy/|single-label/|multi-label/|retrieval/|[am]Acc$|aAcc$|mIoU$|m(Dice|Fscore|Precision|Recall)$'
)
"""Results that their libraries give in percent."""
FIRST = ('accuracy/top1', 'coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'mIoU')
"""Results to speak of where no checkpoint is chosen by one."""
UNITS = dict(epoch='epoch', iter='iteration')
WIDTH = 12


def duration(seconds: float) -> str:
    """Return a time in words.

    >>> duration(7.2), duration(94), duration(7500)
    ('7 s', '1 min 34 s', '2 h 5 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f'{whole} s' if whole else f'{seconds:.1f} s'
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f'{minutes} min {rest} s'
    return f'{minutes // 60} h {minutes % 60} min'


def shown(name: str, value: float) -> str:
    """Return a result in a few digits, with the sign of percent where it is one.

    >>> shown('accuracy/top1', 98.3099), shown('coco/bbox_mAP', 0.303), shown('loss', 0.01234)
    ('98.3 %', '0.303', '0.0123')
    """
    if not math.isfinite(value):
        return str(value)
    if PERCENT.match(name):
        return f'{value:.1f} %'
    if 'mAP' in name or 'AR' in name:  # of 1, in three digits, as their library gives them
        return f'{value:.3f}'
    return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'


def chosen(metrics: Mapping[str, Any], wanted: Iterable[str] = ()) -> str | None:
    """Return the name of the result to speak of: one that checkpoints are chosen by, else a usual one, else the first.

    >>> chosen({'accuracy/top5': 100.0, 'accuracy/top1': 98.0})
    'accuracy/top1'
    """
    return next(iter(ranked(metrics, wanted)), None)


def ranked(metrics: Mapping[str, Any], wanted: Iterable[str] = ()) -> dict[str, float]:
    """Return the results that are numbers, those to speak of first; not COCO's -1, which says that there is none."""
    numbers = {key: float(value) for key, value in metrics.items() if isinstance(value, Real) and value != -1}
    return {key: numbers[key] for key in (*wanted, *FIRST, *numbers) if key in numbers}


def command(tool: str, *words: Any) -> str:
    """Return a command line for a tool of this project, seen from where the running one was started."""
    here, known = Path(sys.argv[0]), 'tools'
    if here.name in ('train.py', 'test.py'):
        known = str(here.parent)
    return shlex.join(['python', os.path.join(known, tool), *map(str, words)])


def short(path: Any) -> str:
    """Return a path as seen from the current directory, where that is shorter."""
    try:
        relative = os.path.relpath(path)
    except (OSError, ValueError):
        return str(path)
    return relative if len(relative) < len(str(path)) else str(path)


def _indicators(runner: Any) -> list[str]:
    from mmengine.hooks import CheckpointHook

    found: list[str] = []
    for hook in runner.hooks:
        if isinstance(hook, CheckpointHook):
            found += getattr(hook, 'key_indicators', None) or []
    return [key for key in found if key]


def _best(runner: Any, name: str) -> tuple[float | None, str | None]:
    """Return the best value of a result and its checkpoint, as mmengine's hook has noted them."""
    info = runner.message_hub.runtime_info
    for ending in (f'_{name}', '') if name in _indicators(runner)[:1] else (f'_{name}',):
        if info.get(f'best_ckpt{ending}'):
            return info.get(f'best_score{ending}'), str(info[f'best_ckpt{ending}'])
    return None, None


def _figures(folder: Path, since: float) -> str:
    """Return the pictures and pages that a run has written beside its log; empty if none."""
    found = [path for ending in ('*.png', '*.gif', '*.html') for path in folder.glob(ending)]
    names = [path.name for path in sorted(found) if path.stat().st_mtime >= since - 1]
    return f'{short(folder)}: {", ".join(names)}' if names else ''


def _worst(runner: Any, most: int = 3) -> str:
    """Return the worst classes of the last evaluation, with their scores."""
    results = next((hook.results for hook in runner.hooks if isinstance(hook, ClassResultsHook)), None)
    if results is None:
        return ''
    found = [i for i in results.worst(most) if results.scores[i] < 1]
    return ', '.join(f'{printable(results.names[i])} {results.shown(i)}' for i in found) + (
        f' ({results.score}, by class)' if found else ''
    )


def _energy(runner: Any) -> str:
    """Return what the network's operations cost, if they were counted."""
    report = next((hook.report for hook in runner.hooks if isinstance(hook, EnergyHook)), None)
    if report is None:
        return ''
    return f'{report.energy_mj:.3g} mJ an image, dense {report.dense_energy_mj:.3g} (operations alone)'


def printable(name: str, longest: int = 30) -> str:
    """Return a name that came with data as a terminal may print it: no control characters, not long.

    >>> printable('cat\\x1b[31m')
    'cat?[31m'
    """
    name = ''.join(letter if letter.isprintable() else '?' for letter in name)
    return name if len(name) <= longest else f'{name[: longest - 3]}...'


def _rate(rate: float | None) -> str:
    return '' if rate is None else f', mean firing rate {rate:.2f}'


def _lines(head: str, rows: Iterable[tuple[str, str]]) -> list[str]:
    return [head, *(f'  {name:<{WIDTH}}{text}' for name, text in rows if text)]


def after_training(runner: Any, outcome: OutcomeHook, config: str, changed: bool) -> list[str]:
    """Return the last lines of a training.

    Args:
        runner: mmengine's, when it has trained.
        outcome: of its run.
        config: file of the configuration, as the user gave it.
        changed: options have changed the configuration: commands name the file in the work directory.
    """
    work_dir, info = Path(runner.work_dir), runner.message_hub.runtime_info
    name = chosen(outcome.metrics, _indicators(runner))
    result, checkpoint = '', info.get('last_ckpt')
    if name is not None:
        result = f': {name} {shown(name, float(outcome.metrics[name]))}'
        score, best = _best(runner, name)
        if best:
            at = re.search(r'(epoch|iter)_(\d+)', Path(best).name)
            place = f', {UNITS[at[1]]} {at[2]}' if at else ''
            result += f' (best {shown(name, float(score))}{place})'
            checkpoint = best
    elif (losses := runner.message_hub.log_scalars.get('train/loss')) is not None and losses.data[0].size:
        result = f': loss {losses.mean(min(losses.data[0].size, 20)):.3g}'
    rate = outcome.firing_rate
    if rate is None:  # nobody has validated
        rate = next((hook.mean_rate for hook in runner.hooks if isinstance(hook, FiringRateHook)), None)
    written = work_dir / Path(runner.cfg.filename or config).name
    usable = str(written) if changed and written.is_file() else config
    return _lines(
        f'done in {duration(outcome.seconds)}{result}{_rate(rate)}',
        [
            ('worst', _worst(runner)),
            ('energy', _energy(runner)),
            ('checkpoint', short(checkpoint) if checkpoint else ''),
            ('figures', _figures(work_dir, outcome.started)),
            ('log', short(runner.log_dir)),
            ('next', _next_of_training(runner, short(usable), checkpoint)),
        ],
    )


def _next_of_training(runner: Any, config: str, checkpoint: Any) -> str:
    if not checkpoint:
        return ''
    words = (config, short(checkpoint))
    if runner.cfg.get('test_dataloader') is not None:
        spiking = any(isinstance(module, SpikingNeuron) for module in _network(runner).modules())
        return command('test.py', *words, *(['--inference', 'spike'] if spiking else []))
    if type(_network(runner)).__name__ == 'SpikeMAE':
        return command('analysis_tools/vis_mae.py', *words)
    return ''


def _network(runner: Any) -> Any:
    from qsdt_mm.compat.wrappers import unwrap

    return unwrap(runner.model)


def after_test(runner: Any, outcome: OutcomeHook, args: Any) -> list[str]:
    """Return the last lines of a test.

    Args:
        runner: mmengine's, when it has tested.
        outcome: of its run.
        args: of the command line.
    """
    result = ', '.join(f'{key} {shown(key, value)}' for key, value in [*ranked(outcome.metrics).items()][:4])
    result = f': {result}' if result else ''
    form = '' if args.inference == 'float' else f' as {args.inference}'
    work_dir = Path(runner.work_dir)
    following = ''
    spiking = outcome.firing_rate is not None
    if args.inference in ('float', 'folded') and spiking and not args.tta:
        following = command('test.py', args.config, args.checkpoint, '--inference', 'spike')
    elif args.inference in ('integer', 'spike'):
        following = command('analysis_tools/energy.py', args.config, args.checkpoint)
    return _lines(
        f'done in {duration(outcome.seconds)}{form}{result}{_rate(outcome.firing_rate)}',
        [
            ('worst', _worst(runner)),
            ('results', args.json or ''),
            ('predictions', args.out or ''),
            ('pictures', str(args.show_dir or '')),
            ('figures', _figures(work_dir, outcome.started)),
            ('log', short(runner.log_dir)),
            ('next', following),
        ],
    )


def say(lines: Iterable[str]) -> None:
    """Print lines once, however many processes there are."""
    from mmengine.dist import is_main_process

    if is_main_process():
        print(*lines, sep='\n', flush=True)
