"""Draw docs/en/images/shapes.png: scenes of the example data, and their label images.

python tools/dataset_converters/make_shapes.py data/shapes
python docs/figures/draw_shapes.py data/shapes docs/en/images/shapes.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import cv2

from qsdt_mm.visualization.figures import new_figure, save_figure

COLUMNS = 4


def main(folder: str, picture: str) -> None:
    """Scenes above, label images below."""
    figure = new_figure(1.5 * COLUMNS, 3.1)
    for i, (above, below) in enumerate(zip(*figure.subplots(2, COLUMNS))):
        above.imshow(cv2.imread(f'{folder}/scenes/val/{i:04}.png')[..., ::-1])
        below.imshow(cv2.imread(f'{folder}/masks/val/{i:04}.png', cv2.IMREAD_GRAYSCALE), cmap='magma', vmin=0, vmax=3.4)
        for axes in (above, below):
            axes.set(xticks=[], yticks=[])
    save_figure(figure, Path(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
