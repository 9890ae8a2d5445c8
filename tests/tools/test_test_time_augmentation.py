"""tools/test.py --tta: what is merged, that the truth stays in its place, and what is refused."""

import json
import pickle

import cv2
import numpy as np
import pytest
import torch
import toy_runs as toy
from coco_set import make_coco_set
from mmengine.config import Config
from mmengine.visualization import Visualizer
from tiny_mask_rcnn import MODEL

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.datasets.tta import apply_tta, resized
from qsdt_mm.errors import InputError

CLASSIFIER = """
_base_ = {base!r}
arch = dict(_base_.arch, widths=(4, 8, 8, 8, 8), num_heads=2)
model = dict(backbone=dict(arch=arch), head=dict(in_channels=8, num_classes=2))
data_preprocessor = dict(num_classes=2)
data = dict(data_root={root!r}, data_prefix='')
test_dataloader = dict(batch_size=3, num_workers=0, dataset=data)
"""
SEGMENTER = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),
    decode_head=dict(in_channels=[8, 8, 8, 8], channels=8),
)
test_dataloader = dict(num_workers=0, dataset=dict(data_root={root!r}))
"""
DETECTOR = (
    MODEL
    + """classes = dict(classes=('green', 'red'), palette=[(0, 255, 0), (255, 0, 0)])
dataset = dict(data_root={root!r}, ann_file='set.json', data_prefix=dict(img=''), metainfo=classes)
test_dataloader = dict(num_workers=0, dataset=dataset)
test_evaluator = dict(ann_file={root!r} + '/set.json')
"""
)
LARGE = ('segmenter', 'detector')  # six views of large images


@pytest.fixture(autouse=True)
def one_run_a_process(monkeypatch):
    """Hooks draw with the newest visualizer, and mmengine keeps those of runs before."""
    kinds = [Visualizer]
    for kind in kinds:
        monkeypatch.setattr(kind, '_instance_dict', type(kind._instance_dict)())
        kinds += kind.__subclasses__()


def picture(path, size, seed):
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    assert cv2.imwrite(str(path), image)
    return image


def new_weights(config, channels=3):
    """A checkpoint with new weights beside a config."""
    from mmengine.registry import DefaultScope

    from qsdt_mm import cli

    cfg = cli.load_config(str(config))
    cli.import_library(cfg)
    torch.manual_seed(1)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = cli.build_model(cfg, None, cli.Session('test'))
    with torch.no_grad():  # statistics with which neurons fire
        for _ in range(20):
            seen = model.train().extract_feat(torch.randn(4, channels, 64, 64))
            if hasattr(model, 'decode_head'):
                scores = model.decode_head(seen)
        if hasattr(model, 'decode_head'):  # two classes, as often
            model.decode_head.conv_seg.synapse.bias -= scores.mean((0, 2, 3))
    torch.save(dict(state_dict=model.state_dict()), config.with_suffix('.pth'))
    return config, config.with_suffix('.pth')


@pytest.fixture(scope='module')
def classifier(tmp_path_factory):
    """A tiny network, and pictures in two folders, among them one that is its own neighbour's mirror image."""
    pytest.importorskip('mmpretrain')
    root = tmp_path_factory.mktemp('classes')
    for name in ('cat', 'dog'):
        image = picture(root / name / '0.png', (32, 32), 1)
        image[:, :16] //= 3
        assert cv2.imwrite(str(root / name / '0.png'), image)
    assert cv2.imwrite(str(root / 'dog/mirrored.jpg.png'), image[:, ::-1])
    base = toy.ROOT / 'configs/classification/qsd-small_1xb64_cifar10-folder.py'
    config = root / 'tiny.py'
    config.write_text(CLASSIFIER.format(base=str(base), root=str(root)))
    return new_weights(config)


@pytest.fixture(scope='module')
def segmenter(tmp_path_factory):
    """A tiny network on two images of 97 x 131 px."""
    pytest.importorskip('mmseg')
    root = tmp_path_factory.mktemp('cells')
    (root / 'semantic/val').mkdir(parents=True)
    image = picture(root / 'images/val/a.png', (97, 131), 0)
    assert cv2.imwrite(str(root / 'images/val/b.png'), image[:, ::-1])
    for name in 'ab':
        label = np.zeros((97, 131), np.uint8)
        label[20:50, 30:70] = 1
        assert cv2.imwrite(str(root / f'semantic/val/{name}.png'), label)
    base = toy.ROOT / 'configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'
    config = root / 'tiny.py'
    config.write_text(SEGMENTER.format(base=str(base), root=str(root)))
    return new_weights(config)


