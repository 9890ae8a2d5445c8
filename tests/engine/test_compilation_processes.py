"""``compile`` in processes that train together: as uncompiled, in the pieces whose gradients are exchanged at once."""

import copy
import json

import pytest
import torch
import toy_runs as toy
from copies import joined
from mmengine.model import BaseModel

from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.engine.compilation import compile_backbone
from qsdt_mm.engine.cpu_distributed import CpuDistributedDataParallel
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


class Model(BaseModel):
    def __init__(self):
        super().__init__()
        arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(0, 1, 0, 0, 0), num_heads=2)
        self.backbone = SpikeDrivenTransformer(arch)

    def forward(self, inputs, data_samples=None, mode='tensor'):
        return dict(loss=self.backbone(inputs)[0].square().mean())


@pytest.fixture(autouse=True)
def norms_one_after_the_other(monkeypatch):
    """A compiler gets them so; as one function, they are equal but for rounding."""
    for room in (norms, synapses):
        monkeypatch.setattr(room, 'can_fuse', lambda *args: False)


@pytest.fixture
def alone(tmp_path):
    """A group of one process, over gloo."""
    torch.distributed.init_process_group('gloo', init_method=f'file://{tmp_path}/meet', rank=0, world_size=1)
    yield
    torch.distributed.destroy_process_group()


def test_compiled_inside_its_wrapper_by_the_compiler_that_knows_the_buckets(alone, monkeypatch):
    from torch._dynamo.backends.distributed import DDPOptimizer

    seen, compile_fn = [], DDPOptimizer.compile_fn

    def noted(self, graph, inputs):
        seen.append(graph)
        return compile_fn(self, graph, inputs)

    monkeypatch.setattr(DDPOptimizer, 'compile_fn', noted)
    torch.manual_seed(0)
    model = Model().double()
    plain, wrapped = copy.deepcopy(model), CpuDistributedDataParallel(model)
    compile_backbone(model, dict(backend='eager'))
    assert list(model.state_dict()) == list(plain.state_dict())
    image = torch.randn(2, 3, 32, 32).double()
    losses = [one(image, mode='loss')['loss'] for one in (wrapped, plain)]
    for loss in losses:
        loss.backward()
    assert seen and losses[0] == losses[1]
    for (name, one), (_, other) in zip(model.named_parameters(), plain.named_parameters(), strict=True):
        assert torch.equal(one.grad, other.grad), name


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64, with AdamW, averaged weights and a schedule."""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', SPIKING)


def two(work_dir, *words, config, **changes):
    """Train in two processes."""
    words = [str(config), '--launcher', 'pytorch', '--work-dir', str(work_dir), *map(str, words)]
    words += toy.options(**changes)
    return joined(lambda: toy.tool('train').main(words), 2, toy.free_port())


@pytest.mark.slow
def test_two_processes_train_as_uncompiled_and_go_on_compiled(config, tmp_path):
    """Bit for bit: weights under the same names, averages, states of the optimizer."""
    two(tmp_path / 'plain', config=config)
    toy.copy_start(tmp_path / 'plain', tmp_path / 'resumed', 'epoch_1.pth')
    two(tmp_path / 'resumed', '--resume', config=config, compile__backend='eager')
    one, other = (tmp_path / name / 'epoch_2.pth' for name in ('plain', 'resumed'))
    assert toy.training_differences(one, other) == []
    states = [toy.state(path)['state_dict'] for path in (one, other)]
    assert list(states[0]) == list(states[1])


@pytest.mark.slow
def test_inductor_in_two_processes(config, tmp_path):
    """The first loss, of a network in float64, to rounding; later ones part where membranes lie on an edge."""
    losses, states = [], []
    for name, changes in dict(plain={}, compiled=dict(compile__backend='inductor')).items():
        options = dict(train_cfg__max_epochs=1, default_hooks__logger__interval=1, **changes)
        two(tmp_path / name, config=config, **options)
        (log,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        losses.append([json.loads(line)['loss'] for line in log.read_text().splitlines() if '"loss"' in line])
        states.append(toy.state(tmp_path / name / 'epoch_1.pth')['state_dict'])
    assert losses[0][0] == pytest.approx(losses[1][0], rel=1e-9) and len(losses[0]) == len(losses[1]) > 1
    assert list(states[0]) == list(states[1])
    assert all(torch.isfinite(value).all() for value in states[1].values())
