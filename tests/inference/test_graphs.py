"""CUDA graphs behind a network's calls: what is ours of them, with a tape in the graph's place; no GPU is needed."""

import copy
import threading

import pytest
import torch
from mmengine.model import BaseModule
from taped_graphs import listen, record_tapes
from tiny_backbones import TINY, assert_equal_outputs, families, tiny
from torch import nn

from qsdt_mm.inference import convert, fold_norms, graphed

FORMS = dict(
    trained=lambda model: model,
    folded=fold_norms,
    integer=lambda model: convert(model, 'integer', None if model.arch.family == 'qsd' else 8),
    spike=lambda model: convert(model, 'spike', None if model.arch.family == 'qsd' else 8),
)


@pytest.fixture
def recorders(monkeypatch):
    """All that are made, in the order."""
    return record_tapes(monkeypatch)


@pytest.fixture
def messages(monkeypatch):
    return listen(monkeypatch)


def network(**kwargs):
    return tiny(**kwargs).eval()


class Counting(nn.Linear):
    """How often Python runs it."""

    calls = 0

    def forward(self, image):
        self.calls += 1
        return super().forward(image)


def counting():
    torch.manual_seed(0)
    return Counting(2, 3).eval()


@pytest.mark.parametrize('form', FORMS)
@families
def test_values_are_those_without(family, form, recorders):
    model = FORMS[form](network(family=family))
    plain, images = copy.deepcopy(model), torch.randn(3, 2, 3, 32, 32)
    assert graphed(model) is model
    results = [model(image) for image in images]
    for found, image in zip(results, images):  # later calls have not changed earlier results
        assert_equal_outputs(found, plain(image))
    (recorder,) = recorders
    assert (recorder.captures, recorder.replays) == (1, 3)


def test_over_time_and_with_channels_last(recorders):
    model = network(time_steps=2, out_indices=(4,))
    plain, frames = copy.deepcopy(model), torch.randn(1, 2, 3, 32, 32)
    graphed(model)
    assert_equal_outputs(model(frames), plain(frames))
    image = frames[:, 0].contiguous(memory_format=torch.channels_last)
    for _ in range(2):
        (found,), (expected,) = model(image), plain(image)
        assert torch.equal(found, expected) and found.stride() == expected.stride()
    assert recorders[0].captures == 2


def test_a_graph_for_each_shape_dtype_and_precision(recorders):
    model = graphed(counting())
    plain = copy.deepcopy(model)
    assert plain._compiled_call_impl is None
    for shape in ((2, 2), (4, 2), (2, 2)):
        image = torch.randn(shape)
        assert torch.equal(model(image), plain(image))
    assert recorders[0].captures == 2
    image = torch.randn(2, 2)
    with torch.autocast('cpu', torch.bfloat16):
        assert model(image).dtype == torch.bfloat16 and torch.equal(model(image), plain(image))
    assert model(image).dtype == torch.float32
    with torch.inference_mode():
        assert torch.equal(model(image), plain(image)) and model(image).is_inference()
    assert not model(image).is_inference()
    assert recorders[0].captures == 3
    model.double()
    assert torch.equal(model(image.double()), plain.double()(image.double()))
    assert recorders[0].captures == 4


def test_captured_in_inference_mode_it_serves_elsewhere(recorders):
    model = graphed(counting())
    with torch.inference_mode():
        model(torch.randn(2, 2))
    image = torch.randn(2, 2)
    assert torch.equal(model(image), copy.deepcopy(model)(image)) and recorders[0].captures == 1


def test_so_many_at_most(recorders):
    model = graphed(counting(), max_graphs=2)
    plain = copy.deepcopy(model)

    def captures(*sizes):
        for size in sizes:
            image = torch.randn(size, 2)
            assert torch.equal(model(image), plain(image))
        return recorders[0].captures

    assert captures(1, 2, 1) == 2
    assert captures(3, 4, 3, 4) == 2, 'shapes that alternate push nobody out'
    assert captures(4) == 3  # the second in a row takes the place of the oldest, 2
    assert recorders[0].waits == 1 and len(model._compiled_call_impl.graphs) == 2
    assert captures(1, 4) == 3 and captures(2) == 3 and captures(2) == 4
    assert graphed(model, max_graphs=0) is model and model._compiled_call_impl is None
    assert captures(2) == 4