@pytest.fixture(scope='module')
def detector(tmp_path_factory):
    """A tiny Mask R-CNN on four images."""
    pytest.importorskip('mmdet')
    root = tmp_path_factory.mktemp('coco')
    make_coco_set(root)
    base = toy.ROOT / 'configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py'
    config = root / 'tiny.py'
    config.write_text(DETECTOR.format(base=str(base), root=str(root)))
    return new_weights(config)


def run(which, tmp_path, *words, **changes):
    """The status of an evaluation."""
    return toy.evaluate(which[1], tmp_path / 'run', *words, config=which[0], **changes)


def predictions(which, tmp_path, *words, **changes):
    out = tmp_path / f'{len(list(tmp_path.glob("*.pkl")))}.pkl'
    assert run(which, tmp_path, '--out', out, *words, **changes) == 0
    with open(out, 'rb') as file:
        return pickle.load(file)


def test_scores_are_the_mean_of_an_image_and_its_mirror_image(classifier, tmp_path, capsys):
    plain = [p['pred_score'] for p in predictions(classifier, tmp_path)]
    found = predictions(classifier, tmp_path, '--tta', '--json', tmp_path / 'm.json')
    assert '--tta: 2 views of each image, as it is and flipped left to right; merged by' in capsys.readouterr().err
    assert json.loads((tmp_path / 'm.json').read_text())['tta'] is True
    merged = [p['pred_score'] for p in found]
    assert not torch.equal(plain[1], plain[2]) and torch.equal(merged[1], merged[2])
    torch.testing.assert_close(merged[1], (plain[1] + plain[2]) / 2)
    assert [int(p['pred_label']) for p in found] == [int(score.argmax()) for score in merged]
    assert [int(p['gt_label']) for p in found] == [0, 1, 1]


@pytest.mark.parametrize('name', ['classifier', *(pytest.param(name, marks=pytest.mark.slow) for name in LARGE)])
def test_modes_are_bit_equal(name, request, tmp_path, capsys):
    which = request.getfixturevalue(name)
    integer, spike = (predictions(which, tmp_path, '--tta', '--inference', mode) for mode in ('integer', 'spike'))
    views = 2 if name == 'classifier' else 6
    assert f'--tta: {views} views of each image' in capsys.readouterr().err
    key = dict(classifier='pred_score', segmenter='pred_sem_seg', detector='pred_instances')[name]
    assert toy.differences([p[key] for p in integer], [p[key] for p in spike]) == []


def test_a_map_and_that_of_the_mirror_image(segmenter, tmp_path):
    """The map of an image flipped is that of the flipped image; the truth is compared where it lies."""
    flips = tmp_path / 'flips.py'
    flips.write_text(f"""_base_ = {str(segmenter[0])!r}
sides = [dict(type='RandomFlip', prob=0.0), dict(type='RandomFlip', prob=1.0)]
views = dict(type='TestTimeAug', transforms=[sides, [dict(type='LoadAnnotations')], [dict(type='PackSegInputs')]])
tta_pipeline = [dict(type='LoadImageFromFile'), views]
""")
    first, second = (p['pred_sem_seg']['data'] for p in predictions((flips, segmenter[1]), tmp_path, '--tta'))
    assert first.shape == (1, 97, 131) and torch.equal(first, second.flip(-1)) and len(first.unique()) == 2
    plain = [p['pred_sem_seg']['data'] for p in predictions(segmenter, tmp_path)]
    assert not torch.equal(plain[0], plain[1].flip(-1))
    found = predictions(segmenter, tmp_path, '--tta', '--json', tmp_path / 'm.json')
    label = torch.from_numpy(cv2.imread(str(segmenter[0].parent / 'semantic/val/a.png'), cv2.IMREAD_UNCHANGED))
    right = sum(int((p['pred_sem_seg']['data'][0] == label).sum()) for p in found) / (2 * label.numel())
    metrics = json.loads((tmp_path / 'm.json').read_text())['metrics']
    assert metrics['aAcc'] == pytest.approx(100 * right, abs=0.01)


def test_detections_keep_their_masks(detector, tmp_path):
    found = predictions(detector, tmp_path, '--tta', '--json', tmp_path / 'm.json')
    for sample in found:
        instances = sample['pred_instances']
        assert len(instances['masks']) == len(instances['scores']) == len(instances['labels']) == 5
        assert (instances['scores'].diff() <= 0).all() and sample['ori_shape'] == (96, 128)
        assert all(tuple(mask['size']) == (96, 128) for mask in instances['masks'])
    assert {'coco/bbox_mAP', 'coco/segm_mAP'} <= json.loads((tmp_path / 'm.json').read_text())['metrics'].keys()


