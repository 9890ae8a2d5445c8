"""``compile``: training is what it is without, and what cannot be compiled is one line before it begins."""

import copy

import pytest
import torch
import toy_runs as toy
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from qsdt_mm.engine.compilation import check_compiler, compile_backbone, compile_options
from qsdt_mm.errors import InputError
from qsdt_mm.models.layers import norms, synapses

pytestmark = pytest.mark.skipif(not hasattr(torch.compiler, 'is_compiling'), reason='torch 2.1 compiles no hooks')

DIGITS = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
PLAIN = dict(randomness__seed=0, train_dataloader__num_workers=0, train_cfg__max_epochs=2, train_cfg__val_interval=1)
EAGER = dict(compile__backend='eager')
TINY = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(0, 1, 0, 1, 0), num_heads=2, layer_scale=0.1)


@pytest.fixture(autouse=True)
def norms_one_after_the_other(monkeypatch):
    """A compiler gets them so; as one function, they are equal but for rounding."""
    for room in (norms, synapses):
        monkeypatch.setattr(room, 'can_fuse', lambda *args: False)


@pytest.fixture(autouse=True)
def forget():
    """Code compiled for other tests counts against the compiler's limits."""
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.fixture(scope='module')
def config(tmp_path_factory):
    """A spiking network in float64 with averaged weights, watched by a hook at every second step."""
    text = """model = dict(_delete_=True, type='SpikingToy')
custom_imports = dict(imports=['qsdt_mm', 'toy_parts'], allow_failed_imports=False)
default_hooks = dict(firing=dict(type='FiringRateHook', interval=2))
val_cfg = val_dataloader = val_evaluator = None"""
    return toy.variant(tmp_path_factory.mktemp('config') / 'spiking.py', text)


def test_training_is_the_same_bit_for_bit_and_resumes_either_way(config, tmp_path, capsys):
    assert toy.train(tmp_path / 'plain', config=config, **PLAIN) == 0
    assert toy.train(tmp_path / 'compiled', config=config, **PLAIN, **EAGER) == 0
    assert 'The backbone is compiled' in capsys.readouterr().out
    for i in (1, 2):
        pair = tmp_path / f'plain/epoch_{i}.pth', tmp_path / f'compiled/epoch_{i}.pth'
        assert toy.training_differences(*pair) == []
        assert list(toy.state(pair[0])['state_dict']) == list(toy.state(pair[1])['state_dict'])
    for before, options in (('plain', EAGER), ('compiled', {})):
        again = tmp_path / f'from_{before}'
        toy.copy_start(tmp_path / before, again, 'epoch_1.pth')
        assert toy.train(again, '--resume', 'auto', config=config, **PLAIN, **options) == 0
        assert toy.training_differences(tmp_path / 'plain/epoch_2.pth', again / 'epoch_2.pth') == []


def test_it_does_compile(config, tmp_path, monkeypatch):
    """The graph passes through the backend, in training steps that no hook watches and there only."""
    from torch._dynamo.testing import CompileCounter

    from qsdt_mm import cli

    counter = CompileCounter()
    cfg = cli.load_config(str(config), ['train_cfg.max_epochs=1', 'train_dataloader.num_workers=0'])
    cfg.work_dir, cfg.experiment_name, cfg.compile = str(tmp_path), 'counted', dict(backend='eager')
    runner = cli.build_runner(cfg)
    monkeypatch.setattr('qsdt_mm.engine.runner.compile_options', lambda value: value and dict(backend=counter))
    runner.train()
    assert counter.frame_count > 1 and counter.op_count > 20  # the first check's frame is one
    seen = counter.frame_count
    backbone = runner.model.backbone
    with torch.no_grad():
        backbone(torch.randn(3, 1, 40, 40).double())
    backbone.eval()(torch.randn(3, 1, 40, 40).double())
    assert counter.frame_count == seen
    assert copy.deepcopy(backbone)._compiled_call_impl is None  # as EMA and conversion copy it


