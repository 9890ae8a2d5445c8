"""A small model, data set and metric; configurations of the tests import this module by name."""

import os
import random
import time

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, HOOKS, METRICS, MODELS
from torch import nn
from torch.utils.data import Dataset


class Overflow(nn.Module):
    """Becomes NaN at one iteration of training."""

    def __init__(self, at=None):
        super().__init__()
        self.at, self.seen = at, 0

    def forward(self, x):
        if self.training and torch.is_grad_enabled():
            self.seen += 1
        return x * float('nan') if self.at is not None and self.training and self.seen >= self.at else x


@MODELS.register_module()
class ToyModel(BaseModel):
    """Convolution, batch norm, dropout, classifier."""

    def __init__(self, width=4, drop=0.5, nan_at=None, fails=False, classes=3, init_cfg=None, data_preprocessor=None):
        super().__init__(data_preprocessor, init_cfg)
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3), nn.BatchNorm2d(width), nn.ReLU())
        self.middle = nn.ModuleDict(dict(overflow=Overflow(nan_at)))
        self.drop = nn.Dropout(drop)
        self.head = nn.Linear(width, classes)
        self.fails = fails

    def forward(self, inputs, labels, mode='tensor'):
        x = self.middle['overflow'](self.stem(inputs)).mean((2, 3))
        scores = self.head(self.drop(x))
        if self.fails:
            raise RuntimeError('a fault of the model')
        if mode == 'loss':
            return dict(loss_toy=F.cross_entropy(scores, labels))
        return [dict(pred=int(p), label=int(t)) for p, t in zip(scores.argmax(1), labels, strict=True)]


@MODELS.register_module()
class SpikingToy(BaseModel):
    """A spiking network and a classifier, in float64."""

    def __init__(self, norm_eval=False, data_preprocessor=None):
        super().__init__(data_preprocessor)
        from qsdt_mm import SpikeDrivenTransformer

        torch.manual_seed(0)
        arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(0, 1, 0, 1, 0), num_heads=2, layer_scale=0.1)
        self.backbone = SpikeDrivenTransformer(arch, in_channels=1, norm_eval=norm_eval)
        self.head = nn.Linear(8, 3)
        self.double()

    def forward(self, inputs, labels, mode='tensor'):
        (feature,) = self.backbone(inputs.double().repeat_interleave(6, -1).repeat_interleave(6, -2))
        return dict(loss_toy=F.cross_entropy(self.head(feature.mean((2, 3))), labels))


class Branch(nn.Module):
    """A layer that does nothing, after it has looked at a value, which no graph holds."""

    def forward(self, x):
        return x if x.sum() > 0 else 1 * x


@MODELS.register_module()
class BranchingToy(SpikingToy):
    """A backbone that the compiler takes in pieces."""

    def __init__(self, data_preprocessor=None):
        super().__init__(data_preprocessor=data_preprocessor)
        self.backbone.stages[0].blocks.append(Branch())


@DATASETS.register_module()
class ToyData(Dataset):
    """Noise with a class-dependent mean, and augmentation that draws from all three generators."""

    def __init__(self, count=24, delay=0.0, augment=True):
        generator = torch.Generator().manual_seed(0)
        self.labels = torch.arange(count) % 3
        self.images = torch.randn(count, 1, 6, 6, generator=generator) + self.labels[:, None, None, None]
        self.delay, self.augment = delay, augment

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        time.sleep(self.delay)
        image = self.images[index]
        if self.augment == 'idle':  # draws, and changes nothing
            torch.randn(3)
        elif self.augment:
            image = image * random.random() + float(np.random.rand()) + 0.1 * torch.randn_like(image)
        trace = os.environ.get('TOY_TRACE')
        if trace:
            with open(trace, 'a') as file:
                file.write(f'{index} {image.sum().item():.6f}\n')
        return dict(inputs=image, labels=self.labels[index])


@METRICS.register_module()
class ToyAccuracy(BaseMetric):
    """The share of right predictions; ``scale`` lets a test turn it into what it needs."""

    def __init__(self, collect_device='cpu', prefix=None, name='acc'):
        super().__init__(collect_device, prefix)
        self.name = name

    def process(self, data_batch, data_samples):
        self.results += [sample['pred'] == sample['label'] for sample in data_samples]

    def compute_metrics(self, results):
        return {self.name: sum(results) / len(results)}


@HOOKS.register_module()
class PoisonHook(Hook):
    """Spoils a weight after one iteration, when the loss has been checked already."""

    def __init__(self, at):
        self.at = at

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter + 1 == self.at:
            with torch.no_grad():
                runner.model.head.bias[1] = float('inf')


@METRICS.register_module()
class ToyScores(BaseMetric):
    """``acc`` and ``acc2`` as the test wants them, one validation after the other, the last for ever."""

    def __init__(self, scores, collect_device='cpu', prefix=None):
        super().__init__(collect_device, prefix)
        self.scores = list(scores)

    def process(self, data_batch, data_samples):
        self.results.append(1)

    def compute_metrics(self, results):
        score = self.scores.pop(0) if len(self.scores) > 1 else self.scores[0]
        return dict(acc=score, acc2=score / 2)


@HOOKS.register_module()
class TalkingHook(Hook):
    """Prints a line when a checkpoint is loaded."""

    def after_load_checkpoint(self, runner, checkpoint):
        print(f'a checkpoint with {len(checkpoint["state_dict"])} weights')