def test_a_detection_in_both_views_is_one():
    pytest.importorskip('mmdet')
    from mmdet.structures import DetDataSample
    from mmengine.config import ConfigDict
    from mmengine.structures import InstanceData

    from qsdt_mm.models.tta.detection import InstanceTTAModel

    box, mask = torch.tensor([[2.0, 1, 6, 5]]), torch.zeros(1, 8, 20, dtype=torch.bool)
    mask[0, 1:5, 2:6] = True
    samples = []
    for score, direction in ((0.5, None), (0.9, 'horizontal'), (0.7, 'vertical'), (0.6, 'diagonal')):
        x, y = direction in ('horizontal', 'diagonal'), direction in ('vertical', 'diagonal')
        x1, y1, x2, y2 = box[0].tolist()
        there = [20 - x2 if x else x1, 8 - y2 if y else y1, 20 - x1 if x else x2, 8 - y1 if y else y2]
        seen = mask.flip([axis for axis, turned in ((-1, x), (-2, y)) if turned])
        scores = torch.tensor([score])
        found = InstanceData(bboxes=torch.tensor([there]), scores=scores, labels=torch.tensor([1]), masks=seen)
        meta = dict(ori_shape=(8, 20), flip=direction is not None, flip_direction=direction)
        samples.append(DetDataSample(pred_instances=found, metainfo=meta))
    limits = ConfigDict(nms=dict(type='nms', iou_threshold=0.5), max_per_img=10)
    tested = torch.nn.Module()
    tested.test_step = None
    model = InstanceTTAModel(module=tested, tta_cfg=limits)
    merged = model.merge_preds([samples])[0].pred_instances
    assert merged.scores.tolist() == pytest.approx([0.9]) and torch.equal(merged.bboxes, box)
    assert torch.equal(merged.masks, mask)


def test_what_a_configuration_says_goes_first(tmp_path, capsys):
    """The digits, whose mirror images are none, at three sizes."""
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    digits = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
    config = tmp_path / 'digits.py'
    config.write_text(f"""_base_ = {str(digits)!r}
sizes = [dict(type='Resize', scale=scale, interpolation='bicubic') for scale in (32, 34, 36)]
crop = [dict(type='CenterCrop', crop_size=32)]
tta_pipeline = [dict(type='TestTimeAug', transforms=[sizes, crop, [dict(type='PackInputs')]])]
""")
    which = new_weights(config, channels=1)
    few = dict(test_dataloader__dataset__indices=6)
    sizes = [predictions(which, tmp_path, **few)]
    for size in (34, 36):
        crop = "[dict(type='Resize',scale={},interpolation='bicubic'),dict(type='CenterCrop',crop_size=32),"
        variant = tmp_path / f'digits{size}.py'
        pipeline = crop.format(size) + "dict(type='PackInputs')]"
        variant.write_text(f'_base_ = {str(digits)!r}\ntest_dataloader = dict(dataset=dict(pipeline={pipeline}))\n')
        sizes.append(predictions((variant, which[1]), tmp_path, **few))
    found = predictions(which, tmp_path, '--tta', **few)
    error = capsys.readouterr().err
    assert "--tta: 3 views of each image, as the configuration's tta_pipeline says; merged by" in error
    mean = torch.stack([torch.stack([p['pred_score'] for p in one]) for one in sizes]).mean(0)
    torch.testing.assert_close(torch.stack([p['pred_score'] for p in found]), mean)
    predictions(which, tmp_path, '--tta', tta_pipeline='None', **few)
    assert 'flipped left to right (training does not flip: if a mirror image means' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('path', 'changes', 'hint'),
    [
        ('neuromorphic/e-micro-4x4_1xb16_moving-digits-direction.py', {}, 'packs frames, not images'),
        ('classification/qsd-small_1xb64_cifar10.py', dict(default_scope='mmaction'), "got 'mmaction'"),
        ('classification/qsd-small_1xb64_cifar10.py', dict(tta_pipeline=[dict(type='PackInputs')]), 'no step TestTime'),
        (
            'classification/qsd-small_1xb64_cifar10.py',
            {'test_dataloader.dataset.pipeline': [dict(type='RandomFlip', prob=0.5)]},
            'last step of the test pipeline',
        ),
    ],
)
def test_what_cannot_be_augmented(path, changes, hint):
    cfg = Config.fromfile(toy.ROOT / 'configs' / path)
    cfg.merge_from_dict(changes)
    with pytest.raises(InputError, match=hint):
        apply_tta(cfg)


