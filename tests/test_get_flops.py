"""The libraries' own counters of operations, on whole networks: they run, and agree with ours."""

import importlib.util
import sys
from pathlib import Path

import pytest
import torch
from mmengine.analysis import FlopAnalyzer, get_model_complexity_info
from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis import measure_energy
from qsdt_mm.inference import convert

pytestmark = pytest.mark.filterwarnings('ignore')
ROOT = Path(__file__).parents[1]
NETWORKS = dict(
    mmpretrain='classification/qsd-tiny_1xb32_shapes',
    mmdet='detection/mask-rcnn_qsd-small_fpn_1xb4_shapes',
    mmseg='segmentation/semantic-fpn_qsd-small_1xb4_shapes-64x64',
)
# Each takes seconds, for these counters trace a network several times.
SLOW = [pytest.param(library, marks=pytest.mark.slow) for library in ('mmdet', 'mmseg')]


def library_tool(library):
    """Its ``get_flops.py``, as a module."""
    folder = Path(pytest.importorskip(library).__file__).parent
    file = folder / '.mim/tools/analysis_tools/get_flops.py'
    if not file.is_file():
        pytest.skip(f'{library} was installed without its tools')
    spec = importlib.util.spec_from_file_location(f'{library}_get_flops', file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope='module')
def shapes(tmp_path_factory):
    path = str(ROOT / 'tools/dataset_converters/make_shapes.py')
    spec = importlib.util.spec_from_file_location('make_shapes', path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    folder = tmp_path_factory.mktemp('data') / 'shapes'
    assert module.main([str(folder), '--train', '2', '--val', '2']) == 0
    return folder


@pytest.mark.parametrize('library', ['mmpretrain', *SLOW])
def test_the_tool_itself(library, shapes, monkeypatch, capsys):
    tool = library_tool(library)
    options = ['--shape', '64', '64']
    if library == 'mmdet':  # counts on the images of the validation set
        data = 'val_dataloader.dataset'
        options = ['--num-images', '1', '--cfg-options', f'{data}.data_root={shapes}/', 'val_dataloader.num_workers=0']
        options += ['val_dataloader.persistent_workers=False', 'model.test_cfg.rpn.max_per_img=20']
    monkeypatch.setattr(sys, 'argv', ['get_flops.py', str(ROOT / f'configs/{NETWORKS[library]}.py'), *options])
    tool.main()
    said = capsys.readouterr().out
    assert 'Flops: ' in said and 'Params: ' in said


def build(library):
    pytest.importorskip(library)
    cfg = Config.fromfile(ROOT / f'configs/{NETWORKS[library]}.py')
    with DefaultScope.overwrite_default_scope(library):
        if library == 'mmdet':
            cfg.model.test_cfg.rpn.max_per_img = 20
        model = dict(cfg.model)
        if library == 'mmpretrain':
            model['data_preprocessor'] = cfg.data_preprocessor
        return MODELS.build(model).eval()


@pytest.mark.parametrize(
    ('library', 'mode'),
    [
        ('mmpretrain', 'integer'),
        pytest.param('mmpretrain', None, marks=pytest.mark.slow),
        ('mmseg', None),
        pytest.param('mmseg', 'integer', marks=pytest.mark.slow),
        pytest.param('mmdet', None, marks=pytest.mark.slow),
        pytest.param('mmdet', 'integer', marks=pytest.mark.slow),
    ],
)
def test_it_agrees_with_ours(library, mode):
    model, image = build(library), torch.randn(1, 3, 64, 64)
    extra = {}
    if library == 'mmdet':
        from mmdet.structures import DetDataSample

        shape = dict(img_shape=(64, 64), ori_shape=(64, 64), pad_shape=(64, 64), batch_input_shape=(64, 64))
        extra['data_samples'] = [DetDataSample(metainfo=dict(shape, scale_factor=(1.0, 1.0)))]

    def forward(network):
        return lambda inputs: network.__class__.forward(network, inputs, mode='tensor', **extra)

    run = forward(model)
    ours = measure_energy(model, [image], run=lambda inputs: run(inputs) is not None and 1)
    expected = sum(layer.macs for layer in ours.layers)
    counted = model if mode is None else convert(model, mode, 8)
    counted.forward = forward(counted)
    found = FlopAnalyzer(counted, (image,)).by_operator()
    macs = sum(found[name] for name in ('conv', 'linear', 'addmm', 'matmul', 'bmm', 'mm'))
    if library == 'mmdet' and mode == 'integer':  # rounding may propose other boxes, each with its head
        assert macs == pytest.approx(expected, rel=0.5)
    else:
        assert macs == expected
    report = get_model_complexity_info(counted, (3, 64, 64))
    assert report['flops'] >= macs and report['params'] > 0 and report['out_table'] and report['out_arch']
