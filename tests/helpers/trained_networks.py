"""Small networks that look trained, and what their neurons receive."""

import torch
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.inference import CODINGS, convert
from qsdt_mm.models.neurons import SpikingNeuron


def trained(family='qsd', seed=0, **options):
    """A small network whose norms look as after some training."""
    torch.manual_seed(seed)
    arch = dict(family=family, widths=(4, 8, 8, 16, 24), depths=(1, 1, 1, 1, 1), num_heads=4, layer_scale=0.5)
    if family == 'espike-large':
        arch |= dict(widths=(4, 8, 8, 24), depths=(1, 1, 1, 2), pointwise_branch=True)
    model = SpikeDrivenTransformer(arch, **{'weight_bits': 4, 'out_indices': range(5), **options})
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.2, 0.4)
    return model.eval()


def exact_forms(model, **options):
    """A network's exact forms, which have the same bits: integers, and spikes in either coding."""
    spiking = {f'spike {coding}': convert(model, 'spike', coding=coding, **options) for coding in CODINGS}
    return dict(integer=convert(model, 'integer', **options), **spiking)


def membranes(model, image):
    """What every neuron receives, and the outputs."""
    seen, hooks = {}, []
    for name, module in model.named_modules():
        if isinstance(module, SpikingNeuron):
            hooks.append(
                module.register_forward_pre_hook(lambda m, args, name=name: seen.__setitem__(name, args[0].clone()))
            )
    with torch.no_grad():
        outputs = model(image)
    for hook in hooks:
        hook.remove()
    return {**seen, **{f'output {i}': out for i, out in enumerate(outputs)}}


def assert_same_bits(a, b):
    assert a.keys() == b.keys() and len(a) > 10
    for name in a:
        assert torch.equal(a[name], b[name]), name
