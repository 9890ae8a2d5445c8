"""Labels that the network has no output for, found before they reach a device that cannot say which one it was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.structures import BaseDataElement

from qsdt_mm.datasets.labels import Limits, all_checked, check_labels
from qsdt_mm.datasets.sample_batches import SampleBatch


def samples_of(batch: Any) -> Iterator[BaseDataElement]:
    """Return the samples of a batch, however its loader has packed them."""
    if isinstance(batch, BaseDataElement):
        yield batch
    elif isinstance(batch, Mapping):
        for item in batch.values():
            yield from samples_of(item)
    elif isinstance(batch, (list, tuple, SampleBatch)):
        for item in batch:
            yield from samples_of(item)


@HOOKS.register_module()
class LabelRangeHook(Hook):
    """Stops training at a label outside of the network's classes, while the batch is still in main memory.

    A GPU meets such a label in an assertion that names nothing and leaves the process without a usable GPU. Works with
    the heads of mmpretrain, mmdet and mmseg, whoever wrote the data set. The tools of this package register it;
    elsewhere: ``custom_hooks = [dict(type='qsdt_mm.LabelRangeHook')]``. Data sets whose samples are checked as they are
    read are not looked at twice.

    Raises:
        InputError: a label is out of range; the message names the sample's file, if it is known, and the label.

    >>> hook = LabelRangeHook()
    >>> hook.limits = Limits(num_classes=10)  # as before_train asks the network
    >>> sample = BaseDataElement(metainfo=dict(img_path='cat.png'), gt_label=torch.tensor([10]))
    >>> hook.before_train_iter(None, 0, dict(data_samples=[sample]))
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.InputError: cat.png has the label 10: expected 0 to 9, as the network has 10 classes
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self.limits: Limits | None = None

    def before_train(self, runner) -> None:
        """Ask the network for its classes."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        checked = all_checked(getattr(runner.train_loop.dataloader, 'dataset', None))
        self.limits = None if checked else Limits.of(model)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Any = None) -> None:
        """Look at the labels."""
        if self.limits is not None:
            for sample in samples_of(data_batch):
                check_labels(
                    sample, self.limits, str(sample.get('img_path') or f'a sample of iteration {runner.iter + 1}')
                )
