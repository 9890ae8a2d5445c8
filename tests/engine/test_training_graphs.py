"""CUDA graphs of training: what is ours of them, with tapes in the graphs' place; no GPU is needed."""

import copy
import pickle
from contextlib import nullcontext

import pytest
import torch
from mmengine.model import BaseModule
from taped_graphs import listen, record_tapes
from tiny_backbones import families, tiny
from torch import nn

from qsdt_mm.engine.training_graphs import graphed_training
from qsdt_mm.errors import InputError
from qsdt_mm.inference import graphed


@pytest.fixture
def recorders(monkeypatch):
    """All that are made, in the order."""
    return record_tapes(monkeypatch)


@pytest.fixture
def messages(monkeypatch):
    return listen(monkeypatch)


class Counting(nn.Linear):
    """How often Python runs it."""

    calls = 0

    def forward(self, image):
        self.calls += 1
        return super().forward(image).relu()


def counting():
    torch.manual_seed(0)
    return Counting(2, 3).train()


def step(model, *inputs):
    outputs = model(*inputs)
    outputs = outputs if isinstance(outputs, (tuple, list)) else [outputs]
    # Gradients in the order of the outputs' memory: another one is summed in another order, and rounded otherwise.
    torch.autograd.backward(outputs, [out.detach() for out in outputs])
    return outputs


def assert_same(model, other):
    for name, mine in model.named_parameters():
        theirs = other.get_parameter(name)
        assert torch.equal(mine, theirs), name
        assert mine.grad is None if theirs.grad is None else torch.equal(mine.grad, theirs.grad), name
    for mine, theirs in zip(model.buffers(), other.buffers(), strict=True):
        assert torch.equal(mine, theirs)


@families
def test_values_gradients_and_statistics_are_those_without(family, recorders):
    model = tiny(family=family).train()
    plain = copy.deepcopy(model)
    assert graphed_training(model) is model
    optimizers = [torch.optim.SGD(network.parameters(), 0.1, 0.9) for network in (model, plain)]
    for _ in range(4):
        image, outputs = torch.randn(2, 3, 32, 32), []
        for network, optimizer in zip((model, plain), optimizers, strict=True):
            optimizer.zero_grad()
            outputs.append(step(network, image))
        assert_same(model, plain)
        for found, wanted in zip(*outputs, strict=True):
            assert torch.equal(found, wanted) and found.stride() == wanted.stride()
        for optimizer in optimizers:
            optimizer.step()
    (recorder,) = recorders
    assert (recorder.captures, recorder.replays, recorder.replays_back) == (1, 3, 3)


@pytest.mark.parametrize('options', [dict(time_steps=2), dict(frozen_stages=1), dict(norm_eval=True)], ids=str)
def test_over_time_frozen_and_in_half_precision(options, recorders):
    model = tiny(**options).train()
    plain = copy.deepcopy(model)
    graphed_training(model)
    for _ in range(3):
        image = torch.randn(2, 3, 32, 32).contiguous(memory_format=torch.channels_last)
        for network in (model, plain):
            network.zero_grad()
            with torch.autocast('cpu', torch.bfloat16):
                outputs = network(image)
            learned = [out for out in outputs if out.requires_grad]
            torch.autograd.backward(learned, [out.detach() for out in learned])
        assert_same(model, plain)
    assert recorders[0].replays_back == 2


@pytest.mark.parametrize('set_to_none', [True, False, None])
def test_gradients_add_up(set_to_none, recorders):
    """Over steps without an optimizer's, and in gradients that are zeroed in place."""
    model, plain = graphed_training(counting()), counting()
    for i in range(6):
        image = torch.randn(4, 2)
        for network in (model, plain):
            if set_to_none is not None and i % 3 == 0:
                network.zero_grad(set_to_none)
            step(network, image)
        assert_same(model, plain)
    assert recorders[0].replays_back == 5


def test_gradients_of_inputs(recorders):
    model, plain = graphed_training(counting()), counting()
    for _ in range(3):
        image = torch.randn(4, 2)
        own, other = image.clone().requires_grad_(), image.clone().requires_grad_()
        step(model, own), step(plain, other)
        assert torch.equal(own.grad, other.grad)
        step(model, image), step(plain, image)
        assert_same(model, plain)
    assert recorders[0].captures == 2


def test_later_steps_change_no_earlier_results(recorders):
    model, images = graphed_training(counting()), torch.randn(4, 2, 2)
    results = []
    for image in images:
        results += step(model, image)
    for found, image in zip(results, images):
        assert torch.equal(found, counting()(image))


def test_a_second_call_before_the_backward_pass_runs_without(recorders):
    model, plain, images = graphed_training(counting()), counting(), torch.randn(2, 4, 2)
    step(model, images[0]), step(model, images[0])
    calls = model.calls
    model.zero_grad()
    for network in (model, plain):
        (network(images[0]).square().mean() + network(images[1]).square().mean()).backward()
    assert_same(model, plain)
    assert model.calls == calls + 1
    step(model, images[0])
    assert model.calls == calls + 1
    model(images[0])  # a result that is dropped is not waited for
    step(model, images[0])
    assert model.calls == calls + 1


