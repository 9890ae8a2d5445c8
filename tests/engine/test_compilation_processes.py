"""``compile`` in processes that train together: as uncompiled, in the pieces whose gradients are exchanged at once."""

import pytest
import torch
import torch._dynamo  # seconds, which each process would take for itself otherwise
import torch._dynamo.backends.distributed
import toy_runs as toy
from copies import joined

from qsdt_mm.models.layers import norms, synapses

pytestmark = [
    pytest.mark.skipif(torch.cuda.is_available(), reason='one process per GPU there'),
    pytest.mark.skipif(not hasattr(torch.compiler, 'is_compiling'), reason='torch 2.1 compiles no hooks'),
]

SPIKING = """model = dict(_delete_=True, type='SpikingToy')
randomness = dict(seed=0)
val_cfg = val_dataloader = val_evaluator = None
train_dataloader = dict(num_workers=0, batch_size=6, dataset=dict(augment=False))
train_cfg = dict(max_epochs=2)"""


@pytest.fixture(autouse=True)
def norms_one_after_the_other(monkeypatch):
    """A compiler gets them so; as one function, they are equal but for rounding."""
    for room in (norms, synapses):
        monkeypatch.setattr(room, 'can_fuse', lambda *args: False)


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64, with AdamW, averaged weights and a schedule."""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', SPIKING)


def two(work_dir, *words, config, backend=None, note=None, **changes):
    """Train in two processes; note in a file what the compiler is given of a network in training."""
    words = [str(config), '--launcher', 'pytorch', '--work-dir', str(work_dir), *map(str, words)]
    words += toy.options(**changes, **(dict(compile__backend=backend) if backend else {}))

    def body():
        if note is not None:
            distributed = torch._dynamo.backends.distributed
            compile_fn = distributed.DDPOptimizer.compile_fn

            def noted(self, graph, inputs):
                with note.open('a') as file:
                    file.write(f'{sum(p.numel() for p in graph.parameters())} {len(inputs)}\n')
                return compile_fn(self, graph, inputs)

            distributed.DDPOptimizer.compile_fn = noted
        return toy.tool('train').main(words)

    return joined(body, 2, toy.free_port())


def test_two_processes_train_as_uncompiled_and_go_on_compiled(config, tmp_path):
    """Bit for bit: weights under the same names, averages, states of the optimizer."""
    note = tmp_path / 'graphs.txt'
    two(tmp_path / 'plain', config=config)
    toy.copy_start(tmp_path / 'plain', tmp_path / 'resumed', 'epoch_1.pth')
    two(tmp_path / 'resumed', '--resume', config=config, backend='eager', note=note)
    one, other = (tmp_path / name / 'epoch_2.pth' for name in ('plain', 'resumed'))
    assert toy.training_differences(one, other) == []
    states = [toy.state(path)['state_dict'] for path in (one, other)]
    assert list(states[0]) == list(states[1])
    assert len(note.read_text().splitlines()) >= 2, 'both processes, by the wrapper that knows the buckets of DDP'


@pytest.mark.slow
def test_inductor_in_two_processes(config, tmp_path):
    """To rounding; the network is in float64."""
    two(tmp_path / 'plain', config=config, train_cfg__max_epochs=1)
    two(tmp_path / 'compiled', config=config, train_cfg__max_epochs=1, backend='inductor')
    states = [toy.state(tmp_path / name / 'epoch_1.pth')['state_dict'] for name in ('plain', 'compiled')]
    assert list(states[0]) == list(states[1])
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, rtol=1e-6, atol=1e-9, msg=name)
