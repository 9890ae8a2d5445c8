"""A plan in the place of a network, so that a task library evaluates it as it does the network."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import InputError
from qsdt_mm.inference.conversion import evaluation_copy

from .plan import as_tensor
from .pretrained import preprocessing_of

HEADS = ('head', 'bbox_head', 'decode_head')
NEAR = 0.05
"""Preprocessed pixels lie so near whole numbers again once mean and deviation are taken out."""


def pixels_of(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the pixels, uint8, that a model's preprocessor has made an input of; what it padded is the mean.

    Raises:
        InputError: they were no whole numbers from 0 to 255.
    """
    preprocessor = getattr(model, 'data_preprocessor', None)
    mean, std = (getattr(preprocessor, name, None) for name in ('mean', 'std'))
    pixels = inputs if mean is None else inputs * std + mean
    whole = pixels.round()
    padded = (inputs == 0).all(-3, keepdim=True)
    wrong = ((pixels - whole).abs() > NEAR) & ~padded | (whole < 0) | (whole > 255)
    if bool(wrong.any()):
        raise InputError(f'a plan computes from whole pixels of 0 to 255, not from {float(pixels[wrong][0]):.4g}')
    return whole.to(torch.uint8)


def preprocessed(model: nn.Module, data: Any) -> Tensor:
    """Return the pixels of collated samples.

    Raises:
        InputError: they are no whole numbers.
    """
    return pixels_of(model, model.data_preprocessor(data, False)['inputs'])


def head_of(model: nn.Module) -> str:
    """Return the name of the head that alone follows a network's features.

    Raises:
        InputError: there is none.
    """
    name = next((name for name in HEADS if isinstance(getattr(model, name, None), nn.Module)), None)
    several = hasattr(model, 'rpn_head') or isinstance(getattr(model, name or '', None), nn.ModuleList)
    if name is None or several or not hasattr(model, 'extract_feat'):
        raise InputError(
            f'{type(model).__name__} has no single head after its features: plans of classifiers, encoder-decoders and '
            'one-stage detectors can be evaluated'
        )
    return name


@torch.no_grad()
def check_fit(model: nn.Module, steps: nn.Module) -> None:
    """Refuse a plan that was not made of a model's network: other outputs, or another order of channels.

    Args:
        model: of a task library.
        steps: a packed :class:`Plan`, or a :class:`~qsdt_mm.deploy.runtimes.Runtime` with a file of one.

    Raises:
        InputError: saying what differs.
    """
    known = (getattr(steps, 'preprocessing', None) or {}).get('channels')
    expected = preprocessing_of(model).get('channels')
    if {known, expected} == {'RGB', 'BGR'}:
        raise InputError(f'the plan takes images in {known}, the configuration makes them {expected}')
    model = unwrap(model)
    head_of(model)
    device = next(model.parameters()).device
    image = torch.zeros(1, *steps.shape, dtype=torch.uint8, device=device)
    was_training = model.training
    try:
        wanted = _sizes(as_tensor(model.eval(), image.float()))
    finally:
        model.train(was_training)
    found = _sizes(steps.to(device)(image))
    if found != wanted:
        raise InputError(
            f'the plan gives outputs of {_listed(found)}, the network of the configuration {_listed(wanted)}'
        )


def _sizes(outputs: Any) -> list[tuple[int, ...]]:
    return [tuple(output.shape[1:]) for output in tree_flatten(outputs)[0]]


def _listed(sizes: list[tuple[int, ...]]) -> str:
    listed = [' x '.join(map(str, size)) for size in sizes]
    return ', '.join(listed[:3]) + (f' and {len(listed) - 3} more' if len(listed) > 3 else '')


class _Planned:
    """Stands for a method; a class, so that copies keep what they share."""

    def __init__(self, model: nn.Module, steps: nn.Module) -> None:
        self.model, self.steps = model, steps

    def __call__(self, inputs: Tensor, *args: Any, **kwargs: Any) -> Any:
        return self.steps(pixels_of(self.model, inputs))


def _as_given(outputs: Any, *args: Any, **kwargs: Any) -> Any:
    return outputs


def evaluated(model: nn.Module, steps: nn.Module) -> nn.Module:
    """Return a copy of a model of a task library whose raw outputs are a plan's; the head makes predictions of them.

    Args:
        model: of a task library.
        steps: a :class:`Plan`, or a :class:`~qsdt_mm.deploy.runtimes.Runtime` with a file of one.

    Raises:
        InputError: the model has no single head.
    """
    model = evaluation_copy(unwrap(model))
    head = getattr(model, head_of(model))
    object.__setattr__(model, 'extract_feat', _Planned(model, steps.to(next(model.parameters()).device)))
    object.__setattr__(head, 'forward', _as_given)
    return model


def stretched(pixels: Tensor, size: Sequence[int]) -> Tensor:
    """Return images ``(..., H, W)``, uint8, brought to a size."""
    if tuple(pixels.shape[-2:]) == tuple(size):
        return pixels
    flat = pixels.flatten(0, -4).float() if pixels.dim() > 4 else pixels.float()
    new = F.interpolate(flat, tuple(size), mode='bilinear', align_corners=False, antialias=True)
    return new.round().clamp(0, 255).to(torch.uint8).view(*pixels.shape[:-2], *size)


def calibration_pixels(model: nn.Module, batches: Iterable[Any], size: Sequence[int] | None = None) -> Tensor:
    """Return the pixels of collated samples, uint8 ``(N, C, H, W)``, as :func:`~qsdt_mm.deploy.plan` takes them.

    Args:
        model: of a task library.
        batches: collated samples.
        size: ``(H, W)`` that images are stretched to; None: they have one size already.

    Raises:
        InputError: the samples differ in size, or are no whole numbers.
    """
    pixels = [preprocessed(model, data) for data in batches]
    if size is not None:
        pixels = [stretched(images, size) for images in pixels]
    sizes = {tuple(images.shape[1:]) for images in pixels}
    if len(sizes) != 1:
        found = ', '.join(' x '.join(map(str, size)) for size in sorted(sizes)[:3]) or 'none'
        raise InputError(f'a plan is for images of one size, those for calibration have: {found}')
    return torch.cat(pixels)
