"""How the weights of the backbone start."""

import copy
import warnings

import torch
from mmengine.registry import MODELS
from tiny_backbones import ALL, TINY, assert_equal_outputs, families, tiny
from torch import nn

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.models.quantization import LSQ


@families
def test_pretrained_weights_come_back(family, tmp_path):
    source = tiny(family)
    source(torch.randn(2, 3, 32, 32))
    with torch.no_grad():
        for module in source.modules():
            if isinstance(module, LSQ):
                module.step.mul_(1.5)  # learned, not what the weights would give
    file = str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict=source.state_dict()), file)
    model = SpikeDrivenTransformer(TINY[family], init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    state = model.state_dict()
    assert list(state) == list(source.state_dict())
    assert all(torch.equal(state[k], v) for k, v in source.state_dict().items())


def test_pretrained_weights_of_a_whole_classifier(tmp_path):
    source, file = tiny(), str(tmp_path / 'weights.pth')
    torch.save(dict(state_dict={f'backbone.{k}': v for k, v in source.state_dict().items()}), file)
    model = SpikeDrivenTransformer(
        TINY['qsd'], out_indices=ALL, init_cfg=dict(type='Pretrained', checkpoint=file, prefix='backbone.')
    )
    model.init_weights()
    image = torch.randn(1, 3, 32, 32)
    assert_equal_outputs(model.eval()(image), source.eval()(image))


def test_full_precision_weights_start_new_steps(tmp_path):
    source, file = tiny(weight_bits=32), str(tmp_path / 'weights.pth')
    with torch.no_grad():
        for p in source.parameters():
            p.mul_(10)
    torch.save(dict(state_dict=source.state_dict()), file)
    model = tiny(weight_bits=8, init_cfg=dict(type='Pretrained', checkpoint=file))
    model.init_weights()
    assert_steps_fit(model)
    conv = model.stages[1].downsample.synapse
    assert torch.equal(conv.weight, source.stages[1].downsample.synapse.weight)


def assert_steps_fit(model):
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            high = 2 ** (module.weight_bits - 1) - 1
            expected = 2 * module.weight.abs().mean() / high**0.5
            torch.testing.assert_close(module.quantizer.step.data, expected.expand_as(module.quantizer.step).detach())


def test_steps_follow_weights_drawn_by_a_config():
    model = tiny(init_cfg=dict(type='Normal', layer='Conv2d', std=3.0))
    model.init_weights()
    assert model.stages[0].downsample.synapse.weight.std() > 2
    assert_steps_fit(model)


def test_without_a_config_initialisation_changes_nothing():
    model = tiny()
    before = copy.deepcopy(model.state_dict())
    model.init_weights()
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_the_seed_decides_the_weights():
    assert all(torch.equal(p, q) for p, q in zip(tiny().parameters(), tiny().parameters(), strict=True))


def test_built_by_name_without_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        model = MODELS.build(dict(type='SpikeDrivenTransformer', arch=TINY['qsd']))
        model.train()(torch.randn(2, 3, 32, 32))[0].sum().backward()
    assert isinstance(model, SpikeDrivenTransformer)
