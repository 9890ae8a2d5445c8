"""A trained network as whole-number steps from the pixels of an image to its outputs: the same bits everywhere."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import InputError, one_line, require
from qsdt_mm.inference.conversion import evaluation_copy

from .lowering import Lowering
from .recording import record
from .steps import Convolve, Product, Step


class Plan(nn.Module):
    """Steps from the pixels of an image to what a network puts out.

    Args:
        steps: in their order.
        outputs: names of the values that are put out, in the structure of the network's own outputs.
        shape: ``(C, H, W)`` or ``(T, C, H, W)`` of the images that it was made with.

    Shapes: pixels ``(N, *shape)``, whole numbers from 0 to 255 of any type; outputs in float32.

    >>> from qsdt_mm.deploy.steps import Normalise
    >>> step = Normalise(('pixels',), 'image', gain=torch.tensor([0.5]), offset=torch.tensor([-64.0]))
    >>> plan = Plan([step], outputs='image', shape=(1, 1, 2))
    >>> plan(torch.tensor([[[[0, 255]]]], dtype=torch.uint8)).flatten().tolist()
    [-64.0, 64.0]
    """

    def __init__(self, steps: list[Step], outputs: Any, shape: tuple[int, ...]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(steps)
        self.outputs, self.shape, self.spiking = outputs, tuple(shape), False
        self._last_use = {name: i for i, step in enumerate(steps) for name in step.inputs}

    def with_spikes(self, spiking: bool = True) -> Plan:
        """Compute by binary spikes, which only select what is added; the bits stay the same. Return the plan."""
        self.spiking = spiking
        return self

    @torch.no_grad()
    def forward(self, pixels: Tensor) -> Any:
        """Compute the outputs of images.

        Raises:
            InputError: the images have another shape.
        """
        allowed = f'(N, {", ".join(map(str, self.shape))}): a plan is for images of one size'
        require(tuple(pixels.shape[1:]) == self.shape, 'pixels', tuple(pixels.shape), allowed, InputError)
        values = {'pixels': pixels}
        kept: set[str] = set()
        tree_map(kept.add, self.outputs)
        for i, step in enumerate(self.steps):
            inputs = [values[name] for name in step.inputs]
            spiking = dict(spiking=True) if self.spiking and isinstance(step, (Convolve, Product)) else {}
            values[step.output] = step(*inputs, **spiking)
            for name in set(step.inputs):
                if self._last_use[name] == i and name not in kept:
                    del values[name]
        return tree_map(values.__getitem__, self.outputs)


def as_tensor(model: nn.Module, image: Tensor) -> Any:
    """Run a model of one of the task libraries from a normalised image to its raw outputs."""
    return model(image, mode='tensor')


@torch.no_grad()
def plan(
    model: nn.Module,
    images: Tensor,
    *,
    mean: Tensor | None = None,
    std: Tensor | None = None,
    run: Callable[[nn.Module, Tensor], Any] | None = None,
) -> Plan:
    """Return a trained network as a :class:`Plan`, whose outputs have the same bits in every runtime.

    Args:
        model: made of units alone, each with an IELIF neuron and batch norm or no norm.
        images: a few images ``(N, C, H, W)`` or ``(N, T, C, H, W)``, whole numbers from 0 to 255 in the order of
            channels that the network expects; they show how large membranes get.
        mean, std: of each channel; None: those of the model's ``data_preprocessor``, or 0 and 1.
        run: passes a normalised image through the model; None: ``model(image, mode='tensor')`` of the task libraries.

    Raises:
        ValueError: an argument is out of range.
        InputError: a part of the network has no whole-number form; the message names it.
    """
    require(
        images.dim() in (4, 5) and len(images) > 0 and not torch.is_floating_point(images),
        'images',
        f'{tuple(images.shape)} {images.dtype}',
        '(N, C, H, W) or (N, T, C, H, W) of whole numbers',
    )
    model = evaluation_copy(unwrap(model))
    preprocessor = getattr(model, 'data_preprocessor', None)
    channels = images.shape[-3]

    def constant(given: Tensor | None, name: str, default: float) -> Tensor:
        value = getattr(preprocessor, name, None) if given is None else given
        value = torch.full((channels,), default) if value is None else torch.as_tensor(value)
        return value.detach().double().flatten().cpu().expand(channels)

    mean, std = constant(mean, 'mean', 0.0), constant(std, 'std', 1.0)
    device = next(model.parameters()).device
    shape = (-1, 1, 1)
    normalised = ((images.to(device).double() - mean.to(device).view(shape)) / std.to(device).view(shape)).float()
    # Two images, so that their number is told from other sizes.
    pair = normalised[:2].expand(2, *normalised.shape[1:]).contiguous()
    try:
        recording = record(model, pair, run or as_tensor)
    except (TypeError, AttributeError, NotImplementedError) as error:
        if run is not None:
            raise
        kind = type(model).__name__
        raise InputError(
            f"{kind} does not go from an image to raw outputs by model(image, mode='tensor'), {one_line(error)[:200]}: "
            'give run, such as run=lambda model, image: model.extract_feat(image)'
        ) from error
    lowering = Lowering(recording, images.to(device), mean, std)
    outputs = tree_map(lowering.output, recording.outputs)
    return Plan(lowering.steps, outputs, tuple(images.shape[1:]))
