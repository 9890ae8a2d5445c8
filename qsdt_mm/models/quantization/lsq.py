"""Learned step size quantization of weights (LSQ, Esser et al., arXiv 1902.08153)."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from qsdt_mm.compat.autocast import autocast_dtype
from qsdt_mm.compat.compiling import is_compiling
from qsdt_mm.compat.renamed import refuse_old_attributes, refuse_old_names
from qsdt_mm.compat.sharded import local_part, whole
from qsdt_mm.compat.tracing import has_values, is_recording
from qsdt_mm.errors import require
from qsdt_mm.ops import compact_saving, dispatch
from qsdt_mm.ops.lsq import MIN_STEP, quantize, quantize_backward

from .weight import QuantizedWeight, check_weight_bits, quant_range

__getattr__ = refuse_old_names(__name__, 'LowBitWeight', 'integer_range')


class _LSQ(torch.autograd.Function):
    @staticmethod
    def forward(ctx, weight: Tensor, step: Tensor, low: int, high: int) -> Tensor:
        ctx.save_for_backward(weight, step)
        ctx.low, ctx.high = low, high
        run = dispatch.find('quantize', weight, step) or quantize
        quantized = run(weight, step, low, high)
        steps = step.detach()
        compact_saving.register_recompute(quantized, lambda source: run(source, steps, low, high), weight)
        return quantized

    @staticmethod
    def backward(ctx, grad: Tensor) -> tuple[Tensor, Tensor, None, None]:
        weight, step = ctx.saved_tensors
        # A gradient that is itself differentiated needs operations that autograd knows.
        kernel = None if torch.is_grad_enabled() else dispatch.find('quantize_backward', grad, weight, step)
        return *(kernel or quantize_backward)(grad, weight, step, ctx.low, ctx.high), None, None


class _PositiveStep(torch.autograd.Function):
    """``max(|step|, MIN_STEP)`` with the gradient of ``|step|``.

    It passes below the floor too, so that a step can leave it: a clamp would hold it there for good.

    The result of a Function comes from an operation out of place, here and above: compiled by torch 2.11, one that is
    returned by an operation in place has a gradient of zero.
    """

    @staticmethod
    def forward(ctx, step: Tensor) -> Tensor:
        ctx.save_for_backward(step)
        return step.abs().clamp_min(MIN_STEP)

    @staticmethod
    def backward(ctx, grad: Tensor) -> Tensor:
        (step,) = ctx.saved_tensors
        return grad * step.sgn()


def positive_step(step: Tensor) -> Tensor:
    """Return the step in use, ``max(|step|, MIN_STEP)``."""
    return step.abs().clamp_min(MIN_STEP) if is_recording() else _PositiveStep.apply(step)


def lsq_quantize(weight: Tensor, step: Tensor, bits: int) -> Tensor:
    """Quantize weights to a grid of ``2^bits`` integers times one step per output channel.

    ``w_q = round(clip(w / step, Qn, Qp)) * step``, ``Qn = -2^(b-1)``, ``Qp = 2^(b-1) - 1``. Gradient of w: straight
    through where ``Qn <= w / step <= Qp``, else 0. Gradient of step: ``round(w/step) - w/step`` inside, Qn or Qp
    outside, summed over a channel, times ``1 / sqrt(numel(w) * Qp)``.

    Args:
        weight: ``(C_out, ...)``.
        step: ``(C_out,)``, positive.
        bits: 2 or more.

    Source: LSQ (arXiv 1902.08153), section 2.
    """
    return (quantize if is_recording() else _LSQ.apply)(weight, step, *quant_range(bits))


class LSQ(nn.Module):
    """Quantizer of one layer's weight, with a learned step per output channel.

    Args:
        out_channels: number of steps.
        bits: 2, 3, 4 or 8.

    The parameter ``step`` may be driven through zero by an optimizer; the step in use, :attr:`positive_step`, is its
    magnitude and never below :data:`MIN_STEP`.

    Source: LSQ (arXiv 1902.08153); per output channel as in QSD (arXiv 2501.13492).

    >>> quantizer = LSQ(out_channels=1, bits=2)  # integers -2, -1, 0, 1; steps of 1 to begin with
    >>> quantizer(torch.tensor([[-3.0, -0.8, 0.2, 3.0]])).tolist()
    [[-2.0, -1.0, 0.0, 1.0]]
    """

    def __init__(self, out_channels: int, bits: int) -> None:
        super().__init__()
        check_weight_bits(bits)
        require(bits < 32, 'bits', bits, 'a width below 32')
        self.bits = bits
        self.step = nn.Parameter(torch.ones(out_channels))

    @property
    def positive_step(self) -> Tensor:
        """Return the step in use, ``(C_out,)``."""
        return positive_step(self.step)

    @torch.no_grad()
    def reset_step(self, weight: Tensor) -> None:
        """Set every step to LSQ's first value, ``2 * mean|w| / sqrt(Qp)`` over the whole tensor."""
        if not has_values(weight):  # operations on it take long
            return
        _, high = quant_range(self.bits)
        weight = whole(weight)
        local_part(self.step).fill_((2 * weight.abs().mean() / math.sqrt(high)).clamp_min(MIN_STEP))

    def forward(self, weight: Tensor) -> Tensor:
        """Quantize a weight, same shape; see :func:`lsq_quantize`."""
        return lsq_quantize(weight, self.positive_step.to(weight.dtype), self.bits)

    def integers(self, weight: Tensor) -> Tensor:
        """Return the integers behind the quantized weight, ``round(clip(w / step, Qn, Qp))``, in the weight's dtype."""
        step = self.positive_step.view(-1, *[1] * (weight.dim() - 1))
        return (weight.detach() / step.detach()).clamp(*quant_range(self.bits)).round()

    def extra_repr(self) -> str:
        return f'{self.step.numel()} steps, bits={self.bits}'