@pytest.mark.parametrize(
    ('changes', 'hints'),
    [
        (dict(compile__backend='nosuch'), ["compile (backend='nosuch')", 'nosuch']),
        (dict(compile__mode='fast'), ["compile (mode='fast')", 'reduce-overhead']),
        (dict(compile__bakend='eager'), ['compile.bakend', 'compile.backend']),
        (dict(compile='maybe'), ["compile='maybe' is not allowed", 'True, False or a dict']),
        (dict(compile='1'), ['compile=1 is not allowed']),
        (dict(compile__options__nosuch='1'), ['compile (options=', 'nosuch']),
        (dict(EAGER, activation_checkpointing='[backbone]'), ['activation_checkpointing']),
        (dict(EAGER, model__type='ToyModel'), ['model.backbone', 'ToyModel']),
        (dict(EAGER, model__backbone__with_cp='True'), ['model.backbone.with_cp=True']),
    ],
    ids=lambda value: '-'.join(f'{k}={v}' for k, v in value.items()) if isinstance(value, dict) else '',
)
def test_what_cannot_be_compiled_is_one_line_before_training(config, tmp_path, capsys, changes, hints):
    which = DIGITS if 'model__backbone__with_cp' in changes else config
    if which == DIGITS:
        pytest.importorskip('mmpretrain')
        pytest.importorskip('sklearn')
    assert toy.train(tmp_path / 'run', config=which, **changes) == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and all(hint in lines[0] for hint in hints), lines
    assert not (tmp_path / 'run').exists()


def test_a_missing_compiler_is_one_line_before_training(config, tmp_path, capsys, monkeypatch):
    import torch._inductor.config

    monkeypatch.setattr(torch._inductor.config.cpp, 'cxx', (None, str(tmp_path / 'no-compiler')))
    if hasattr(torch._inductor, 'cpp_builder'):
        for name in ('get_cpp_compiler', 'check_compiler_exist_windows'):
            getattr(getattr(torch._inductor.cpp_builder, name, None), 'cache_clear', lambda: None)()
    monkeypatch.setenv('TORCHINDUCTOR_CACHE_DIR', str(tmp_path / 'cache'))
    assert toy.train(tmp_path / 'run', config=config, compile='True') == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and 'compile (True) does not work here' in lines[0] and 'compiler' in lines[0], lines
    assert not (tmp_path / 'run').exists()


def test_what_the_compiler_meets_later_is_one_line_too(config, tmp_path, capsys):
    """fullgraph=True, which suits the first check and not a backbone that looks at a value."""
    variant = tmp_path / 'branching.py'
    variant.write_text(f"_base_ = {str(config)!r}\nmodel = dict(_delete_=True, type='BranchingToy')\n")
    options = {**PLAIN, **EAGER, 'train_cfg__max_epochs': 1}
    assert toy.train(tmp_path / 'pieces', config=variant, **options) == 0
    torch._dynamo.reset()  # or the pieces, which one process shares, will do
    assert toy.train(tmp_path / 'run', config=variant, **options, compile__fullgraph='True') == 2
    lines = toy.our_lines(capsys.readouterr().err)
    assert len(lines) == 1 and "compile (backend='eager', fullgraph=True) does not work here" in lines[0], lines


@pytest.mark.parametrize('value', [None, False])
def test_nothing_is_compiled_unless_asked(value):
    assert compile_options(value) is None


def test_options_are_those_of_torch_compile():
    from mmengine.config import Config

    cfg = Config(dict(compile=dict(backend='eager', options=dict(a=1))))
    assert compile_options(cfg.compile) == dict(backend='eager', options=dict(a=1))
    assert type(compile_options(cfg.compile)['options']) is dict and compile_options(True) == {}
    with pytest.raises(InputError, match=r'compile \(model=3\)'):
        check_compiler(dict(model=3), torch.device('cpu'))


