"""demo/image_demo.py: two pictures for any task, one line for bad input."""

import importlib.util

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from event_samples import random_events, write

pytest.importorskip('mmpretrain')

DIGITS = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
PNG = b'\x89PNG'


def demo(*words):
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main([str(word) for word in words])


def new_weights(config, path):
    """A checkpoint of the config's network, untrained."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    cfg = cli.load_config(str(config))
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = cli.build_model(cfg, None, cli.Session('test'))
    torch.save(dict(state_dict=model.state_dict()), path)
    return path


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / 'photo.jpg'
    assert cv2.imwrite(str(path), np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8))
    return path


def pictures(folder):
    return {path.name: path.read_bytes()[:4] for path in folder.iterdir()}


def test_classification(tmp_path, photo, capsys):
    weights = new_weights(DIGITS, tmp_path / 'new.pth')
    crop = 'test_dataloader.dataset.pipeline.0.keep_ratio=False'
    assert demo(photo, DIGITS, weights, '--out-dir', tmp_path / 'out', '--cfg-options', crop) == 0
    assert pictures(tmp_path / 'out') == {'photo_found.png': PNG, 'photo_firing.png': PNG}
    text = capsys.readouterr().out
    assert 'class    ' in text and 'photo_firing.png' in text


def test_detection(tmp_path, photo):
    pytest.importorskip('mmdet')
    config = tmp_path / 'small.py'
    config.write_text(
        f'_base_ = {str(toy.ROOT / "configs/detection/mask-rcnn_e-10m_fpn_8xb2-1x_coco.py")!r}\n'
        "model = dict(backbone=dict(arch=dict(_delete_=True, preset='e-10m', depths=(0, 1, 1, 1, 1))),\n"
        '    roi_head=dict(bbox_head=dict(fc_out_channels=32)),\n'
        '    test_cfg=dict(rpn=dict(max_per_img=20), rcnn=dict(score_thr=0.0, max_per_img=3)))\n'
        'test_dataloader = dict(dataset=dict(pipeline=[\n'
        "    dict(type='LoadImageFromFile'), dict(type='Resize', scale=(160, 120), keep_ratio=True),\n"
        "    dict(type='PackDetInputs')]))\n"
    )
    weights = new_weights(config, tmp_path / 'new.pth')
    assert demo(photo, config, weights, '--out-dir', tmp_path / 'out', '--score-thr', 0) == 0
    assert pictures(tmp_path / 'out') == {'photo_found.png': PNG, 'photo_firing.png': PNG}


@pytest.mark.parametrize('missing', ['image', 'config', 'checkpoint'])
def test_bad_input(tmp_path, photo, capsys, missing):
    given = dict(image=photo, config=DIGITS, checkpoint=tmp_path / 'none.pth')
    given[missing] = tmp_path / 'absent'
    assert demo(*given.values(), '--out-dir', tmp_path / 'out') == 2
    lines = toy.our_lines(capsys.readouterr().err, 'image_demo.py')
    assert len(lines) == 1 and str(given[missing]) in lines[0]
    assert not (tmp_path / 'out').exists()


def test_events(tmp_path, capsys):
    """Counts of all frames are the image."""
    config = toy.ROOT / 'configs/neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py'
    weights = new_weights(config, tmp_path / 'new.pth')
    events = write(tmp_path / 'some.npz', x=random_events()['x'] % 20)
    assert demo(events, config, weights, '--out-dir', tmp_path / 'out') == 0
    assert pictures(tmp_path / 'out') == {'some_found.png': PNG, 'some_firing.png': PNG}
    said = capsys.readouterr().out.split()
    assert said[said.index('class') + 1] in ('right', 'down', 'left', 'up')


PICTURES = 'configs/neuromorphic/e-19m-pictures-8x4_8xb8_hardvs.py'
EVENTS = 'configs/neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py'
FAULTS = {
    'events.npz': (DIGITS, 'is an npz file, of events or frames: the network of {config} takes pictures'),
    'photo.jpg': (EVENTS, ': the network of {config} takes an npz file of events'),
    'bad.npz': (EVENTS, 'is not an npz file'),
    'folder': (DIGITS, 'is a folder, not a file'),
    'file.jpg': (PICTURES, 'is a file, not a folder'),
}


@pytest.mark.parametrize('name', FAULTS)
def test_what_the_network_does_not_take(tmp_path, photo, capsys, monkeypatch, name):
    config, fault = FAULTS[name]
    config = toy.ROOT / config
    (tmp_path / 'folder').mkdir()
    write(tmp_path / 'events.npz')
    for text in ('bad.npz', 'file.jpg'):
        (tmp_path / text).write_text('x')
    monkeypatch.setattr('qsdt_mm.cli.build_model', lambda *args: torch.nn.Identity())
    assert demo(tmp_path / name, config, tmp_path / 'none.pth', '--out-dir', tmp_path / 'out') == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'image_demo.py')
    assert str(tmp_path / name) in line and fault.format(config=config) in line
    assert not (tmp_path / 'out').exists()
