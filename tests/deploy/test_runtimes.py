"""ONNX files in the place of plans: the same bits for any number of images; what is no such file is refused."""

import copy

import pytest
import torch
from deployed import kind, plan_of, shown
from torch.utils._pytree import tree_flatten

onnx = pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')

from qsdt_mm.deploy.notes import notes_of, write_notes  # noqa: E402
from qsdt_mm.deploy.onnx import to_onnx  # noqa: E402
from qsdt_mm.deploy.onnx_check import check_bits, extreme_pictures, kernels  # noqa: E402
from qsdt_mm.deploy.runtimes import Runtime  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402


@pytest.fixture(scope='module')
def steps():
    return plan_of(kind('qsd'))


@pytest.fixture(scope='module')
def written(steps):
    return to_onnx(steps, batch=3)


def file_of(steps, model, **changes):
    model = copy.deepcopy(model)
    write_notes(model, {**notes_of(steps, task='features', channels='RGB', mean=[120.0], classes=None), **changes})
    return model.SerializeToString()


def assert_same(found, expected):
    assert all(torch.equal(a, b) for a, b in zip(tree_flatten(found)[0], tree_flatten(expected)[0], strict=True))


def test_any_number_of_images(steps, written):
    images = shown(kind('qsd'), 4, seed=2)
    for batch, model in ((3, written), (None, to_onnx(steps, batch=None))):
        runtime = copy.deepcopy(Runtime(file_of(steps, model)))
        assert_same(runtime(images), steps(images))
        assert runtime.batch == batch and runtime.shape == (3, 32, 32)
    with pytest.raises(InputError, match='pixels='):
        runtime(images[..., 1:])


def test_what_a_file_notes(steps, written):
    notes = Runtime(file_of(steps, written)).notes
    assert notes['task'] == 'features' and notes['mean'] == [120.0] and 'classes' not in notes
    assert notes['size'] == [32, 32] and notes['outputs'] == [f'output_{i}' for i in range(5)]
    with pytest.raises(ValueError, match='task='):
        notes_of(steps, task='sleep', channels='RGB')
    with pytest.raises(ValueError, match='labels'):
        notes_of(steps, task='features', channels='RGB', labels=['a'])


def test_one_other_bias_is_found(steps, written):
    pictures = {'photo': shown(kind('qsd'), 1, seed=2)[0], **extreme_pictures(steps.shape)}
    model = copy.deepcopy(written)
    assert not any(agreement.different for agreement in check_bits(steps, file_of(steps, model), pictures))
    found = kernels(steps, file_of(steps, model))
    assert found.fused == found.possible > 20
    biases = [t for t in model.graph.initializer if t.name.endswith('_bias') and t.data_type == onnx.TensorProto.INT32]
    values = onnx.numpy_helper.to_array(biases[2]).copy()
    values += values.max() - values.min()
    biases[2].CopyFrom(onnx.numpy_helper.from_array(values, biases[2].name))
    found = check_bits(steps, file_of(steps, model), pictures)
    assert all(agreement.different for agreement in found) and 'differ' in str(found[0])


def test_extreme_pictures():
    pictures = extreme_pictures((2, 3, 4, 5))
    assert all(p.shape == (2, 3, 4, 5) and p.dtype == torch.uint8 for p in pictures.values()) and len(pictures) == 5
    assert pictures['noise of 0 and 255'].unique().tolist() == [0, 255] and pictures['ramp'].max() == 255


@pytest.mark.parametrize(
    'changes, word',
    [
        (dict(format='other'), 'no plan'),
        (dict(format_version='2'), 'update it'),
        (dict(shape=[3, 0, 32]), 'shape'),
        (dict(outputs=['elsewhere']), 'elsewhere'),
        (dict(outputs=[3]), 'metadata'),
        (dict(task='sleep'), 'task'),
    ],
)
def test_files_that_are_not_of_plans(steps, written, changes, word):
    with pytest.raises(InputError, match=word):
        Runtime(file_of(steps, written, **changes))


def test_files_that_are_torn(steps, written, tmp_path):
    content = file_of(steps, written)
    (tmp_path / 'torn.onnx').write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError) as caught:
        Runtime(tmp_path / 'torn.onnx')
    assert 'torn.onnx' in str(caught.value) and '\n' not in str(caught.value)