CHANGES = {
    'a weight replaced': lambda m: setattr(m, 'weight', nn.Parameter(torch.ones(3, 2))),
    'its data replaced': lambda m: setattr(m.weight, 'data', torch.ones(3, 2)),
    'a weight gone': lambda m: setattr(m, 'bias', None),
    'a buffer added': lambda m: m.register_buffer('more', torch.ones(1)),
}


@pytest.mark.parametrize('change', CHANGES)
def test_what_is_replaced_is_seen(change, recorders):
    model, image = graphed(counting()), torch.randn(2, 2)
    model(image)
    CHANGES[change](model)
    for _ in range(2):
        assert torch.equal(model(image), copy.deepcopy(model)(image))
    assert recorders[0].captures == 2


def test_what_changes_in_place_is_seen_without_a_new_graph(recorders):
    """The trained form quantizes inside the graph, so that what a checkpoint or EMA writes is quantized, too."""
    model, other, image = network(), tiny().eval(), torch.randn(1, 3, 32, 32)
    for parameter in other.parameters():
        nn.init.normal_(parameter, std=0.3)
    graphed(model)(image)
    model.load_state_dict(other.state_dict())
    assert_equal_outputs(model(image), other(image))
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.data.mul_(0.5), theirs.data.mul_(0.5)
    assert_equal_outputs(model(image), other(image))
    assert recorders[0].captures == 1


def test_a_rounding_that_comes_with_a_checkpoint_is_seen(recorders):
    from qsdt_mm import IELIF

    model, image = graphed(nn.Sequential(IELIF(scale=1.0)).eval()), torch.tensor([0.5, 1.5])
    assert model(image).tolist() == [1, 2]
    model.load_state_dict(nn.Sequential(IELIF(scale=1.0, rounding='half_even')).state_dict())
    assert model(image).tolist() == [0, 2]
    model[0].threshold = 0.5
    assert model(image).tolist() == [1, 3]
    model[0] = nn.Identity().eval()
    assert model(image).tolist() == [0.5, 1.5]


def test_copies_have_no_graphs(recorders):
    import pickle

    model, image = graphed(network()), torch.randn(1, 3, 32, 32)
    model(image)
    for other in (
        fold_norms(model),
        convert(model, 'integer'),
        copy.deepcopy(model),
        pickle.loads(pickle.dumps(model)),
    ):
        assert all(module._compiled_call_impl is None for module in other.modules())
    assert list(model.state_dict()) == list(network().state_dict())


def test_training_is_refused(recorders):
    model = tiny()
    with pytest.raises(ValueError, match=r'SpikeDrivenTransformer\.training=True is not allowed: expected False'):
        graphed(model)
    assert model._compiled_call_impl is None
    graphed(model.eval()).stages[0].train()
    with pytest.raises(ValueError, match=r'training=True') as caught:
        model(torch.randn(1, 3, 32, 32))
    assert '\n' not in str(caught.value)
    graphed(model.train(), max_graphs=0)(torch.randn(2, 3, 32, 32))
    for wrong in (-1, 1.5, True):
        with pytest.raises(ValueError, match='max_graphs'):
            graphed(model, wrong)


def test_gradients_are_refused_and_none_are_made(recorders):
    model, image = graphed(counting()), torch.randn(2, 2, requires_grad=True)
    with pytest.raises(ValueError, match='requires_grad=True'):
        model(image)
    with torch.no_grad():
        assert not model(image).requires_grad
    assert not model(image.detach()).requires_grad


def test_a_cpu_runs_without_and_says_so_once(messages):
    model = graphed(network())
    plain, image = copy.deepcopy(model), torch.randn(1, 3, 32, 32)
    for _ in range(2):
        assert_equal_outputs(model(image), plain(image))
    assert messages == ['CUDA graphs need a GPU: calls on cpu run without them']
    assert not model(image)[0].requires_grad
    with pytest.raises(ValueError, match='training=True'):
        model.train()(image)


def test_steps_aside_where_somebody_looks(recorders):
    model, image = graphed(counting()), torch.randn(2, 2)
    for _ in range(3):
        model(image)
    calls, seen = model.calls, []
    assert calls == 3  # to warm up, to rehearse, to be captured
    with model.register_forward_hook(lambda *args: seen.append(args)):
        model(image)
    assert len(seen) == 1 and model.calls == calls + 1
    with torch.utils.flop_counter.FlopCounterMode(display=False) as counter:
        model(image)
    assert counter.get_total_flops() > 0 and model.calls == calls + 2
    traced = torch.jit.trace(model, image, check_trace=False)
    assert torch.equal(traced(2 * image), copy.deepcopy(model)(2 * image)) and model.calls == calls + 3
    recorders[0].free = False  # within somebody's capture
    model(image)
    assert model.calls == calls + 4
    recorders[0].free = True
    model(image)
    assert model.calls == calls + 4


