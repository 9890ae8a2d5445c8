"""demo/onnx_demo.py: classes of an exported network, and a line for anything else."""

import importlib.util

import numpy as np
import pytest
import torch
import toy_runs as toy
from deployed import WithHead, pictures
from PIL import Image
from trained_networks import trained

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')


def demo(*words):
    spec = importlib.util.spec_from_file_location('onnx_demo', toy.ROOT / 'demo/onnx_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(word) for word in words])


@pytest.fixture(scope='module')
def network(tmp_path_factory):
    """A plan and its file."""
    pytest.importorskip('mmpretrain')
    from qsdt_mm.deploy import plan
    from qsdt_mm.deploy.notes import notes_of, write_notes
    from qsdt_mm.deploy.onnx import to_onnx
    from qsdt_mm.models.heads.classification import SpikeLinearClsHead

    model = WithHead(trained('qsd'), SpikeLinearClsHead(6, 24, weight_bits=4)).eval()
    steps = plan(model, pictures(4), mean=torch.tensor([120.0]), std=torch.tensor([58.0]), run=lambda m, x: m(x))
    file = to_onnx(steps)
    notes = dict(classes=list('abcdef'), image=[['short', 40], ['crop', 32, 32]])
    write_notes(file, notes_of(steps, task='classification', channels='RGB', **notes))
    path = tmp_path_factory.mktemp('demo') / 'net.onnx'
    path.write_bytes(file.SerializeToString())
    return steps, path


def test_a_classifier(network, tmp_path, capsys):
    steps, path = network
    pixels = pictures(1, seed=5)
    Image.fromarray(pixels[0].permute(1, 2, 0).numpy()).resize((40, 40), Image.NEAREST).save(tmp_path / 'a.png')
    shown = np.asarray(Image.open(tmp_path / 'a.png').crop((4, 4, 36, 36))).transpose(2, 0, 1)
    best = int(steps(torch.tensor(shown)[None]).argmax())
    assert demo(tmp_path / 'a.png', path) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5 and lines[0].split()[-1] == 'abcdef'[best]


def test_bad_input(network, tmp_path, capsys):
    (tmp_path / 'a.png').write_bytes(b'x')
    (tmp_path / 'b.onnx').write_bytes(b'x')
    for words, fault in (
        ((tmp_path / 'a.png', network[1]), 'a.png is no image'),
        ((tmp_path / 'a.png', tmp_path / 'b.onnx'), 'b.onnx is no ONNX file'),
        ((tmp_path / 'a.png', tmp_path / 'c.onnx'), 'c.onnx does not exist'),
    ):
        assert demo(*words) == 2
        said = capsys.readouterr().err
        assert said.count('\n') == 1 and fault in said
