"""Test data without label maps: predictions are written, and nothing is scored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qsdt_mm.datasets.label_files import loads_labels, steps_of
from qsdt_mm.datasets.labels import parts_of
from qsdt_mm.datasets.transforms import CheckLabels
from qsdt_mm.errors import InputError

from .file_checks import infos_of, leaves_of, missing_of, paths_in


def without_labels(loop: Any, written: bool) -> str | None:
    """Let a test loop do without label maps if its data set has none, or has to have none as results are only written.

    Args:
        loop: the test loop, changed in place: no label map is loaded, and no metric scores.
        written: whether predictions are written whatever the metrics do.

    Returns:
        A remark, if something was left out.

    Raises:
        InputError: the data have no label maps, and nothing would be written.
    """
    metrics = list(getattr(loop.evaluator, 'metrics', []))
    writers = [m for m in metrics if getattr(m, 'output_dir', None) is not None and hasattr(m, 'format_only')]
    idle = [m for m in metrics if getattr(m, 'format_only', False) and hasattr(m, 'output_dir') and m not in writers]
    only_written = bool(metrics) and all(getattr(metric, 'format_only', False) for metric in metrics)
    bare = [part for part in leaves_of(loop.dataloader.dataset) if is_bare(part, only_written)]
    if idle and not bare and not (written or writers):
        raise InputError('format_only=True of the test evaluator writes nothing: give it output_dir, or use --out')
    for metric in idle:  # mmseg asks for a folder when all is done
        loop.evaluator.metrics.remove(metric)
    if not bare:
        return None
    if not (written or writers):
        raise InputError(
            'the test data have no label maps: nothing can be scored; say where predictions go: --out PRED.pkl, '
            '--show-dir DIR, or test_evaluator.format_only=True test_evaluator.output_dir=DIR'
        )
    leave_out_labels(loop.dataloader.dataset)
    for metric in writers:
        metric.format_only = True
    loop.evaluator.metrics[:] = [metric for metric in loop.evaluator.metrics if metric in writers]
    return 'the test data have no label maps: nothing is scored, predictions are written'


def leave_out_labels(dataset: Any) -> None:
    """Take the steps that load and check label maps out of the pipelines of a data set and of those that it wraps."""
    for part in parts_of(dataset):
        _leave_out(getattr(part, 'pipeline', None))


def is_bare(dataset: Any, only_written: bool) -> bool:
    """Return whether a pipeline asks for label maps that a data set does not know; of ``only_written``, or has not."""
    if not any(loads_labels(step) for step in steps_of(getattr(dataset, 'pipeline', None))):
        return False
    infos = infos_of(dataset, 1000)
    if not any(isinstance(info, Mapping) and info.get('seg_map_path') for info in infos):
        return bool(infos)
    paths = paths_in(infos, 'seg_map_path')
    return only_written and bool(paths) and len(missing_of(paths)) == len(paths)


def _leave_out(pipeline: Any) -> None:
    for name in ('transforms', 'subroutines'):
        steps = getattr(pipeline, name, None)
        if isinstance(steps, list):
            steps[:] = [step for step in steps if not (loads_labels(step) or isinstance(step, CheckLabels))]
            for step in steps:
                for one in step if isinstance(step, (list, tuple)) else [step]:
                    _leave_out(one)
