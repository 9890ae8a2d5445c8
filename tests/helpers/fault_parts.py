"""Hooks that bring faults about; configurations of the tests import this module by name."""

import builtins
import os
import resource
import time
from pathlib import Path

import torch
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS, MODELS
from torch.utils.data import Dataset
from toy_parts import ToyModel

from qsdt_mm.fileio import atomic as storage


class _Halfway:
    """A file that does something after the first half of what is written."""

    def __init__(self, file, act):
        self.file, self.act = file, act

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return self.file.__exit__(*error)

    def write(self, data):
        half = len(data) // 2
        self.file.write(data[:half])
        self.file.flush()
        self.act()
        return half + self.file.write(data[half:])


@HOOKS.register_module()
class HalfwayHook(Hook):
    """When half of the file ``name`` is written: leaves a mark and waits, or sends this process a signal."""

    def __init__(self, name, mark=None, number=None):
        self.name, self.mark, self.number = name, mark, number

    def act(self):
        if self.mark:
            Path(self.mark).touch()
            time.sleep(60)
        else:
            os.kill(os.getpid(), self.number)
            time.sleep(0.01)  # the handler runs here

    def before_run(self, runner):
        def slow_open(path, *args, **kwargs):
            file = builtins.open(path, *args, **kwargs)  # noqa: SIM115  the caller closes it
            return _Halfway(file, self.act) if Path(path).name.startswith(f'.{self.name}.') else file

        storage.open = slow_open

    def after_run(self, runner):
        vars(storage).pop('open', None)


@HOOKS.register_module()
class SignalHook(Hook):
    """Sends this process a signal after training iteration ``at``, or in a validation after it."""

    def __init__(self, at, number, validation=False):
        self.at, self.number, self.validation = at, number, validation

    def send(self):
        os.kill(os.getpid(), self.number)
        time.sleep(0.01)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if not self.validation and runner.iter + 1 == self.at:
            self.send()

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.validation and runner.iter >= self.at:
            self.send()


def limit_files(size):
    """Let no file of this process grow beyond ``size`` bytes; what may be undone stays."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@HOOKS.register_module()
class SmallFilesHook(Hook):
    """From epoch ``epoch`` on, or in a test, no file may grow beyond ``size`` bytes."""

    priority = 'VERY_LOW'

    def __init__(self, epoch, size):
        self.epoch, self.size = epoch, size

    def before_train_epoch(self, runner):
        if runner.epoch == self.epoch:
            limit_files(self.size)

    def before_test_epoch(self, runner):
        limit_files(self.size)


@HOOKS.register_module()
class TestSignalHook(SignalHook):
    """Sends this process a signal after the first iteration of a test."""

    def __init__(self, number):
        super().__init__(0, number)

    def after_test_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.send()


@DATASETS.register_module()
class LabelledNoise(Dataset):
    """Four samples of mmpretrain from a data set without a pipeline, the last of which has a label of its own."""

    def __init__(self, last):
        self.labels = [0, 1, 0, last]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        from mmpretrain.structures import DataSample

        return dict(inputs=torch.randn(1, 32, 32), data_samples=DataSample().set_gt_label(self.labels[index]))


@MODELS.register_module()
class NeedyToy(ToyModel):
    """In some modes it calls an op of mmcv that has no stand-in."""

    def __init__(self, modes, **kwargs):
        super().__init__(**kwargs)
        self.modes = modes

    def forward(self, inputs, labels, mode='tensor'):
        if mode in self.modes:
            from mmcv.ops import border_align

            border_align(torch.zeros(1, 4, 2, 2), torch.zeros(1, 4, 4), 2)
        return super().forward(inputs, labels, mode)
