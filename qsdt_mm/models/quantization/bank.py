"""Weights of many layers quantized at once, for a forward pass and for what is computed again of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor, nn

from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.saved_tensors import can_tell_hooks, saved_tensors_hooks
from qsdt_mm.compat.tracing import is_recording
from qsdt_mm.ops import compact_saving, dispatch
from qsdt_mm.ops.lsq import quantize_backward
from qsdt_mm.ops.weight_bank import parts_of, quantize_many, quantize_many_backward

from .layers import QuantConv2d, QuantLinear
from .lsq import LSQ, QuantWeightMixin, dtype_of_use, positive_step, provided_weights, providing
from .weight import quant_range


class WeightBank:
    """The quantized weights of some layers, for one forward pass; nothing is kept from one pass to the next.

    Where the layers compute in another dtype than that of their parameters, biases are cast with them. All come from
    one buffer. Where autograd saves compactly, the buffer is made again when the backward pass first needs it, and
    dropped with the gradients of the weights.

    Args:
        layers: with contiguous weights of one dtype on one device.
        dtype: in which the layers compute.

    >>> layer = QuantConv2d(3, 8, 1, weight_bits=4)
    >>> bank = WeightBank([layer], torch.float32)
    >>> bank.provide()
    >>> torch.equal(bank.find(layer, 'weight'), layer.quantized_weight)
    True
    """

    def __init__(self, layers: Sequence[QuantWeightMixin], dtype: torch.dtype) -> None:
        self.layers, self.dtype = layers, dtype
        biased = [layer for layer in layers if dtype != layer.weight.dtype and has_plain_bias(layer)]
        quantizers = [layer.quantizer for layer in layers] + [None] * len(biased)
        self.parameters = [layer.weight for layer in layers] + [layer.bias for layer in biased]
        self.weights = [weight.detach() for weight in self.parameters]
        self.learned_steps = [quantizer.step for quantizer in quantizers if quantizer is not None]
        self.steps = [None if quantizer is None else quantizer.step.detach() for quantizer in quantizers]
        self.ranges = [(0, 0) if quantizer is None else quant_range(quantizer.bits) for quantizer in quantizers]
        self.versions = self._versions()
        self.hooks = saved_tensors_hooks()
        names = [(layer, 'weight') for layer in layers] + [(layer, 'bias') for layer in biased]
        self.places = {name: i for i, name in enumerate(names)}
        self.flat: Tensor | None = None
        self.parts: Sequence[Tensor] = ()

    def _versions(self) -> list[int]:
        return [version_of(tensor) for tensor in (*self.weights, *self.steps)]

    @torch.no_grad()
    def quantize(self) -> Tensor:
        """Quantize all weights into a buffer."""
        run = dispatch.find('quantize_many', *self.weights, *present(self.steps)) or quantize_many
        return run(self.weights, self.steps, self.ranges, self.dtype)

    def provide(self) -> None:
        """Quantize for a forward pass, by one node of autograd if a weight or a step is learned."""
        self.flat = self.quantize()
        parameters = self.parameters + self.learned_steps
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            compact_saving.register(self.flat, self.restore, (*self.weights, *present(self.steps)))
            self.parts = _Quantized.apply(self, *parameters)
        else:
            self.parts = parts_of(self.flat, self.weights)

    def withdraw(self) -> None:
        """Drop what :meth:`provide` has made, at the end of the forward pass."""
        self.flat, self.parts = None, ()

    def restore(self) -> Tensor:
        """Return the buffer in the backward pass.

        Raises:
            RuntimeError: a weight or step was changed in place since.
        """
        if self.flat is None:
            if self._versions() != self.versions:
                raise RuntimeError('a weight that the gradient needs was modified in place before the backward pass')
            self.flat = self.quantize()
        return self.flat

    def find(self, layer: nn.Module, name: str) -> Tensor | None:
        """Return the weight or bias of a layer; None if it has none here or has changed, or where others save tensors.

        Those who do, such as a checkpoint that is not ours, compute again when nothing is provided any more.
        """
        if torch.is_grad_enabled() and saved_tensors_hooks() != self.hooks:
            return None
        return self.find_unchanged(layer, name)

    def find_unchanged(self, layer: nn.Module, name: str) -> Tensor | None:
        """Return the weight or bias of a layer; None if it has none here or has changed."""
        place = self.places.get((layer, name))
        if place is None or not self.parts or getattr(layer, name) is not self.parameters[place]:
            return None
        now = version_of(self.weights[place]), version_of(self.steps[place])
        then = self.versions[place], self.versions[len(self.weights) + place]
        return self.parts[place] if now == then else None

    def find_again(self, layer: nn.Module, name: str, learned: Sequence[bool]) -> Tensor | None:
        """Return the weight or bias of a layer for a second computation, whose graph is of no use."""
        place = self.places.get((layer, name))
        if place is None:
            return None
        return parts_of(self.restore(), self.weights)[place].requires_grad_(learned[place])


def version_of(tensor: Tensor | None) -> int:
    """Return how often a tensor was changed in place; -1 where that is not counted."""
    return -1 if tensor is None or tensor.is_inference() else tensor._version


def present(tensors: Sequence[Tensor | None]) -> list[Tensor]:
    """Return those of the tensors that are there."""
    return [tensor for tensor in tensors if tensor is not None]


class _Quantized(torch.autograd.Function):
    """All weights of a bank: one node, whose gradients are complete when those of all its layers are."""

    @staticmethod
    def forward(ctx, bank: WeightBank, *parameters: Tensor) -> tuple[Tensor, ...]:
        ctx.bank = bank
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*parameters)  # autograd then refuses to go back after a change in place
        parts = parts_of(bank.flat.detach(), bank.weights)
        of_steps = iter(ctx.needs_input_grad[1 + len(parts) :])
        learned = [
            any((of_weight, step is not None and next(of_steps)))
            for of_weight, step in zip(ctx.needs_input_grad[1:], bank.steps)
        ]
        ctx.mark_non_differentiable(*(part for part, wanted in zip(parts, learned) if not wanted))
        return tuple(parts)

    @staticmethod
    def backward(ctx, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        bank, count = ctx.bank, len(grads)
        bank.flat = None  # all who needed it have had it
        parameters = iter(ctx.saved_tensors)
        weights = [next(parameters) for _ in grads]
        steps = [None if step is None else next(parameters) for step in bank.steps]
        found = [i for i, grad in enumerate(grads) if grad is not None]
        of_weights: list[Tensor | None] = [None] * count
        of_steps: list[Tensor | None] = [None] * count
        if found:
            chosen = [[values[i] for i in found] for values in (grads, weights, steps, bank.ranges)]
            for i, of_weight, of_step in zip(found, *gradients(*chosen)):
                of_weights[i], of_steps[i] = of_weight, of_step
        results = of_weights + [grad for grad, step in zip(of_steps, steps) if step is not None]
        return None, *(grad if wanted else None for grad, wanted in zip(results, ctx.needs_input_grad[1:]))


def gradients(
    grads: list[Tensor], weights: list[Tensor], steps: list[Tensor | None], ranges: list[tuple[int, int]]
) -> tuple[list[Tensor], list[Tensor | None]]:
    """Compute gradients of weights and steps; if they are differentiated again, in operations that autograd knows."""
    if not torch.is_grad_enabled():
        kernel = None
        if dispatch.takes(*grads):
            kernel = dispatch.find('quantize_many_backward', *present(weights), *present(steps))
        needed = [None if step is None else weight for weight, step in zip(weights, steps)]
        return (kernel or quantize_many_backward)(grads, needed, steps, ranges, weights[0].dtype)
    of_weights, of_steps = [], []
    for grad, weight, step, limits in zip(grads, weights, steps, ranges):
        grad = grad.to(weight.dtype)
        of_weight, of_step = (
            (grad, None) if step is None else quantize_backward(grad, weight, positive_step(step), *limits)
        )
        of_weights.append(of_weight)
        of_steps.append(None if step is None else of_step * step.sgn())
    return of_weights, of_steps


def can_share(layer: nn.Module) -> bool:
    """Return whether a layer's weight is quantized as :func:`quantize_many` does it, and by nothing else.

    Not so where its class does it in another way, or hooks, pruning, a parametrization or a sharded tensor stand
    between parameter and weight.
    """
    kind, quantizer = type(layer), layer.quantizer
    weight = layer._parameters.get('weight')
    if not isinstance(layer, (QuantConv2d, QuantLinear)) or type(weight) not in dispatch.PLAIN:
        return False
    if kind.compute_weight is not QuantWeightMixin.compute_weight or not is_stock_property(kind, 'quantized_weight'):
        return False
    if weight.is_meta or not weight.is_floating_point() or not weight.is_contiguous():
        return False
    if weight.dim() < 2 or weight.numel() == 0:  # a shard of it
        return False
    if quantizer is None:
        return True
    step = quantizer._parameters.get('step')
    return (
        type(quantizer) is LSQ
        and 'forward' not in vars(quantizer)
        and not quantizer._forward_hooks
        and not quantizer._forward_pre_hooks
        and not quantizer._backward_hooks
        and not quantizer._backward_pre_hooks
        and type(step) in dispatch.PLAIN
        and (step.dtype, step.device) == (weight.dtype, weight.device)
        and step.shape == weight.shape[:1]
    )


def has_plain_bias(layer: nn.Module) -> bool:
    """Return whether a layer's bias is a parameter like its weight: not sharded, nor made by a parametrization."""
    bias, weight = layer._parameters.get('bias'), layer.weight
    same = type(bias) in dispatch.PLAIN and (bias.dtype, bias.device) == (weight.dtype, weight.device)
    return same and bias.dim() == 1 and bias.is_contiguous() and bias.numel() > 0


