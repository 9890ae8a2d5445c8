"""NIR files of plans, read back and run by a reference interpreter: the bits of the plan."""

import pytest
import torch
from deployed import kind, plan_of, shown

from qsdt_mm.deploy.nir import to_nir, write_nir
from qsdt_mm.deploy.plan import Plan
from qsdt_mm.errors import InputError

nir = pytest.importorskip('nir')

import nir_interpreter  # noqa: E402


def values_of(plan, images):
    values = {'pixels': images}
    for step in plan.steps:
        values[step.output] = step(*(values[name] for name in step.inputs))
    return values


def assert_bits(export, plan, images, path):
    found = nir_interpreter.run(nir.read(write_nir(export, path)), images)
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
