"""Turn label images of colours into label maps: one channel that holds the number of each pixel's class."""

from __future__ import annotations

import argparse
import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from qsdt_mm.cli import ToolParser, run_tool

EXAMPLE = """examples:
  python tools/dataset_converters/colours_to_labels.py masks labels --palette palette.txt --void unlabelled
  python tools/dataset_converters/colours_to_labels.py masks labels --colours "sky 128 128 128" "road 128 64 128"
  python tools/dataset_converters/colours_to_labels.py masks labels --find
  python tools/dataset_converters/colours_to_labels.py masks labels --grey

Writes labels/NAME.png for masks/NAME.*, folders below included, and labels/palette.txt with what the numbers mean. A
palette has a line for each class, "name r g b"; the first is label 0. "r g b name", "name,r,g,b" after a line of titles
(class_dict.csv), "number name r g b" and "name #rrggbb" are read, too. A colour that it does not have stops the tool
before anything is there.

exit status: 0 done, 2 bad input, 130 interrupted
"""
ENDINGS = ('.png', '.bmp', '.tif', '.tiff', '.gif', '.webp', '.ppm', '.jpg', '.jpeg')
NOTE = 'palette.txt'
HEADER = '# made by colours_to_labels.py'


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = ToolParser('colours_to_labels.py', __doc__, EXAMPLE)
    parser.add_argument('masks', help='folder of label images of colours')
    parser.add_argument('labels', help='folder to make')
    source = parser.add_mutually_exclusive_group()
    source.add_argument('--palette', metavar='FILE', help='file with a line "name r g b" for each class')
    source.add_argument('--colours', nargs='+', metavar='LINE', help='such lines, each in quotes')
    source.add_argument('--find', action='store_true', help='number the colours of the images, darkest red first')
    source.add_argument('--grey', action='store_true', help='keep the first of three equal channels')
    parser.add_argument('--void', nargs='+', default=[], metavar='NAME', help='classes to ignore')
    parser.add_argument('--void-label', type=int, default=255, metavar='N', help='their label (default: 255)')
    parser.add_argument(
        '--unknown',
        default='refuse',
        metavar='refuse|nearest|N',
        help='colours that the palette does not have: refuse them (default), take the nearest one, or label them N',
    )
    parser.add_argument('--overwrite', action='store_true', help='replace a folder that this tool made')
    args = parser.parse_args(argv)
    if not (args.palette or args.colours or args.find or args.grey):
        parser.error('say what the colours mean: --palette, --colours, --find or --grey')
    if not 0 <= args.void_label <= 255:
        parser.error(f'--void-label must be 0 to 255, got {args.void_label}')
    if args.unknown not in ('refuse', 'nearest') and not (args.unknown.isdecimal() and int(args.unknown) <= 255):
        parser.error(f'--unknown must be refuse, nearest or a label of 0 to 255, got {args.unknown}')
    if args.void and (args.find or args.grey):
        parser.error('--void goes with --palette or --colours, which have names')
    return args


