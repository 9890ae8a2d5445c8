"""Small images that are read once and stay in memory, and come from there in whole batches."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from mmcv.transforms import CenterCrop, LoadImageFromFile, Resize
from mmengine.dataset import Compose, force_full_init
from mmpretrain.datasets import BaseDataset, PackInputs, ResizeEdge
from mmpretrain.registry import DATASETS
from mmpretrain.structures import DataSample
from torch import Tensor

from qsdt_mm.errors import InputError, require

from .image_reading import check_memory, for_all, name_of, read_pixels, size_of
from .labels import CheckedPipeline, Limits, check_labels
from .sample_batches import ImageBatch, SampleBatch

ONCE = (LoadImageFromFile, Resize, ResizeEdge, CenterCrop)
"""Steps at the beginning of a pipeline that draw nothing at random, and are done when the images are read."""


class InMemoryImages(BaseDataset):
    """The images of another data set of classification, read once, in one tensor ``images``, ``(N, C, H, W)`` uint8.

    Batches are taken out of it whole, without work for each image, if nothing but ``PackInputs`` is left of the
    pipeline and the loader has ``collate_fn=dict(type='collate_images')``; the augmentation is then that of
    ``AugmentingClsDataPreprocessor``. With other steps, and wherever single samples are asked for, samples are those
    that the other data set would give with the same pipeline. A loader for it needs no workers (``num_workers=0``).

    Args:
        source: config of the data set that the images are of, ``CIFAR10`` or ``CustomDataset`` for instance; if it has
            a pipeline of its own, that is applied once.
        pipeline: ``LoadImageFromFile``, ``Resize``, ``ResizeEdge`` and ``CenterCrop`` at its beginning are done once;
            the rest for each sample.
        last_per_class: take only so many images of each class, the last ones in the source's order.
        skip_last_per_class: take all images but these.
        threads: that read; None: one for each core, up to eight.
        indices, test_mode, lazy_init, max_refetch: those of mmengine's ``BaseDataset``.

    Raises:
        ValueError: a number is out of range.
        InputError: an image cannot be read, images have different sizes or do not fit into memory, a class has too few
            of them, or a label is outside of the network's classes.

    >>> digits = InMemoryImages(dict(type='qsdt_mm.Digits', split='test'), pipeline=[dict(type='PackInputs')])
    >>> batch = digits.__getitems__([0, 1, 2])
    >>> batch.inputs.shape, batch.samples.gt_label
    (torch.Size([3, 1, 8, 8]), tensor([5, 0, 9]))
    """

    def __init__(
        self,
        source: dict[str, Any],
        pipeline: Sequence = (),
        last_per_class: int | None = None,
        skip_last_per_class: int | None = None,
        threads: int | None = None,
        indices: int | Sequence[int] | None = None,
        test_mode: bool = False,
        lazy_init: bool = False,
        max_refetch: int = 1000,
    ) -> None:
        for name, value in dict(
            last_per_class=last_per_class, skip_last_per_class=skip_last_per_class, threads=threads
        ).items():
            require(value is None or isinstance(value, int) and value > 0, name, value, 'a positive int')
        require(
            last_per_class is None or skip_last_per_class is None,
            'last_per_class',
            last_per_class,
            'None with skip_last_per_class',
        )
        self.last_per_class, self.skip_last_per_class, self.threads = last_per_class, skip_last_per_class, threads
        self._source = DATASETS.build(source) if isinstance(source, Mapping) else source
        self.images: Tensor | None = None
        self._table: tuple[list, Tensor, Tensor | None] | None = None
        self._checked: Limits | None = None
        super().__init__(
            ann_file='',
            data_root=getattr(self._source, 'data_root', ''),
            indices=indices,
            serialize_data=False,
            pipeline=pipeline,
            test_mode=test_mode,
            lazy_init=True,
            max_refetch=max_refetch,
        )
        # For the checks before a run, which look for pictures that were left out.
        self.extensions = getattr(self._source, 'extensions', ())
        self.data_prefix['img_path'] = getattr(self._source, 'data_prefix', {}).get('img_path', self.data_root)
        steps = list(self.pipeline.transforms)
        number = next((i for i, step in enumerate(steps) if not isinstance(step, ONCE)), len(steps))
        self._once, self.pipeline = steps[:number], Compose(steps[number:])
        if not lazy_init:
            self.full_init()

    def full_init(self) -> None:
        """List the images, choose among them, and read them."""
        if self._fully_initialized:
            return
        super().full_init()
        self._metainfo = copy.deepcopy(dict(self._source.metainfo))
        self._read_all()
        self._source = None

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return what the source knows of its images, of the chosen part of each class."""
        source = self._source
        if hasattr(source, 'full_init'):
            source.full_init()
        infos = [source.get_data_info(i) for i in range(len(source))]
        number = self.last_per_class or self.skip_last_per_class
        if number is None:
            return infos
        by_class: dict[Any, list[int]] = {}
        for i, info in enumerate(infos):
            by_class.setdefault(info.get('gt_label'), []).append(i)
        classes = (source.metainfo or {}).get('classes')
        name = 'last_per_class' if self.last_per_class else 'skip_last_per_class'
        for label, own in by_class.items():
            if len(own) < number + (name == 'skip_last_per_class'):
                shown = classes[label] if classes and isinstance(label, int) and label < len(classes) else label
                raise InputError(f'{name}={number} is too much: class {shown} has {len(own):,} images')
        last = {i for own in by_class.values() for i in own[-number:]}
        return [info for i, info in enumerate(infos) if (i in last) == (name == 'last_per_class')]

    def _read_all(self) -> None:
        """Fill ``images``, and take what was read out of the list."""
        if not self.data_list:
            self.images = torch.empty(0, 3, 1, 1, dtype=torch.uint8)
            return
        steps = [*getattr(getattr(self._source, 'pipeline', None), 'transforms', []), *self._once]
        if 'img' in self.data_list[0]:
            steps = [step for step in steps if not isinstance(step, LoadImageFromFile)]
        elif not any(isinstance(step, LoadImageFromFile) for step in steps):
            steps.insert(0, LoadImageFromFile())
        first = read_pixels(self.data_list[0], steps)
        shape = first['img'].shape
        self._flat = len(shape) == 2
        height, width, channels = (*shape, 1)[:3]
        number, size = len(self.data_list), height * width * channels
        check_memory(number * size, f'{number:,} images of {width} x {height} pixels')
        self.images = torch.empty(number, channels, height, width, dtype=torch.uint8)
        pixels, name = self.images.numpy(), name_of(first)

        def fill(row: int) -> None:
            result = read_pixels(self.data_list[row], steps)
            image = result.pop('img')
            if image.shape != shape:
                raise InputError(
                    f'{name_of(result)} has {size_of(image)}, {name} has {size_of(first["img"])}: images in memory '
                    "have one size; give the pipeline dict(type='Resize', scale=...), behind LoadImageFromFile"
                )
            pixels[row] = np.atleast_3d(image).transpose(2, 0, 1)
            self.data_list[row] = dict(result, row=row)

        for_all(fill, number, self.threads)

    @force_full_init
    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return what is known of a sample, its pixels in ``img`` among it."""
        info = copy.copy(self.data_list[idx])
        image = self.images[info.pop('row')].permute(1, 2, 0).numpy().copy()  # steps may write into it
        info['img'] = image[..., 0] if self._flat else image
        info['sample_idx'] = idx if idx >= 0 else len(self) + idx
        return info

    @force_full_init
    def __getitems__(self, indices: Sequence[int]) -> Sequence:
        """Return the samples of a batch, as one tensor where nothing is to be done for single ones."""
        rows, labels = self._rows_and_labels()
        steps = self.pipeline.transforms
        only_packed = len(steps) == 1 and type(steps[0]) is PackInputs and vars(steps[0]) == vars(PackInputs())
        if labels is None or not only_packed:
            return [self[i] for i in indices]
        self._check_labels(labels)
        chosen = torch.as_tensor(indices)
        samples = SampleBatch(labels[chosen], [self.data_list[i] for i in indices], indices)
        return ImageBatch(self.images.index_select(0, rows[chosen]), samples)

    def _rows_and_labels(self) -> tuple[Tensor, Tensor | None]:
        """Return where samples lie in ``images``, and their labels; None if these are no single numbers."""
        if self._table is None or self._table[0] is not self.data_list:  # a subset has a list of its own
            labels = [info.get('gt_label') for info in self.data_list]
            single = all(isinstance(label, (int, np.integer)) for label in labels)
            rows = torch.tensor([info['row'] for info in self.data_list], dtype=torch.int64)
            self._table = self.data_list, rows, torch.tensor(labels, dtype=torch.int64) if single else None
        return self._table[1:]

    def _check_labels(self, labels: Tensor) -> None:
        """Do for all labels, once, what ``CheckedPipeline`` does for a sample's."""
        limits = getattr(self.pipeline, 'limits', None) if isinstance(self.pipeline, CheckedPipeline) else None
        if limits is None or limits is self._checked:
            return
        highest = float('inf') if limits.num_classes is None else limits.num_classes - 1
        for i in ((labels < 0) | (labels > highest)).nonzero()[:1, 0].tolist():
            check_labels(DataSample(gt_label=labels[i : i + 1]), limits, name_of(self.data_list[i]))
        self._checked = limits

    def _copy_without_annotation(self, memo: dict | None = None) -> InMemoryImages:
        memo = {} if memo is None else memo
        memo[id(self.images)] = self.images  # subsets look at the same pixels
        table, self._table = self._table, None
        try:
            return super()._copy_without_annotation(memo)
        finally:
            self._table = table
