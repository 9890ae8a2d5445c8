"""Spike-driven transformer backbones.

QSD: "Quantized Spike-driven Transformer" (ICLR 2025, arXiv 2501.13492).
E-SpikeFormer: "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation Training" (TPAMI 2025,
arXiv 2411.16061).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from qsdt_mm.compat.renamed import refuse_old_arguments
from qsdt_mm.errors import InputError, require, require_positive_int
from qsdt_mm.models.layers import UnitFactory
from qsdt_mm.models.layers.attention import ATTENTIONS
from qsdt_mm.models.layers.blocks import downsampling
from qsdt_mm.models.layers.norm_counters import counted_at_once
from qsdt_mm.models.layers.time import mean_over_time
from qsdt_mm.models.layers.unit import neuron_parameters, register_parameters_once
from qsdt_mm.models.neurons.rounding import rounding_follows_weights
from qsdt_mm.models.quantization import check_weight_bits, steps_follow_weights
from qsdt_mm.models.quantization.bank import provided_twice, quantized_together
from qsdt_mm.ops import layout
from qsdt_mm.ops.compact_saving import compact_saving, is_worth_compact_saving, plain_saving

from .presets import ARCH_ZOO, CONV_STAGES, FAMILIES, NUM_OUTPUTS, Arch, resolve_arch
from .pretrained import whole_weights_only
from .strides import strides_of, with_output_strides

MIN_IMAGE_SIZE = 32
NEW_IN_FINE_TUNING = ('.step', '.gain.weight')


class Stage(nn.Module):
    """Downsampling, then blocks.

    The network calls it as a module, so that what is hung on modules (hooks, the sharding of ``fully_shard``) works.

    >>> stage = Stage(nn.Conv2d(3, 8, 3, stride=2, padding=1), [nn.Identity()])
    >>> stage(torch.ones(1, 3, 32, 32)).shape
    torch.Size([1, 8, 16, 16])
    """

    def __init__(self, downsample: nn.Module, blocks: Sequence[nn.Module]) -> None:
        super().__init__()
        self.downsample = downsample
        self.blocks = nn.ModuleList(blocks)

    def forward(
        self, membrane: Tensor, shown: int = 1, run: Callable[[nn.Module, Tensor], Tensor] | None = None
    ) -> Tensor:
        """Map ``(N, C_in, H, W) -> (N, C, H', W')``.

        Args:
            membrane: the input.
            shown: how often the blocks see what downsampling returns, as steps of time: ``(shown * N, C, H', W')``.
            run: calls a block on a membrane; None: directly.
        """
        # Stage by stage: gradients of one are complete, and may be exchanged, while the next ones are computed.
        with quantized_together(self):
            membrane = self.downsample(membrane)
            if shown > 1:
                # Ordered anew: of one image this would be a view whose steps share memory, in no order that lasts.
                membrane = layout.to_preferred_memory_format(membrane.expand(shown, *membrane.shape).flatten(0, 1))
            for block in self.blocks:
                membrane = block(membrane) if run is None else run(block, membrane)
        return membrane


@MODELS.register_module()
@refuse_old_arguments
class SpikeDrivenTransformer(BaseModule):
    """Pyramid of spiking convolution blocks and spike-driven self-attention blocks.

    Args:
        arch: a preset's name (:attr:`arch_zoo` lists them), or a dict of its fields; ``dict(preset='qsd-8m',
            strides=(1, 1, 2, 2, 1), stem_kernel=3)`` overrides a preset. Fields: family, widths, depths, num_heads,
            strides, stem_kernel, layer_scale, pointwise_branch, separable_conv.
        in_channels: channels of the image.
        time_steps: T. A still image is shown T times.
        max_spike_count: D, the highest spike count of a neuron in one time step.
        weight_bits: 2, 3, 4, 8 or 32 (not quantized). None: the preset's own (4 for qsd, 32 for e).
        neuron: config of the neuron, such as ``dict(type='LIF', tau=2.0)``. None: the preset's own;
            ``dict(rounding='half_up')``: that, with another rule on halves.
        out_indices: stages to put out: 0 stride 2, 1 stride 4, 2 stride 8, 3 stride 16, 4 the last. The large sizes
            have four stages: 3 and 4 are the same. Stages after the last of them are not built.
        output_strides: strides of the outputs, one for each of ``out_indices`` (or one for all), such as
            ``(4, 8, 16, 32)`` for the necks and heads of stock configs. Weights keep their shapes. Where the large
            sizes put out one stage at two strides, the second is max-pooled. None: those of ``arch``, 4, 8, 16, 16.
        drop_path_rate: stochastic depth of the last block; falls linearly to 0 at the first (of the large sizes, at the
            first transformer block: convolution blocks are always kept).
        with_cp: recompute blocks in the backward pass instead of keeping their activations.
        frozen_stages: stages 0..k are not trained; -1 freezes none.
        norm_eval: keep batch norm at its running statistics while training.
        init_cfg: mmengine's initialisation config; ``dict(type='Pretrained', checkpoint=...)`` loads weights.
        compact_saving: keep spikes for the backward pass as half bytes: slower on a CPU, less than half the memory, the
            same gradients. None: on GPUs, and on CPUs from :data:`~qsdt_mm.ops.compact_saving.FEWEST_PIXELS` on.
        time_mean: average the outputs over time. False keeps time folded into the batch, ``(T * N, ...)``, time
            first, for heads that have neurons of their own.
        attention: 'summed': ``q k^T v`` of counts; 'per_slot': of each unary slot's own spikes, added up, for hardware
            that keeps no sums from slot to slot; another function, to be trained (docs/en/spike_driven_inference.md).
        attention_tokens: with L tokens, products of attention are multiplied by ``attention_tokens / L``: for networks
            that meet other sizes of images than in training, as detectors do; the number of tokens in training is a
            good one (docs/en/detection.md). None: sums grow with L, as published.

    Shapes: ``(N, C, H, W)`` or ``(N, T, C, H, W)`` in, H and W of 32 or more; a tuple of ``(N, C_i, H_i, W_i)``
    real-valued membrane potentials out, one for each of ``out_indices``; with channels last in memory if the image has
    them so, otherwise contiguous.

    Raises:
        ValueError: an argument or the input (``InputError``) is out of range; the message names it and what is allowed.

    >>> arch = dict(preset='qsd-8m', widths=(8, 8, 16, 16, 16), depths=(1, 1, 1, 1, 1), num_heads=2)
    >>> network = SpikeDrivenTransformer(arch, out_indices=(2, 4)).eval()
    >>> [tuple(potential.shape) for potential in network(torch.ones(1, 3, 32, 32))]
    [(1, 16, 4, 4), (1, 16, 2, 2)]
    """

    arch_zoo: dict[str, Arch] = ARCH_ZOO

    def __init__(
        self,
        arch: str | dict[str, Any] = 'qsd-15m',
        in_channels: int = 3,
        time_steps: int = 1,
        max_spike_count: int = 4,
        weight_bits: int | None = None,
        neuron: dict[str, Any] | None = None,
        out_indices: Sequence[int] = (4,),
        drop_path_rate: float = 0.0,
        with_cp: bool = False,
        frozen_stages: int = -1,
        norm_eval: bool = False,
        init_cfg: dict | list | None = None,
        time_mean: bool = True,
        output_strides: int | Sequence[int] | None = None,
        compact_saving: bool | None = None,
        attention: str = 'summed',
        attention_tokens: int | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.arch = resolve_arch(arch)
        family = FAMILIES[self.arch.family]
        weight_bits = family.weight_bits if weight_bits is None else weight_bits
        out_indices = tuple(out_indices) if isinstance(out_indices, Iterable) else (out_indices,)
        require_positive_int('in_channels', in_channels)
        require_positive_int('time_steps', time_steps)
        require_positive_int('max_spike_count', max_spike_count)
        check_weight_bits(weight_bits)
        require(
            len(out_indices) > 0 and all(i in range(NUM_OUTPUTS) for i in out_indices),
            'out_indices',
            out_indices,
            f'indices of stages, 0 to {NUM_OUTPUTS - 1}',
        )
        if output_strides is not None:
            self.arch = with_output_strides(self.arch, out_indices, output_strides)
        require(
            isinstance(drop_path_rate, (int, float)) and 0 <= drop_path_rate < 1,
            'drop_path_rate',
            drop_path_rate,
            'a number in [0, 1)',
        )
        require(
            frozen_stages in range(-1, NUM_OUTPUTS), 'frozen_stages', frozen_stages, f'-1 (none) to {NUM_OUTPUTS - 1}'
        )
        require(compact_saving in (None, True, False), 'compact_saving', compact_saving, 'True, False or None')
        strides = strides_of(self.arch, out_indices)
        if isinstance(output_strides, Sequence):  # some may be pooled
            self._pools = tuple(wanted // stride for wanted, stride in zip(output_strides, strides))
        else:
            self._pools = (1,) * len(strides)
        self.in_channels = in_channels
        self.time_steps = time_steps
        self.max_spike_count = max_spike_count
        self.weight_bits = weight_bits
        self.out_indices = out_indices
        self.with_cp = with_cp
        self.frozen_stages = frozen_stages
        self.norm_eval = norm_eval
        self.time_mean = time_mean
        self.compact_saving = compact_saving

        require(attention in ATTENTIONS, 'attention', attention, ' or '.join(ATTENTIONS))
        factory = UnitFactory(
            neuron, max_spike_count, time_steps, weight_bits, family.neuron, attention, attention_tokens
        )
        kept = sum(self.arch.depths[: family.drop_from])
        last = max(sum(self.arch.depths) - kept - 1, 1)
        rates = iter(drop_path_rate * max(i - kept, 0) / last for i in range(sum(self.arch.depths)))
        attention_block = family.attention_block
        if self.arch.pointwise_branch:
            attention_block = partial(attention_block, pointwise_branch=True)
        if not self.arch.separable_conv:
            attention_block = partial(attention_block, separable_conv=False)
        self.stages = nn.ModuleList()
        width_before = in_channels
        num_stages = max(self.arch.stage_of(i) for i in out_indices) + 1
        for i, (width, count, stride) in enumerate(zip(self.arch.widths, self.arch.depths, self.arch.strides)):
            if i == num_stages:  # what nobody sees would have weights without gradients
                break
            make_block = family.conv_block if i < CONV_STAGES else attention_block
            downsample = downsampling(
                factory, width_before, width, self.arch.stem_kernel if i == 0 else 3, stride, encoding=i == 0
            )
            blocks = [
                make_block(factory, width, self.arch.num_heads, next(rates), self.arch.layer_scale)
                for _ in range(count)
            ]
            self.stages.append(Stage(downsample, blocks))
            width_before = width
        register_parameters_once(self)
        self._freeze_stages()

    @property
    def out_channels(self) -> tuple[int, ...]:
        """Return the channels of each output, in the order of ``out_indices``."""
        return tuple(self.arch.widths[self.arch.stage_of(i)] for i in self.out_indices)

    @property
    def output_strides(self) -> tuple[int, ...]:
        """Return the stride of each output, in the order of ``out_indices``."""
        strides = strides_of(self.arch, self.out_indices)
        return tuple(stride * pool for stride, pool in zip(strides, self._pools))

    def init_weights(self) -> None:
        """Apply ``init_cfg``; LSQ steps follow weights that it set without setting the steps.

        Raises:
            ValueError: pretrained weights leave something out, LSQ steps, layer scales and parameters of neurons
                excepted.
        """
        whole = whole_weights_only(self, optional=(*NEW_IN_FINE_TUNING, *neuron_parameters(self)))
        with rounding_follows_weights(self), steps_follow_weights(self), whole:
            super().init_weights()

    def get_layer_depth(self, param_name: str, prefix: str = '') -> tuple[int, int]:
        """Return a parameter's depth and the number of depths, for mmpretrain's layer-wise learning rate decay.

        The stem is layer 0, block i is layer i + 1, with the downsampling in front of it; a head comes last.

        Args:
            param_name: the parameter's name in the model.
            prefix: of the backbone's parameters in the model.
        """
        depths = self.arch.depths
        last = sum(depths) + 1
        found = re.fullmatch(r'stages\.(\d+)\.(?:blocks\.(\d+)|downsample)\..+', param_name.removeprefix(prefix))
        if not param_name.startswith(prefix) or not found:
            return last, last + 1
        stage, block = int(found[1]), found[2]
        if stage == 0 and block is None:
            return 0, last + 1
        return min(sum(depths[:stage]) + int(block or 0) + 1, last - 1), last + 1

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Leave out, with a line, the weights of stages that this network has no use for."""
        unbuilt = tuple(f'{prefix}stages.{i}.' for i in range(len(self.stages), self.arch.num_stages))
        left_out = [name for name in state_dict if name.startswith(unbuilt)] if unbuilt else []
        for name in left_out:
            del state_dict[name]  # torch and mmengine hand over a copy
        if left_out:
            print_log(
                f'{len(left_out)} weights of stages {len(self.stages)} to {self.arch.num_stages - 1} are left out: '
                f'out_indices={self.out_indices} need none of them',
                'current',
            )
        super()._load_from_state_dict(state_dict, prefix, *args)

    def train(self, mode: bool = True) -> SpikeDrivenTransformer:
        """Switch to training, with frozen stages and, on ``norm_eval``, all norms left in evaluation mode."""
        super().train(mode)
        self._freeze_stages()
        if mode and self.norm_eval:
            for module in self.modules():
                if isinstance(module, _BatchNorm):
                    module.eval()
        return self

    def _freeze_stages(self) -> None:
        for stage in self.stages[: self.frozen_stages + 1]:
            stage.eval()
            stage.requires_grad_(False)

    def _fold_time(self, image: Tensor) -> tuple[Tensor, bool]:
        """Check the input; fold time, if it has any, into the batch, time first."""

        def check(holds: bool, allowed: str) -> None:
            # Data that do not fit the network are met in the middle of a run: there too it is one line.
            require(holds, 'input', tuple(image.shape), allowed, InputError)

        check(image.dim() in (4, 5), '(N, C, H, W) or (N, T, C, H, W)')
        has_time = image.dim() == 5
        check(
            not has_time or image.shape[1] == self.time_steps,
            f'(N, T, C, H, W) with T = time_steps = {self.time_steps}',
        )
        check(image.shape[-3] == self.in_channels, f'in_channels={self.in_channels} channels')
        check(min(image.shape[-2:]) >= MIN_IMAGE_SIZE, f'a height and width of {MIN_IMAGE_SIZE} px or more')
        if has_time:
            image = image.transpose(0, 1).flatten(0, 1)
        # What follows keeps the layout that it finds. Frames stay channels first, which is as fast for their few
        # channels: sums are closer that way, and membranes that are carried over time add up what they miss.
        return image if has_time and self.time_steps > 1 else layout.to_preferred_memory_format(image), has_time

    def _run(self, module: nn.Module, membrane: Tensor) -> Tensor:
        if self.with_cp and torch.is_grad_enabled() and membrane.requires_grad:
            with plain_saving():
                return checkpoint(
                    module,
                    membrane,
                    use_reentrant=False,
                    context_fn=partial(_twice, module),
                )
        return module(membrane)

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Compute membrane potentials of the stages in ``out_indices``; see the class for shapes."""
        compact = is_worth_compact_saving(image, self.compact_saving)
        with compact_saving() if compact else nullcontext(), counted_at_once():
            return self._forward(image)

    def _forward(self, image: Tensor) -> tuple[Tensor, ...]:
        membrane, has_time = self._fold_time(image)
        wanted = [self.arch.stage_of(i) for i in self.out_indices]
        outputs = {}
        for i, stage in enumerate(self.stages):
            # A still image is the same at every step: encode it once, then show it T times.
            shown = self.time_steps if i == 0 and not has_time else 1
            membrane = stage(membrane, shown, self._run)
            if i in wanted:
                outputs[i] = membrane
        if self.time_mean and self.time_steps > 1:
            outputs = {i: mean_over_time(o, self.time_steps) for i, o in outputs.items()}
        # Other people's code may want views: maps leave as the image came. Copies on CPUs alone, of what is put out.
        outputs = {i: layout.in_memory_format_of(o, image) for i, o in outputs.items()}
        return tuple(_pooled(outputs[i], pool) for i, pool in zip(wanted, self._pools))


def _pooled(membrane: Tensor, pool: int) -> Tensor:
    """Halve a map, or more: as large as a strided convolution's, and the same in whatever order it is computed."""
    return membrane if pool == 1 else nn.functional.max_pool2d(membrane, pool, ceil_mode=True)


