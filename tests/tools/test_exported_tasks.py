"""ONNX files of segmenters and detectors: the figures of their plans; the demo draws what the library finds."""

import importlib.util
import pickle
from importlib.util import find_spec

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from coco_set import make_coco_set
from tiny_mask_rcnn import MODEL
from torch import nn

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
BACKENDS = ['onnxruntime', *['openvino'] * bool(find_spec('openvino'))]

from qsdt_mm.deploy.runtimes import Runtime  # noqa: E402

pytestmark = pytest.mark.slow  # builds networks of three libraries
SEGMENTER = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),
    decode_head=dict(in_channels=[8, 8, 8, 8], channels=8),
)
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root={root!r}))
test_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
"""
DATA = """
dataset = dict(
    data_root={root!r}, ann_file='set.json', data_prefix=dict(img=''), metainfo=dict(classes=('green', 'red')),
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='Resize', scale=(128, 96), keep_ratio=True),
        dict(type='PackDetInputs', meta_keys=('img_id', 'img_path', 'ori_shape', 'img_shape', 'scale_factor')),
    ])
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset)
test_dataloader = dict(num_workers=0, dataset=dataset)
test_evaluator = dict(ann_file={root!r} + '/set.json')
"""
RETINANET = """
_base_ = {base!r}
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, family='qsd', widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1), num_heads=2)),
    neck=dict(in_channels=[8, 8, 8, 8], out_channels=8),
    bbox_head=dict(in_channels=8, feat_channels=8, stacked_convs=1, num_classes=2),
    test_cfg=dict(score_thr=0.001, max_per_img=8),
)
"""


def demo():
    spec = importlib.util.spec_from_file_location('onnx_demo', toy.ROOT / 'demo/onnx_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def written(text, base, root):
    """A configuration, and a checkpoint of new weights with norms that are not as they begin."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    config = root / 'tiny.py'
    config.write_text(text.format(base=str(toy.ROOT / 'configs' / base), root=str(root)))
    cfg = cli.load_config(str(config))
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = cli.build_model(cfg, None, cli.Session('test'))
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.bias, -0.2, 0.4)
    torch.save(dict(state_dict=model.state_dict()), root / 'new.pth')
    return config, root / 'new.pth'


def export(*words):
    return toy.tool('deployment/export_onnx').main([*map(str, words)])


def predictions(config, source, folder, *words):
    out = folder / 'out.pkl'
    command = [*map(str, (config, source, '--work-dir', folder / 'run', '--out', out)), *map(str, words)]
    assert toy.tool('test').main(command) == 0
    return pickle.loads(out.read_bytes())


def test_a_segmenter(tmp_path, capsys):
    pytest.importorskip('mmseg')
    for part in ('train', 'val'):
        for kind in ('images', 'semantic'):
            (tmp_path / kind / part).mkdir(parents=True)
        label = np.zeros((64, 96), np.uint8)
        label[20:50, 30:70] = 1
        picture = np.random.default_rng(0).integers(0, 100, (64, 96, 3), dtype=np.uint8) + 100 * label[..., None]
        cv2.imwrite(str(tmp_path / f'images/{part}/0.png'), picture)
        cv2.imwrite(str(tmp_path / f'semantic/{part}/0.png'), label)
    config, weights = written(SEGMENTER, 'segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py', tmp_path)
    out = tmp_path / 'net.onnx'
    assert export(config, weights, out, '--check') == 0
    expected = predictions(config, weights, tmp_path, '--inference', 'deploy')
    for backend in BACKENDS:
        labels = predictions(config, out, tmp_path, '--backend', backend)[0]['pred_sem_seg']['data']
        assert torch.equal(labels, expected[0]['pred_sem_seg']['data'])
    photo, drawn, module = tmp_path / 'images/val/0.png', tmp_path / 'found.png', demo()
    capsys.readouterr()
    assert module.main([str(photo), str(out), '--out', str(drawn)]) == 0
    assert module.main([str(photo), str(out), '--out', str(drawn)]) == 2
    assert cv2.imread(str(drawn)).shape == (64, 96, 3) and '%' in capsys.readouterr().out
    pixels = torch.from_numpy(cv2.imread(str(photo))[..., ::-1].transpose(2, 0, 1).copy())[None]
    size = (96, 64)
    mine = module.class_map(Runtime(out)(pixels)[0].numpy(), size, size, size)
    assert (mine == labels[0].numpy()).mean() > 0.98


def test_a_detector(tmp_path, capsys):
    pytest.importorskip('mmdet')
    make_coco_set(tmp_path)
    config, weights = written(RETINANET + DATA, 'detection/retinanet_qsd-15m_fpn_8xb2-1x_coco.py', tmp_path)
    out = tmp_path / 'net.onnx'
    assert export(config, weights, out, '--check', '--calibrate', 2) == 0
    expected = predictions(config, weights, tmp_path, '--inference', 'deploy', '--calibrate', 2)
    for backend in BACKENDS:
        found = predictions(config, out, tmp_path, '--backend', backend)
        for one, other in zip(expected, found, strict=True):
            for key in ('bboxes', 'scores', 'labels'):
                assert torch.equal(one['pred_instances'][key], other['pred_instances'][key])
    capsys.readouterr()
    drawn = tmp_path / 'found.png'
    words = [tmp_path / '0.png', out, '--out', drawn, '--score-thr', '0.001']
    assert demo().main([*map(str, words)]) == 0
    lines = capsys.readouterr().out.splitlines()[:-1]
    boxes = torch.tensor([[float(word) for word in line.split()[-4:]] for line in lines])
    best = found[0]['pred_instances']
    assert len(lines) == len(best['scores']) == 8
    torch.testing.assert_close(boxes, best['bboxes'], atol=0.06, rtol=0)
    assert cv2.imread(str(drawn)).shape == (96, 128, 3)


def test_backbone_and_neck_of_two_stages(tmp_path, capsys):
    pytest.importorskip('mmdet')
    make_coco_set(tmp_path)
    config, weights = written(MODEL + DATA, 'detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py', tmp_path)
    out = tmp_path / 'net.onnx'
    assert export(config, weights, out, '--check', '--calibrate', 2, '--size', 64, 96) == 0
    said = capsys.readouterr()
    assert 'ends with the maps of backbone and neck' in said.err and 'features' in said.out
    assert demo().main([str(tmp_path / '0.png'), str(out)]) == 0
    assert 'nothing is drawn' in capsys.readouterr().out
    assert toy.tool('test').main([str(config), str(out), '--work-dir', str(tmp_path / 'run')]) == 2
    assert 'does not evaluate' in toy.our_lines(capsys.readouterr().err, 'test.py')[-1]
