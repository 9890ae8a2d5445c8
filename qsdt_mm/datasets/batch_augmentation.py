"""Augmentation of whole batches on their device, with a choice of its own for each image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmpretrain.models import ClsDataPreprocessor
from torch import Tensor
from torchvision.transforms import v2

from qsdt_mm.errors import InputError, require

from .sample_batches import SampleBatch


class AugmentingClsDataPreprocessor(ClsDataPreprocessor):
    """mmpretrain's preprocessor that first augments the pixels, in training alone, as steps of a pipeline would.

    Each image has its own crop, flip, square and rectangle; what is chosen comes from torch's generator on the CPU, and
    is the same on every device. Validation, testing and ``batch_augments`` (mixup, cutmix) are mmpretrain's.

    Args:
        crop_padding: pixels by which images are padded on each side before a crop of the old size is taken; 0: no crop.
        padding_mode: 'constant' (0), 'edge', 'reflect' or 'symmetric'.
        flip_prob: probability of a horizontal flip.
        transforms: torchvision's, of ``torchvision.transforms.v2``: names, or dicts with the name as ``type``; they
            choose once for each group.
        transform_groups: number of groups into which a batch is divided for them.
        cutout: side of a square that becomes the mean pixel, around any pixel of the image; 0: none.
        random_erasing: the rectangle of mmpretrain's ``RandomErasing``: ``dict(erase_prob, min_area_ratio,
            max_area_ratio, aspect_range, mode)``; 'const' fills in the mean pixel, 'rand' noise.
        kwargs: those of mmpretrain's ``ClsDataPreprocessor``.

    Raises:
        ValueError: an argument is out of range.
        InputError: the images of a batch have different sizes, or are smaller than the padding to mirror.

    Source: He et al., arXiv 1512.03385, section 4.2 (crop, flip); DeVries and Taylor, arXiv 1708.04552 (cutout); Zhong
        et al., arXiv 1708.04896 (random erasing).

    >>> preprocessor = AugmentingClsDataPreprocessor(flip_prob=1.0)
    >>> preprocessor(dict(inputs=torch.arange(3).view(1, 1, 1, 3)), training=True)['inputs']
    tensor([[[[2., 1., 0.]]]])
    """

    def __init__(
        self,
        *,
        crop_padding: int = 0,
        padding_mode: str = 'constant',
        flip_prob: float = 0.0,
        transforms: Sequence[str | dict[str, Any]] = (),
        transform_groups: int = 1,
        cutout: int = 0,
        random_erasing: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        for name, value in dict(crop_padding=crop_padding, cutout=cutout).items():
            require(isinstance(value, int) and value >= 0, name, value, 'an int of at least 0')
        modes = ('constant', 'edge', 'reflect', 'symmetric')
        require(padding_mode in modes, 'padding_mode', padding_mode, ', '.join(modes))
        require(0 <= flip_prob <= 1, 'flip_prob', flip_prob, '0 to 1')
        require(
            isinstance(transform_groups, int) and transform_groups > 0,
            'transform_groups',
            transform_groups,
            'a positive int',
        )
        self.crop_padding, self.padding_mode, self.flip_prob, self.cutout = (
            crop_padding,
            padding_mode,
            flip_prob,
            cutout,
        )
        self.transforms, self.transform_groups = [_built(config) for config in transforms], transform_groups
        self.random_erasing = None if random_erasing is None else Erasing(**random_erasing)

    def forward(self, data: dict, training: bool = False) -> dict:
        """Return what the network takes: pixels augmented and normalised, labels on the device."""
        if training:
            data = {**data, 'inputs': self.augment(self._stacked(data['inputs']))}
        samples = data.get('data_samples')
        if not isinstance(samples, SampleBatch):
            return super().forward(data, training)
        inputs = super().forward(dict(inputs=data['inputs']), training)['inputs']
        labels, scores = samples.gt_label.to(inputs.device, non_blocking=True), None
        if self.to_onehot:
            require(self.num_classes is not None, 'num_classes', None, 'a number, for one-hot labels', InputError)
            scores = F.one_hot(labels, self.num_classes)
            if training and self.batch_augments is not None:
                inputs, scores = self.batch_augments(inputs, scores)
        known = () if training else (samples.infos, samples.indices)
        return dict(inputs=inputs, data_samples=SampleBatch(labels, *known, gt_score=scores))

    def _stacked(self, inputs: Any) -> Tensor:
        """Return the images of a batch as one tensor, on the device."""
        inputs = self.cast_data(inputs)
        if isinstance(inputs, Tensor):
            return inputs
        sizes = {tuple(image.shape) for image in inputs}
        if len(sizes) > 1:
            raise InputError(
                f'images of a batch have the shapes {" and ".join(map(str, sorted(sizes)[:2]))}: '
                f'{type(self).__name__} takes one'
            )
        return torch.stack(list(inputs))

    def augment(self, images: Tensor) -> Tensor:
        """Return augmented images, ``(N, C, H, W)``, values as in the files; float where something is filled in."""
        for step in self.transforms:
            images = torch.cat([step(part) for part in images.tensor_split(min(self.transform_groups, len(images)))])
        if self.crop_padding:
            images = crop_each(images, self.crop_padding, self.padding_mode)
        if self.flip_prob:
            images = flip_each(images, self.flip_prob)
        number, height, width = len(images), *images.shape[-2:]
        if self.cutout:
            images = self._filled(images, squares(number, height, width, self.cutout))
        if self.random_erasing is not None:
            images = self._filled(images, self.random_erasing.boxes(number, height, width), self.random_erasing.mode)
        return images

    def _filled(self, images: Tensor, boxes: Tensor, mode: str = 'const') -> Tensor:
        """Return images, as float, with the mean pixel or noise around it in a box of each."""
        images = images.float()
        mean, std = getattr(self, 'mean', images.new_zeros(1, 1, 1)), getattr(self, 'std', images.new_ones(1, 1, 1))
        if self.to_rgb:  # what comes from the loader is BGR still
            mean, std = mean.flip(0), std.flip(0)
        fill = mean if mode == 'const' else torch.randn_like(images) * std + mean
        return torch.where(inside(boxes.to(images.device), *images.shape[-2:]), fill.to(images.dtype), images)


class Erasing:
    """A rectangle in some of the images.

    Args:
        erase_prob: probability that an image has one.
        min_area_ratio, max_area_ratio: of its area to the image's.
        aspect_range: of height to width; as probable on both sides of 1.
        mode: 'const' or 'rand'.

    Raises:
        ValueError: an argument is out of range.

    >>> boxes = Erasing(erase_prob=1.0, min_area_ratio=0.25, max_area_ratio=0.25, aspect_range=(1.0, 1.0))
    >>> top, bottom, left, right = boxes.boxes(5, 32, 32).unbind(1)
    >>> (bottom - top).tolist()
    [16, 16, 16, 16, 16]
    """

    def __init__(
        self,
        erase_prob: float = 0.5,
        min_area_ratio: float = 0.02,
        max_area_ratio: float = 0.4,
        aspect_range: tuple[float, float] | float = (0.3, 10 / 3),
        mode: str = 'const',
    ) -> None:
        require(0 <= erase_prob <= 1, 'erase_prob', erase_prob, '0 to 1')
        require(0 < min_area_ratio <= 1, 'min_area_ratio', min_area_ratio, 'more than 0, at most 1')
        require(min_area_ratio <= max_area_ratio <= 1, 'max_area_ratio', max_area_ratio, 'min_area_ratio to 1')
        if isinstance(aspect_range, (int, float)):
            aspect_range = min(aspect_range, 1 / aspect_range), max(aspect_range, 1 / aspect_range)
        require(
            len(aspect_range) == 2 and 0 < aspect_range[0] <= aspect_range[1],
            'aspect_range',
            aspect_range,
            'two positive numbers, the smaller one first',
        )
        require(mode in ('const', 'rand'), 'mode', mode, 'const or rand')
        self.erase_prob, self.areas, self.aspects, self.mode = (
            erase_prob,
            (min_area_ratio, max_area_ratio),
            aspect_range,
            mode,
        )

    def boxes(self, number: int, height: int, width: int) -> Tensor:
        """Draw rectangles ``(top, bottom, left, right)``, ``(N, 4)``; empty where an image has none."""
        area, aspect, down, along, has = torch.rand(5, number)
        area = self.areas[0] + area * (self.areas[1] - self.areas[0])
        low, high = torch.tensor(self.aspects).log()
        aspect = (low + aspect * (high - low)).exp()
        rows = (area * height * width * aspect).sqrt().round().clamp(1, height)
        columns = (area * height * width / aspect).sqrt().round().clamp(1, width)
        rows = rows * (has < self.erase_prob)
        top, left = (down * (height - rows + 1)).floor(), (along * (width - columns + 1)).floor()
        return torch.stack([top, top + rows, left, left + columns], 1).long()


def squares(number: int, height: int, width: int, side: int) -> Tensor:
    """Draw squares ``(top, bottom, left, right)``, ``(N, 4)``, around pixels of images; parts may lie outside."""
    top = torch.randint(height, (number,)) - side // 2
    left = torch.randint(width, (number,)) - side // 2
    return torch.stack([top, top + side, left, left + side], 1)


def inside(boxes: Tensor, height: int, width: int) -> Tensor:
    """Return where pixels lie in the box of their image, ``(N, 1, H, W)``."""
    top, bottom, left, right = boxes[:, :, None].unbind(1)
    row, column = torch.arange(height, device=boxes.device), torch.arange(width, device=boxes.device)
    return (((row >= top) & (row < bottom))[:, None, :, None]) & ((column >= left) & (column < right))[:, None, None]


def crop_each(images: Tensor, padding: int, mode: str = 'constant') -> Tensor:
    """Pad images ``(N, C, H, W)`` on all sides, and take a random crop of the old size out of each."""
    height, width = images.shape[-2:]
    if mode in ('reflect', 'symmetric') and padding >= min(height, width):
        raise InputError(
            f'crop_padding={padding} with padding_mode={mode} is not allowed: images have {width} x {height}'
        )
    padded = v2.functional.pad(images, [padding], padding_mode=mode)
    windows = padded.unfold(2, height, 1).unfold(3, width, 1)  # every crop there is, as a view
    top, left = torch.randint(2 * padding + 1, (2, len(images))).to(images.device)
    return windows[torch.arange(len(images), device=images.device), :, top, left]


def flip_each(images: Tensor, probability: float) -> Tensor:
    """Mirror some of the images ``(N, C, H, W)``, left to right."""
    chosen = (torch.rand(len(images)) < probability).nonzero()[:, 0].to(images.device)
    return images.index_copy(0, chosen, images.index_select(0, chosen).flip(-1))


def _built(config: str | Mapping) -> Any:
    """Build a transform of torchvision from its name, or a dict with it."""
    if not isinstance(config, (str, Mapping)):
        return config
    settings = dict(type=config) if isinstance(config, str) else dict(config)
    name = str(settings.pop('type', '')).rpartition('/')[2]
    kind = getattr(v2, name, None)
    known = isinstance(kind, type) and issubclass(kind, v2.Transform)
    require(known, 'transforms', name, 'names of torchvision.transforms.v2')
    return kind(**settings)
