"""Draw demo/digit.png: a handwritten digit that the network of make demo was not trained on, large enough to see.

python docs/figures/draw_digit.py demo/digit.png
"""

from __future__ import annotations

import sys

import cv2

from qsdt_mm.datasets.digits import Digits

NUMBER = 23
"""Of the digits that are held out."""
SIDE = 128


def main(picture: str) -> None:
    """Enlarge one digit of 8 x 8 grey levels smoothly."""
    digit = Digits('test').get_data_info(NUMBER)['img']
    cv2.imwrite(picture, cv2.resize(digit, (SIDE, SIDE), interpolation=cv2.INTER_CUBIC))


if __name__ == '__main__':
    main(*sys.argv[1:])