class _Provided(threading.local):
    """Who provides layers with weights that have been quantized already; outside of modules, which are copied."""

    find: Callable[[nn.Module, str], Tensor | None] | None = None


_provided = _Provided()


def provided_weights() -> Callable[[nn.Module, str], Tensor | None] | None:
    """Return the function that :func:`providing` was given, or None."""
    return _provided.find


@contextmanager
def providing(find: Callable[[nn.Module, str], Tensor | None]) -> Iterator[None]:
    """Let layers ask ``find`` for their quantized 'weight', and 'bias', within the context; None leaves it to them."""
    before, _provided.find = _provided.find, find
    try:
        yield
    finally:
        _provided.find = before


def dtype_of_use(weight: Tensor) -> torch.dtype:
    """Return the dtype in which a layer computes with a weight: autocast's, or its own."""
    dtype = autocast_dtype(weight.device)
    return weight.dtype if dtype is None or weight.dtype == torch.float64 else dtype  # which autocast leaves alone


@refuse_old_attributes
class QuantWeightMixin:
    """Mix-in for layers with a ``weight``: quantizes it and keeps the step in line with what is loaded.

    >>> from qsdt_mm.models.quantization import QuantLinear
    >>> layer = QuantLinear(16, 8, weight_bits=2)
    >>> isinstance(layer, QuantWeightMixin), layer.fan_in
    (True, 16)
    """

    quantizer: LSQ | None
    channel_dim = 0  # of the weight, where its output channels lie

    @property
    def channels_first(self) -> Tensor:
        """View the weight as ``(C_out, ...)``."""
        return self.weight.transpose(0, self.channel_dim)

    @property
    def fan_in(self) -> float:
        """Count the inputs that one output sums over."""
        return self.channels_first[0].numel()

    def _init_quantizer(self, out_channels: int, weight_bits: int) -> None:
        check_weight_bits(weight_bits)
        self.weight_bits = weight_bits
        self.quantizer = None if weight_bits == 32 else LSQ(out_channels, weight_bits)
        self.reset_step()

    @property
    def quantized_weight(self) -> Tensor:
        """Return the weight that the layer computes with."""
        if self.quantizer is None:
            return self.weight
        return self.quantizer(self.channels_first).transpose(0, self.channel_dim)

    @property
    def compute_weight(self) -> Tensor:
        """Return :attr:`quantized_weight` for a layer's forward pass: of its copies in mixed precision none is kept."""
        provided = self._find_provided('weight')
        if provided is not None:
            return provided
        weight = self.quantized_weight
        dtype = dtype_of_use(weight)
        if not compact_saving.is_compact() or weight.dtype == dtype:
            return weight
        cast = weight.to(dtype)
        compact_saving.register_recompute(cast, lambda source: source.to(dtype), weight)
        return cast

    @property
    def compute_bias(self) -> Tensor | None:
        """Return the bias for a layer's forward pass, in the dtype in which that computes if it has been cast."""
        provided = None if self.bias is None else self._find_provided('bias')
        return self.bias if provided is None else provided

    def _find_provided(self, name: str) -> Tensor | None:
        provided = None if _provided.find is None or is_compiling() else _provided.find(self, name)
        return provided if provided is not None and provided.dtype == dtype_of_use(self.weight) else None

    @torch.no_grad()
    def int_weight(self) -> QuantizedWeight:
        """Return the integers and steps that the layer computes with.

        Raises:
            ValueError: the weight is not quantized (``weight_bits=32``).
        """
        require(
            self.quantizer is not None, 'weight_bits', self.weight_bits, '2, 3, 4 or 8: real weights are no integers'
        )
        integers = self.quantizer.integers(self.channels_first).to(torch.int8).transpose(0, self.channel_dim)
        step = self.quantizer.positive_step.detach().double()
        return QuantizedWeight(integers.contiguous(), step, self.weight_bits, self.channel_dim)

    def reset_step(self) -> None:
        """Derive the step anew from the weight; to be called after the weight was set by hand."""
        if self.quantizer is not None:
            self.quantizer.reset_step(self.weight)

    def _apply(self, *args, **kwargs) -> QuantWeightMixin:
        super()._apply(*args, **kwargs)
        # Feature maps decide on channels_last, not weights: torch.nn.utils.prune takes views of rows in their order.
        for values in (*self.parameters(recurse=False), *self.buffers(recurse=False)):
            if not values.is_contiguous():
                values.data = values.data.contiguous()
        return self

    def _load_from_state_dict(self, state_dict, prefix, *args) -> None:
        super()._load_from_state_dict(state_dict, prefix, *args)
        # A full-precision checkpoint has no steps: start LSQ from its weights, not from the old ones.
        if f'{prefix}weight' in state_dict and f'{prefix}quantizer.step' not in state_dict:
            self.reset_step()


@contextmanager
def steps_follow_weights(module: nn.Module) -> Iterator[None]:
    """Derive anew, after the context, the steps of weights of ``module`` that were initialised without theirs."""
    layers = [m for m in module.modules() if isinstance(m, QuantWeightMixin) and m.quantizer is not None]
    before = [(m.weight.detach().clone(), m.quantizer.step.detach().clone()) for m in layers]
    yield
    for layer, (weight, step) in zip(layers, before):
        if torch.equal(step, layer.quantizer.step) and not torch.equal(weight, layer.weight):
            layer.reset_step()
