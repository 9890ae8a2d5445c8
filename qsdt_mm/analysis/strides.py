"""Strides that a detector's parts are told, beside those of the maps that they get."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import InputError

OPTION = 'allow_stride_mismatch'
"""The key of a config that leaves the check out."""
GENERATORS = ('prior_generator', 'anchor_generator', 'approx_anchor_generator', 'square_anchor_generator')
LISTS = ('featmap_strides', 'point_strides', 'anchor_strides')
SIZE = 128  # px: of the highest level of usual pyramids one cell
LARGEST = 2048  # px
TOLERANCE = 1.4  # maps of odd sizes cover a little more or less than the image; a wrong stride is off by 2


class Told(NamedTuple):
    """Strides that a part was told.

    Args:
        part: its name in the model.
        strides: one for each level; of two (width, height) the first.
        levels: it reads so many maps, from the first on; None: all.
        size: height and width of images that it is for, if it says so.
        resize: what it does to the sizes of the maps first, if anything.

    >>> from qsdt_mm.models import SpikeDrivenTransformer
    >>> list(told_strides(SpikeDrivenTransformer('qsd-8m', out_indices=(0,))))  # no anchors, no points
    []
    >>> Told('bbox_head', strides=(8.0, 16.0), levels=None, size=None).part
    'bbox_head'
    """

    part: str
    strides: tuple[float, ...]
    levels: int | None
    size: int | None
    resize: Callable[[Any], Any] | None = None


def told_strides(model: nn.Module) -> Iterator[Told]:
    """Yield the strides of anchors, points, grids of masks and RoI extractors in a detector.

    Of other parts' maps (a semantic branch's, say) nothing is known here: their extractors are left out.
    """
    for name, module in model.named_modules():
        for attribute in GENERATORS:
            generator = getattr(module, attribute, None)
            strides = _numbers(getattr(generator, 'strides', None))
            if strides:
                size = getattr(generator, 'input_size', None)
                yield Told(name, strides, None, size if isinstance(size, int) else None)
        for attribute in LISTS:
            strides = _numbers(getattr(module, attribute, None))
            if strides and 'semantic' not in name:
                extracts = attribute == 'featmap_strides' and not hasattr(module, 'prior_generator')
                yield Told(name, strides, len(strides) if extracts else None, None)
        resize = getattr(module, 'resize_feats', None)  # SOLO's: of masks, at strides that the head makes itself
        strides = _numbers(getattr(module, 'strides', None))
        if callable(resize) and strides:
            yield Told(name, strides, None, None, resize)


def _numbers(strides: Any) -> tuple[float, ...]:
    """Return strides as numbers; nothing if they are none."""
    if not isinstance(strides, (list, tuple)):
        return ()
    firsts = [stride[0] if isinstance(stride, (list, tuple)) and stride else stride for stride in strides]
    numbers = all(isinstance(stride, (int, float)) and stride > 0 for stride in firsts)
    return tuple(firsts) if numbers else ()


@contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Set a network to evaluation within the context, by the flags alone, and random numbers back after it."""
    before = [(module, module.training) for module in model.modules()]
    try:
        for module, _ in before:
            module.training = False
        with torch.random.fork_rng(devices=[]), torch.no_grad():
            yield
    finally:
        for module, training in before:
            module.training = training


def strides_of_maps(
    detector: nn.Module, size: int = SIZE, resize: Callable[[Any], Any] | None = None
) -> tuple[float, ...] | None:
    """Return the strides of the maps that a detector's ``extract_feat`` gives, of an empty square image.

    None if it does not take one, or gives something else than maps.

    Args:
        detector: the network.
        size: height and width of the image.
        resize: what a part does to the maps first, if anything.
    """
    first = next((layer for layer in detector.backbone.modules() if isinstance(layer, nn.Conv2d)), None)
    parameter = next(detector.parameters(), None)
    if first is None or parameter is None:
        return None
    for channels in dict.fromkeys((getattr(detector.backbone, 'in_channels', 3), 3, first.in_channels)):
        try:  # what libraries call in_channels is not always the image's
            with _evaluating(detector):
                maps = detector.extract_feat(parameter.new_zeros(1, channels, size, size))
                maps = maps if resize is None else resize(maps)
            break
        except Exception:  # of whatever kind: there are networks that want a text, a clip, or a larger image
            continue
    else:
        return None
    maps = maps if isinstance(maps, (list, tuple)) else [maps]
    if not all(isinstance(m, Tensor) and m.dim() == 4 and m.shape[-1] == m.shape[-2] > 0 for m in maps):
        return None
    return tuple(size / m.shape[-1] for m in maps)


def check_strides(model: nn.Module) -> None:
    """Compare the strides that the parts of a detector are told with those of the maps that it makes.

    Networks without such parts are not run.

    Args:
        model: any network, wrapped or not; it is left as it is.

    Raises:
        InputError: a part is told another stride than that of the map at its place.
    """
    model = unwrap(model)
    told = list(told_strides(model))
    detectors = {
        name: module
        for name, module in model.named_modules()
        if told
        and callable(getattr(module, 'extract_feat', None))
        and isinstance(getattr(module, 'backbone', None), nn.Module)
    }
    measured: dict[tuple[Any, ...], tuple[float, ...] | None] = {}
    for part in told:
        owners = [name for name in detectors if not name or part.part.startswith(f'{name}.')]
        owner = max(owners, key=len) if owners else next(iter(detectors), None)
        if owner is None:
            continue
        size = part.size or SIZE
        while not part.size and size < min(max(part.strides), LARGEST):
            size *= 2
        key = (owner, size, part.part if part.resize else None)
        if key not in measured:
            measured[key] = strides_of_maps(detectors[owner], size, part.resize)
        maps = measured[key]
        if maps is None or part.levels is None and len(maps) != len(part.strides):
            continue  # what reads other maps, or fails by itself
        seen = maps[: len(part.strides)]
        if any(not 1 / TOLERANCE < wanted / found < TOLERANCE for wanted, found in zip(part.strides, seen)):
            raise InputError(_message(part, seen, detectors[owner].backbone))


def _message(part: Told, seen: tuple[float, ...], backbone: nn.Module) -> str:
    shown, found = (', '.join(f'{stride:g}' for stride in strides) for strides in (part.strides, seen))
    cure = 'give it the strides of the maps'
    if hasattr(backbone, 'output_strides'):
        usual = tuple(2 ** (index + 1) for index in backbone.out_indices)
        cure = f'give the backbone output_strides={usual}, or {part.part} the strides of the maps'
    return (
        f'{part.part} is told strides {shown}, but the maps that it gets have {found}: places would lie elsewhere in '
        f'the image; {cure}; for weights that were trained so: {OPTION} = True in the config'
    )
