"""Names of modules in published checkpoints, and what they are called here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

# Groups of blocks in the published networks, the stage each belongs to, in order of execution.
BLOCK_GROUPS = {'ConvBlock1_1': 0, 'ConvBlock1_2': 1, 'ConvBlock2_1': 2, 'ConvBlock2_2': 2, 'block3': 3, 'block4': 4}
DOWNSAMPLES = ('downsample1_1', 'downsample1_2', 'downsample2', 'downsample3', 'downsample4')

_CHANNEL_CONV = {
    'conv1': '1.branch.0.synapse',
    'bn1': '1.branch.0.norm',
    'conv2': '1.branch.1.synapse',
    'bn2': '1.branch.1.norm',
}
_ATTENTION = {'q_conv': 'query', 'k_conv': 'key', 'v_conv': 'value', 'proj_conv': 'projection'}


def _mlp(index: int) -> dict[str, str]:
    return {
        f'mlp.fc{i + 1}_{theirs}': f'{index}.branch.{i}.{ours}'
        for i in (0, 1)
        for theirs, ours in (('conv', 'synapse'), ('bn', 'norm'))
    }


def _sep_conv(name: str) -> dict[str, str]:
    return {
        f'{name}.{part}.{j}': f'0.branch.{i}.{ours}'
        for i, part in enumerate(('pwconv1', 'dwconv', 'pwconv2'))
        for j, ours in enumerate(('synapse', 'norm'))
    }


_REP_CONV = {
    '0.body.0': 'synapse.0',
    '0.body.1.bn': 'synapse.1.norm',
    '0.body.2.0': 'synapse.2',
    '0.body.2.1': 'synapse.3',
    '0.body.2.2': 'synapse.4',
    '1': 'norm',
}

# Modules inside a block: (convolution block, transformer block) of each family.
_BLOCKS = {
    'qsd': (
        {
            'Conv.pwconv1': '0.branch.0.synapse',
            'Conv.bn1': '0.branch.0.norm',
            'Conv.dwconv': '0.branch.1.synapse.0',
            'Conv.pwconv2': '0.branch.1.synapse.1',
            'Conv.bn2': '0.branch.1.norm',
            **_CHANNEL_CONV,
        },
        {
            **{
                f'attn.{unit}.{theirs}': f'0.branch.{name}.{ours}'
                for unit, name in _ATTENTION.items()
                for theirs, ours in _REP_CONV.items()
            },
            **_mlp(1),
        },
    ),
    'espike': (
        {**_sep_conv('Conv'), **_CHANNEL_CONV},
        {
            **_sep_conv('conv'),
            **{
                f'attn.{unit}.{i}': f'1.branch.{name}.{ours}'
                for unit, name in _ATTENTION.items()
                for i, ours in enumerate(('synapse', 'norm'))
            },
            **_mlp(2),
        },
    ),
}
# Parameters that a transformer block holds itself.
_GAINS = {'qsd': {'layer_scale1': '0.gain.weight', 'layer_scale2': '1.gain.weight'}, 'espike': {}}


@dataclass(frozen=True)
class NameTable:
    """Published names of one network's modules and loose parameters, and ours.

    Args:
        modules: published module -> our module.
        parameters: published parameter -> our parameter, for those that are not of a module in ``modules``.
    """

    modules: Mapping[str, str]
    parameters: Mapping[str, str]

    def ours(self, published: str) -> str | None:
        """Our name of a published parameter; None when the table has no such module."""
        if published in self.parameters:
            return self.parameters[published]
        module, _, leaf = published.rpartition('.')
        if module not in self.modules:
            return None
        return f'{self.modules[module]}.{"quantizer.step" if leaf == "alpha" else leaf}'

    def published(self, ours: str) -> str:
        """Published name of our parameter; the same name when the table does not have it."""
        module, leaf = (
            (ours.removesuffix('.quantizer.step'), 'alpha') if ours.endswith('.quantizer.step') else ours.rsplit('.', 1)
        )
        loose = (theirs for theirs, name in self.parameters.items() if name == ours)
        return next(loose, None) or next(
            (f'{theirs}.{leaf}' for theirs, name in self.modules.items() if name == module), ours
        )


def name_table(family: str, block_counts: Mapping[str, int]) -> NameTable:
    """The names of one network.

    Args:
        family: 'qsd' or 'espike'.
        block_counts: blocks in each of :data:`BLOCK_GROUPS`.
    """
    conv_block, attention_block = _BLOCKS[family]
    modules, parameters = {'head': 'head.fc.synapse'}, {}
    for stage, name in enumerate(DOWNSAMPLES):
        for theirs, ours in (('encode_conv', 'synapse'), ('encode_bn', 'norm')):
            modules[f'{name}.{theirs}'] = f'backbone.stages.{stage}.downsample.{ours}'
    placed = [0] * len(DOWNSAMPLES)
    for group, stage in BLOCK_GROUPS.items():
        for i in range(block_counts[group]):
            block = f'backbone.stages.{stage}.blocks.{placed[stage]}'
            placed[stage] += 1
            for theirs, ours in (conv_block if stage < 3 else attention_block).items():
                modules[f'{group}.{i}.{theirs}'] = f'{block}.{ours}'
            for theirs, ours in (_GAINS[family] if stage >= 3 else {}).items():
                parameters[f'{group}.{i}.{theirs}'] = f'{block}.{ours}'
    return NameTable(modules, parameters)
