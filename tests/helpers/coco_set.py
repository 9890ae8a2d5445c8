"""A COCO set that tests make."""

import json

import cv2
import numpy as np


def make_coco_set(root):
    """Four images of 96 x 128 px; rectangles of two classes, one image without any."""
    numbers = np.random.default_rng(0)
    images, annotations = [], []
    for i in range(4):
        picture = numbers.integers(0, 100, (96, 128, 3), dtype=np.uint8)
        for x, y, w, h, category in [] if i == 3 else [(10, 12, 40, 50, 1), (70, 30, 36 + i, 44, 2)]:
            picture[y : y + h, x : x + w, category] = 255
            outline = [x, y, x + w, y, x + w, y + h, x, y + h]
            place = dict(bbox=[x, y, w, h], area=w * h, segmentation=[outline], iscrowd=0)
            annotations.append(dict(id=len(annotations) + 1, image_id=i, category_id=category, **place))
        assert cv2.imwrite(str(root / f'{i}.png'), picture)
        images.append(dict(id=i, file_name=f'{i}.png', height=96, width=128))
    categories = [dict(id=1, name='green'), dict(id=2, name='red')]
    (root / 'set.json').write_text(json.dumps(dict(images=images, annotations=annotations, categories=categories)))