def _twice(module: nn.Module) -> tuple[AbstractContextManager, AbstractContextManager]:
    """Return the contexts in which a block is computed, and computed again: quantized weights are the same."""
    first, again = provided_twice()
    return first(), _StatisticsReplayed(module, again)


class _StatisticsReplayed:
    """Context in which a block is computed again: batch norms see the statistics of the first time, and keep none.

    To be made before the first time; may be entered more than once. The border of BNAndPad reads the statistics, so a
    second forward before the backward pass must not show in the first one's gradients.

    Args:
        module: the block.
        weights: makes the context in which its layers find their quantized weights.
    """

    def __init__(self, module: nn.Module, weights: Callable[[], AbstractContextManager]) -> None:
        self.weights, self.provided = weights, ExitStack()
        norms = [m for m in module.modules() if isinstance(m, _BatchNorm) and m.training and m.track_running_stats]
        self.seen = [(norm, {name: b.clone() for name, b in norm.named_buffers(recurse=False)}) for norm in norms]
        self.kept: list[dict[str, Tensor]] = []

    def __enter__(self) -> None:
        self.provided.enter_context(self.weights())
        self.kept = [dict(norm.named_buffers(recurse=False)) for norm, _ in self.seen]
        for norm, statistics in self.seen:
            # Other tensors, not other values: autograd refuses those that it saved and finds overwritten.
            norm._buffers.update({name: b.clone() for name, b in statistics.items()})

    def __exit__(self, *_: object) -> None:
        self.provided.close()
        for (norm, _), statistics in zip(self.seen, self.kept):
            norm._buffers.update(statistics)
