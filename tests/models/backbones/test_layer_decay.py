"""Layer-wise learning rate decay: the stem is layer 0, block i is layer i + 1, for every preset."""

import pytest
import torch

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.backbones.presets import ARCH_ZOO


@pytest.mark.parametrize('preset', ARCH_ZOO)
def test_depths(preset):
    with torch.device('meta'):
        backbone = SpikeDrivenTransformer(preset)
    blocks = sum(backbone.arch.depths)
    seen = {}
    for name, _ in backbone.named_parameters():
        layer, number = backbone.get_layer_depth(f'backbone.{name}', 'backbone.')
        assert number == blocks + 2
        seen.setdefault('.'.join(name.split('.')[:4] if 'blocks' in name else name.split('.')[:3]), set()).add(layer)
    assert all(len(layers) == 1 for layers in seen.values())
    assert seen['stages.0.downsample'] == {0}
    in_order = [seen[name] for name in seen if 'blocks' in name]
    assert in_order == [{i + 1} for i in range(blocks)]
    assert seen['stages.3.downsample'] == seen['stages.3.blocks.0']
    assert backbone.get_layer_depth('head.fc.synapse.weight', 'backbone.') == (blocks + 1, blocks + 2)


def test_the_optimizer_decays_by_layer():
    pytest.importorskip('mmpretrain')
    from mmengine.optim import build_optim_wrapper
    from mmengine.registry import MODELS, DefaultScope

    arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = MODELS.build(
            dict(
                type='ImageClassifier',
                backbone=dict(type='SpikeDrivenTransformer', arch=arch),
                neck=dict(type='GlobalAveragePooling'),
                head=dict(type='SpikeLinearClsHead', num_classes=3, in_channels=8),
            )
        )
        wrapper = build_optim_wrapper(
            model,
            dict(
                optimizer=dict(type='AdamW', lr=1.0, weight_decay=0.05),
                constructor='LearningRateDecayOptimWrapperConstructor',
                paramwise_cfg=dict(layer_decay_rate=0.5, flat_decay_mult=0.0),
            ),
        )
    rates = {group['param_name']: group['lr'] for group in wrapper.optimizer.param_groups}
    assert rates['backbone.stages.0.downsample.synapse.weight'] == 0.5**6
    assert rates['backbone.stages.4.blocks.0.0.branch.query.norm.weight'] == 0.5
    assert rates['head.fc.synapse.weight'] == 1
    assert all(g['weight_decay'] == (0.0 if g['params'][0].ndim == 1 else 0.05) for g in wrapper.optimizer.param_groups)
