"""Turn annotations of objects (PASCAL VOC's XML, YOLO's text files, Labelme's JSON) into COCO's JSON."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/dataset_converters/to_coco.py voc data/mine/Annotations --images data/mine/JPEGImages \\
      --out data/mine/annotations --val 0.2
  python tools/dataset_converters/to_coco.py yolo data/mine/labels/train --classes data/mine/data.yaml \\
      --out data/mine/annotations --part train
  python tools/dataset_converters/to_coco.py labelme data/mine/photos --out data/mine/annotations --val 0.2 --seed 1

Writes instances_train.json into --out (--part says another name than train) and, with --val, instances_val.json of
other pictures. file_name in them is relative to --images. Pictures are read for their sizes and stand upright, as EXIF
says: so training sees them. Outlines (Labelme's polygons, circles and masks, YOLO's polygons) are kept as masks; where
a set has any, plain boxes stand as their own. Prints what was found, and the classes as a config wants them.

Everything is checked before anything is written: the first fault is an error that names file and line, up to 20 are
listed. Shapes without an area (Labelme's points and lines) and repeated objects are left out, and counted.

exit status: 0 done, 2 bad input, 130 interrupted
"""
FORMATS = ('voc', 'yolo', 'labelme')
LISTED = 20  # faults that are shown


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('to_coco.py', __doc__, EXAMPLE)
    parser.add_argument('format', help=f'of the annotations: {", ".join(FORMATS)}')
    parser.add_argument('annotations', type=Path, help='folder of the annotation files; those below it count, too')
    parser.add_argument(
        '--images',
        type=Path,
        metavar='DIR',
        help='folder of the pictures (default: JPEGImages or images beside or in place of the last labels in '
        'ANNOTATIONS, if it is there, else ANNOTATIONS)',
    )
    parser.add_argument('--out', type=Path, metavar='DIR', help='folder for the JSON files; has to be given')
    parser.add_argument('--part', default='train', metavar='NAME', help='of the file: instances_NAME.json')
    parser.add_argument('--val', type=float, metavar='SHARE', help='put this share of the pictures into a part val')
    parser.add_argument('--seed', type=int, default=0, help='which pictures go there (default: 0)')
    parser.add_argument(
        '--classes',
        type=Path,
        metavar='FILE',
        help="names, one a line, or YOLO's data.yaml; their order is that of the ids. Default: YOLO's list near "
        'ANNOTATIONS; otherwise those found, in alphabetical order',
    )
    parser.add_argument(
        '--list', type=Path, metavar='FILE', help="only the pictures named there, one a line (VOC's ImageSets/Main/*)"
    )
    parser.add_argument(
        '--difficult',
        choices=['ignore', 'keep', 'drop'],
        default='ignore',
        help='what is marked so: neither trained nor counted, as in VOC (iscrowd=1; default); like others; left out',
    )
    parser.add_argument(
        '--origin',
        type=int,
        choices=[0, 1],
        help="first pixel of VOC's boxes (default: 0 if a box begins there, else 1, as VOC says)",
    )
    parser.add_argument(
        '--clip', action='store_true', help='cut boxes off that stand out of their pictures by over a pixel'
    )
    parser.add_argument('--empty', action='store_true', help='take in pictures without annotations, as without objects')
    parser.add_argument('--overwrite', action='store_true', help='replace the files that are to be written')
    args = parser.parse_args(argv)
    if args.format not in FORMATS:
        parser.error(f'format must be one of {", ".join(FORMATS)}, got {args.format!r}')
    if args.out is None:
        parser.error('--out DIR is missing: the folder for the JSON files')
    if args.val is not None and not 0 < args.val < 1:
        parser.error(f'--val must be between 0 and 1, got {args.val}')
    if not args.part or Path(args.part).name != args.part:
        parser.error(f'--part must be a word, got {args.part!r}')
    if args.val is not None and args.part == 'val':
        parser.error('--val writes a part val, too: give --part another name')
    return args