def test_wrong_data_are_as_clear_as_uncompiled():
    from qsdt_mm import SpikeDrivenTransformer

    holder = nn.Module()
    holder.backbone = SpikeDrivenTransformer(TINY)
    compile_backbone(holder, dict(backend='eager'))
    with pytest.raises(InputError, match='in_channels=3'):
        holder.backbone(torch.randn(2, 1, 32, 32))


def steps(model, data, compiled):
    """Three training steps; the losses, and the state at the end."""
    model = copy.deepcopy(model).train()
    if compiled:
        compile_backbone(model, dict(backend='eager'))
    optimizer, losses = torch.optim.AdamW(model.parameters(), lr=1e-2), []
    for i in range(3):
        torch.manual_seed(i)
        batch = model.data_preprocessor(copy.deepcopy(data), True)
        loss, _ = model.parse_losses(model(**batch, mode='loss'))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.detach())
    return losses, model.state_dict()


def from_config(path, *options, **backbone):
    """The model of a configuration, with new weights and a tiny backbone."""
    from qsdt_mm import cli

    cfg = cli.load_config(str(toy.ROOT / 'configs' / path), options)
    cfg.model.backbone.arch = {**TINY, **backbone}
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build({'data_preprocessor': cfg.get('data_preprocessor'), **cfg.model})


def masked(tmp_path):
    pytest.importorskip('mmpretrain')
    options = ['model.neck.embed_dim=8', 'model.neck.decoder_embed_dim=8']
    arch = dict(family='espike', strides=(1, 2, 2, 2, 1), num_heads=8)
    model = from_config('selfsup/spike-mae_e-small_1xb64_cifar10-folder-64px.py', *options, **arch)
    return model, classified((3, 64, 64), 2)


def classified(size, classes):
    from mmpretrain.structures import DataSample

    images = torch.randint(0, 256, (2, *size), dtype=torch.uint8)
    return dict(inputs=images, data_samples=[DataSample().set_gt_label(i % classes) for i in range(2)])


def distilled(kind):
    def make(tmp_path):
        pytest.importorskip('mmpretrain')
        from qsdt_mm import cli

        path = f'distillation/qsd-small-{kind}_1xb64_cifar10-folder.py'
        cfg = cli.load_config(str(toy.ROOT / 'configs' / path))
        cli.import_library(cfg)
        arch = {**TINY, 'num_heads': 8, 'strides': (1, 1, 2, 2, 1)}
        teacher = {k: v for k, v in cfg.model.teacher.items() if k != 'checkpoint'}
        if kind == 'fgd':
            teacher['backbone']['arch'], teacher['head']['in_channels'] = arch, 8
        cfg.model.backbone.arch, cfg.model.head.in_channels = arch, 8
        with DefaultScope.overwrite_default_scope('mmpretrain'):
            torch.save(MODELS.build(copy.deepcopy(teacher)).state_dict(), tmp_path / 'teacher.pth')
            cfg.model.teacher = dict(teacher, checkpoint=str(tmp_path / 'teacher.pth'))
            return MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model}), classified((3, 32, 32), 10)

    return make


def events(tmp_path):
    pytest.importorskip('mmpretrain')
    model = from_config(
        'neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py', 'model.head.in_channels=8', family='espike'
    )
    return model, classified((4, 2, 32, 32), 4)


def segmenter(tmp_path):
    pytest.importorskip('mmseg')
    from mmengine.structures import PixelData
    from mmseg.structures import SegDataSample

    options = ['model.neck.in_channels=[4,4,8,8]', 'model.neck.out_channels=8', 'model.decode_head.channels=8']
    options.append('model.decode_head.in_channels=[8,8,8,8]')
    model = from_config('segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py', *options)
    label = PixelData(data=torch.randint(0, 2, (1, 64, 64)))
    samples = [SegDataSample(gt_sem_seg=label, metainfo=dict(img_shape=(64, 64))) for _ in range(2)]
    return model, dict(inputs=[torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)] * 2, data_samples=samples)


