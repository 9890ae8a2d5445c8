"""The networks by name: families say how blocks are built, presets say how wide and deep."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from typing import Any

from qsdt_mm.errors import require, require_positive_int
from qsdt_mm.models.layers import blocks

NUM_OUTPUTS = 5
"""Outputs of every backbone: strides 2, 4, 8 and 16, and the last stage, which may be the one at stride 16."""
CONV_STAGES = 3
"""The first stages, made of convolution blocks."""


@dataclass(frozen=True)
class Family:
    """Parts and defaults that the networks of one paper share.

    Args:
        conv_block, attention_block: makers of the blocks of stages 0 to 2, and of those after.
        neuron: config of the neuron inside the network.
        head_neuron: config of the neuron before the classifier.
        weight_bits: default width of weights.
        layer_scale: first value of the layer scale of attention and MLP branches; None for none.
        depths, strides: of the stages, unless an architecture says otherwise; they say how many stages there are.
        drop_from: the first stage whose blocks have stochastic depth.
        pointwise_branch: whether transformer blocks may have one, see :class:`Arch`.
        optional_separable_conv: whether transformer blocks may do without one, see :class:`Arch`.
        two_heads: classifiers have a second head, to learn from a teacher.

    >>> FAMILIES['qsd'].weight_bits, FAMILIES['qsd'].rounding
    (4, 'half_up')
    """

    conv_block: Callable[..., blocks.Block]
    attention_block: Callable[..., blocks.Block]
    neuron: dict[str, Any]
    head_neuron: dict[str, Any]
    weight_bits: int
    layer_scale: float | None
    depths: tuple[int, ...] = (1, 1, 2, 6, 2)
    strides: tuple[int, ...] = (2, 2, 2, 2, 1)
    drop_from: int = 0
    pointwise_branch: bool = False
    optional_separable_conv: bool = False
    two_heads: bool = False

    @property
    def rounding(self) -> str:
        """Return the rule on halves of the family's neurons."""
        return self.neuron['rounding']


FAMILIES = {
    # "Quantized Spike-driven Transformer", ICLR 2025, arXiv 2501.13492
    'qsd': Family(
        conv_block=blocks.qsd_conv_block,
        attention_block=blocks.qsd_attention_block,
        neuron=dict(type='IELIF', threshold=0.25, scale=0.25, rounding='half_up'),
        head_neuron=dict(type='IELIF', threshold=0.25, scale=0.25, rounding='half_up'),
        weight_bits=4,
        layer_scale=1e-6,
    ),
    # "Scaling Spike-driven Transformer with Efficient Spike Firing Approximation Training", TPAMI 2025, 2411.16061
    'espike': Family(
        conv_block=blocks.espike_conv_block,
        attention_block=blocks.espike_attention_block,
        neuron=dict(type='IELIF', threshold=1.0, rounding='half_even'),
        head_neuron=dict(type='IELIF', threshold=1.0, scale=1.0, rounding='half_even'),
        weight_bits=32,
        layer_scale=None,
        optional_separable_conv=True,
    ),
    # The same paper's networks for masked pre-training: convolutions down to stride 8, then blocks of one width.
    'espike-large': Family(
        conv_block=blocks.espike_large_conv_block,
        attention_block=blocks.espike_large_attention_block,
        neuron=dict(type='IELIF', threshold=1.0, rounding='half_up'),
        head_neuron=dict(type='IELIF', threshold=1.0, scale=1.0, rounding='half_up'),
        weight_bits=32,
        layer_scale=1e-6,
        depths=(1, 1, 2, 12),
        strides=(2, 2, 2, 2),
        drop_from=CONV_STAGES,
        pointwise_branch=True,
        two_heads=True,
    ),
}


def classifier_neuron(config: Any, two_heads: bool = False) -> dict[str, Any] | None:
    """Return the usual neuron before a classifier, by the threshold in a config; None where no family has it."""
    if config is not None and not isinstance(config, dict):
        return None
    threshold = (config or {}).get('threshold', 1.0)
    return next(
        (
            family.head_neuron
            for family in FAMILIES.values()
            if family.two_heads == two_heads and family.head_neuron['threshold'] == threshold
        ),
        None,
    )


