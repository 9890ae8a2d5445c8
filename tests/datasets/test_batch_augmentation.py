"""Augmentation by the batch: a choice for each image, as steps of a pipeline make it, and in training alone."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

pytest.importorskip('mmpretrain')

from mmengine.registry import MODELS, DefaultScope  # noqa: E402
from mmpretrain.models import ClsDataPreprocessor  # noqa: E402
from mmpretrain.structures import DataSample  # noqa: E402

from qsdt_mm.datasets.batch_augmentation import (  # noqa: E402
    AugmentingClsDataPreprocessor,
    Erasing,
    crop_each,
    flip_each,
    inside,
    squares,
)
from qsdt_mm.datasets.sample_batches import SampleBatch  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402

STATISTICS = dict(mean=[120.0, 110.0, 100.5], std=[50.0, 55.0, 60.0])


def pictures(number=64, height=8, width=6, dtype=torch.uint8):
    """Images in which no pixel has the value of another, nor is zero."""
    torch.manual_seed(0)
    values = torch.arange(1, 1 + height * width, dtype=torch.float32).view(height, width)
    return (values + 60 * torch.arange(3).view(3, 1, 1)).to(dtype).expand(number, -1, -1, -1).clone()


@pytest.mark.parametrize('dtype', [torch.uint8, torch.float32, torch.bfloat16])
@pytest.mark.parametrize('memory_format', [torch.contiguous_format, torch.channels_last])
def test_each_crop_is_one_of_the_padded_image(dtype, memory_format):
    images = pictures(dtype=dtype).contiguous(memory_format=memory_format)
    padded = F.pad(images[0], (2, 2, 2, 2))
    crops = {(y, x): padded[:, y : y + 8, x : x + 6] for y in range(5) for x in range(5)}
    found = crop_each(images, 2)
    assert found.dtype == dtype and found.shape == images.shape
    places = [next(place for place, crop in crops.items() if torch.equal(crop, image)) for image in found]
    assert len(set(places)) > 15  # of 25


@pytest.mark.parametrize('mode', ['edge', 'reflect', 'symmetric'])
def test_padding_may_be_of_the_image(mode):
    images = pictures()
    found = crop_each(images, 2, mode)
    assert found.dtype == images.dtype and found.min() >= 1
    assert set(found[:, 0].flatten().tolist()) == set(images[:, 0].flatten().tolist())
    with pytest.raises(InputError, match='crop_padding=8 .*images have 6 x 8'):
        AugmentingClsDataPreprocessor(crop_padding=8, padding_mode='reflect').augment(images)


def test_each_image_is_mirrored_or_not():
    images = pictures()
    found = flip_each(images, 0.5)
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(found, images)]
    assert 20 < sum(mirrored) < 44
    assert all(torch.equal(a, b) for a, b, flipped in zip(found, images, mirrored) if not flipped)
    assert torch.equal(flip_each(images, 1.0), images.flip(-1)) and torch.equal(flip_each(images, 0.0), images)
    assert torch.equal(images, pictures())  # the loader's are left alone


def test_squares_lie_around_any_pixel():
    masks = inside(squares(500, 8, 6, 4), 8, 6)
    areas = masks.sum((1, 2, 3))
    assert masks.shape == (500, 1, 8, 6) and areas.max() == 16 and areas.min() == 4
    assert masks.any(0).all()
    assert set(areas.tolist()) <= {a * b for a in (2, 3, 4) for b in (2, 3, 4)}


def test_rectangles_have_the_areas_and_shapes_asked_for():
    boxes = Erasing(1.0, 0.1, 0.2, (0.5, 2.0)).boxes(500, 64, 64)
    top, bottom, left, right = boxes.unbind(1)
    assert (boxes >= 0).all() and (boxes <= 64).all()
    areas, shapes = (bottom - top) * (right - left) / 64**2, (bottom - top) / (right - left)
    assert 0.09 < areas.min() < 0.11 and 0.19 < areas.max() < 0.22
    assert 0.45 < shapes.min() < 0.6 and 1.7 < shapes.max() < 2.2 and 0.4 < (shapes > 1).float().mean() < 0.6
    none = Erasing(0.0).boxes(50, 8, 6)
    assert not inside(none, 8, 6).any()
    some = inside(Erasing(0.25).boxes(400, 32, 32), 32, 32).any(-1).any(-1)
    assert 60 < some.sum() < 140
    assert inside(Erasing(1.0, 1.0, 1.0, (0.01, 100.0)).boxes(50, 8, 6), 8, 6).shape == (50, 1, 8, 6)


@pytest.mark.parametrize('to_rgb', [False, True])
def test_what_is_erased_is_zero_for_the_network(to_rgb):
    images = pictures()
    plain = ClsDataPreprocessor(**STATISTICS, to_rgb=to_rgb)(dict(inputs=images))['inputs']
    ours = AugmentingClsDataPreprocessor(**STATISTICS, to_rgb=to_rgb, cutout=4)
    found = ours(dict(inputs=images), training=True)['inputs']
    gone = (found == 0).all(1, keepdim=True)
    areas = gone.sum((1, 2, 3))
    assert areas.min() >= 4 and areas.max() <= 16
    assert torch.equal(found, plain.masked_fill(gone, 0)) and found.dtype == torch.float32
    noisy = AugmentingClsDataPreprocessor(
        **STATISTICS, to_rgb=to_rgb, random_erasing=dict(erase_prob=1.0, min_area_ratio=1.0, max_area_ratio=1.0)
        | dict(aspect_range=(0.75, 0.75), mode='rand'),
    )  # fmt: skip
    noise = noisy(dict(inputs=images[:, :, :, :6]), training=True)['inputs']
    changed = noise[noise != plain]
    assert abs(changed.mean()) < 0.1 and abs(changed.std() - 1) < 0.1


def test_seeds_repeat_choices_and_other_seeds_do_not():
    preprocessor = AugmentingClsDataPreprocessor(
        crop_padding=2, flip_prob=0.5, cutout=3, random_erasing=dict(mode='rand'), transforms=['RandAugment']
    )
    found = []
    for seed in (1, 1, 2):
        images = pictures()
        torch.manual_seed(seed)
        found.append(preprocessor(dict(inputs=images), training=True)['inputs'])
    assert torch.equal(found[0], found[1]) and not torch.equal(found[0], found[2])


@pytest.mark.parametrize('as_list', [False, True])
def test_validation_is_mmpretrains(as_list):
    """With pixels in a tensor or a list; with labels of a batch or of samples."""
    images = pictures(4)
    inputs = list(images) if as_list else images
    settings = dict(STATISTICS, num_classes=10, to_onehot=True)
    ours = AugmentingClsDataPreprocessor(**settings, crop_padding=2, flip_prob=1.0, cutout=4, transforms=['Grayscale'])
    plain = ClsDataPreprocessor(**settings)
    labels = torch.arange(4)

    def samples():
        return [DataSample(gt_label=label.view(1), metainfo=dict(sample_idx=i)) for i, label in enumerate(labels)]

    expected = plain(dict(inputs=inputs, data_samples=samples()))
    batch = SampleBatch(labels, [dict()] * 4, [0, 1, 2, 3])
    for given in (samples(), batch):
        found = ours(dict(inputs=inputs, data_samples=given))
        assert torch.equal(found['inputs'], expected['inputs']) and len(found['data_samples']) == 4
        for a, b in zip(found['data_samples'], expected['data_samples']):
            assert a.to_dict().keys() == b.to_dict().keys() and a.sample_idx == b.sample_idx
            assert torch.equal(a.gt_score, b.gt_score) and torch.equal(a.gt_label, b.gt_label)


@pytest.mark.parametrize('kind', ['Mixup', 'CutMix'])
def test_mixed_batches_are_mmpretrains(kind):
    """The same images are mixed in the same way, however labels come."""
    mixing = dict(augments=dict(type=kind, alpha=1.0))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        models = [
            MODELS.build(dict(type=name, **STATISTICS, num_classes=10, batch_augments=dict(mixing)))
            for name in ('ClsDataPreprocessor', 'AugmentingClsDataPreprocessor')
        ]
    found = []
    for model in models:
        for batched in (False, True):
            labels = torch.arange(8)
            samples = SampleBatch(labels) if batched else [DataSample(gt_label=label.view(1)) for label in labels]
            np.random.seed(3)
            images = pictures(8)
            data = model(dict(inputs=images, data_samples=samples), training=True)
            found.append((data['inputs'], torch.stack([sample.gt_score for sample in data['data_samples']])))
    assert found[0][1].dtype == torch.float32
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))


def test_groups_choose_by_themselves():
    images = pictures(64)
    whole = AugmentingClsDataPreprocessor(transforms=[dict(type='RandomHorizontalFlip', p=0.5)])
    parts = AugmentingClsDataPreprocessor(
        transforms=[dict(type='torchvision/RandomHorizontalFlip', p=0.5)], transform_groups=16
    )
    assert len({tuple(image.flatten().tolist()) for image in whole.augment(images)}) == 1
    found = [torch.equal(a, b) for a, b in zip(parts.augment(images), images)]
    assert all(len(set(found[i : i + 4])) == 1 for i in range(0, 64, 4)) and len(set(found)) == 2
    assert len(parts.augment(images[:3])) == 3


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(crop_padding=-1), 'crop_padding=-1 is not allowed'),
        (dict(cutout=1.5), 'cutout=1.5 is not allowed'),
        (dict(flip_prob=2), 'flip_prob=2 is not allowed: expected 0 to 1'),
        (dict(padding_mode='mirror'), "padding_mode='mirror' is not allowed: expected constant, edge"),
        (
            dict(transforms=['RandomAugment']),
            "transforms='RandomAugment' is not allowed: expected names",
        ),
        (dict(transform_groups=0), 'transform_groups=0'),
        (dict(random_erasing=dict(mode='zero')), "mode='zero' is not allowed: expected const or rand"),
        (dict(random_erasing=dict(min_area_ratio=0.5, max_area_ratio=0.1)), 'max_area_ratio=0.1'),
        (dict(random_erasing=dict(aspect_range=(3, 1))), 'aspect_range'),
    ],
)
def test_settings_out_of_range(arguments, said):
    with pytest.raises(ValueError, match=said):
        AugmentingClsDataPreprocessor(**arguments)


def test_images_of_several_sizes_are_refused():
    images = [torch.zeros(3, 8, 8, dtype=torch.uint8), torch.zeros(3, 8, 9, dtype=torch.uint8)]
    preprocessor = AugmentingClsDataPreprocessor(flip_prob=0.5)
    with pytest.raises(InputError, match=r'shapes \(3, 8, 8\) and \(3, 8, 9\)'):
        preprocessor(dict(inputs=images), training=True)
    with pytest.raises(InputError, match='num_classes=None is not allowed'):
        AugmentingClsDataPreprocessor(to_onehot=True)(
            dict(inputs=torch.stack(images[:1]), data_samples=SampleBatch(torch.tensor([1])))
        )