def test_refusals_are_one_line(classifier, detector, tmp_path, capsys):
    pipeline = [dict(type='LoadImageFromFile')]
    config = tmp_path / 'boxes.py'
    text = "tta_model = dict(type='DetTTAModel', tta_cfg=dict(nms=dict(type='nms', iou_threshold=0.5)))"
    config.write_text(f'_base_ = {str(detector[0])!r}\n{text}\n')
    assert run((config, detector[1]), tmp_path, '--tta') == 2
    config.write_text(f'_base_ = {str(classifier[0])!r}\ntta_pipeline = {pipeline!r}\n')
    assert run((config, classifier[1]), tmp_path, '--tta') == 2
    config.write_text(f"_base_ = {str(classifier[0])!r}\ntta_model = dict(type='NoSuchModel')\n")
    assert run((config, classifier[1]), tmp_path, '--tta') == 2
    lines = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert len(lines) == 3 and not (tmp_path / 'run').exists()
    for line, hint in zip(lines, ("use type='InstanceTTAModel'", 'no step TestTimeAug', 'NoSuchModel')):
        assert hint in line, line


def test_every_config_of_images_can_be_augmented():
    """The views keep what the pipeline loads and packs, and load the truth after flips."""
    kinds = ('classification', 'detection', 'segmentation', 'distillation')
    for path in [path for kind in kinds for path in sorted((toy.ROOT / 'configs' / kind).glob('*.py'))]:
        cfg = Config.fromfile(path)
        before = [step.type for step in cfg.test_dataloader.dataset.pipeline]
        apply_tta(cfg)
        *first, views = cfg.test_dataloader.dataset.pipeline
        kinds = [choice[0]['type'] for choice in views['transforms']]
        after = [step['type'] for step in first] + kinds
        assert set(before) <= set(after) and after[-1] == before[-1], path.name
        if 'RandomFlip' in kinds and 'LoadAnnotations' in after:
            assert after.index('LoadAnnotations') > after.index('RandomFlip'), path.name
        if cfg.default_scope == 'mmdet':
            assert {'flip', 'flip_direction'} <= set(views['transforms'][-1][0]['meta_keys'])


@pytest.mark.parametrize(
    ('step', 'times', 'expected'),
    [
        (dict(scale=(100, 60)), 0.75, dict(scale=(75, 45))),
        (dict(scale=64, keep_ratio=True), 1.25, dict(scale=(80, 80), keep_ratio=True)),
        (dict(scale_factor=2.0), 0.75, dict(scale_factor=1.5)),
        (dict(scale_factor=(2.0, 1.0)), 0.5, dict(scale_factor=(1.0, 0.5))),
    ],
)
def test_sizes(step, times, expected):
    assert resized(step, times) == expected


STEMS = dict(classifier=['cat_0', 'dog_0', 'mirrored.jpg'], segmenter=['a', 'b'], detector=['0', '1', '2', '3'])


@pytest.mark.parametrize(
    ('name', 'tta'),
    [
        ('classifier', []),
        ('classifier', ['--tta']),
        ('segmenter', ['--tta']),
        ('detector', []),
        pytest.param('segmenter', [], marks=pytest.mark.slow),
        pytest.param('detector', ['--tta'], marks=pytest.mark.slow),
    ],
)
def test_pictures_have_the_names_of_their_images(name, tta, request, tmp_path, monkeypatch, capsys):
    """Below the current directory, in one folder, in no other."""
    which, expected = request.getfixturevalue(name), STEMS[name]
    monkeypatch.chdir(tmp_path)
    assert run(which, tmp_path, *tta, '--show-dir', 'new/shots') == 0
    assert 'test.py: pictures go to new/shots\n' in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / 'new/shots').rglob('*')) == [f'{stem}.png' for stem in expected]
    for stem in expected:
        assert cv2.imread(str(tmp_path / f'new/shots/{stem}.png')).std() > 1
    others = {path.name for path in (tmp_path / 'run').rglob('*.png')}
    assert others <= {'predictions.png', 'confusion.png', 'classes.png'}
    assert run(which, tmp_path, *tta, '--show-dir', 'some', '--interval', 2) == 0
    assert sorted(path.stem for path in (tmp_path / 'some').iterdir()) == expected[::2]


def test_pictures_cannot_go_into_a_file(classifier, tmp_path, capsys):
    (tmp_path / 'file').write_text('mine')
    assert run(classifier, tmp_path, '--show-dir', tmp_path / 'file') == 2
    assert f'--show-dir {tmp_path / "file"} is a file, not a folder' in capsys.readouterr().err
    assert (tmp_path / 'file').read_text() == 'mine'
