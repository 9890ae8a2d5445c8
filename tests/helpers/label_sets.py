"""Small sets of images and label maps, and networks that say how many classes they have."""

import cv2
import numpy as np
import torch
from mmengine.registry import DATASETS, DefaultScope

STEPS = (dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs'))


def label_map(*values, size=(8, 10), dtype=np.uint8):
    """A map that holds these values, in stripes."""
    rows = np.array([values[i * len(values) // size[0]] for i in range(size[0])], dtype)
    return np.repeat(rows[:, None], size[1], 1)


def write(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), values)


def make_set(root, maps, part='train', suffix='.png'):
    """Images in ``images/PART``, and these maps in ``labels/PART``."""
    numbers = np.random.default_rng(0)
    for i, values in enumerate(maps):
        write(root / f'images/{part}/{i}.png', numbers.integers(0, 256, (*values.shape[:2], 3), dtype=np.uint8))
        write(root / f'labels/{part}/{i}{suffix}', values)
    return root


def segments(root, part='train', steps=STEPS, classes=('a', 'b', 'c'), **settings):
    """mmseg's data set of such a folder."""
    settings = dict(dict(data_prefix=dict(img_path=f'images/{part}', seg_map_path=f'labels/{part}')), **settings)
    with DefaultScope.overwrite_default_scope('mmseg'):
        import mmseg.datasets  # noqa: F401

        return DATASETS.build(
            dict(
                type='mmseg.BaseSegDataset',
                data_root=str(root),
                img_suffix='.png',
                metainfo=dict(classes=classes),
                pipeline=[*steps],
                serialize_data=False,  # which collects garbage for half a second
                **settings,
            )
        )


def pictures(root, steps=STEPS[:1], **settings):
    """mmpretrain's data set of a folder of classes."""
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        import mmpretrain.datasets  # noqa: F401

        return DATASETS.build(
            dict(
                type='mmpretrain.CustomDataset',
                data_root=str(root),
                pipeline=[*steps, dict(type='PackInputs')],
                serialize_data=False,
                **settings,
            )
        )


def network(num_classes=3, ignore_index=255, kind='decode_head'):
    """A network with a head and nothing else."""
    net = torch.nn.Module()
    head = torch.nn.Linear(1, 1)
    head.num_classes = num_classes
    if kind == 'decode_head':
        head.ignore_index = ignore_index
    setattr(net, kind, head)
    return net
