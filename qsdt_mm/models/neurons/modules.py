"""Neurons as modules: thin wrappers that unfold time and name their constants."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from qsdt_mm.compat.renamed import refuse_old_arguments, refuse_old_attributes, refuse_old_names
from qsdt_mm.compat.tracing import has_values
from qsdt_mm.errors import require, require_positive, require_positive_int
from qsdt_mm.ops import compact_saving, dispatch

from .functional import (
    SURROGATES,
    check_rounding,
    integrate_and_fire,
    integrate_and_fire_step,
    lif_step,
    parametric_lif_step,
    scaled_spikes,
    spike_count,
)
from .rounding import adopt

__getattr__ = refuse_old_names(__name__, 'note_spikes')


@refuse_old_attributes
@refuse_old_arguments
class SpikingNeuron(nn.Module):
    """Base of neurons: membrane potentials in, scaled spike counts out.

    Time steps are folded into the batch, time first: input ``(T * N, ...)`` is ``(T, N, ...)``. State lives for one
    forward only, so nothing has to be reset between batches and nothing leaks between training and evaluation.

    Args:
        threshold: firing threshold, in units of the membrane potential.
        scale: what one spike is worth downstream; output = count * scale.
        max_spike_count: D, the highest spike count in one time step.
        time_steps: T.

    Raises:
        ValueError: a constant is out of range, or a batch does not divide by T.

    >>> class Threshold(SpikingNeuron):
    ...     def step(self, inputs, carried):
    ...         return (inputs >= self.threshold).float(), carried
    >>> Threshold(1.0, scale=0.5, max_spike_count=1, time_steps=1)(torch.tensor([0.9, 1.1])).tolist()
    [0.0, 0.5]
    """

    def __init__(self, threshold: float, scale: float, max_spike_count: int, time_steps: int) -> None:
        super().__init__()
        require_positive('threshold', threshold)
        require_positive('scale', scale)
        require_positive_int('max_spike_count', max_spike_count)
        require_positive_int('time_steps', time_steps)
        self.threshold = float(threshold)
        self.scale = float(scale)
        self.max_spike_count = max_spike_count
        self.time_steps = time_steps

    @abstractmethod
    def step(self, inputs: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        """Advance one time step: ``(input current, carried membrane) -> (count, carried membrane)``."""

    def count(self, inputs: Tensor) -> Tensor:
        """Count spikes in ``{0..D}`` of inputs ``(T * N, ...)``, same shape."""
        require(
            inputs.shape[0] % self.time_steps == 0,
            'batch',
            inputs.shape[0],
            f'a multiple of time_steps={self.time_steps} (time is folded into the batch)',
        )
        carried, counts = None, []
        for current in inputs.chunk(self.time_steps):  # by slices, which keep the order of memory for one image too
            count, carried = self.step(current, carried)
            counts.append(count)
        return torch.cat(counts)

    def forward(self, inputs: Tensor) -> Tensor:
        """Compute scaled counts ``n * scale`` of inputs ``(T * N, ...)``, same shape."""
        spikes = self.count(inputs) * self.scale
        if compact_saving.is_compact() and self.max_spike_count < 256:
            register_spikes(spikes, self.scale)
        return spikes

    def extra_repr(self) -> str:
        return f'threshold={self.threshold:g}, scale={self.scale:g}, D={self.max_spike_count}, T={self.time_steps}'


def register_spikes(spikes: Tensor, scale: float) -> None:
    """Register scaled counts as values that fit bytes."""
    code = (spikes.detach() / scale).round_().to(torch.uint8)
    compact_saving.register_product(spikes, scale, code)


@MODELS.register_module()
@refuse_old_arguments
class IELIF(SpikingNeuron):
    """Integer-valued integrate-and-fire neuron: fires 0..D spikes in each time step.

    ``u_t = h_{t-1} + x_t;  n_t = clip(round(u_t / threshold), 0, D);
    h_t = decay * (u_t - n_t * threshold);  y_t = n_t * scale``

    Args:
        threshold, max_spike_count, time_steps: see :class:`SpikingNeuron`.
        scale: worth of a spike; None means 1 / D.
        decay: share of the membrane that is carried over, in (0, 1].
        rounding: what happens exactly on a half: 'half_up' fires, ``floor(u / threshold + 0.5)``; 'half_even' rounds to
            the even count, ``torch.round``. None: half up, or what the network's preset or the checkpoint that is
            loaded says.

    Source: QSD (arXiv 2501.13492); SFA (arXiv 2411.16061).

    >>> neuron = IELIF(threshold=1.0, scale=1.0, max_spike_count=4)
    >>> neuron(torch.tensor([-1.0, 0.4, 1.6, 9.0])).tolist()
    [0.0, 0.0, 2.0, 4.0]
    """

    _version = 2  # in torch's notes on a state dict; 1 had no rule on record and rounded half up
    rounding = 'half_up'
    rounding_given = False  # whether the config says it, so that no checkpoint changes it

    def __init__(
        self,
        threshold: float = 1.0,
        scale: float | None = None,
        max_spike_count: int = 4,
        time_steps: int = 1,
        decay: float = 1.0,
        rounding: str | None = None,
    ) -> None:
        require_positive_int('max_spike_count', max_spike_count)
        super().__init__(threshold, 1 / max_spike_count if scale is None else scale, max_spike_count, time_steps)
        require(isinstance(decay, (int, float)) and 0 < decay <= 1, 'decay', decay, 'a number in (0, 1]')
        self.decay = float(decay)
        if rounding is not None:
            check_rounding(rounding)
            self.rounding, self.rounding_given = rounding, True

    def step(self, inputs: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        return integrate_and_fire_step(inputs, carried, self.threshold, self.max_spike_count, self.decay, self.rounding)

    def forward(self, inputs: Tensor) -> Tensor:
        if type(self).step is not IELIF.step:  # a subclass knows better than the short ways
            return super().forward(inputs)
        if self.time_steps == 1:
            return scaled_spikes(inputs, self.threshold, self.max_spike_count, self.scale, self.rounding)
        constants = self.threshold, self.max_spike_count, self.decay, self.scale, self.rounding
        spikes = integrate_and_fire(inputs, self.time_steps, *constants)  # None: no kernel for these inputs
        return super().forward(inputs) if spikes is None else spikes

    def count(self, inputs: Tensor) -> Tensor:
        # No state: skip the residual membrane that nobody reads.
        if self.time_steps == 1 and type(self).step is IELIF.step:
            return spike_count(inputs, self.threshold, self.max_spike_count, self.rounding)
        return super().count(inputs)

    def _save_to_state_dict(self, destination: dict[str, Any], prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        notes = getattr(destination, '_metadata', {}).get(prefix[:-1])
        if notes is not None:
            notes['rounding'] = self.rounding

    def _load_from_state_dict(
        self, state_dict: dict[str, Any], prefix: str, local_metadata: dict[str, Any], *others: Any
    ) -> None:
        if 'version' in local_metadata:  # else the weights come without notes, or are not this neuron's
            adopt(self, local_metadata, others[-1])
        super()._load_from_state_dict(state_dict, prefix, local_metadata, *others)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, rounding={self.rounding}'


@MODELS.register_module()
class LIF(SpikingNeuron):
    """Leaky integrate-and-fire neuron: at most one spike in each time step, hard reset. The common baseline.

    ``u_t = h_{t-1} + (x_t - (h_{t-1} - reset)) / tau;  s_t = [u_t >= threshold];  y_t = s_t * scale``

    Args:
        threshold, scale, time_steps: see :class:`SpikingNeuron`.
        tau: membrane time constant, at least 1.
        reset: potential after a spike.
        surrogate: derivative used backward, 'sigmoid' or 'atan'.
        alpha: steepness of the surrogate.

    Source: the formulation of Fang et al., "Incorporating learnable membrane time constant" (ICCV 2021), tau fixed.

    >>> neuron = LIF(tau=2.0, time_steps=2)
    >>> neuron(torch.tensor([[1.5], [1.5]])).tolist()  # u = 0.75, then 0.75 / 2 + 1.5 / 2
    [[0.0], [1.0]]
    """

    def __init__(
        self,
        threshold: float = 1.0,
        scale: float = 1.0,
        time_steps: int = 1,
        tau: float = 2.0,
        reset: float = 0.0,
        surrogate: str = 'sigmoid',
        alpha: float = 4.0,
    ) -> None:
        super().__init__(threshold, scale, 1, time_steps)
        require(isinstance(tau, (int, float)) and 1 <= tau < math.inf, 'tau', tau, 'a number >= 1')
        require(surrogate in SURROGATES, 'surrogate', surrogate, ' or '.join(SURROGATES))
        require(
            isinstance(reset, (int, float)) and -math.inf < reset < threshold,
            'reset',
            reset,
            f'a potential below threshold={threshold}',
        )
        require_positive('alpha', alpha)
        self.tau, self.reset, self.surrogate, self.alpha = float(tau), float(reset), surrogate, float(alpha)

    def step(self, inputs: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        return lif_step(inputs, carried, self.threshold, self.tau, self.reset, self.surrogate, self.alpha)

    def count(self, inputs: Tensor) -> Tensor:
        dispatch.note_plain(type(self).__name__, inputs)
        return super().count(inputs)

    def extra_repr(self) -> str:
        return f'{super().extra_repr()}, tau={self.tau:g}, reset={self.reset:g}, surrogate={self.surrogate}'


@MODELS.register_module()
class ParametricLIF(LIF):
    """Leaky integrate-and-fire neuron whose decay is learned: one number for all its inputs and time steps.

    ``decay = sigmoid(w);  u_t = h_{t-1} + (1 - decay) * (x_t - (h_{t-1} - reset));  s_t = [u_t >= threshold];
    h_t = s_t * reset + (1 - s_t) * u_t;  y_t = s_t * scale``

    :class:`LIF` with ``tau = 1 + exp(w)``, in training as in inference; w, of shape ``(1,)``, is its only parameter.
    Weights of a network with :class:`LIF` fit one with this neuron, which then starts from its own ``tau``.

    >>> neuron = ParametricLIF(tau=2.0, time_steps=2)
    >>> neuron(torch.tensor([[1.5], [1.5]])).tolist()  # u = 0.75, then 0.75 / 2 + 1.5 / 2
    [[0.0], [1.0]]

    Args:
        threshold, scale, time_steps, reset, surrogate, alpha: see :class:`LIF`.
        tau: membrane time constant to start from, above 1: ``w = log(tau - 1)``.

    Raises:
        ValueError: an argument is out of range.

    Source: Fang et al., "Incorporating learnable membrane time constant" (ICCV 2021), eq. 5 to 9.
    """

    def __init__(
        self,
        threshold: float = 1.0,
        scale: float = 1.0,
        time_steps: int = 1,
        tau: float = 2.0,
        reset: float = 0.0,
        surrogate: str = 'sigmoid',
        alpha: float = 4.0,
    ) -> None:
        require(isinstance(tau, (int, float)) and 1 < tau < math.inf, 'tau', tau, 'a number > 1')
        super().__init__(threshold, scale, time_steps, tau, reset, surrogate, alpha)
        # One-dimensional, as all that "flat_decay_mult" keeps from weight decay.
        self.w = nn.Parameter(torch.full((1,), math.log(tau - 1)))
        del self.tau  # it follows w

    @property
    def decay(self) -> Tensor:
        """Return the share of the membrane, above the reset potential, that is carried over; of shape ``(1,)``."""
        return torch.sigmoid(self.w)

    def step(self, inputs: Tensor, carried: Tensor | None) -> tuple[Tensor, Tensor]:
        return parametric_lif_step(inputs, carried, self.w, self.threshold, self.reset, self.surrogate, self.alpha)

    def extra_repr(self) -> str:
        # Of one that processes share, each would have to ask.
        at_hand = has_values(self.w) and compact_saving.memory_of(self.w) is not None
        decay = f'{self.decay.item():.3g}' if at_hand else 'not here'
        return f'{SpikingNeuron.extra_repr(self)}, decay={decay}, reset={self.reset:g}, surrogate={self.surrogate}'
