"""Batches that stay one tensor of images and one of labels from the data set to the loss."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mmengine.dataset import default_collate
from mmengine.registry import FUNCTIONS
from torch import Tensor


class SampleBatch:
    """The labels of a batch, which reads like a list of mmpretrain's ``DataSample``; these are made when asked for.

    Args:
        gt_label: ``(N,)``, int64.
        infos: what the data set knows of each sample; of it ``DataSample`` gets what ``PackInputs`` keeps.
        indices: of the samples in the data set, as many.
        gt_score: ``(N, classes)``; None: there is none.

    >>> batch = SampleBatch(torch.tensor([3, 5]), [dict(img_path='cat.png'), dict(img_path='dog.png')], [0, 1])
    >>> len(batch), batch[1].gt_label, batch[1].img_path
    (2, tensor([5]), 'dog.png')
    """

    def __init__(
        self,
        gt_label: Tensor,
        infos: Sequence[Mapping] = (),
        indices: Sequence[int] = (),
        gt_score: Tensor | None = None,
    ) -> None:
        self.gt_label, self.infos, self.indices, self.gt_score = gt_label, infos, indices, gt_score
        self._made: list | None = None

    def __len__(self) -> int:
        return len(self.gt_label)

    def __getitem__(self, index: int | slice) -> Any:
        return self._all()[index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._all())

    def _all(self) -> list:
        """Return the samples, which stay the same from the first call on: whoever gets one may write into it."""
        if self._made is None:
            from mmpretrain.datasets import PackInputs
            from mmpretrain.structures import DataSample

            fields: dict[str, Sequence] = dict(gt_label=self.gt_label.split(1))
            if self.gt_score is not None:
                fields['gt_score'] = self.gt_score.unbind()
            shared = {} if self.gt_score is None else dict(metainfo=dict(num_classes=self.gt_score.shape[1]))
            self._made = [DataSample(**dict(zip(fields, values)), **shared) for values in zip(*fields.values())]
            for sample, info, index in zip(self._made, self.infos, self.indices):
                known = dict(info, sample_idx=index)
                sample.set_metainfo({key: known[key] for key in PackInputs.DEFAULT_META_KEYS if key in known})
        return self._made


class ImageBatch(Sequence):
    """A batch as the data set gives it; to a collate function that does not know it, a list of packed samples.

    Args:
        inputs: images, ``(N, C, H, W)``.
        samples: their labels.

    >>> batch = ImageBatch(torch.zeros(2, 3, 8, 8), SampleBatch(torch.tensor([3, 5])))
    >>> batch[1]['inputs'].shape, batch[1]['data_samples'].gt_label
    (torch.Size([3, 8, 8]), tensor([5]))
    """

    def __init__(self, inputs: Tensor, samples: SampleBatch) -> None:
        self.inputs, self.samples = inputs, samples

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return dict(inputs=self.inputs[index], data_samples=self.samples[index])


@FUNCTIONS.register_module()
def collate_images(samples: Sequence) -> dict[str, Any]:
    """Return a batch as ``dict(inputs, data_samples)``: one that is whole already as it is, others stacked.

    Args:
        samples: an :class:`ImageBatch`, or packed samples.
    """
    if isinstance(samples, ImageBatch):
        return dict(inputs=samples.inputs, data_samples=samples.samples)
    return default_collate(samples)
