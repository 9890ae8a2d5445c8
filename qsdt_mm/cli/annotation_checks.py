"""Annotation files, checked before a run: what is wrong is said in a line that names the file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qsdt_mm.datasets.coco_files import ParsedFile, forget, hand_over
from qsdt_mm.errors import InputError

from .annotation_uses import Use, coco_uses, list_files, metrics_of
from .coco_boxes import check_boxes, faults
from .coco_classes import check_classes, labels_of, listed
from .coco_outlines import check_outlines, find_outlines
from .coco_reading import progress, read_json, without_collection
from .coco_structure import Annotations, check_annotations, check_categories, check_images, rows_of

WITHOUT_SCORES = dict(
    val='',
    test=': write results without scores with --out PRED.pkl, or with test_evaluator.format_only=True and '
    'test_evaluator.outfile_prefix=PREFIX',
)


@dataclass
class Findings:
    """Remarks about the annotation files of a run.

    Args:
        remarks: a line each.
        unscored: a file without annotations, with which no result can be compared, if there is one.

    >>> Findings(['FILE: 3 of 860 boxes are left out']).unscored is None
    True
    """

    remarks: list[str] = field(default_factory=list)
    unscored: str | None = None


@dataclass
class _File:
    """A checked file: number of its annotations, identifiers of its images, label of each name, what can be learned by
    each use, and annotations that are left out of masks."""

    number: int
    images: set
    labels: dict[str, int]
    learned: dict[Use, int]
    without: int = 0


def check_annotation_files(cfg: Any, *splits: str, scored: bool = True) -> Findings:
    """Check the COCO files and lists of images of a configuration, before code reads them that trusts them.

    What is parsed here is handed over to the data sets and metrics that are built next.

    Args:
        cfg: the configuration.
        splits: which of 'train', 'val', 'test'.
        scored: False if testing is good for something without scores, so that a test file needs no annotations.

    Raises:
        InputError: a file is missing or malformed, or nothing can be learned or scored with it; the message names it
            and the place in it.
    """
    findings = Findings()
    uses: dict[str, list[Use]] = {}
    for split in splits:
        for use in coco_uses(cfg, split):
            uses.setdefault(str(Path(use.file).resolve()), []).append(use)
    forget()
    checked = {}
    for path, those in uses.items():
        checked[path] = check_coco_file(those[0].file, uses=those, remark=findings.remarks.append)
    without = next((those[0].file for path, those in uses.items() if checked[path].without), None)
    if without and cfg.get('runner_type'):  # of somebody else: it parses the file by itself
        raise InputError(
            f'{without} has annotations without outlines, which only the runner of this package leaves out: leave out '
            f'runner_type={cfg.runner_type}, or those annotations'
        )
    for split in splits:
        here = [(use, checked[path]) for path, those in uses.items() for use in those if use.split == split]
        _check_together(here)
        if split == 'train':
            _check_learned(here)
        elif here and not _has_truth(here, metrics_of(cfg, split)):
            findings.unscored = here[0][0].file
            free = [one for one in metrics_of(cfg, split) if not (isinstance(one, Mapping) and one.get('format_only'))]
            if free and (scored or split == 'val'):
                raise InputError(
                    f'{findings.unscored} has no annotation to compare results with{WITHOUT_SCORES[split]}'
                )
    _check_same_labels([(use, checked[path]) for path, those in uses.items() for use in those if not use.metric])
    for split in splits:
        for file in sorted({file for file in list_files(cfg, split) if '://' not in file}):
            check_list_file(file)
    return findings


def leave_unscored(cfg: Any, file: str, *places: str) -> str:
    """Take out of a configuration the test metrics that have nothing to compare results with; return what to say.

    Args:
        cfg: the configuration, changed in place: a metric with an ``outfile_prefix`` writes its files.
        file: the test file without annotations.
        places: where results go besides.
    """
    kept, written = [], [place for place in places if place]
    for metric in metrics_of(cfg, 'test'):
        if isinstance(metric, Mapping) and metric.get('outfile_prefix'):
            kept.append({**metric, 'format_only': True})
            written.append(f'{metric["outfile_prefix"]}.*.json')
    cfg.test_evaluator = kept
    return f'{file} has no annotations: nothing is scored; results go to {", ".join(written) or "nowhere"}'


def check_list_file(path: str | Path) -> None:
    """Check that a file lists images as mmpretrain reads it: lines ``path label``.

    Raises:
        InputError: it does not; the message names the file and the line.
    """
    try:
        lines = Path(path).read_text(encoding='utf-8').splitlines()
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not a text file') from error
    if not any(line.strip() for line in lines):
        raise InputError(f'{path} lists no image')
    for i, line in enumerate(lines, 1):
        words = line.strip().rsplit(' ', 1)
        if len(words) != 2 or not words[1].isdecimal():
            raise InputError(f'{path}, line {i}: expected "path label", got {line[:80]!r}')


def check_coco_file(
    path: str | Path,
    classes: Sequence[str] = (),
    *,
    uses: Sequence[Use] = (),
    remark: Callable[[str], Any] = lambda text: None,
) -> _File:
    """Check that a file holds COCO annotations whose identifiers fit together and that mean what COCO's mean.

    Args:
        path: the file.
        classes: names that must be among its categories.
        uses: who reads it; what was parsed is kept for them (:func:`qsdt_mm.datasets.coco_files.hand_over`).
        remark: is told, line by line, what is unusual but no reason to refuse the file.

    Raises:
        InputError: it does not; the message names the file and the first place that is wrong.
    """
    who = uses or [Use('train', str(path), classes=tuple(classes), given=True)]
    with without_collection(), progress(path) as tick:
        held = read_json(path)
        sizes = check_images(held, path, next((use.names for use in who if len(use.names) > 1), who[0].names))
        categories = check_categories(held, path)
        for use in who:
            for line in check_classes(categories, use, path):
                remark(line)
        labels = next((labels_of(categories, use) for use in who if not use.metric), {})
        parsed = ParsedFile(held, uses=len(who))
        learned: dict[Use, int] = {}
        if all(use.split == 'test' for use in who) and isinstance(held, dict) and held.get('annotations') is None:
            held.pop('annotations', None)
            number = 0
        elif any(use.segments for use in who):
            number = len(rows_of(held, 'annotations', path))
        else:
            found = check_annotations(held, path, sizes, categories, tick)
            tick('what they mean')
            number = len(found)
            _look_closer(found, categories, who, path, parsed, learned, remark)
        if uses:
            hand_over(path, parsed)
    return _File(number, set(sizes), labels, learned, len(parsed.no_outline))


def _look_closer(
    found: Annotations,
    categories: dict,
    who: Sequence[Use],
    path: str | Path,
    parsed: ParsedFile,
    learned: dict[Use, int],
    remark: Callable[[str], Any],
) -> None:
    """Check what the annotations mean, and note what is left out of the parsed file for whom."""
    if found.ids and (str in set(map(type, found.ids)) or min(found.ids) < 1):
        for i, row in enumerate(parsed.held['annotations'], 1):
            row['id'] = i  # pycocotools takes 0 for "not found", and no words
    if not all(use.plain for use in who):  # somebody else's reading: boxes may be what they like
        return
    needed = any(use.scored or use.split == 'train' for use in who)
    if needed:
        for line in check_boxes(found, path):
            remark(line)
    masked = [use for use in who if use.outlines]
    outlines = find_outlines(found) if masked else None
    if outlines is not None and needed:
        for line in check_outlines(found, outlines, path, all(use.bitmaps for use in masked)):
            remark(line)
    if needed and len(found) and found.crowd.all():
        raise InputError(
            f'{path}: all {len(found)} annotations have iscrowd=1 and are left out: set iscrowd=0 for single objects'
        )
    kept = np.logical_or.reduce([found.crowd, found.ignored, *faults(found).values()]) == 0
    for use in who:
        wanted = {key for key, name in categories.items() if name in use.classes or not use.classes}
        taken = kept.copy()
        if len(wanted) < len(categories):
            known = np.array([key in wanted for key in found.category_ids], bool)
            taken &= known
            if not known.all() and not use.metric and needed:
                other = {name for key, name in categories.items() if key not in wanted}
                remark(
                    f'{path}: {(~known).sum()} of {len(found)} annotations are left out: their categories are not '
                    f'among the classes ({listed(sorted(other))})'
                )
        if use.outlines and outlines is not None:
            taken &= ~(outlines.absent | outlines.too_short)
        learned[use] = int(taken.sum())
    parsed.no_box = set(np.flatnonzero((found.boxes[:, 2:] <= 0).any(1)).tolist())
    if outlines is not None:
        parsed.no_outline = set(np.flatnonzero(outlines.absent | outlines.too_short).tolist())
        parsed.trimmed = outlines.trimmed


def _check_together(here: Sequence[tuple[Use, _File]]) -> None:
    """Refuse a metric whose file lacks images that its data set has."""
    for metric, truth in here:
        for use, file in here:
            absent = metric.metric and not use.metric and file is not truth and file.images - truth.images
            if absent:
                raise InputError(
                    f'{metric.file}, ann_file of {metric.split}_evaluator, lacks {len(absent)} images of {use.file}, '
                    f'which the results are of (id {next(iter(absent))!r}): both have to name the same images'
                )


def _check_learned(here: Sequence[tuple[Use, _File]]) -> None:
    """Refuse training data in which there is nothing to learn from."""
    counts = [(use.file, file.learned.get(use), file.number) for use, file in here if not use.segments and use.plain]
    if counts and len(counts) == len(here) and not any(learned for _, learned, _ in counts):
        file, _, number = counts[0]
        raise InputError(
            f'{file}: none of {number} annotations can be learned from: crowds, ignored, boxes without extent, and '
            'categories that are not among the classes are left out'
            if number
            else f'{file} has no annotations: there is nothing to learn'
        )


def _has_truth(here: Sequence[tuple[Use, _File]], metrics: Sequence[Any]) -> bool:
    """Return whether there is an annotation to compare results with: in the metrics' files, or in the data sets'."""
    truth = [file.number for use, file in here if use.metric]
    return any(truth) or len(truth) < len(metrics) and any(file.number for use, file in here if not use.metric)


def _check_same_labels(sets: Sequence[tuple[Use, _File]]) -> None:
    """Refuse data in which a label means two things, as mmdet numbers labels in the order of a file's categories."""
    sets = [(use, file) for use, file in sets if use.ordered]
    for use, file in sets:
        first, other = sets[0][0], sets[0][1].labels
        name = next((name for name in file.labels if file.labels[name] != other.get(name)), None)
        if name is not None and set(file.labels) == set(other):
            raise InputError(
                f'{name!r} is label {other[name]} in {first.file} and label {file.labels[name]} in {use.file}: mmdet '
                "numbers labels in the order of a file's categories, which has to be the same in both"
            )
