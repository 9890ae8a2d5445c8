"""Classification heads for mmpretrain."""

from __future__ import annotations

from typing import Any

from mmpretrain.models.heads import LinearClsHead
from torch import Tensor, nn

from qsdt_mm.models.layers import SpikeUnit, make_neuron
from qsdt_mm.models.quantization import QuantLinear, steps_follow_weights


class SpikeLinearClsHead(LinearClsHead):
    """Linear classifier driven by spikes: ``mean over T of linear(N(mean over space of x))``.

    Args:
        num_classes: number of classes.
        in_channels: channels of the backbone's last stage.
        neuron: config of the neuron before the linear layer.
        weight_bits: 2, 3, 4, 8 or 32.
        levels: D.
        time_steps: T, when the backbone keeps time in the batch (``time_mean=False``).
        kwargs: those of mmpretrain's ``LinearClsHead``.

    Source: QSD (arXiv 2501.13492), SFA (arXiv 2411.16061).
    """

    def __init__(
        self,
        num_classes: int,
        in_channels: int,
        neuron: dict[str, Any] = dict(type='IELIF', threshold=1.0, scale=1.0),  # noqa: B006,E501
        weight_bits: int = 32,
        levels: int = 4,
        time_steps: int = 1,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, in_channels, **kwargs)
        self.time_steps = time_steps
        self.fc: nn.Module = SpikeUnit(
            make_neuron(neuron, levels, time_steps), QuantLinear(in_channels, num_classes, weight_bits=weight_bits)
        )

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow the weights."""
        with steps_follow_weights(self):
            super().init_weights()

    def forward(self, feats: tuple[Tensor, ...]) -> Tensor:
        """Logits ``(N, classes)`` of features ``(T * N, C)``."""
        return super().forward(feats).unflatten(0, (self.time_steps, -1)).mean(0)
