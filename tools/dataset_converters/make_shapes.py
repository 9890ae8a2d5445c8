"""Draw a data set of coloured shapes, as a pattern for your own: folders of classes, annotations, label images."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/dataset_converters/make_shapes.py
  python tools/dataset_converters/make_shapes.py data/few_shapes --train 16 --val 8 --seed 1

Writes, for the parts train and val:
  crops/PART/CLASS/NUMBER.png           one shape in 32 px, two of each class for every scene: for classification
  scenes/PART/NUMBER.png                one to four shapes
  annotations/instances_PART.json       their boxes and outlines, as COCO writes them: for detection
  yolo/PART/NUMBER.txt                  their boxes, as YOLO writes them, with yolo/classes.txt: for to_coco.py
  masks/PART/NUMBER.png                 the class of each pixel, 0 is background: for segmentation
Classes are circle, square and triangle, in any colour.

exit status: 0 done, 2 bad input, 130 interrupted
"""
CLASSES = ('circle', 'square', 'triangle')
CORNERS = {'circle': 32, 'square': 4, 'triangle': 3}
CROP = 32


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('make_shapes.py', __doc__, EXAMPLE)
    parser.add_argument('out', nargs='?', default='data/shapes', metavar='DIR', help='folder to make')
    parser.add_argument('--train', type=int, default=160, metavar='N', help='scenes to train on (default: 160)')
    parser.add_argument('--val', type=int, default=40, metavar='N', help='scenes to validate on (default: 40)')
    parser.add_argument('--size', type=int, default=64, metavar='PX', help='side of a scene (default: 64)')
    parser.add_argument('--seed', type=int, default=0, help='of the random numbers (default: 0)')
    parser.add_argument('--overwrite', action='store_true', help='replace a data set that this tool made')
    args = parser.parse_args(argv)
    for name, least in (('train', 1), ('val', 1), ('size', 48), ('seed', 0)):
        if getattr(args, name) < least:
            parser.error(f'--{name} must be at least {least}, got {getattr(args, name)}')
    return args


def outline(rng, kind: str, centre, radius: float):
    """Return the corners of a shape, turned at random, ``(K, 2)``."""
    import numpy as np

    angles = rng.uniform(0, 2 * np.pi) + np.arange(CORNERS[kind]) * 2 * np.pi / CORNERS[kind]
    return np.asarray(centre) + radius * np.stack([np.cos(angles), np.sin(angles)], 1)


def background(rng, size: int):
    """Draw a dark background, of one colour that changes slowly, with noise."""
    import cv2
    import numpy as np

    coarse = rng.uniform(20, 90, (4, 4, 3)).astype(np.float32)
    return cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC) + rng.normal(0, 8, (size, size, 3))


def draw(image, points, colour) -> None:
    """Fill an outline, with soft edges."""
    import cv2
    import numpy as np

    shift = 4  # sixteenths of a pixel
    cv2.fillPoly(image, [np.round(points * 2**shift).astype(np.int32)], colour, cv2.LINE_AA, shift)


def place(rng, size: int, number: int) -> list[tuple]:
    """Draw centres and radii of shapes that do not touch."""
    import math

    placed = []
    for _ in range(50 * number):
        radius = rng.uniform(0.09, 0.2) * size
        x, y = rng.uniform(radius + 1, size - radius - 1, 2)
        if all(math.dist((x, y), other[:2]) > radius + other[2] + 2 for other in placed):
            placed.append((x, y, radius))
        if len(placed) == number:
            break
    return placed


def write_image(path: Path, image) -> None:
    """Write one image, values rounded to bytes."""
    import cv2
    import numpy as np

    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), np.clip(np.round(image), 0, 255).astype(np.uint8)):
        raise OSError(f'{path} could not be written')