def is_stock_property(kind: type, name: str) -> bool:
    """Return whether a class has a property of the mix-in as it is."""
    return getattr(kind, name) is getattr(QuantWeightMixin, name)


def layers_below(module: nn.Module) -> Iterator[QuantWeightMixin]:
    """Yield the layers that may share a bank; none below a hook that might change weights before it is their turn."""
    if not all(getattr(hook, 'leaves_weights', False) for hook in module._forward_pre_hooks.values()):
        return
    if isinstance(module, QuantWeightMixin):
        if can_share(module):
            yield module
        return
    for child in module._modules.values():
        if child is not None:
            yield from layers_below(child)


@contextmanager
def quantized_together(module: nn.Module) -> Iterator[None]:
    """Quantize all low-bit weights of a module at once, in the dtype that its layers compute in, for a forward pass.

    Within the context layers find their weights here, bit for bit those that they would make. Layers that cannot
    (:func:`can_share`) quantize by themselves.
    """
    if is_compiling() or is_recording() or not can_tell_hooks():
        yield
        return
    layers = list(dict.fromkeys(layers_below(module)))
    first = layers[0].weight if layers else None
    layers = [layer for layer in layers if (layer.weight.dtype, layer.weight.device) == (first.dtype, first.device)]
    dtype = dtype_of_use(first) if layers else None
    if layers and dtype == first.dtype:  # what is not quantized is then used as it is
        layers = [layer for layer in layers if layer.quantizer is not None]
    if not layers:
        yield
        return
    bank = WeightBank(layers, dtype)
    bank.provide()
    try:
        with providing(bank.find):
            yield
    finally:
        bank.withdraw()


def provided_twice() -> tuple[Callable[[], AbstractContextManager], Callable[[], AbstractContextManager]]:
    """Return what provides the weights of now to a checkpoint: the first time, and again in the backward pass."""
    bank = getattr(provided_weights(), '__self__', None)
    if not isinstance(bank, WeightBank):
        return nullcontext, nullcontext
    learned = [part.requires_grad for part in bank.parts]
    return (
        lambda: providing(bank.find_unchanged),
        lambda: providing(lambda layer, name: bank.find_again(layer, name, learned)),
    )
