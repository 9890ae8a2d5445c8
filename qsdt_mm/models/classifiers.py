"""mmpretrain's classifier for spiking networks, with the settings that backbone and head share given once."""

from __future__ import annotations

from typing import Any

from mmpretrain.models import ImageClassifier
from mmpretrain.registry import MODELS
from torch import nn

from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.heads.classification import SpikeLinearClsHead


class SpikeImageClassifier(ImageClassifier):
    """mmpretrain's classifier whose spiking head follows the backbone: same bits, same D, its T.

    ``model.backbone.weight_bits=2`` alone makes a two-bit network. What the head's config says itself holds; other
    heads and backbones are built as mmpretrain builds them.

    Args:
        backbone, neck, head, args, kwargs: those of mmpretrain's ``ImageClassifier``.

    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> model = SpikeImageClassifier(
    ...     dict(type='qsdt_mm.SpikeDrivenTransformer', arch=arch, weight_bits=2),
    ...     head=dict(type='qsdt_mm.SpikeLinearClsHead', num_classes=10, in_channels=16))
    >>> model.head.fc.synapse.weight_bits
    2
    """

    def __init__(self, backbone: Any, neck: Any = None, head: Any = None, *args: Any, **kwargs: Any) -> None:
        # Built here and not by mmpretrain, for only a backbone that is built knows the bits of its family.
        backbone = backbone if isinstance(backbone, nn.Module) else MODELS.build(backbone)
        super().__init__(backbone, neck, following(head, backbone), *args, **kwargs)


def following(head: Any, backbone: nn.Module) -> Any:
    """Complete a head's config with the backbone's weight bits, D and T where it says none.

    A head that is built, or takes no such settings, comes back as it is.
    """
    if not isinstance(head, dict) or not isinstance(backbone, SpikeDrivenTransformer):
        return head
    kind = head.get('type')
    if isinstance(kind, str):
        with MODELS.switch_scope_and_registry(None) as registry:  # where build would look
            kind = registry.get(kind)
        kind = getattr(kind, 'find', lambda found=kind: found)()
    if not (isinstance(kind, type) and issubclass(kind, SpikeLinearClsHead)):
        return head
    shared = dict(
        weight_bits=backbone.weight_bits,
        max_spike_count=backbone.max_spike_count,
        time_steps=1 if backbone.time_mean else backbone.time_steps,
    )
    return {**head, **{name: value for name, value in shared.items() if head.get(name) is None}}