@dataclass(frozen=True)
class Arch:
    """Shape of a network.

    Args:
        family: a key of :data:`FAMILIES`.
        widths: channels of the stages: five (strides 2, 4, 8, 16, 16 by default), of espike-large four (2, 4, 8, 16).
        depths: blocks in each stage; None: the family's.
        num_heads: attention heads in the stages after the third.
        strides: stride of the downsampling that opens each stage; None: the family's.
        stem_kernel: kernel of the first convolution, odd.
        layer_scale: first value of the layer scale of attention and MLP branches; 'default': the family's; None: none.
        pointwise_branch: put a pointwise branch before the attention of each block; espike-large only.
        separable_conv: begin each transformer block with a separable convolution; only espike can do without, as in
            the published event network with state.

    Raises:
        ValueError: a field is out of range.

    >>> resolve_arch('qsd-15m').num_stages
    5
    """

    family: str
    widths: tuple[int, ...]
    depths: tuple[int, ...] | None = None
    num_heads: int = 8
    strides: tuple[int, ...] | None = None
    stem_kernel: int = 7
    layer_scale: float | str | None = 'default'
    pointwise_branch: bool = False
    separable_conv: bool = True

    def __post_init__(self) -> None:
        require(self.family in FAMILIES, 'arch.family', self.family, f'one of {", ".join(FAMILIES)}')
        family = FAMILIES[self.family]
        num_stages = len(family.depths)
        for name in ('depths', 'strides'):
            if getattr(self, name) is None:
                object.__setattr__(self, name, getattr(family, name))
        for name, lowest in (('widths', 1), ('depths', 0), ('strides', 1)):
            value = getattr(self, name)
            fine = (
                isinstance(value, (tuple, list))
                and len(value) == num_stages
                and all(isinstance(v, int) and v >= lowest for v in value)
            )
            require(fine, f'arch.{name}', value, f'{num_stages} integers >= {lowest}, one for each stage')
            object.__setattr__(self, name, tuple(value))
        require_positive_int('arch.num_heads', self.num_heads)
        require(
            isinstance(self.stem_kernel, int) and self.stem_kernel >= 1 and self.stem_kernel % 2 == 1,
            'arch.stem_kernel',
            self.stem_kernel,
            'an odd integer >= 1',
        )
        if self.layer_scale == 'default':
            object.__setattr__(self, 'layer_scale', family.layer_scale)
        require(
            self.layer_scale is None or isinstance(self.layer_scale, (int, float)),
            'arch.layer_scale',
            self.layer_scale,
            "a number, None or 'default'",
        )
        require(
            self.pointwise_branch in ((False, True) if family.pointwise_branch else (False,)),
            'arch.pointwise_branch',
            self.pointwise_branch,
            f'True or False in family espike-large, False in others ({self.family})',
        )
        require(
            self.separable_conv in ((True, False) if family.optional_separable_conv else (True,)),
            'arch.separable_conv',
            self.separable_conv,
            f'True or False in family espike, True in others ({self.family})',
        )

    @property
    def num_stages(self) -> int:
        """Count the stages."""
        return len(self.widths)

    def stage_of(self, output: int) -> int:
        """Return the stage of an output; the last output is always that of the last stage."""
        return min(output, self.num_stages - 1)


def _pyramid(family: str, c0: int, c1: int, c2: int, c3: int) -> Arch:
    return Arch(family, (c0 // 2, c0, c1, c2, c3))


ARCH_ZOO = {
    'qsd-8m': _pyramid('qsd', 48, 96, 192, 256),
    'qsd-15m': _pyramid('qsd', 64, 128, 256, 360),
    'qsd-31m': _pyramid('qsd', 96, 192, 384, 480),
    'qsd-55m': _pyramid('qsd', 128, 256, 512, 640),
    'e-3m': _pyramid('espike', 24, 48, 96, 128),
    'e-5m': _pyramid('espike', 32, 64, 128, 192),
    'e-10m': _pyramid('espike', 48, 96, 192, 240),
    'e-19m': _pyramid('espike', 64, 128, 256, 360),
    'e-83m': Arch('espike-large', (64, 128, 256, 512), pointwise_branch=True),
    'e-173m': Arch('espike-large', (96, 192, 384, 768)),
}


def resolve_arch(arch: str | dict[str, Any] | Arch) -> Arch:
    """Return the shape that a preset's name, or a dict of fields, stands for.

    Args:
        arch: a name in :data:`ARCH_ZOO`; or a dict of :class:`Arch` fields, on top of a preset when it has the key
            ``preset``, as in ``dict(preset='qsd-8m', strides=(1, 1, 2, 2, 1), stem_kernel=3)``.

    Raises:
        ValueError: the name or a field is unknown, or a value is out of range.
    """
    if isinstance(arch, Arch):
        return arch
    names = ', '.join(ARCH_ZOO)
    if isinstance(arch, str):
        require(arch in ARCH_ZOO, 'arch', arch, f'one of {names}, or a dict')
        return ARCH_ZOO[arch]
    require(isinstance(arch, dict), 'arch', arch, f'one of {names}, or a dict')
    settings = dict(arch)
    preset = settings.pop('preset', None)
    known = [field.name for field in fields(Arch)]
    unknown = sorted(set(settings) - set(known))
    require(not unknown, 'arch', unknown, f'the keys preset, {", ".join(known)}')
    if preset is None:
        require(
            {'family', 'widths'} <= set(settings), 'arch', arch, "a dict with 'preset', or with 'family' and 'widths'"
        )
        return Arch(**settings)
    base = resolve_arch(preset)
    if settings.get('family', base.family) != base.family:
        settings.setdefault('layer_scale', 'default')
    return replace(base, **settings)
