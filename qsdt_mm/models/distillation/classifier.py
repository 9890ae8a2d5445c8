"""A classifier that learns from a teacher, and is a plain classifier in every other respect."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.errors import CheckpointError, require
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_weights, model_weights
from qsdt_mm.models.classifiers import SpikeImageClassifier
from qsdt_mm.models.layers.attention import LinearAttention

from . import losses as known_losses
from .losses import DistillationLoss, Tokens, View


class Outside:
    """Holder of a module that ``nn.Module`` does not register; copies of the holder share the module.

    >>> from copy import deepcopy
    >>> holder = Outside()
    >>> deepcopy(holder) is holder
    True
    """

    def __init__(self) -> None:
        self.module: nn.Module | None = None

    def __deepcopy__(self, memo: dict) -> Outside:
        return self


class DistilledClassifier(SpikeImageClassifier):
    """mmpretrain's classifier with a teacher: ``label_weight * task loss + sum of the distillation losses``.

    The teacher is frozen, in evaluation mode, and no part of the module: it is in no checkpoint, no optimizer and no
    synchronisation, and testing does not need it. So the checkpoint is one of the plain classifier, too. A head with
    two classifiers (``SpikeTwoHeadClsHead``) learns labels with the first and the teacher's logits with the second.

    Args:
        teacher: config of any classifier of mmpretrain (``TimmClassifier`` takes any of timm's), with the key
            ``checkpoint`` for a file with its weights unless it brings them (``pretrained=True``). It sees the
            student's images, with the student's normalisation.
        distillation: configs of losses: ``HardLogitDistillation``, ``SoftLogitDistillation``,
            ``FineGrainedDistillation``.
        label_weight: factor on the task loss, 0 or more.
        args, kwargs: those of :class:`SpikeImageClassifier`.

    Raises:
        ValueError: an argument is out of range.
        CheckpointError: when training starts, the teacher's weights are missing or do not fit.

    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> model = DistilledClassifier(
    ...     dict(type='qsdt_mm.SpikeDrivenTransformer', arch=arch),
    ...     head=dict(type='qsdt_mm.SpikeLinearClsHead', num_classes=10, in_channels=16),
    ...     teacher=dict(type='TimmClassifier', model_name='resnet18'),
    ...     distillation=[dict(type='SoftLogitDistillation')])
    >>> len(model.distillation)
    1
    """

    def __init__(
        self, *args: Any, teacher: dict, distillation: Sequence[dict], label_weight: float = 1.0, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        require(
            isinstance(label_weight, (int, float)) and label_weight >= 0, 'label_weight', label_weight, 'a number >= 0'
        )
        require(len(distillation) > 0, 'distillation', distillation, 'a list of one loss or more')
        self.teacher_config = dict(teacher)
        self.label_weight = label_weight
        self.distillation = nn.ModuleList(build_loss(config) for config in distillation)
        self._outside = Outside()

    @staticmethod
    def student_config(config: dict[str, Any]) -> dict[str, Any]:
        """Return the config of the plain classifier that this network's checkpoint fits, too."""
        config = {key: value for key, value in config.items() if key not in ('teacher', 'distillation', 'label_weight')}
        scope = str(config['type']).rpartition('.')[0]
        return dict(config, type=f'{scope}.{SpikeImageClassifier.__name__}'.lstrip('.'))

    @property
    def teacher(self) -> nn.Module:
        """Return the teacher; built, with its weights, on first use."""
        if self._outside.module is None:
            self._outside.module = build_teacher(self.teacher_config)
        # Buffers have no device of their own in a network without weights, so ask the student.
        return self._outside.module.to(next(self.parameters()).device)

    def init_weights(self) -> None:
        """Initialise the student and build the teacher: a missing file is noticed before training starts."""
        super().init_weights()
        _ = self.teacher

    def loss(self, inputs: Tensor, data_samples: list) -> dict[str, Tensor]:
        """Compute the task loss, ``loss``, and one for each distillation loss, such as ``loss_hard``."""
        with watch_attention(self, any(d.needs_attention for d in self.distillation)) as attention:
            features = self.extract_feat(inputs)
        both = getattr(self.head, 'both', None)
        main, taught = both(features) if both else (self.head(features),) * 2
        losses = self.head._get_loss(main, data_samples)
        losses['loss'] = self.label_weight * losses['loss']
        teacher = self.teacher
        with torch.no_grad(), watch_attention(teacher, bool(attention)) as theirs:
            logits = teacher(inputs, mode='tensor')
        student, teacher_view = View(taught, attention), View(logits, theirs)
        for distillation in self.distillation:
            losses[distillation.name] = distillation(student, teacher_view)
        return losses


def build_loss(config: dict) -> DistillationLoss:
    """Build a distillation loss from its config."""
    arguments = dict(config)
    kind = arguments.pop('type', None)
    names = [
        name
        for name, value in vars(known_losses).items()
        if isinstance(value, type) and issubclass(value, DistillationLoss) and value is not DistillationLoss
    ]
    require(kind in names, 'distillation.type', kind, f'one of {", ".join(names)}')
    return getattr(known_losses, kind)(**arguments)


def build_teacher(config: dict) -> nn.Module:
    """Build a frozen network in evaluation mode; see :class:`DistilledClassifier` for the config.

    Raises:
        CheckpointError: the file cannot be read or does not fit.
    """
    settings = dict(config)
    path = settings.pop('checkpoint', None)
    teacher = MODELS.build(settings)
    if path is not None:
        mismatch = load_weights(teacher, model_weights(load_checkpoint_safely(path), path))
        if mismatch:
            raise CheckpointError(f'teacher.checkpoint {path} does not fit the teacher: {mismatch}')
    elif not settings.get('pretrained'):
        raise CheckpointError('the teacher has no weights: give teacher.checkpoint a file')
    teacher.eval()
    return teacher.requires_grad_(False)


@contextmanager
def watch_attention(model: nn.Module, wanted: bool) -> Iterator[list[Tokens]]:
    """Collect query, key and value of each attention that runs within the context, in the order they run."""
    seen: list[Tokens] = []
    keep: Callable = lambda _, tokens: seen.append(tuple(tokens))  # noqa: E731
    products = [module for module in model.modules() if isinstance(module, LinearAttention)] if wanted else []
    handles = [module.register_forward_pre_hook(keep) for module in products]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()
