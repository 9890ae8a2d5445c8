"""Models with the weights of published checkpoints, without a file in between."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from torch import nn

from qsdt_mm.errors import CheckpointError, require
from qsdt_mm.fileio.checkpoint import part_of_weights
from qsdt_mm.models.backbones import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import NUM_OUTPUTS

from .conversion import Conversion, convert
from .files import load_file, naming, read_converted
from .networks import LIBRARIES, backbone_arguments, build

SETTINGS = (
    'max_spike_count',
    'neck_max_spike_count',
    'spike_worth',
    'stateful',
)  # time_steps is an argument of any backbone


def load_published(
    path: str | os.PathLike,
    out_indices: Sequence[int] | None = None,
    *,
    weights: str = 'model',
    **overrides: Any,
) -> nn.Module:
    """Return the model of a published checkpoint with its weights, in evaluation mode.

    A classifier (``mmpretrain.ImageClassifier``: ``model(images)`` gives logits of normalised images), a detector
    (``mmdet.MaskRCNN``, ``CascadeRCNN`` or ``RetinaNet``) or a segmentor (``mmseg.EncoderDecoder``), as the tensors
    show; its library has to be installed. ``model.backbone(images)`` gives the features.

    Args:
        path: a published checkpoint, or one that ``published_to_mm.py`` wrote.
        out_indices: stages that a classifier's backbone puts out, 0 to 4; the last must be that of the classifier: 4
            (of the large sizes 3 is the same), the default.
        weights: 'model', or 'ema' for the averaged weights.
        overrides: options of :func:`~qsdt_mm.published.convert`, such as ``neck_max_spike_count=4`` or
            ``spike_worth=0.5``, and arguments of ``SpikeDrivenTransformer``, over the published ones, such as
            ``max_spike_count=8``, ``weight_bits=8`` or ``arch=dict(num_heads=4)``; ``arch`` must fit the tensors. A
            classifier's neuron is the family's, with the same ``max_spike_count``. With ``time_steps`` above 1 the
            classifier fires in each step, so that features keep time in the batch, ``(T * N, ...)``, unless
            ``time_mean=True``.

    Raises:
        CheckpointError: the file cannot be loaded, or is not such a checkpoint.
        InputError: the library that the network is one of is not installed.
        ValueError: an argument is out of range.
    """
    network = _read(path, weights, overrides)
    if network.kind == 'encoder':
        raise CheckpointError(
            f'checkpoint {path} is an encoder of Spike-MAE, without a classifier: load_backbone takes it, or a '
            "backbone's init_cfg after conversion"
        )
    stages: dict[str, Any] = {}
    if LIBRARIES[network.kind] == 'mmpretrain':
        indices = (NUM_OUTPUTS - 1,) if out_indices is None else out_indices
        indices = (indices,) if isinstance(indices, int) else tuple(indices)
        last = network.arch.num_stages - 1
        require(
            len(indices) > 0 and indices[-1] in range(NUM_OUTPUTS) and network.arch.stage_of(indices[-1]) == last,
            'out_indices',
            out_indices,
            f'stages that end with {NUM_OUTPUTS - 1}, the one that the classifier reads',
        )
        stages = dict(out_indices=indices)
    else:
        require(out_indices is None, 'out_indices', out_indices, f'None: the neck of a {network.kind} says which')
    model = build(network, **stages, **overrides)
    model.load_state_dict(network.weights(path))
    model.is_init = True  # a runner must not initialise over the weights
    if network.dataset_meta:
        model.dataset_meta = dict(network.dataset_meta)  # where the libraries look for names of classes
    return model


def load_backbone(
    path: str | os.PathLike, *, weights: str = 'model', **backbone_overrides: Any
) -> SpikeDrivenTransformer:
    """Return a backbone with a published checkpoint's weights, of Spike-MAE's encoder too, in evaluation mode.

    Args:
        path: a published checkpoint, or one that ``published_to_mm.py`` wrote.
        weights: 'model', or 'ema' for the averaged weights.
        backbone_overrides: as for :func:`load_published`, with ``out_indices``.

    Raises:
        CheckpointError: the file cannot be loaded, or is not such a checkpoint.
        ValueError: an argument is out of range.
    """
    network = _read(path, weights, backbone_overrides)
    arguments = backbone_arguments(network, backbone_overrides)
    backbone = SpikeDrivenTransformer(network.arch, network.in_channels, weight_bits=network.weight_bits, **arguments)
    backbone.load_state_dict(part_of_weights(network.weights(path), 'backbone'))
    backbone.is_init = True  # a runner must not initialise over the weights
    return backbone.eval()


def _read(path: str | os.PathLike, weights: str, overrides: dict[str, Any]) -> Conversion:
    """The network in a file, converted if need be; takes out of ``overrides`` what it settles."""
    arch, weight_bits = overrides.pop('arch', None), overrides.pop('weight_bits', None)
    checkpoint = load_file(path)
    with naming(path):
        options = {name: overrides.pop(name) for name in SETTINGS if name in overrides}
        network = read_converted(checkpoint, arch=arch, weight_bits=weight_bits, **options)
        if network is None:
            network = convert(checkpoint, arch=arch, weight_bits=weight_bits, weights=weights, **options)
    in_channels = overrides.pop('in_channels', network.in_channels)
    require(
        in_channels == network.in_channels, 'in_channels', in_channels, f'{network.in_channels}, as in the checkpoint'
    )
    return network