def write_text(path: Path, text: str) -> None:
    """Write one text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding='utf-8')


def write_part(folder: Path, part: str, args: argparse.Namespace) -> int:
    """Write one part; return the number of shapes in its scenes."""
    import numpy as np

    rng = np.random.default_rng([args.seed, ('train', 'val').index(part)])

    def colour():
        return tuple(float(value) for value in rng.permutation([rng.uniform(150, 255), *rng.uniform(60, 255, 2)]))

    for kind in CLASSES:
        for i in range(2 * getattr(args, part)):
            image = background(rng, CROP)
            radius = rng.uniform(8, 14)
            draw(image, outline(rng, kind, rng.uniform(radius, CROP - radius, 2), radius), colour())
            write_image(folder / f'crops/{part}/{kind}/{i:04}.png', image)

    images, annotations = [], []
    for i in range(getattr(args, part)):
        image, mask = background(rng, args.size), np.zeros((args.size, args.size), np.float64)
        rows = []
        images.append(dict(id=i + 1, file_name=f'{i:04}.png', width=args.size, height=args.size))
        for x, y, radius in place(rng, args.size, int(rng.integers(1, 5))):
            kind = CLASSES[rng.integers(len(CLASSES))]
            points = outline(rng, kind, (x, y), radius)
            draw(image, points, colour())
            own = np.zeros_like(mask)
            draw(own, points, 255)
            mask[own > 127] = CLASSES.index(kind) + 1
            low, high = points.min(0), points.max(0)
            shares = (*(low + high) / 2 / args.size, *(high - low) / args.size)
            rows.append(' '.join([str(CLASSES.index(kind)), *(f'{share:.6f}' for share in shares)]) + '\n')
            annotations.append(
                dict(
                    id=len(annotations) + 1,
                    image_id=i + 1,
                    category_id=CLASSES.index(kind) + 1,
                    bbox=[round(float(value), 2) for value in (*low, *(high - low))],
                    segmentation=[[round(float(value), 2) for value in points.ravel()]],
                    area=float((own > 127).sum()),
                    iscrowd=0,
                )
            )
        write_image(folder / f'scenes/{part}/{i:04}.png', image)
        write_image(folder / f'masks/{part}/{i:04}.png', mask)
        write_text(folder / f'yolo/{part}/{i:04}.txt', ''.join(rows))
    coco = dict(
        images=images,
        annotations=annotations,
        categories=[dict(id=i + 1, name=name) for i, name in enumerate(CLASSES)],
    )
    write_text(folder / f'annotations/instances_{part}.json', json.dumps(coco))
    write_text(folder / 'yolo/classes.txt', '\n'.join(CLASSES) + '\n')
    return len(annotations)


def make(args: argparse.Namespace, session) -> None:
    """Write beside, then rename."""
    from qsdt_mm.errors import InputError

    out, note = Path(args.out), 'made_by_make_shapes.json'
    if out.exists() and not args.overwrite:
        raise InputError(f'{out} exists: name another folder, or replace it with --overwrite')
    if out.exists() and not (out / note).is_file():
        raise InputError(f'{out} was not made by {Path(__file__).name}: not replaced')
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f'.{out.name}.tmp{os.getpid()}')
    try:
        beside.mkdir()
        numbers = {part: write_part(beside, part, args) for part in ('train', 'val')}
        settings = {name: getattr(args, name) for name in ('train', 'val', 'size', 'seed')}
        (beside / note).write_text(json.dumps(settings) + '\n', encoding='utf-8')
        if out.exists():
            shutil.rmtree(out)
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    size = sum(path.stat().st_size for path in out.rglob('*') if path.is_file())
    print(f'folder   {out} ({size / 1e6:.1f} MB)')
    print(f'crops    {len(CLASSES)} classes of {2 * args.train} train, {2 * args.val} val; {CROP} x {CROP}')
    shapes = ', '.join(f'{number} shapes in {getattr(args, part)} {part}' for part, number in numbers.items())
    print(f'scenes   {shapes}; {args.size} x {args.size}')


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('make_shapes.py', lambda session: make(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
