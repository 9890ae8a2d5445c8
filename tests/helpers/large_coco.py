"""A COCO file of the size of COCO's training annotations, to measure with: python large_coco.py FILE [IMAGES]."""

import json
import sys

import numpy as np

PER_IMAGE = 860 / 118


def write_large_coco(path, images=118_000, points=25, seed=0):
    """Write a file of so many images with 7.3 annotations each, whose outlines are boxes with noise."""
    numbers = np.random.default_rng(seed)
    count = int(images * PER_IMAGE)
    sizes = [(640, 480), (480, 640), (500, 375)]
    turns = np.linspace(0, 2 * np.pi, points, endpoint=False)
    with open(path, 'w', encoding='utf-8') as file:
        rows = []
        for i in range(images):
            width, height = sizes[i % 3]
            rows.append(dict(id=i, file_name=f'{i:012d}.jpg', width=width, height=height))
        categories = [dict(id=i + i // 11, name=f'class {i}', supercategory='thing') for i in range(1, 81)]
        head = json.dumps(dict(info={}, images=rows, categories=categories))
        file.write(head[:-1] + ', "annotations": [')
        for i in range(count):
            image = int(i / PER_IMAGE)
            place = dict(id=i + 1, image_id=image, category_id=categories[i % 80]['id'], iscrowd=int(i % 100 == 0))
            width, height = sizes[image % 3]
            w, h = numbers.uniform(8, width), numbers.uniform(8, height)
            x, y = numbers.uniform(0, width - w), numbers.uniform(0, height - h)
            if place['iscrowd']:
                shape = dict(size=[height, width], counts=[100, 50, width * height - 150])
            else:
                outline = np.stack([x + w / 2 * (1 + np.cos(turns)), y + h / 2 * (1 + np.sin(turns))], 1)
                shape = [outline.round(2).ravel().tolist()]
            box = [round(float(value), 2) for value in (x, y, w, h)]
            row = dict(place, bbox=box, area=round(0.785 * w * h, 3), segmentation=shape)
            file.write((', ' if i else '') + json.dumps(row))
        file.write(']}')


if __name__ == '__main__':
    write_large_coco(sys.argv[1], *map(int, sys.argv[2:]))