def folder_of_pictures(annotations: Path) -> Path:
    """Return where the pictures of a folder of annotations usually are."""
    parts = annotations.parts
    places = [annotations.with_name(name) for name in ('JPEGImages', 'images')] if annotations.name else []
    for i in reversed([i for i, part in enumerate(parts) if part == 'labels']):
        places.append(Path(*parts[:i], 'images', *parts[i + 1 :]))
    return next((place for place in places if place.is_dir()), annotations)


def converted(args: argparse.Namespace) -> None:
    """Read, check, write."""
    from qsdt_mm.datasets.annotations import coco
    from qsdt_mm.datasets.annotations.objects import Faults
    from qsdt_mm.datasets.annotations.pictures import Pictures
    from qsdt_mm.datasets.annotations.text import read_text
    from qsdt_mm.datasets.annotations.yolo import find_name_list, read_names
    from qsdt_mm.errors import InputError
    from qsdt_mm.fileio.atomic import atomic_open

    names = [args.part] if args.val is None else [args.part, 'val']
    outputs = [args.out / f'instances_{name}.json' for name in names]
    for path in outputs:
        if path.exists() and not args.overwrite:
            raise InputError(f'{path} exists: name another folder or part, or give --overwrite')
    if args.format == 'labelme' and args.out.resolve().is_relative_to(args.annotations.resolve()):
        raise InputError(f'--out {args.out} lies in {args.annotations}, where all JSON files are read: name another')
    name_list = args.classes
    if name_list is None and args.format == 'yolo':
        name_list = find_name_list(args.annotations)
        if name_list is None:
            raise InputError(f'no list of classes near {args.annotations}: give --classes FILE')
    classes = read_names(name_list) if name_list else None
    if name_list and not args.classes:
        print(f'classes from {name_list}')
    # VOC's lists for one class have a second column.
    lines = (
        [re.sub(r'\s+(-1|0|1)$', '', line.strip()) for line in read_text(args.list).splitlines()] if args.list else []
    )
    only = [line for line in lines if line] if args.list else None
    faults = Faults()
    images = args.images or folder_of_pictures(args.annotations)
    pictures = coco.read_annotations(
        args.format,
        args.annotations,
        Pictures(images),
        faults,
        classes=classes,
        only=only,
        origin=args.origin,
        clip=args.clip,
        empty=args.empty,
    )
    if len(faults.lines) > 1:
        print('\n'.join(faults.lines[:LISTED]))
    faults.refuse()
    difficult = sum(item.ignored for picture in pictures for item in picture.objects)
    for picture in pictures:
        if args.difficult == 'drop':
            picture.objects = [item for item in picture.objects if not item.ignored]
        for item in picture.objects:
            item.ignored &= args.difficult != 'keep'
    classes = classes or coco.found_classes(pictures)
    if not classes:
        raise InputError(f'{args.annotations} holds no object')
    objects = [item for picture in pictures for item in picture.objects]
    outlined = sum(bool(item.outlines or item.masks) for item in objects)
    parts = [pictures] if args.val is None else coco.split(pictures, args.val, args.seed)
    with contextlib.ExitStack() as stack:  # both or none
        for path, part in zip(outputs, parts):
            file = stack.enter_context(atomic_open(path, 'w', encoding='utf-8'))
            json.dump(coco.to_coco(part, images, classes, outlined > 0), file, ensure_ascii=False)
            file.write('\n')
    for path, part in zip(outputs, parts):
        found = coco.counts(part, classes)
        print(f'{path}: {len(part)} pictures, {sum(found.values())} objects')
        print('  ' + ', '.join(f'{name} {number}' for name, number in found.items()))
        if sum(found.values()) and 0 in found.values():
            print(f'  note: nothing here of {", ".join(name for name, number in found.items() if not number)}')
    if outlined:
        boxes = len(objects) - outlined
        print(f'outlines: {outlined}' + (f'; {boxes} plain boxes stand as their own' if boxes else ''))
    if difficult:
        done = dict(ignore='neither trained nor counted (iscrowd=1)', keep='kept', drop='left out')[args.difficult]
        print(f'difficult: {difficult}, {done}')
    for note in faults.notes:
        print(f'note: {note}')
    for reason, number in sorted(faults.left_out.items()):
        print(f'left out: {number} {reason}')
    print(f'in the config: classes = {tuple(classes)!r}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('to_coco.py', lambda session: converted(args), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
