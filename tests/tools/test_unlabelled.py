"""Test data without label maps are predicted; a validation names classes that it lacks; little is said at the start."""

import contextlib
import io
import pickle
import warnings

import cv2
import numpy as np
import pytest
import toy_runs as toy
from label_sets import label_map, make_set

pytest.importorskip('mmseg')

CONFIG = """
_base_ = {base!r}
classes = ('a', 'b', 'c')
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),
    decode_head=dict(num_classes=3, in_channels=[8, 8, 8, 8], channels=8),
)
data = dict(data_root={root!r}, metainfo=dict(classes=classes))
loader = dict(batch_size=1, num_workers=0)
train_pipeline = [dict(type='LoadImageFromFile'), dict(type='LoadAnnotations'), dict(type='PackSegInputs')]
folders = dict(img_path='images/train', seg_map_path='labels/train')
train_dataloader = dict(loader, dataset=dict(data, data_prefix=folders, pipeline=train_pipeline))
val_dataloader = dict(loader, dataset=dict(data, data_prefix=folders, pipeline=train_pipeline))
test_dataloader = val_dataloader
train_cfg = dict(max_iters=1, val_interval=1)
visualizer = dict(name='unlabelled')  # runs of one process share it otherwise
"""
PREFIX = 'test_dataloader.dataset.data_prefix'
NO_LABELS = f'{PREFIX}.seg_map_path=None'


@pytest.fixture(scope='module')
def trained(tmp_path_factory):
    """A config that inherits a palette of two colours for three classes, a checkpoint, and what the training said."""
    root = tmp_path_factory.mktemp('set')
    make_set(root, [label_map(0, 1, size=(32, 32))] * 2)
    for i in range(2):
        (root / 'images/test').mkdir(exist_ok=True)
        assert cv2.imwrite(str(root / f'images/test/t{i}.png'), np.full((32, 40, 3), 90 * i, np.uint8))
    config = root / 'c.py'
    base = toy.ROOT / 'configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'
    config.write_text(CONFIG.format(base=str(base), root=str(root)))
    said = io.StringIO()
    with warnings.catch_warnings(record=True) as caught, contextlib.redirect_stdout(said):
        warnings.simplefilter('always')
        with contextlib.redirect_stderr(said):
            status = toy.tool('train').main([str(config), '--work-dir', str(root / 'run')])
    assert status == 0, said.getvalue()
    return config, root / 'run/iter_1.pth', '\n'.join([said.getvalue(), *(str(one.message) for one in caught)])


def evaluate(trained, work_dir, *words, options=()):
    config, checkpoint, _ = trained
    options = [f'{PREFIX}.img_path=images/test', f'experiment_name={work_dir.name}', *options]
    words = [config, checkpoint, '--work-dir', work_dir / 'run', *words, '--cfg-options', *options]
    return toy.tool('test').main([str(word) for word in words])


def test_little_is_said_at_the_start(trained):
    said = trained[2]
    for noise in ('avg_non_ignore', 'The draw is False', 'prefix is not set', 'Distributed training'):
        assert noise not in said
    start, _, rest = said.partition('Checkpoints will be saved')
    assert 'per class results' not in start and 'per class results' in rest  # of the validation, not its rehearsal
    assert 'palette has 2 colours for 3 classes' in said


def test_classes_that_no_label_holds_are_named(trained):
    assert trained[2].count('no label of the validation data is c: their scores are nan') == 1


def test_predictions_are_written(trained, tmp_path, capsys):
    words = ('--out', tmp_path / 'p.pkl', '--show-dir', tmp_path / 'pictures')
    assert evaluate(trained, tmp_path, *words, options=[NO_LABELS]) == 0
    found = pickle.loads((tmp_path / 'p.pkl').read_bytes())
    assert [tuple(one['pred_sem_seg']['data'].shape) for one in found] == [(1, 32, 40)] * 2
    assert sorted(path.name for path in (tmp_path / 'pictures').iterdir()) == ['t0.png', 't1.png']
    assert 'no label maps: nothing is scored, predictions are written' in capsys.readouterr().err


@pytest.mark.parametrize('named', [True, pytest.param(False, marks=pytest.mark.slow)])
def test_format_only(trained, tmp_path, named):
    """With a folder of label maps named that are not there, as inherited, too."""
    options = ['test_evaluator.format_only=True', f'test_evaluator.output_dir={tmp_path / "maps"}']
    assert evaluate(trained, tmp_path, options=options + ([] if named else [NO_LABELS])) == 0
    found = [cv2.imread(str(tmp_path / f'maps/t{i}.png'), cv2.IMREAD_UNCHANGED) for i in range(2)]
    assert all(one.shape == (32, 40) and one.max() < 3 for one in found)


@pytest.mark.slow
def test_views_without_labels(trained, tmp_path):
    assert evaluate(trained, tmp_path, '--tta', '--out', tmp_path / 'p.pkl', options=[NO_LABELS]) == 0
    assert len(pickle.loads((tmp_path / 'p.pkl').read_bytes())) == 2


@pytest.mark.parametrize(
    ('options', 'said'),
    [
        ([NO_LABELS], 'nothing can be scored; say where predictions go: --out'),
        pytest.param(['test_evaluator.format_only=True'], 'nothing can be scored', marks=pytest.mark.slow),
        ([], '2 of the 2 label maps of the test data are not there'),
    ],
)
def test_nothing_to_do(trained, tmp_path, capsys, options, said):
    assert evaluate(trained, tmp_path, options=options) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'test.py')
    assert said in line and not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_format_only_with_labels_and_no_folder(trained, tmp_path, capsys):
    options = [f'{PREFIX}.img_path=images/train', 'test_evaluator.format_only=True']
    assert evaluate(trained, tmp_path, options=options) == 2
    assert 'writes nothing: give it output_dir' in capsys.readouterr().err
    assert evaluate(trained, tmp_path, '--out', tmp_path / 'p.pkl', options=options) == 0
