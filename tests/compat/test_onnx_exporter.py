"""Torch's own exporter writes networks in floats, as they were trained and folded."""

import pytest
import torch
from trained_networks import trained

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.inference import fold_norms
from qsdt_mm.ops import spiking

onnxruntime = pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')


def assert_exports(model, image):
    """The file gives the network's outputs, up to the order of sums."""
    program = torch.onnx.export(model, (image,), dynamo=True, verbose=False)
    session = onnxruntime.InferenceSession(program.model_proto.SerializeToString(), providers=['CPUExecutionProvider'])
    found = session.run(None, {session.get_inputs()[0].name: image.numpy()})
    with torch.no_grad():
        outputs = model(image)
    assert len(found) == len(outputs)
    for array, output in zip(found, outputs):
        # A sum that is rounded otherwise may bring a membrane to the other side of a half.
        apart = (torch.from_numpy(array) - output).abs() > 1e-4
        assert output.std() > 0.01 and apart.float().mean() < 0.01


def test_neurons_of_many_values(monkeypatch):
    """On a CPU those are computed in pieces, for which a graph has no place."""
    monkeypatch.setattr(spiking, 'PIECE', 64)
    assert_exports(fold_norms(trained(out_indices=(1,))), torch.rand(1, 3, 32, 32))


@pytest.mark.slow
@pytest.mark.parametrize('family', ['qsd', 'espike'])
@pytest.mark.parametrize('time_steps', [1, 2])
@pytest.mark.parametrize('form', [lambda model: model, fold_norms], ids=['float', 'folded'])
def test_families_and_time_steps(family, time_steps, form, monkeypatch):
    monkeypatch.setattr(spiking, 'PIECE', 64)
    image = torch.rand(1, 2, 3, 32, 32) if time_steps == 2 else torch.rand(1, 3, 32, 32)
    assert_exports(form(trained(family, time_steps=time_steps)), image)


@pytest.mark.slow
@pytest.mark.parametrize('form', [lambda model: model, fold_norms], ids=['float', 'folded'])
def test_a_network_of_the_paper_at_its_size(form):
    torch.manual_seed(0)
    model = SpikeDrivenTransformer('qsd-8m', out_indices=(1,)).eval()
    image = torch.rand(1, 3, 224, 224)
    assert_exports(form(model), image)