def detector(tmp_path):
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    path = 'detection/retinanet_qsd-15m_fpn_8xb2-1x_coco.py'
    options = ['model.neck.in_channels=[4,8,8,8]', 'model.neck.out_channels=8', 'model.bbox_head.in_channels=8']
    model = from_config(path, *options, 'model.bbox_head.feat_channels=8', 'model.backbone.init_cfg=None')
    truth = InstanceData(bboxes=torch.tensor([[4.0, 4, 40, 40]]), labels=torch.tensor([1]))
    meta = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), scale_factor=(1, 1), batch_input_shape=0)
    samples = [DetDataSample(gt_instances=truth, metainfo=meta) for _ in range(2)]
    return model, dict(inputs=[torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)] * 2, data_samples=samples)


KINDS = dict(masked=masked, events=events, segmenter=segmenter, detector=detector)
KINDS |= {f'distilled-{kind}': distilled(kind) for kind in ('fgd', 'hard')}


FAST = ('distilled-fgd',)  # tracing takes its time


@pytest.mark.parametrize('kind', [k if k in FAST else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_every_kind_of_model(kind, tmp_path):
    import qsdt_mm  # noqa: F401

    model, data = KINDS[kind](tmp_path)
    losses, state = steps(model, data, compiled=False)
    losses_compiled, state_compiled = steps(model, data, compiled=True)
    assert losses[0] == losses_compiled[0] and not torch.equal(losses[0], losses[2])
    if kind == 'events':  # with T > 1 gradients are summed in another order
        torch.testing.assert_close(losses_compiled, losses, rtol=1e-5, atol=1e-6)
        return
    assert losses == losses_compiled
    assert toy.differences(state, state_compiled) == []


@pytest.mark.slow
def test_gradients_of_inductor():
    """To 1e-9, where no membrane lies on an edge of the surrogate gradient, as those of silent channels do at first."""
    from qsdt_mm import SpikeDrivenTransformer

    model = SpikeDrivenTransformer(dict(TINY, family='espike'), weight_bits=4).double()
    for norm in (module for module in model.modules() if isinstance(module, nn.BatchNorm2d)):
        nn.init.uniform_(norm.bias, -0.3, 0.3)
    holder, image = nn.Module(), torch.rand(4, 3, 32, 32).double()
    holder.backbone = copy.deepcopy(model)
    compile_backbone(holder, {})
    for one in (model, holder.backbone):
        (out,) = one.train()(image)
        (out * torch.linspace(-1, 1, out.numel()).view_as(out)).sum().backward()
    largest = max(p.grad.abs().max() for p in model.parameters())
    for (name, p), q in zip(model.named_parameters(), holder.backbone.parameters()):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-9, atol=1e-11 * largest.item(), msg=name)


@pytest.mark.slow
def test_inductor_trains_the_digits(tmp_path):
    """The first loss to 1e-5, and it learns; after four epochs accuracies of two seeds lie far apart, too."""
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    import json

    options = dict(train_cfg__max_epochs=4, default_hooks__logger__interval=1)
    results = {}
    for name, changes in dict(plain={}, compiled=dict(compile='True'), seed=dict(randomness__seed=1)).items():
        assert toy.train(tmp_path / name, config=DIGITS, **changes, **options) == 0
        (log,) = (tmp_path / name).glob('*/vis_data/scalars.json')
        rows = [json.loads(line) for line in log.read_text().splitlines()]
        results[name] = rows[0]['loss'], [row['accuracy/top1'] for row in rows if 'accuracy/top1' in row]
    print(f'\n{results}')
    assert abs(results['plain'][0] - results['compiled'][0]) < 1e-5
    assert all(accuracies[-1] > 60 for _, accuracies in results.values())
