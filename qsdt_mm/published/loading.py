"""Models with the weights of published checkpoints, without a file in between."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qsdt_mm.errors import CheckpointError, require
from qsdt_mm.fileio.checkpoint import part_of_weights
from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import FAMILIES, NUM_OUTPUTS

from .conversion import Conversion, convert, load_file, naming, read_converted

if TYPE_CHECKING:
    from mmpretrain.models import ImageClassifier


def load_published(
    path: str | os.PathLike,
    out_indices: Sequence[int] = (NUM_OUTPUTS - 1,),
    *,
    weights: str = 'model',
    **backbone_overrides: Any,
) -> ImageClassifier:
    """A classifier with the weights of a published checkpoint, in evaluation mode; needs mmpretrain.

    ``model(images)`` gives logits of normalised images, ``model.backbone(images)`` the features.

    Args:
        path: a published checkpoint, or one that ``published_to_mm.py`` wrote.
        out_indices: stages that the backbone puts out, 0 to 4; the last must be that of the classifier: 4 (of the large
            sizes 3 is the same).
        weights: 'model', or 'ema' for the averaged weights.
        backbone_overrides: arguments of ``SpikeDrivenTransformer``, over the published ones, such as
            ``max_spike_count=8``, ``weight_bits=8`` or ``arch=dict(num_heads=4)``; ``arch`` must fit the tensors. The
            classifier's neuron is the family's, with the same ``max_spike_count``. With ``time_steps`` above 1 the
            classifier fires in each step, so that features keep time in the batch, ``(T * N, ...)``, unless
            ``time_mean=True``.

    Raises:
        CheckpointError: the file cannot be loaded, or is not such a checkpoint.
        ValueError: an argument is out of range.
    """
    network = _read(path, weights, backbone_overrides)
    if network.num_classes is None:
        raise CheckpointError(
            f'checkpoint {path} is an encoder of Spike-MAE, without a classifier: load_backbone takes it, or a '
            "backbone's init_cfg after conversion"
        )
    out_indices = (out_indices,) if isinstance(out_indices, int) else tuple(out_indices)
    last = network.arch.num_stages - 1
    require(
        len(out_indices) > 0
        and out_indices[-1] in range(NUM_OUTPUTS)
        and network.arch.stage_of(out_indices[-1]) == last,
        'out_indices',
        out_indices,
        f'stages that end with {NUM_OUTPUTS - 1}, the one that the classifier reads',
    )
    model = _classifier(network, out_indices, backbone_overrides)
    model.load_state_dict(network.weights(path))
    model.is_init = True  # a runner must not initialise over the weights
    return model.eval()


def load_backbone(
    path: str | os.PathLike, *, weights: str = 'model', **backbone_overrides: Any
) -> SpikeDrivenTransformer:
    """A backbone with the weights of a published checkpoint, the encoder of Spike-MAE included, in evaluation mode.

    Args:
        path: a published checkpoint, or one that ``published_to_mm.py`` wrote.
        weights: 'model', or 'ema' for the averaged weights.
        backbone_overrides: as for :func:`load_published`, with ``out_indices``.

    Raises:
        CheckpointError: the file cannot be loaded, or is not such a checkpoint.
        ValueError: an argument is out of range.
    """
    network = _read(path, weights, backbone_overrides)
    backbone = _backbone(network, backbone_overrides)
    backbone.load_state_dict(part_of_weights(network.weights(path), 'backbone'))
    backbone.is_init = True  # a runner must not initialise over the weights
    return backbone.eval()


def _read(path: str | os.PathLike, weights: str, overrides: dict[str, Any]) -> Conversion:
    """The network in a file, converted if need be; takes out of ``overrides`` what it settles."""
    arch, weight_bits = overrides.pop('arch', None), overrides.pop('weight_bits', None)
    checkpoint = load_file(path)
    with naming(path):
        network = read_converted(checkpoint, arch=arch, weight_bits=weight_bits)
        if network is None:
            network = convert(checkpoint, arch=arch, weight_bits=weight_bits, weights=weights)
    in_channels = overrides.pop('in_channels', network.in_channels)
    require(
        in_channels == network.in_channels, 'in_channels', in_channels, f'{network.in_channels}, as in the checkpoint'
    )
    return network


def _backbone(network: Conversion, overrides: dict[str, Any]) -> SpikeDrivenTransformer:
    return SpikeDrivenTransformer(network.arch, network.in_channels, weight_bits=network.weight_bits, **overrides)


def _classifier(network: Conversion, out_indices: Sequence[int], overrides: dict[str, Any]) -> ImageClassifier:
    from mmpretrain.models import ClsDataPreprocessor, CrossEntropyLoss, GlobalAveragePooling, ImageClassifier

    from qsdt_mm.models.heads.classification import SpikeLinearClsHead, SpikeTwoHeadClsHead

    max_spike_count, time_steps = overrides.get('max_spike_count', 4), overrides.get('time_steps', 1)
    time_mean = overrides.setdefault('time_mean', time_steps == 1)
    backbone, family = _backbone(network, dict(overrides, out_indices=out_indices)), FAMILIES[network.arch.family]
    head = (SpikeTwoHeadClsHead if family.two_heads else SpikeLinearClsHead)(
        network.num_classes,
        network.arch.widths[-1],
        neuron={key: value for key, value in family.head_neuron.items() if key != 'rounding'},  # the file says it
        weight_bits=network.weight_bits,
        max_spike_count=max_spike_count,
        time_steps=1 if time_mean else time_steps,
        loss=CrossEntropyLoss(),
    )
    # Statistics of ImageNet, which the published networks were trained on.
    normalise = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
    preprocessor = ClsDataPreprocessor(num_classes=network.num_classes, **normalise if network.in_channels == 3 else {})
    return ImageClassifier(backbone, GlobalAveragePooling(), head, data_preprocessor=preprocessor)