def test_twice_backward(recorders):
    model, plain, image = graphed_training(counting()), counting(), torch.randn(4, 2)
    step(model, image)
    model.zero_grad()
    for network in (model, plain):
        loss = network(image).square().mean()
        loss.backward(retain_graph=True), loss.backward()
    assert_same(model, plain)
    first = model(image)
    first.sum().backward(retain_graph=True)
    step(model, image)
    with pytest.raises(RuntimeError, match='CUDA graphs keep one'):
        first.sum().backward()


def test_evaluation_hooks_and_others_who_look_run_without(recorders):
    model, image, seen = graphed_training(counting()), torch.randn(4, 2), []
    step(model, image), step(model, image)
    calls = model.calls
    with torch.no_grad():
        model(image)
    model.eval()(image)
    assert model.train().calls == calls + 2
    for register in (model.register_forward_hook, model.register_full_backward_hook):
        with register(lambda *args: seen.append(args)):
            step(model, image)
    assert len(seen) == 2 and model.calls == calls + 4
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        step(model, image)
    with torch.autograd.set_detect_anomaly(True):
        step(model, image)
    assert model.calls == calls + 6
    recorders[0].free = False
    step(model, image)
    recorders[0].free = True
    assert model.calls == calls + 7
    step(model, image)
    assert model.calls == calls + 7 and recorders[0].captures == 1


def test_what_is_replaced_is_captured_anew_and_modes_have_their_own(recorders):
    model, image = graphed_training(nn.Sequential(nn.BatchNorm1d(2), counting())), torch.randn(4, 2)
    plain = copy.deepcopy(model)

    def compare():
        for network in (model, plain):
            network.zero_grad()
            step(network, image)
        assert_same(model, plain)

    for _ in range(3):
        compare()
    assert recorders[0].captures == 1
    for network in (model, plain):
        network[1].weight = nn.Parameter(torch.ones(3, 2))
    for _ in range(2):
        compare()
    assert recorders[0].captures == 2
    for network in (model, plain):
        network[0].eval()
    for _ in range(2):
        compare()
    assert recorders[0].captures == 3
    for network in (model, plain):
        network[1].weight.requires_grad_(False)
    for _ in range(2):
        compare()
    assert recorders[0].captures == 3, 'two at most are kept'


def test_statistics_and_random_numbers_are_as_if_nothing_was_captured(recorders):
    model = nn.Sequential(nn.BatchNorm1d(2), nn.Dropout(0.0), counting())
    plain, image = copy.deepcopy(model), torch.randn(4, 2)
    graphed_training(model)
    states = []
    for network in (model, plain):
        torch.manual_seed(0)
        for _ in range(2):
            step(network, image)
        states.append(torch.get_rng_state())
    assert int(model[0].num_batches_tracked) == 2
    assert_same(model, plain)


def test_what_waits_for_the_device_runs_without(recorders, messages):
    class Waiting(nn.Linear):
        def forward(self, image):
            return super().forward(image) * float(image.sum())

    model, image = graphed_training(Waiting(2, 3)), torch.randn(4, 2)
    for _ in range(3):
        step(model, image)
    assert messages == ['Waiting trains without CUDA graphs: _local_scalar_dense waits for the device']


def test_a_cpu_runs_without_and_says_so_once(messages):
    model, plain, image = graphed_training(counting()), counting(), torch.randn(4, 2)
    for _ in range(3):
        step(model, image), step(plain, image)
    assert_same(model, plain)
    assert messages == ['CUDA graphs need a GPU: training on cpu runs without them']


class Model(BaseModule):
    def __init__(self):
        super().__init__()
        self.backbone, self.neck, self.decode_head = counting(), Counting(3, 3), Counting(3, 1)

    def forward(self, image):
        return self.decode_head(self.neck(self.backbone(image)))


def test_parts_of_a_model_and_copies(recorders):
    torch.manual_seed(1)
    model = Model()
    plain = copy.deepcopy(graphed_training(model))
    for other in (plain, pickle.loads(pickle.dumps(model))):
        assert all(module._compiled_call_impl is None for module in other.modules())
    for _ in range(3):
        image = torch.randn(4, 2)
        for network in (model, plain):
            network.zero_grad()
            step(network, image)
        assert_same(model, plain)
    assert [recorder.replays_back for recorder in recorders] == [2, 2]
    graphed_training(model, max_graphs=0)
    assert all(module._compiled_call_impl is None for module in model.modules())


def test_what_does_not_go_together_is_said(recorders):
    with pytest.raises(InputError, match='with_cp=True exclude'):
        graphed_training(tiny(with_cp=True))
    with pytest.raises(InputError, match='compiled or has CUDA graphs of evaluation'):
        graphed_training(graphed(tiny().eval()))
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match='max_graphs'):
            graphed_training(counting(), wrong)


@pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there')
def test_inside_ddp(recorders, tmp_path):
    """A group of one process, over gloo; every second step is not exchanged."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    try:
        model, plain = counting(), counting()
        wrapped = graphed_training(nn.parallel.DistributedDataParallel(model))
        for i in range(6):
            image = torch.randn(4, 2)
            for network in (model, plain):
                if i % 2:
                    network.zero_grad()
            with nullcontext() if i % 2 else wrapped.no_sync():
                step(wrapped, image)
            step(plain, image)
            assert_same(model, plain)
        assert recorders[0].replays_back == 5
    finally:
        torch.distributed.destroy_process_group()