class Waiting(nn.Module):
    """Reads a value, in one of the ways there are."""

    def __init__(self, way):
        super().__init__()
        self.way, self.weight = way, nn.Parameter(torch.ones(3))

    def forward(self, image):
        return self.way(image) * self.weight.sum()


WAYS = {
    'item': lambda x: x * x.sum().item(),
    'bool': lambda x: -x if x.sum() > 0 else x,
    'nonzero': lambda x: x.nonzero().float(),
    'mask': lambda x: x[x > 0],
    'assignment by mask': lambda x: x.clone().index_put((x > 0,), torch.zeros(())),
    'unique': lambda x: x.unique(),
    'equal': lambda x: x * torch.equal(x, x),
}


@pytest.mark.parametrize('way', WAYS)
def test_what_waits_for_the_device_runs_without(way, recorders, messages):
    model, images = graphed(Waiting(WAYS[way]).eval()), torch.randn(2, 2, 3)
    for image in images:
        assert torch.equal(model(image), copy.deepcopy(model)(image))
    assert len(messages) == 1 and 'runs without CUDA graphs' in messages[0] and 'waits' in messages[0]
    assert recorders[0].captures == 0


def test_numbers_for_an_index_do_not_wait(recorders):
    model = graphed(Waiting(lambda x: x[torch.zeros(3, dtype=torch.long)]).eval())
    model(torch.randn(2, 3))
    assert recorders[0].captures == 1


def test_wrong_input_is_as_clear_as_without_and_does_no_harm(recorders):
    model = graphed(network())
    with pytest.raises(ValueError, match='in_channels=3'):
        model(torch.randn(1, 1, 32, 32))
    linear = graphed(counting())
    with pytest.raises(RuntimeError, match='shapes cannot be multiplied'):
        linear(torch.randn(2, 5))
    linear(torch.randn(2, 2))
    assert recorders[-1].captures == 1


def test_nested_inputs_and_outputs(recorders):
    class Nested(nn.Module):
        def forward(self, maps, scale=1.0, names=None):
            first = maps['a'] * scale
            return [first, dict(same=first, sum=first + maps['b'][0])], len(maps), None

    model, maps = graphed(Nested().eval()), dict(a=torch.randn(2), b=(torch.randn(2),))
    (first, named), number, nothing = model(maps, scale=2.0)
    assert torch.equal(first, 2 * maps['a']) and named['same'] is first and (number, nothing) == (2, None)
    assert torch.equal(named['sum'], first + maps['b'][0])
    assert torch.equal(model(maps, scale=3.0)[0][0], 3 * maps['a'])
    assert recorders[0].captures == 2
    model(maps, names=object())  # not known to be a constant
    assert recorders[0].captures == 2


def test_threads_take_turns(recorders):
    model, images = graphed(network(arch=dict(TINY['qsd'], depths=(0, 1, 0, 0, 0)))), torch.randn(8, 1, 3, 32, 32)
    plain, found = copy.deepcopy(model), [None] * 8

    def run(i):
        found[i] = model(images[i])

    threads = [threading.Thread(target=run, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for one, image in zip(found, images):
        assert_equal_outputs(one, plain(image))
    assert recorders[0].captures == 1


def test_parts_of_a_model(recorders):
    class Model(BaseModule):
        def __init__(self):
            super().__init__()
            self.backbone, self.neck, self.decode_head = counting(), Counting(3, 3).eval(), Counting(3, 1).eval()

        def forward(self, image):
            return self.decode_head(self.neck(self.backbone(image)))

    model, image = graphed(Model().eval()), torch.randn(2, 2)
    for _ in range(3):
        assert torch.equal(model(image), copy.deepcopy(model)(image))
    calls = model.decode_head.calls, model.neck.calls
    model(image)
    assert (model.decode_head.calls, model.neck.calls) == (calls[0] + 1, calls[1])
    assert [r.captures for r in recorders] == [1, 1]
    wrapped = nn.DataParallel(model)
    assert graphed(wrapped, max_graphs=0) is wrapped and model.backbone._compiled_call_impl is None
