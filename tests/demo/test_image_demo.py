"""demo/image_demo.py: pictures and JSON for any task, of images, folders and videos; one line for bad input."""

import importlib.util
import json

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from event_samples import random_events, write
from tiny_backbones import tiny

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
    return {path.name: path.read_bytes()[:4] for path in folder.iterdir() if path.suffix != '.json'}


def values(path):
    return json.loads(path.read_text())


CROP = 'test_dataloader.dataset.pipeline.0.keep_ratio=False'


@pytest.fixture(scope='module')
def digits(tmp_path_factory):
    return new_weights(DIGITS, tmp_path_factory.mktemp('digits') / 'new.pth')


def test_classification(tmp_path, photo, digits, capsys):
    assert demo(photo, DIGITS, digits, '--out-dir', tmp_path / 'out', '--cfg-options', CROP) == 0
    assert pictures(tmp_path / 'out') == {'photo_found.png': PNG, 'photo_firing.png': PNG}
    text = capsys.readouterr().out
    assert 'class    ' in text and 'photo_firing.png' in text
    found = values(tmp_path / 'out/photo_found.json')
    assert found['image'] == str(photo) and len(found['classes']) == 5
    scores = [row['score'] for row in found['classes']]
    assert scores == sorted(scores, reverse=True) and 0 < sum(scores) <= 1.001
    assert all(row['name'] == str(row['label']) for row in found['classes'])


def test_what_is_there_stays(tmp_path, photo, digits, capsys):
    """Any of the files that would be written, before the network is built."""
    (tmp_path / 'photo_found.json').write_text('mine')
    words = (photo, DIGITS, digits, '--out-dir', tmp_path, '--cfg-options', CROP)
    assert demo(*words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'image_demo.py')
    assert 'photo_found.json exists: name another folder with --out-dir, or give --overwrite' in line
    assert (tmp_path / 'photo_found.json').read_text() == 'mine' and not (tmp_path / 'photo_found.png').exists()
    assert demo(*words[:-2], '--overwrite', *words[-2:]) == 0
    assert values(tmp_path / 'photo_found.json')['classes']


def test_a_folder(tmp_path, photo, digits, capsys):
    """Folders below count; names that differ in the ending stay apart; a broken one is told of, the others are done."""
    folder = tmp_path / 'photos'
    (folder / 'deep').mkdir(parents=True)
    for name in ('a.jpg', 'a.png', 'deep/b.JPG'):
        cv2.imwrite(str(folder / name), cv2.imread(str(photo)))
    (folder / 'c.png').write_bytes(b'no picture')
    (folder / 'notes.txt').write_text('no picture either')
    words = (folder, DIGITS, digits, '--out-dir', tmp_path / 'out', '--cfg-options', CROP)
    assert demo(*words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'image_demo.py')
    assert '1 of 4 images could not be used' in line and str(folder / 'c.png') in line
    found = sorted(path.relative_to(tmp_path / 'out').as_posix() for path in (tmp_path / 'out').rglob('*.json'))
    assert found == ['a.jpg_found.json', 'a.png_found.json', 'deep/b_found.json']
    assert len(list((tmp_path / 'out').rglob('*.png'))) == 6
    (tmp_path / 'none').mkdir()
    assert demo(tmp_path / 'none', *words[1:]) == 2
    assert 'none holds no image' in capsys.readouterr().err


def write_video(path, frames=5):
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*'MJPG'), 10, (64, 48))
    if not writer.isOpened():
        pytest.skip('OpenCV writes no videos here')
    for i in range(frames):
        writer.write(np.full((48, 64, 3), 40 * i, np.uint8))
    writer.release()


def test_a_video(tmp_path, digits, capsys):
    write_video(tmp_path / 'film.avi')
    words = (DIGITS, digits, '--out-dir', tmp_path / 'out', '--cfg-options', CROP)
    assert demo(tmp_path / 'film.avi', '--every', 2, *words) == 0
    found = values(tmp_path / 'out/film_found.json')
    assert [(row['frame'], row['seconds']) for row in found['frames']] == [(0, 0), (2, 0.2), (4, 0.4)]
    assert all(len(row['classes']) == 5 for row in found['frames'])
    film = cv2.VideoCapture(str(tmp_path / 'out/film_found.mp4'))
    assert film.get(cv2.CAP_PROP_FRAME_COUNT) == 3 and film.get(cv2.CAP_PROP_FPS) == 5
    (tmp_path / 'broken.mp4').write_bytes(b'no film')
    assert demo(tmp_path / 'broken.mp4', *words) == 2
    assert 'broken.mp4 is no video that can be read' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'out').iterdir()) == ['film_found.json', 'film_found.mp4']


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
    found = values(tmp_path / 'out/photo_found.json')['detections']
    assert len(found) == 3 and all(row['mask']['size'] == [90, 120] for row in found)
    for row in found:
        left, top, right, bottom = row['bbox']
        assert 0 <= left <= right <= 120 and 0 <= top <= bottom <= 90 and isinstance(row['name'], str)


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
    'photo.jpg': (EVENTS, ': the network of {config} takes a file of events'),
    'bad.npz': (EVENTS, 'is not an npz file'),
    'folder': (EVENTS, 'is a folder, not a file'),
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
    monkeypatch.setattr('qsdt_mm.cli.build_model', lambda *args: tiny())
    assert demo(tmp_path / name, config, tmp_path / 'none.pth', '--out-dir', tmp_path / 'out') == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'image_demo.py')
    assert str(tmp_path / name) in line and fault.format(config=config) in line
    assert not (tmp_path / 'out').exists()
