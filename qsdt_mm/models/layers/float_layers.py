"""Float share of a network: its layers outside units, and their part of the work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from qsdt_mm.compat.wrappers import unwrap

from .attention import SpikeDrivenSelfAttention
from .unit import layers_of, layers_outside_units, named_units

IMAGE_SIZE = 224
NAMED = 3  # so many layers are named in a line


def _sdpa_macs(query: Tensor, key: Tensor, value: Tensor) -> int:
    return query.numel() // query.shape[-1] * key.shape[-2] * (query.shape[-1] + value.shape[-1])


def _attention_macs(query: Tensor, *weights: Tensor) -> int:
    """Count those of self-attention ``(N, L, E)``, products and projections, by torch's one operation for it."""
    return query.numel() // query.shape[-1] * (sum(w.numel() for w in weights) + 2 * query.shape[-2] * query.shape[-1])


def _product_macs(left: Tensor, right: Tensor) -> int:
    return left.numel() * (right.shape[-1] if right.dim() > 1 else 1)


def _convolution_macs(args: tuple, out: Tensor) -> int:
    """Count an output's sum over its weights; of a transposed convolution, an input's spread over its own."""
    return (args[0] if args[6] else out).numel() * args[1][0].numel()


# By the name of the operation. torch's own table changes from version to version, and has no attention on CPUs.
FORMULAS: dict[str, Callable[[tuple, Any], int]] = {
    **dict.fromkeys(('mm', 'bmm', 'mv', 'dot', 'vdot'), lambda args, out: _product_macs(*args[:2])),
    **dict.fromkeys(('addmm', 'baddbmm', 'addbmm', 'addmv'), lambda args, out: _product_macs(*args[1:3])),
    'convolution': _convolution_macs,
    '_native_multi_head_attention': lambda args, out: _attention_macs(args[0], args[5], args[7]),
    '_transformer_encoder_layer_fwd': lambda args, out: _attention_macs(*(args[i] for i in (0, 3, 5, 14, 16))),
    'mkldnn_rnn_layer': lambda args, out: args[0].shape[:2].numel() * (args[1].numel() + args[2].numel()),
    'deform_conv2d': lambda args, out: out.numel() * args[1][0].numel(),
}
FUSED_ATTENTION = '_scaled_dot_product'  # begins the names of all that a device may have


class _Products(TorchDispatchMode):
    """Context that reports the multiply-accumulates of each operation that runs within it."""

    muted = 0

    def __init__(self, report: Callable[[int], None]) -> None:
        super().__init__()
        self.report = report

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = kwargs or {}
        if _Products.muted:
            return func(*args, **kwargs)
        name = str(getattr(func, '_overloadpacket', func)).rpartition('.')[2]
        formula = FORMULAS.get(name)
        if name.startswith(FUSED_ATTENTION):
            formula = lambda args, out: _sdpa_macs(*args[:3])  # noqa: E731
        if formula is not None:
            out = func(*args, **kwargs)
            self.report(formula(args, out))
            return out
        if hasattr(func, 'decompose'):  # in inference mode operations come whole that are made of others
            with self:
                out = func.decompose(*args, **kwargs)
            if out is not NotImplemented:
                return out
        return func(*args, **kwargs)


@contextmanager
def uncounted() -> Iterator[None]:
    """Leave what runs within the context out of :func:`counting_macs`: it is the work of who counts."""
    _Products.muted += 1
    try:
        yield
    finally:
        _Products.muted -= 1


@contextmanager
def counting_macs(model: nn.Module) -> Iterator[Counter[str]]:
    """Count multiply-accumulates by module while a network runs within the context.

    Products count where they are made: those of an attention, in it; those of its linear layers, in these.

    Yields:
        Multiply-accumulates by the name of the module; the network itself has the empty name.
    """
    macs: Counter[str] = Counter()
    running: list[str] = []

    def report(count: int) -> None:
        macs[running[-1] if running else ''] += count

    def watch(name: str, module: nn.Module) -> list:
        def start(module: nn.Module, args: Any) -> None:
            running.append(name)
            before.append(macs[name])

        def end(module: nn.Module, args: Any, output: Any) -> None:
            seen = macs[name] - before.pop()
            while running.pop() != name:  # what ended in an error that somebody caught
                seen = macs[name] - before.pop()
            if not seen and name in layers:
                macs[name] += _macs_of_weights(module, args, output)

        return [module.register_forward_pre_hook(start), module.register_forward_hook(end)]

    before: list[int] = []
    layers = {name for name, _ in layers_outside_units(model)}
    hooks = [hook for name, module in model.named_modules() for hook in watch(name, module)]
    try:
        with _Products(report):
            yield macs
    finally:
        for hook in hooks:
            hook.remove()
        for name in [name for name, count in macs.items() if not count]:
            del macs[name]


def _macs_of_weights(layer: nn.Module, args: tuple, output: Any) -> int:
    """Count multiply-accumulates of a layer whose operations torch does not see: each output sums over its weights."""
    output = next((x for x in (output if isinstance(output, (tuple, list)) else [output]) if torch.is_tensor(x)), None)
    weight = getattr(layer, 'weight', None)
    if output is not None and isinstance(weight, Tensor):
        return output.numel() * weight[0].numel()
    inputs = next((x for x in args if torch.is_tensor(x)), None)
    matrices = sum(p.numel() for p in layer.parameters(recurse=False) if p.dim() >= 2)
    return 0 if inputs is None else inputs.numel() // inputs.shape[-1] * matrices


