"""Classification heads for mmpretrain."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_arguments
from qsdt_mm.errors import InputError
from qsdt_mm.models.backbones.presets import classifier_neuron
from qsdt_mm.models.layers import SpikeUnit, make_neuron
from qsdt_mm.models.layers.time import mean_over_time
from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import QuantLinear, steps_follow_weights


@refuse_old_arguments
class SpikeLinearClsHead(LinearClsHead):
    """Linear classifier driven by spikes: ``mean over T of linear(N(mean over space of x))``.

    Args:
        num_classes: number of classes.
        in_channels: channels of the backbone's last stage.
        neuron: config of the neuron before the linear layer; None: threshold and scale of 1. On a half it does what
            the family whose classifiers have this threshold does, unless it has a ``rounding`` of its own: QSD's (1/4)
            fire, those of E-SpikeFormer (1) round to even.
        weight_bits: 2, 3, 4, 8 or 32.
        max_spike_count: D.
        time_steps: T, when the backbone keeps time in the batch (``time_mean=False``). These three are the backbone's
            where a ``SpikeImageClassifier`` builds the head and its config does not give them.
        kwargs: those of mmpretrain's ``LinearClsHead``.

    Raises:
        InputError: the features of a batch are not T for each sample.

    Source: QSD (arXiv 2501.13492), SFA (arXiv 2411.16061).

    >>> head = SpikeLinearClsHead(num_classes=10, in_channels=16, time_steps=2)
    >>> head((torch.ones(2 * 3, 16),)).shape  # T * N images in, N out
    torch.Size([3, 10])
    """

    two_heads = False

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        neuron: dict[str, Any] | None = None,
        weight_bits: int = 32,
        max_spike_count: int = 4,
        time_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.time_steps = time_steps
        self.fc: nn.Module = SpikeUnit(
            make_neuron(neuron, max_spike_count, time_steps, preset=classifier_neuron(neuron, self.two_heads)),
            QuantLinear(in_channels, num_classes, weight_bits=weight_bits),
        )

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow the weights."""
        with steps_follow_weights(self), rounding_follows_weights(self):
            super().init_weights()

    def pre_logits(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Return the last stage's features, ``(T * N, C)``."""
        feature = super().pre_logits(feats)
        if len(feature) % self.time_steps:
            raise InputError(
                f'head.time_steps={self.time_steps} does not divide {len(feature)} features: the backbone has another '
                'T, or averages over time'
            )
        return feature

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute logits ``(N, classes)`` of features ``(T * N, C)``."""
        return mean_over_time(super().forward(feats), self.time_steps)

    def _get_loss(self, cls_score: Tensor, data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        self._check_time(cls_score, data_samples)
        return super()._get_loss(cls_score, data_samples, **kwargs)

    def _get_predictions(self, cls_score: Tensor, data_samples: list | None) -> list:
        if data_samples is not None:
            self._check_time(cls_score, data_samples)
        return super()._get_predictions(cls_score, data_samples)

    def _check_time(self, logits: Tensor, data_samples: list) -> None:
        """Refuse to take time steps for samples, or samples for time steps: only here both numbers are known."""
        if len(logits) != len(data_samples):
            rows = len(logits) * self.time_steps
            raise InputError(
                f'head.time_steps={self.time_steps} does not fit the backbone: {rows} features for '
                f'{len(data_samples)} samples; give the head the time_steps of a backbone with time_mean=False, '
                'and 1 after one that averages over time'
            )


class SpikeTwoHeadClsHead(SpikeLinearClsHead):
    """Two classifiers on one feature: ``main = linear(x)``, ``dist = linear(N(x))``, each averaged over T.

    The second one is there to learn from a teacher; without one both learn from the labels.

    Args:
        args, kwargs: those of :class:`SpikeLinearClsHead`; the neuron is the one before the second classifier, and
            fires on a half, as in the large sizes.

    Source: SFA (arXiv 2411.16061), large sizes.

    >>> head = SpikeTwoHeadClsHead(num_classes=10, in_channels=16)
    >>> [tuple(logits.shape) for logits in head.both((torch.ones(3, 16),))]
    [(3, 10), (3, 10)]
    """

    two_heads = True

    def __init__(self, num_classes: int, in_channels: int, *args: Any, **kwargs: Any) -> None:
        super().__init__(num_classes, in_channels, *args, **kwargs)
        self.fc_dist = self.fc
        bits = self.fc.synapse.weight_bits
        self.fc = SpikeUnit(None, QuantLinear(in_channels, num_classes, weight_bits=bits), input_kind='membrane')

    def both(self, feats: tuple[Tensor, ...]) -> tuple[Tensor, Tensor]:
        """Compute logits of both classifiers, the main one first, ``(N, classes)`` each, of features ``(T * N, C)``."""
        feature = self.pre_logits(feats)
        main, dist = (mean_over_time(fc(feature), self.time_steps) for fc in (self.fc, self.fc_dist))
        return main, dist

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Compute the mean of both classifiers' logits, ``(N, classes)``."""
        return sum(self.both(feats)) / 2

    def loss(self, feats: tuple[Tensor, ...], data_samples: list, **kwargs: Any) -> dict[str, Tensor]:
        """Compute the classifiers' mean loss; with ``cal_acc`` also the accuracy of their mean logits."""
        both = self.both(feats)
        losses = self._get_loss(sum(both) / 2, data_samples, **kwargs)
        losses['loss'] = sum(self._get_loss(logits, data_samples, **kwargs)['loss'] for logits in both) / 2
        return losses
