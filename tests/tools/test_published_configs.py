"""The configs that the converter writes run as they are: tools/test.py OUT.py OUT, on a few pictures of each kind."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from coco_set import make_coco_set
from event_samples import write


def convert(golden, name, out, *words):
    assert toy.tool('model_converters/published_to_mm').main([str(golden(f'{name}.pth')), str(out), *words]) == 0
    return out.with_name(f'{out.name}.py'), out


def evaluate(files, work_dir, *changes, inference=('float',)):
    """Figures and predictions."""
    words = [*files, '--work-dir', work_dir, '--json', work_dir / 'figures.json', '--out', work_dir / 'said.pkl']
    words += ['--inference', *inference]
    options = toy.options(test_dataloader__num_workers=0) + list(changes)  # runs of one second share a name otherwise
    assert toy.tool('test').main([*map(str, words), *map(str, options)]) == 0
    with open(work_dir / 'said.pkl', 'rb') as file:
        return json.loads((work_dir / 'figures.json').read_text())['metrics'], pickle.load(file)


@pytest.mark.parametrize(
    'name', ['det_maskrcnn_public', pytest.param('det_maskrcnn_e_public', marks=pytest.mark.slow), 'det_retina_public']
)
def test_detectors(golden, tmp_path, name, capsys):
    pytest.importorskip('mmdet')
    files = convert(golden, name, tmp_path / 'out.pth')
    said = capsys.readouterr().out
    assert 'neck_max_spike_count=1' in said and 'tensors do not show it' in said
    make_coco_set(tmp_path)
    ground_truth = json.loads((tmp_path / 'set.json').read_text())
    ground_truth['categories'] = [dict(id=i + 1, name=f'class{i}') for i in range(3)]
    (tmp_path / 'set.json').write_text(json.dumps(ground_truth))
    changes = [
        f'test_dataloader.dataset.data_root={tmp_path}',
        'test_dataloader.dataset.ann_file=set.json',
        'test_dataloader.dataset.data_prefix.img=',
        f'test_evaluator.ann_file={tmp_path}/set.json',
        'test_dataloader.dataset.pipeline.1.scale="(160,96)"',
        'model.test_cfg.score_thr=0.0' if 'retina' in name else 'model.test_cfg.rcnn.score_thr=0.0',
        'model.test_cfg.max_per_img=5' if 'retina' in name else 'model.test_cfg.rcnn.max_per_img=5',
    ]
    found = [
        evaluate(files, tmp_path / mode[0], *changes, inference=mode)
        for mode in (('float',), ('integer', '--weight-bits', '8'), ('spike', '--weight-bits', '8'))
    ]
    words = ['--work-dir', str(tmp_path / 'strict'), *toy.options(allow_stride_mismatch=False), *changes]
    assert toy.tool('test').main([*map(str, files), *words]) == 2
    assert ' is told strides ' in capsys.readouterr().err, 'as published, the maps have others'
    metrics, predictions = found[0]
    assert 'coco/bbox_mAP' in metrics and ('coco/segm_mAP' in metrics) == ('mask' in name)
    assert len(predictions) == 4 and all(len(sample['pred_instances']['scores']) == 5 for sample in predictions)
    for integer, spike in zip(found[1][1], found[2][1], strict=True):
        for key in ('bboxes', 'scores', 'labels'):
            assert torch.equal(integer['pred_instances'][key], spike['pred_instances'][key])


@pytest.mark.parametrize('name', ['seg_fpn_public', 'seg_fpn_qsd_public'])
def test_segmentors(golden, tmp_path, name):
    pytest.importorskip('mmseg')
    files = convert(golden, name, tmp_path / 'out.pth')
    numbers = np.random.default_rng(0)
    for kind, suffix in (('images', 'jpg'), ('annotations', 'png')):
        (tmp_path / kind / 'validation').mkdir(parents=True)
        for i in range(2):
            shape, most = ((61, 90, 3), 256) if kind == 'images' else ((61, 90), 6)  # 0 is no class, 1 to 5 are
            picture = numbers.integers(0, most, shape, dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / kind / f'validation/{i}.{suffix}'), picture)
    changes = [f'test_dataloader.dataset.data_root={tmp_path}', 'test_dataloader.dataset.pipeline.1.scale="(120,80)"']
    metrics, predictions = evaluate(files, tmp_path / 'run', *changes)
    assert 0 <= metrics['mIoU'] <= 100
    assert [tuple(sample['pred_sem_seg']['data'].shape) for sample in predictions] == [(1, 61, 90)] * 2
    assert len({int(v) for sample in predictions for v in sample['pred_sem_seg']['data'].unique()}) > 1


def test_har_dvs(golden, tmp_path, capsys):
    """Drawn pictures of three samples, one of them shorter than T."""
    pytest.importorskip('mmpretrain')
    files = convert(golden, 'hardvs_public', tmp_path / 'out.pth')
    said = capsys.readouterr().out
    assert (
        'max_spike_count=4, spike_worth=1.0, stateful=False' in said and 'does not use the order of its frames' in said
    )
    numbers = np.random.default_rng(0)
    for sample, count in (('action_001/a', 5), ('action_001/b', 2), ('action_007/a', 4)):
        (tmp_path / sample).mkdir(parents=True)
        for i in range(count):
            picture = numbers.integers(0, 256, (65, 80), dtype=np.uint8)
            assert cv2.imwrite(str(tmp_path / sample / f'{i}.png'), picture)
    (tmp_path / 'test_label.txt').write_text('action_001 0 0\naction_007 0 6\n')
    changes = [f'test_dataloader.dataset.data_root={tmp_path}', 'test_dataloader.dataset.pipeline.0.resize=72']
    changes += ['test_dataloader.dataset.pipeline.0.crop_size=64']
    metrics, predictions = evaluate(files, tmp_path / 'run', *changes)
    assert 'accuracy/top1' in metrics and [sample['gt_label'].item() for sample in predictions] == [0, 0, 6]
    assert all(sample['pred_score'].shape == (10,) for sample in predictions)


def test_the_event_network_with_state(golden, tmp_path, capsys):
    pytest.importorskip('mmpretrain')
    files = convert(golden, 'dvs_if_public', tmp_path / 'out.pth')
    said = capsys.readouterr().out
    assert 'max_spike_count=8, spike_worth=0.125, stateful=True' in said and 'no script was released' in said
    for i in range(3):
        write(tmp_path / f'{i}.npz')
    (tmp_path / 'test.txt').write_text('0 1\n1 2\n2 3\n')
    changes = [f'test_dataloader.dataset.data_root={tmp_path}', 'test_dataloader.dataset.pipeline.1.size=64']
    metrics, predictions = evaluate(files, tmp_path / 'run', *changes)
    assert 'accuracy/top5' in metrics and len(predictions) == 3


@pytest.mark.parametrize(
    'name', ['qsd_public', pytest.param('espike_ties_public', marks=pytest.mark.slow), 'espike_large_base_public']
)
def test_classifiers(golden, tmp_path, name):
    pytest.importorskip('mmpretrain')
    files = convert(golden, name, tmp_path / 'out.pth')
    numbers = np.random.default_rng(0)
    for i in range(10):
        (tmp_path / f'val/class{i}').mkdir(parents=True)
        picture = numbers.integers(0, 256, (70, 80, 3), dtype=np.uint8)
        assert cv2.imwrite(str(tmp_path / f'val/class{i}/a.png'), picture)
    changes = [f'test_dataloader.dataset.data_root={tmp_path}', 'test_dataloader.dataset.pipeline.2.crop_size=64']
    metrics, predictions = evaluate(files, tmp_path / 'run', *changes)
    assert 'accuracy/top5' in metrics and len(predictions) == 10
    assert sorted(sample['gt_label'].item() for sample in predictions) == list(range(10))
