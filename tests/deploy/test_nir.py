"""NIR files of plans, read back and run by a reference interpreter: the bits of the plan."""

import pytest
import torch
from deployed import kind, plan_of, shown

from qsdt_mm.deploy.nir import nir_content, to_nir, write_nir
from qsdt_mm.deploy.plan import Plan
from qsdt_mm.errors import InputError

nir = pytest.importorskip('nir')

from qsdt_mm.deploy.nir_reference import check_graph, read_graph, run_graph  # noqa: E402


def values_of(plan, images):
    values = {'pixels': images}
    for step in plan.steps:
        values[step.output] = step(*(values[name] for name in step.inputs))
    return values


def assert_bits(export, plan, images, path):
    found = run_graph(nir.read(write_nir(export, path)), images)
    values = values_of(plan, images)
    assert found.keys() == export.outputs.keys()
    for name, value in export.outputs.items():
        assert torch.equal(found[name], values[value].float()) and found[name].std() > 0, name


@pytest.mark.parametrize('name', ['qsd', 'espike', 'two_bits'])
def test_the_part_before_the_first_product_has_the_bits_of_the_plan(name, tmp_path):
    network = kind(name)
    plan = plan_of(network)
    with pytest.raises(InputError, match='NIR cannot carry .* product of query, key and value'):
        to_nir(plan)
    export = to_nir(plan, partial=True)
    assert 0 < export.steps < len(plan.steps) and export.missing
    assert_bits(export, plan, shown(network, 2, seed=2), tmp_path / 'net.nir')


def test_convolution_stages_go_whole(tmp_path):
    network = kind('qsd')
    plan = plan_of(network)
    stages = Plan(list(plan.steps), tuple(plan.outputs[:2]), plan.shape)
    wanted = set(stages.outputs)
    for step in reversed(plan.steps):
        if step.output in wanted:
            wanted |= set(step.inputs)
    stages = Plan([step for step in plan.steps if step.output in wanted], stages.outputs, plan.shape)
    export = to_nir(stages)
    assert not export.missing and list(export.outputs) == ['output_0', 'output_1']
    assert_bits(export, stages, shown(network, 2, seed=2), tmp_path / 'stages.nir')


def test_time_steps_are_refused():
    with pytest.raises(InputError, match='time steps'):
        to_nir(plan_of(kind('still')))


def test_a_file_is_checked_as_it_is_read_back():
    network = kind('two_bits')
    plan = plan_of(network)
    export = to_nir(plan, partial=True)
    content, images = nir_content(export), shown(network, 2, seed=2)
    pictures = dict(first=images[0], second=images[1])
    assert not check_graph(plan, export, content, pictures).different
    for node in export.graph.nodes.values():
        if isinstance(node, nir.Threshold):
            node.threshold = node.threshold + 1
    assert check_graph(plan, export, nir_content(export), pictures).different


def test_foreign_files_and_graphs_are_one_line():
    for content in (b'', b'no file', nir_content(to_nir(plan_of(kind('two_bits')), partial=True))[:5000]):
        with pytest.raises(InputError, match='the file is no NIR file'):
            read_graph(content)
    one = torch.ones(1, 1).numpy()
    nodes = dict(a=nir.Input({'input': one[0].shape}), b=nir.Linear(one), c=nir.Linear(one))
    nodes['d'] = nir.Output({'output': one[0].shape})
    circle = nir.NIRGraph(nodes, [('a', 'b'), ('b', 'c'), ('c', 'b'), ('c', 'd')])
    with pytest.raises(InputError, match='goes in a circle'):
        run_graph(circle, torch.ones(1, 1))
    leaky = nir.NIRGraph(dict(nodes, b=nir.LI(*[one[0]] * 3)), [('a', 'b'), ('b', 'd')])
    with pytest.raises(InputError, match='b: a node LI'):
        run_graph(leaky, torch.ones(1, 1))
