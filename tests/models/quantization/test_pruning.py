"""torch's pruning and parametrizations on low-bit layers, whatever order the network's memory is in."""

import pytest
import torch
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.inference import convert, fold_norms
from qsdt_mm.models.layers.spiking import low_bit
from qsdt_mm.models.quantization import QuantWeightMixin

pytestmark = pytest.mark.filterwarnings('ignore::FutureWarning')
ARCH = dict(widths=(8, 8, 16, 16, 24), depths=(0, 1, 0, 1, 0), num_heads=4, stem_kernel=3, layer_scale=0.1)


def layers(model):
    return [module for module in model.modules() if isinstance(module, QuantWeightMixin)]


def each(change):
    def act(model):
        for layer in layers(model):
            change(layer)

    return act


CHANGES = dict(
    smallest=each(lambda layer: prune.l1_unstructured(layer, 'weight', amount=0.3)),
    at_random=each(lambda layer: prune.random_unstructured(layer, 'weight', amount=0.3)),
    channels=each(lambda layer: prune.ln_structured(layer, 'weight', amount=0.3, n=2, dim=0)),
    everywhere=lambda model: prune.global_unstructured(
        [(layer, 'weight') for layer in layers(model)], prune.L1Unstructured, amount=0.3
    ),
    weight_norm=each(parametrizations.weight_norm if hasattr(parametrizations, 'weight_norm') else weight_norm),
    weight_norm_of_old=each(weight_norm),
    spectral_norm=each(parametrizations.spectral_norm),
    spectral_norm_of_old=each(spectral_norm),
)


def network(family):
    torch.manual_seed(0)
    return SpikeDrivenTransformer(dict(ARCH, family=family))


@pytest.mark.parametrize('change', CHANGES)
@pytest.mark.parametrize('family', ['qsd', 'espike'])
def test_the_order_of_memory_changes_nothing(family, change):
    image, results = torch.randn(2, 3, 32, 32), []
    for channels_last in (None, 'before', 'after'):
        model = network(family)
        if channels_last == 'before':
            model.to(memory_format=torch.channels_last)
        torch.manual_seed(1)
        CHANGES[change](model)
        if channels_last == 'after':
            model.to(memory_format=torch.channels_last)
        feature = model(image)[0]
        feature.square().sum().backward()
        results.append((feature, model.stages[0].downsample.synapse.bias.grad))
    for feature, grad in results[1:]:
        torch.testing.assert_close(feature, results[0][0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(grad, results[0][1], rtol=1e-2, atol=1e-2)


@pytest.mark.parametrize('layer', [torch.nn.Conv2d(4, 6, 3), torch.nn.ConvTranspose2d(4, 6, 2)])
def test_layers_of_heads_are_pruned_twice(layer):
    layer = low_bit(layer, 4).to(memory_format=torch.channels_last)
    for _ in range(2):
        prune.l1_unstructured(layer, 'weight', amount=0.5)
        layer(torch.randn(1, 4, 8, 8).to(memory_format=torch.channels_last)).sum().backward()
        layer.to(memory_format=torch.channels_last)
    zeros = (layer.quantized_weight == 0).float().mean()
    assert zeros >= 0.75
    prune.remove(layer, 'weight')
    assert (layer.weight == 0).float().mean() == pytest.approx(0.75, abs=0.02)


@pytest.mark.parametrize('change', CHANGES)
def test_a_network_converts_as_it_stands_after_the_last_step(change):
    model, image = network('qsd'), torch.randn(2, 3, 32, 32)
    CHANGES[change](model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model(image)[0].square().mean().backward()
    optimizer.step()  # the hooks' weights are from before
    folded, exact = fold_norms(model), convert(model, 'integer')
    with torch.no_grad():
        expected = model.eval()(image)[0]
        assert torch.equal(convert(model, 'integer')(image)[0], exact(image)[0])
        torch.testing.assert_close(folded(image)[0], expected, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(exact(image)[0], expected, rtol=1e-3, atol=1e-3)