def modules_in_units(model: nn.Module) -> set[str]:
    """Return the names of all that computes with spikes or for them: units, what is in them, products of attention."""
    inside: set[nn.Module] = set()
    for module in model.modules():
        if isinstance(module, SpikeDrivenSelfAttention):
            inside |= {module, module.product}
    for _, unit in named_units(model):
        inside |= {unit, *unit.synapse.modules()}
    return {name for name, module in model.named_modules() if module in inside}


def products_outside(model: nn.Module, macs: Counter[str]) -> list[tuple[str, str]]:
    """Return name and kind of each module outside units that multiplies without weights of its own.

    Args:
        model: the network.
        macs: what :func:`counting_macs` counted.
    """
    known = modules_in_units(model) | {name for name, _ in layers_outside_units(model)}
    return [
        (name, f'products of {type(module).__name__}')
        for name, module in model.named_modules()
        if macs[name] and name not in known
    ]


@dataclass(frozen=True)
class FloatShare:
    """Share of a network's work that multiplies real numbers.

    Args:
        layers: number of all layers, in and outside units.
        outside: names of the layers outside units, and of modules there that multiply without weights.
        share: their part of the work, from 0 to 1.
        real: names of the layers in units that real numbers drive: the image, membranes inside chains.
        real_share: their part; None where nothing was measured.
        measure: what the shares are shares of.

    >>> print(float_share(nn.Sequential(nn.Conv2d(3, 8, 1))).share)
    1.0
    """

    layers: int
    outside: Sequence[str]
    share: float
    real: Sequence[str]
    real_share: float | None
    measure: str

    def __str__(self) -> str:
        names = ', '.join(self.outside[:NAMED]) + (', ...' if len(self.outside) > NAMED else '')
        verbs = ('is', 'stays') if len(self.outside) == 1 else ('are', 'stay')
        return (
            f'{len(self.outside)} of {self.layers} layers {verbs[0]} outside units and {verbs[1]} in floats'
            f'{f" ({names})" if names else ""}: {percent(self.share)} of the {self.measure}; in units, '
            f'{len(self.real)} multiply real inputs (image, membranes)'
            + ('' if self.real_share is None else f': {percent(self.real_share)}')
        )

    def require_spikes(self) -> None:
        """Refuse layers outside units.

        Raises:
            ValueError: there are some.
        """
        if self.outside:
            raise ValueError(f'require_spikes=True is not allowed: expected units only, but {self}')


def percent(share: float) -> str:
    """Write a share in percent, so that only nothing is 0 and only all is 100."""
    digits = 1
    while digits < 9 and 0 < share < 1 and float(f'{100 * share:.{digits}f}') in (0, 100):
        digits += 1
    return f'{100 * share:.{digits}f} %' if 0 < share < 1 else f'{100 * share:.0f} %'


def float_share(model: nn.Module, run: Callable[[nn.Module], Any] | None = None) -> FloatShare:
    """Measure the share of a network that computes with floats.

    Layers that do not run count too, but their share is nothing; heads that only training needs, losses and teachers do
    not count (:func:`~qsdt_mm.models.layers.unit.layers_outside_units`).

    Args:
        model: a network as trained, in evaluation mode.
        run: passes images through the network it is given. None: one image of 224 x 224 px does, if there are layers
            outside units at all; where the network does not take it, shares are those of the weights.
    """
    model = unwrap(model)
    outside = dict(layers_outside_units(model))
    inner = [
        (f'{name}.{path}' if name else path, layer, unit.driven_by if i == 0 else 'membrane')
        for name, unit in named_units(model)
        for i, (path, layer) in enumerate(layers_of(unit))
    ]
    real = tuple(name for name, _, driven_by in inner if driven_by != 'spikes')
    measure = 'multiply-accumulates'
    if run is None and not outside:
        return FloatShare(len(inner), (), 0.0, real, None, measure)
    macs = _macs_of(model, run)
    if macs is None:
        measure = 'weights (multiply-accumulates were not counted: the network takes other inputs)'
        macs = Counter({name: sum(p.numel() for p in layer.parameters()) for name, layer in outside.items()})
        macs.update({name: layer.weight.numel() for name, layer, _ in inner})
    else:
        inside = modules_in_units(model)
        # A layer that did not run may run on another image: a mask head needs a detection.
        found = [name for name, _ in model.named_modules() if macs[name] and name not in inside]
        outside = dict.fromkeys([*outside, *(name for name in found if name not in outside)])
        measure += '' if run else f' of an image of {IMAGE_SIZE} x {IMAGE_SIZE} px'
    total = max(sum(macs.values()), 1)
    return FloatShare(
        len(inner) + len(outside),
        tuple(name or type(model).__name__ for name in outside),
        sum(macs[name] for name in outside) / total,
        real,
        sum(macs[name] for name in real) / total,
        measure,
    )


@torch.no_grad()
def _macs_of(model: nn.Module, run: Callable[[nn.Module], Any] | None) -> Counter[str] | None:
    """Count multiply-accumulates by module; None if the network does not take an image."""
    if run is not None:
        with counting_macs(model) as macs:
            run(model)
        return macs
    encoder = next((unit for _, unit in named_units(model) if unit.driven_by == 'image'), None)
    layer = next((layer for _, layer in layers_of(encoder)), None) if encoder else None
    if not isinstance(layer, nn.Conv2d):
        return None
    try:
        with counting_macs(model) as macs:
            model(layer.weight.new_zeros(1, layer.in_channels, IMAGE_SIZE, IMAGE_SIZE))
    except Exception:  # of whatever kind: networks say in many ways that they want something else
        return None
    return macs
