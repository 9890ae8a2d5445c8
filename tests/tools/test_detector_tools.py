"""The tools on a detector: inference modes, energy of neck and heads, comparison, a pretrained backbone."""

import json
import pickle

import pytest
import torch
import toy_runs as toy
from coco_set import make_coco_set
from tiny_mask_rcnn import MODEL

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it

pytest.importorskip('mmdet')

CONFIG = (
    MODEL
    + """dataset = dict(
    data_root={root!r}, ann_file='set.json', data_prefix=dict(img=''), metainfo=dict(classes=('green', 'red')))
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset)
val_dataloader = dict(num_workers=0, dataset=dataset)
test_dataloader = dict(num_workers=0, dataset=dataset)
val_evaluator = dict(ann_file={root!r} + '/set.json')
test_evaluator = dict(ann_file={root!r} + '/set.json')
train_cfg = dict(max_epochs=1)
"""
)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """A config of a tiny Mask R-CNN on four images, and a checkpoint with new weights."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    root = tmp_path_factory.mktemp('coco')
    make_coco_set(root)
    config = root / 'tiny.py'
    base = toy.ROOT / 'configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py'
    config.write_text(CONFIG.format(base=str(base), root=str(root)))
    cfg = cli.load_config(str(config))
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = cli.build_model(cfg, None, cli.Session('test'))
    checkpoint = root / 'new.pth'
    torch.save(dict(state_dict=model.state_dict()), checkpoint)
    return config, checkpoint


def test_modes_are_bit_equal(detector, tmp_path):
    found = []
    for mode in ('integer', 'spike'):
        out = tmp_path / f'{mode}.pkl'
        words = [*detector, '--work-dir', tmp_path / 'run', '--inference', mode, '--out', out]
        assert toy.tool('test').main([str(word) for word in words]) == 0
        with open(out, 'rb') as file:
            found.append([sample['pred_instances'] for sample in pickle.load(file)])
    assert sum(len(p['scores']) for p in found[0]) == 20
    for integer, spike in zip(*found):
        assert all(torch.equal(integer[key], spike[key]) for key in ('bboxes', 'scores', 'labels'))
        assert integer['masks'] == spike['masks']


def test_energy_counts_neck_and_heads(detector, tmp_path, capsys):
    tool = toy.tool('analysis_tools/energy')
    assert tool.main([*map(str, detector), '--images', '2', '--json', str(tmp_path / 'e.json')]) == 0
    report = json.loads((tmp_path / 'e.json').read_text())
    names = [row['name'] for row in report['layers']]
    for part in ('backbone.', 'neck.', 'rpn_head.', 'roi_head.bbox_head.', 'roi_head.mask_head.'):
        assert any(name.startswith(part) for name in names), part
    assert report['total']['energy_mj'] > 0


def test_comparison(detector, tmp_path, capsys):
    tool = toy.tool('analysis_tools/compare_inference')
    assert tool.main([*map(str, detector), '--images', '3', '--json', str(tmp_path / 'c.json')]) == 0
    figures = json.loads((tmp_path / 'c.json').read_text())
    assert figures['images'] == 3 and figures['integer_equals_spike'] is True
    assert 'equal, bit for bit' in capsys.readouterr().out


def test_a_classifier_s_backbone_starts_a_detector(detector, tmp_path, capsys):
    """A forgotten prefix, which mmengine would only log, is refused before anything is trained."""
    config, checkpoint = detector
    weights = toy.state(checkpoint)['state_dict']
    backbone = {k: torch.full_like(v, 0.5) for k, v in weights.items() if k.startswith('backbone.')}
    torch.save(dict(state_dict={**backbone, 'head.fc.weight': torch.ones(2, 8)}), tmp_path / 'classifier.pth')
    words = [str(config), '--work-dir', str(tmp_path / 'run'), '--cfg-options']
    start = [
        f'model.backbone.init_cfg.{k}={v}'
        for k, v in dict(type='Pretrained', checkpoint=tmp_path / 'classifier.pth').items()
    ]
    frozen = ['model.backbone.frozen_stages=4', 'optim_wrapper.optimizer.lr=1e-9']
    assert toy.tool('train').main([*words, *start]) == 2
    lines = toy.our_lines(capsys.readouterr().err, 'train.py')
    assert len(lines) == 1 and "add prefix='backbone.' to init_cfg" in lines[0]
    assert toy.tool('train').main([*words, *start, 'model.backbone.init_cfg.prefix=backbone.', *frozen]) == 0
    trained = toy.state(tmp_path / 'run/epoch_1.pth')['state_dict']
    assert all(torch.equal(trained[k], v) for k, v in backbone.items() if 'num_batches' not in k)


def test_images_without_detections(detector, tmp_path, capsys):
    words = [
        *detector,
        '--work-dir',
        tmp_path / 'run',
        '--out',
        tmp_path / 'none.pkl',
        '--json',
        tmp_path / 'none.json',
    ]
    nothing = ['--cfg-options', 'model.test_cfg.rcnn.score_thr=1.1']
    assert toy.tool('test').main([*map(str, words), *nothing]) == 0
    with open(tmp_path / 'none.pkl', 'rb') as file:
        assert [len(sample['pred_instances']['scores']) for sample in pickle.load(file)] == [0] * 4
    assert 'Traceback' not in capsys.readouterr().err
    tool = toy.tool('analysis_tools/compare_inference')
    assert tool.main([*map(str, detector), '--images', '2', *nothing]) == 0
    assert 'agree on 0 of 0' in capsys.readouterr().out


WRONG = dict(model__rpn_head__anchor_generator__strides='[4,8,16,32,64]')


@pytest.mark.parametrize('name', ['train', 'test', 'analysis_tools/energy'])
def test_strides_that_do_not_fit_are_refused(detector, tmp_path, capsys, name):
    config, checkpoint = map(str, detector)
    files = [config] if name == 'train' else [config, checkpoint]
    words = ['--work-dir', str(tmp_path / 'run')] if name in ('train', 'test') else []
    assert toy.tool(name).main([*files, *words, *toy.options(**WRONG, visualizer__name=tmp_path.name)]) == 2
    said = capsys.readouterr().err
    assert 'rpn_head is told strides 4, 8, 16, 32, 64, but the maps that it gets have 4, 8, 16, 16, 32' in said
    lines = [line for line in said.splitlines() if 'error' in line]  # the base has other classes, and more epochs
    assert len(lines) == 1 and not (tmp_path / 'run').exists()


def test_strides_of_old_may_be_allowed(detector, tmp_path):
    words = [
        '--work-dir',
        tmp_path / 'run',
        *toy.options(**WRONG, visualizer__name=tmp_path.name, allow_stride_mismatch=True),
    ]
    assert toy.tool('test').main([str(word) for word in (*detector, *words)]) == 0


def test_the_doctor_looks_at_configs(detector, tmp_path, capsys, monkeypatch):
    from qsdt_mm import doctor

    monkeypatch.setattr(doctor, 'packages', list)
    monkeypatch.setattr(doctor, 'devices', list)
    other = tmp_path / 'other.py'
    other.write_text(f'_base_ = {str(detector[0])!r}\nmodel = dict(backbone=dict(output_strides=(4, 8, 16, 32)))\n')
    assert doctor.main([str(detector[0])]) == 0
    assert f'config       {detector[0]}: its model builds, strides fit\n' in capsys.readouterr().out
    assert doctor.main([str(detector[0]), str(other), str(tmp_path / 'none.py')]) == 1
    said = capsys.readouterr().out
    assert f'config       {other}\n             -> rpn_head is told strides 4, 8, 16, 16, 32, but' in said
    assert 'none.py does not exist' in said
