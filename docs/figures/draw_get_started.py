"""Keep what the commands of docs/en/get_started.md draw, small enough for the page: first_*.png.

Run the page's commands up to image_demo.py, then
python docs/figures/draw_get_started.py work_dirs/first . docs/en/images
"""

from __future__ import annotations

import sys
from pathlib import Path

from PIL import Image

from qsdt_mm.fileio.atomic import atomic_open

WIDTH = 1000  # pixels, at most
COLOURS = 64


def shrink(source: Path, path: Path) -> None:
    """Write a picture with fewer pixels and colours."""
    picture = Image.open(source).convert('RGB')
    width = min(picture.width, WIDTH)
    picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    with atomic_open(path) as file:
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(file, format='PNG', optimize=True)


def main(work_dir: str, out_dir: str, folder: str) -> None:
    """Shrink them: those of the work directory, and those of image_demo.py, which are in another."""
    sources = {name: Path(work_dir) / f'{name}.png' for name in ('learning_curves', 'predictions', 'energy')}
    sources |= {name: Path(out_dir) / f'three_{name}.png' for name in ('found', 'firing')}
    for name, source in sources.items():
        shrink(source, Path(folder) / f'first_{name}.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
