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
_POINTWISE_CHAIN = {f'conv{i + 1}.{j}': f'synapse.{2 * i + j}' for i in (0, 1) for j in (0, 1)}


def _large_block(branch: bool) -> dict[str, str]:
    """A transformer block of the large sizes; a pointwise branch comes before the others."""
    first = int(branch)
    names = {f'rep_conv.{theirs}': f'0.branch.{ours}' for theirs, ours in _POINTWISE_CHAIN.items()} if branch else {}
    chain = {'1': 'norm', **{f'0.{theirs}': ours for theirs, ours in _POINTWISE_CHAIN.items()}}
    for unit, name in _ATTENTION.items():
        names |= {f'attn.{unit}.{theirs}': f'{first}.branch.{name}.{ours}' for theirs, ours in chain.items()}
    return names | _mlp(first + 1)


_LARGE_CONV = {
    f'conv{i + 1}.0.{j}': f'0.branch.{i}.{ours}' for i in (0, 1) for j, ours in enumerate(('synapse', 'norm'))
}

# Modules inside a block: (convolution block, transformer block) of each family, without and with a pointwise branch.
_BLOCKS = {
    ('qsd', False): (
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
    ('espike', False): (
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
    ('espike-large', False): (_LARGE_CONV, _large_block(False)),
    ('espike-large', True): (_LARGE_CONV, _large_block(True)),
}
# Modules after the blocks: of classifiers, of those with two heads, of the encoder of Spike-MAE.
CLASSIFIER = {'head': 'head.fc.synapse'}
TWO_HEADS = {**CLASSIFIER, 'head_kd': 'head.fc_dist.synapse'}
ENCODER = {'norm': 'norm'}


def _gains(family: str, branch: bool) -> dict[str, str]:
    """Parameters that a transformer block holds itself."""
    return {} if family == 'espike' else {f'layer_scale{i + 1}': f'{i + branch}.gain.weight' for i in (0, 1)}


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


def block_groups(num_stages: int) -> dict[str, int]:
    """Those of :data:`BLOCK_GROUPS` that a network of so many stages has."""
    return {group: stage for group, stage in BLOCK_GROUPS.items() if stage < num_stages}


def name_table(
    family: str, block_counts: Mapping[str, int], branch: bool = False, after: Mapping[str, str] = CLASSIFIER
) -> NameTable:
    """The names of one network.

    Args:
        family: a family of networks.
        block_counts: blocks in each of its groups of blocks.
        branch: whether blocks have a pointwise branch.
        after: modules after the blocks, such as :data:`CLASSIFIER`.
    """
    conv_block, attention_block = _BLOCKS[family, branch]
    modules, parameters = dict(after), {}
    num_stages = 1 + max(BLOCK_GROUPS[group] for group in block_counts)
    for stage, name in enumerate(DOWNSAMPLES[:num_stages]):
        for theirs, ours in (('encode_conv', 'synapse'), ('encode_bn', 'norm')):
            modules[f'{name}.{theirs}'] = f'backbone.stages.{stage}.downsample.{ours}'
    placed = [0] * num_stages
    for group, stage in block_groups(num_stages).items():
        for i in range(block_counts[group]):
            block = f'backbone.stages.{stage}.blocks.{placed[stage]}'
            placed[stage] += 1
            for theirs, ours in (conv_block if stage < 3 else attention_block).items():
                modules[f'{group}.{i}.{theirs}'] = f'{block}.{ours}'
            for theirs, ours in (_gains(family, branch) if stage >= 3 else {}).items():
                parameters[f'{group}.{i}.{theirs}'] = f'{block}.{ours}'
    return NameTable(modules, parameters)
