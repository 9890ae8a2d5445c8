"""ONNX files of plans: the plan's bits at every level of optimisation and in every runtime at hand."""

import numpy as np
import pytest
from deployed import KINDS, kind, plan_of, shown

onnx = pytest.importorskip('onnx')
onnxruntime = pytest.importorskip('onnxruntime')

from qsdt_mm.deploy.onnx import output_names, to_onnx  # noqa: E402

LEVELS = onnxruntime.GraphOptimizationLevel
ALL_LEVELS = LEVELS.ORT_DISABLE_ALL, LEVELS.ORT_ENABLE_BASIC, LEVELS.ORT_ENABLE_EXTENDED, LEVELS.ORT_ENABLE_ALL


def run(model, images, level=LEVELS.ORT_ENABLE_ALL, optimized=None):
    """Outputs of a model in ONNX Runtime."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level, options.intra_op_num_threads, options.log_severity_level = level, 1, 3
    if optimized:
        options.optimized_model_filepath = str(optimized)
    session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=['CPUExecutionProvider'])
    return session.run(None, {'pixels': images.numpy()})


def assert_bits(found, outputs):
    assert len(found) == len(outputs)
    for array, output in zip(found, outputs):
        assert array.dtype == np.float32 and np.array_equal(array, output.numpy())


@pytest.mark.parametrize('name', KINDS)
def test_every_level_of_optimisation_has_the_bits_of_the_plan(name):
    network = kind(name)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    outputs = deployed(images)
    model = to_onnx(deployed, weights='int4', batch=None)
    for level in ALL_LEVELS:
        assert_bits(run(model, images, level), outputs)


@pytest.mark.parametrize(
    ('name', 'batch'), [('qsd', 2), ('espike', None), ('film', 2), ('film', None), ('lif', 2), ('decaying', None)]
)
def test_openvino_has_the_bits_of_the_plan(name, batch):
    openvino = pytest.importorskip('openvino')
    network = kind(name)
    deployed, images = plan_of(network), shown(network, 2, seed=2)
    core = openvino.Core()
    model = core.read_model(to_onnx(deployed, batch=batch).SerializeToString(), b'')
    compiled = core.compile_model(model, 'CPU', {'INFERENCE_PRECISION_HINT': 'f32', 'INFERENCE_NUM_THREADS': 1})
    found = compiled.create_infer_request().infer({0: images.numpy()})
    assert_bits([found[output] for output in compiled.outputs], deployed(images))


@pytest.mark.parametrize('name', ['qsd', 'espike'])
def test_all_convolutions_but_the_stem_become_8_bit_kernels(name, tmp_path):
    network = kind(name)
    deployed = plan_of(network)
    run(to_onnx(deployed), shown(network, 1, seed=2), optimized=tmp_path / 'optimized.onnx')
    operators = [node.op_type for node in onnx.load(tmp_path / 'optimized.onnx').graph.node]
    whole = sum(getattr(step, 'layer', '') == 'conv' and step.to_kind in ('count', 'byte') for step in deployed.steps)
    assert operators.count('QLinearConv') == whole > 20
    # The stem, and the last layer, which no neuron follows.
    assert operators.count('Conv') + operators.count('FusedConv') <= 2


@pytest.mark.parametrize('weights', ['int8', 'int4'])
def test_weights_are_kept_as_they_are_said_to(weights):
    deployed = plan_of(kind('qsd'))
    model = to_onnx(deployed, weights=weights)
    types = {constant.data_type for constant in model.graph.initializer if 'weight' in constant.name}
    assert (onnx.TensorProto.INT4 in types) == (weights == 'int4')
    assert_bits(run(model, shown(kind('qsd'), 1, seed=2)), deployed(shown(kind('qsd'), 1, seed=2)))


def test_outputs_have_names():
    deployed = plan_of(kind('qsd'))
    assert output_names(deployed) == [f'output_{i}' for i in range(5)]
    assert [output.name for output in to_onnx(deployed).graph.output] == output_names(deployed)


def test_other_weights_are_refused():
    with pytest.raises(ValueError, match='weights='):
        to_onnx(plan_of(kind('qsd')), weights='int2')


def test_no_operator_is_foreign():
    model = to_onnx(plan_of(kind('espike')))
    assert {node.domain for node in model.graph.node} == {''}