def read_palette(args: argparse.Namespace, paths: Sequence[Path]) -> list:
    """Return the classes that the command line asks for."""
    from qsdt_mm.datasets.colours import Entry, find_palette, parse_palette
    from qsdt_mm.errors import InputError

    if args.grey:
        return [Entry(f'label_{i}', (i, i, i), i) for i in range(256)]
    if args.find:
        return find_palette(paths)
    if args.colours:
        return parse_palette(args.colours, '--colours', args.void, args.void_label)
    try:
        lines = Path(args.palette).read_text(encoding='utf-8-sig').splitlines()
    except OSError as error:
        raise InputError(f'--palette {args.palette}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'--palette {args.palette} is not a text file') from error
    return parse_palette(lines, str(args.palette), args.void, args.void_label)


def targets_of(masks: Path) -> dict[Path, Path]:
    """Return the label images below a folder, by the name of the map that each becomes."""
    from qsdt_mm.errors import InputError

    if not masks.is_dir():
        raise InputError(f'{masks} is no folder')
    found: dict[Path, Path] = {}
    for path in sorted(masks.rglob('*')):
        if path.suffix.lower() in ENDINGS and path.is_file():
            target = path.relative_to(masks).with_suffix('.png')
            if target in found:
                raise InputError(f'{found[target]} and {path} would both become {target}')
            found[target] = path
    if not found:
        raise InputError(f'{masks} holds no images ({", ".join(ENDINGS)})')
    return found


def write_maps(beside: Path, targets: dict[Path, Path], entries: list, args: argparse.Namespace) -> list[int]:
    """Write all maps; return the pixels of each label.

    Raises:
        InputError: the palette lacks colours.
    """
    import numpy as np
    from PIL import Image

    from qsdt_mm.datasets.colours import NOWHERE, codes_of, colour_of, nearest, table_of
    from qsdt_mm.errors import InputError

    table, pixels = table_of(entries), np.zeros(256, np.int64)
    strange: dict[int, list] = {}  # pixels and first file of colours that are not there
    files = 0
    for target, path in targets.items():
        codes = codes_of(path)
        labels = table[codes]
        outside = labels == NOWHERE
        if outside.any():
            files += 1
            for code, count in zip(*np.unique(codes[outside], return_counts=True)):
                strange.setdefault(int(code), [0, path])[0] += int(count)
            if args.unknown == 'nearest':
                labels[outside] = nearest(codes[outside], entries)
            elif args.unknown != 'refuse':
                labels[outside] = int(args.unknown)
        if args.unknown == 'refuse' and strange:
            continue  # only counts the rest
        pixels += np.bincount(labels.ravel(), minlength=256)
        (beside / target).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(labels.astype(np.uint8)).save(beside / target)
    if strange:
        code, (count, path) = max(strange.items(), key=lambda pair: pair[1][0])
        said = (
            f'{len(strange):,} colours of {files:,} of {len(targets):,} files are not in the palette, '
            f'{sum(number for number, _ in strange.values()):,} pixels; most often {colour_of(code)}, {count:,} '
            f'pixels, first in {path}'
        )
        if args.unknown == 'refuse':
            raise InputError(f'{said}: add them to the palette, or say what they are with --unknown nearest or 255')
        print(f'unknown  {said}')
    return pixels.tolist()


def convert(args: argparse.Namespace, session) -> None:
    """Write beside, then rename."""
    from qsdt_mm.errors import InputError

    masks, out = Path(args.masks), Path(args.labels)
    if out.exists() and not args.overwrite:
        raise InputError(f'{out} exists: name another folder, or replace it with --overwrite')
    if out.exists() and not ((out / NOTE).is_file() and (out / NOTE).read_text(encoding='utf-8').startswith(HEADER)):
        raise InputError(f'{out} was not made by {Path(__file__).name}: not replaced')
    if masks.resolve().is_relative_to(out.resolve()):
        raise InputError(f'{out} holds the images to read: name another folder')
    targets = targets_of(masks)
    if out.resolve().is_relative_to(masks.resolve()):
        raise InputError(f'{out} lies in {masks}, whose images would be read again: name another folder')
    entries = read_palette(args, [*targets.values()])
    out.parent.mkdir(parents=True, exist_ok=True)
    beside = out.with_name(f'.{out.name}.tmp{os.getpid()}')
    try:
        beside.mkdir()
        pixels = write_maps(beside, targets, entries, args)
        used = [entry for entry in entries if not args.grey or pixels[entry.label]]
        lines = [HEADER, *(f'{entry.label} {entry}' for entry in used)]
        (beside / NOTE).write_text('\n'.join(lines) + '\n', encoding='utf-8')
        if out.exists():
            shutil.rmtree(out)
        beside.rename(out)
    except BaseException:
        shutil.rmtree(beside, ignore_errors=True)
        raise
    print(f'folder   {out}, {len(targets):,} label maps')
    total = max(sum(pixels), 1)
    for entry in used:
        share = pixels[entry.label] / total
        print(f'{entry.label:>5}    {entry.name}  {share:.2%} of the pixels' + ('' if share else ', in no map'))


def main(argv: Sequence[str] | None = None) -> int:
    """Run the tool and return its exit status."""
    args = parse_args(argv)
    return run_tool('colours_to_labels.py', lambda session: convert(args, session), args.traceback)


if __name__ == '__main__':
    sys.exit(main())
