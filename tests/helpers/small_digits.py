"""A small network on a dozen digits, untrained, for tools that carry networks out."""

import torch
import toy_runs as toy
from torch import nn

CONFIG = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
SMALL = [
    'model.backbone.arch.widths=[4,8,8,8,8]',
    'model.backbone.arch.depths=[0,1,1,1,1]',
    'model.head.in_channels=8',
    'test_dataloader.dataset.indices=12',
    'test_dataloader.batch_size=5',
]


def options():
    return ['--cfg-options', *SMALL, *toy.options()[1:]]


def checkpoint(path, changes=()):
    """Save a checkpoint of the network, whose neurons fire, and return its path."""
    return checkpoint_of(CONFIG, [*SMALL, *changes], path)


def checkpoint_of(config, words, path):
    """Save new weights of a classifier, with norms that are not as they begin, and return their path."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    cfg = cli.load_config(str(config), words)
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = cli.build_model(cfg, None, cli.Session('test'))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.2, 0.4)
    torch.save(dict(state_dict=model.state_dict()), path)
    return path
