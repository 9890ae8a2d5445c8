"""Annotation and image files broken at random: one line that names what is wrong, status 2, files untouched."""

import contextlib
import io
import json
import random

import cv2
import numpy as np
import pytest
import toy_runs as toy
from coco_set import make_coco_set
from event_samples import random_events, write
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it

for library in ('mmpretrain', 'mmdet', 'mmseg'):
    pytest.importorskip(library)

NETWORK = dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))
CLASSIFIER = """
default_scope = 'mmpretrain'
custom_imports = dict(imports=['qsdt_mm'])
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='qsdt_mm.SpikeDrivenTransformer', in_channels={channels},
        arch=dict(preset='qsd-8m', strides=(1, 1, 2, 2, 1), stem_kernel=3, num_heads=2, **{network})),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='SpikeLinearClsHead', num_classes=2, in_channels=8, topk=(1,), loss=dict(type='CrossEntropyLoss')))
data_preprocessor = dict(num_classes=2)
dataset = {dataset}
train_dataloader = dict(batch_size=2, num_workers=0, dataset=dataset, sampler=dict(type='DefaultSampler', shuffle=True))
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01))
train_cfg = dict(by_epoch=True, max_epochs=1)
default_hooks = dict(checkpoint=dict(type='SafeCheckpointHook', interval=-1, save_last=False))
visualizer = dict(type='UniversalVisualizer', vis_backends=[])
"""
FOLDER = dict(
    type='CustomDataset',
    data_prefix='',
    with_label=True,
    pipeline=[dict(type='LoadImageFromFile'), dict(type='Resize', scale=(32, 32)), dict(type='PackInputs')],
)
EVENTS = dict(
    type='EventFiles',
    ann_file='train.txt',
    sensor_size=(32, 32),
    num_frames=1,
    pipeline=[dict(type='LoadEvents'), dict(type='EventsToFrames'), dict(type='PackInputs', input_key='frames')],
)
SHORT = """
_base_ = {base!r}
model = dict(
    backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))),
    {more}
)
{data}
val_cfg = val_dataloader = val_evaluator = None
test_cfg = test_dataloader = test_evaluator = None
default_hooks = dict(checkpoint=dict(_delete_=True, type='SafeCheckpointHook', interval=-1, save_last=False))
"""
DETECTOR = dict(
    base=str(toy.ROOT / 'configs/detection/mask-rcnn_qsd-small_fpn_1xb4-18e_cells.py'),
    more="""neck=dict(in_channels=[8, 8, 8, 8], out_channels=8),
    rpn_head=dict(in_channels=8, feat_channels=8),
    roi_head=dict(
        bbox_roi_extractor=dict(out_channels=8),
        bbox_head=dict(in_channels=8, fc_out_channels=16, num_classes=2),
        mask_roi_extractor=dict(out_channels=8),
        mask_head=dict(in_channels=8, conv_out_channels=8, num_classes=2))""",
)
SEGMENTER = dict(
    base=str(toy.ROOT / 'configs/segmentation/semantic-fpn_qsd-small_1xb8-500i_cells-256x256.py'),
    more='neck=dict(in_channels=[4, 8, 8, 8], out_channels=8),\n    decode_head=dict(in_channels=[8] * 4, channels=8)',
)


class Classes:
    """Two folders of images."""

    @staticmethod
    def make(root):
        for name in ('cat', 'dog'):
            (root / 'data' / name).mkdir(parents=True)
            for i in range(2):
                image = np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)
                assert cv2.imwrite(str(root / f'data/{name}/{i}.png'), image)
        dataset = dict(FOLDER, data_root=str(root / 'data'))
        return CLASSIFIER.format(channels=3, network=NETWORK, dataset=dataset)

    @staticmethod
    def damage(root, numbers):
        kind = numbers.choice(['image', 'image', 'image', 'no images', 'third class', 'no folder', 'list'])
        data = root / 'data'
        if kind == 'image':
            path = data / numbers.choice(['cat', 'dog']) / f'{numbers.randrange(2)}.png'
            return spoil(path, numbers, but=['folder'])  # a folder of that name is no image, and is left out
        if kind == 'no images':
            for path in [*data.rglob('*.png')]:
                path.rename(path.with_suffix('.txt'))
        elif kind == 'third class':
            (data / 'eel').mkdir()
            (data / 'cat/0.png').rename(data / 'eel/0.png')
        elif kind == 'no folder':
            data.rename(root / 'elsewhere')
        else:
            line = numbers.choice(['cat/0.png', 'cat/0.png x', 'cat/9.png 0', 'cat/0.png 7', 'cat/0.png -1', ''])
            (data / 'list.txt').write_text(f'{line}\ndog/0.png 1\n' if line else '')
            config = root / 'c.py'
            config.write_text(f"{config.read_text()}\ntrain_dataloader['dataset']['ann_file'] = 'list.txt'\n")
            return f'list {line!r}'
        return kind


class Events:
    """Event files and their list."""

    @staticmethod
    def make(root):
        for i in range(4):
            write(root / f'data/{i}.npz', **random_events(i, 300, (32, 32)))
        (root / 'data/train.txt').write_text(''.join(f'{i} {i % 2}\n' for i in range(4)))
        dataset = dict(EVENTS, data_root=str(root / 'data'))
        return CLASSIFIER.format(channels=2, network=NETWORK, dataset=dataset)

    @staticmethod
    def damage(root, numbers):
        path = root / f'data/{numbers.randrange(4)}.npz'
        kind = numbers.choice(['bytes', 'bytes', 'field', 'field', 'field', 'list'])
        if kind == 'bytes':
            return spoil(path, numbers)
        if kind == 'list':
            line = numbers.choice(['0', '0 x', '9 0', '0 7', '0 -1', '', '0 1 2', '../data 0', '\x00 0'])
            (root / 'data/train.txt').write_text(f'{line}\n1 1\n' if line else '')
            return f'list {line!r}'
        name, whole = numbers.choice('txyp'), random_events()
        value = dict(
            absent=None,
            words=np.array(['a'] * 200),
            objects=np.array([{}] * 200, dtype=object),
            negative=np.full(200, -3),
            large=np.full(200, 10**6),
            halves=np.full(200, 0.5),
            nan=np.full(200, np.nan),
            short=whole[name][:7],
            empty=whole[name][:0],
            square=np.zeros((200, 2)),
            number=np.array(3),
        )
        which = numbers.choice(
            [key for key in value if (key, name) not in (('large', 't'), ('halves', 't'), ('negative', 't'))]
        )
        write(path, **{**random_events(0, 200, (32, 32)), name: value[which]})
        return f'{name} {which}'


class Coco:
    """A detector's annotations and images."""

    @staticmethod
    def make(root):
        (root / 'data').mkdir()
        make_coco_set(root / 'data')
        data = (
            f'train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root={str(root / "data")!r}, '
            "ann_file='set.json', data_prefix=dict(img=''), metainfo=dict(classes=('green', 'red'))))\n"
            'train_cfg = dict(max_epochs=1)'
        )
        return SHORT.format(data=data, **DETECTOR)

    @staticmethod
    def damage(root, numbers):
        file = root / 'data/set.json'
        kind = numbers.choice(
            ['bytes', 'image', 'part', 'part', 'key', 'key', 'key', 'size', 'value', 'value', 'value']
        )
        if kind == 'bytes':
            return spoil(file, numbers)
        if kind == 'image':
            return spoil(root / f'data/{numbers.randrange(3)}.png', numbers)
        held = json.loads(file.read_text())
        part = numbers.choice(list(held))
        row = numbers.choice(held[part])
        if kind == 'part':
            what = numbers.choice(['gone', None, {}, 'word', [1, 2], [[]]])
            held[part] = what
            if what == 'gone':
                del held[part]
            said = f'{part} {what}'
        elif kind == 'size':
            row = numbers.choice(held['images'][:3])
            row[numbers.choice(['height', 'width'])] = numbers.choice([5, 97, 4096])
            said = f'size {row}'
        else:
            key = numbers.choice([key for key in row if key not in ('iscrowd', 'segmentation')])
            if kind == 'key':
                del row[key]
            else:
                row[key] = numbers.choice([None, 'nothing', -7, 1e99, [], {}, [1, 'x', 2, 3], [[1]], True])
                if key == 'area' and isinstance(row[key], (int, float)) and not isinstance(row[key], bool):
                    row[key] = 'large'
            said = f'{part} {key} {row.get(key, "gone")}'
        file.write_text(json.dumps(held))
        return said


class Maps:
    """A segmenter's images and label maps."""

    @staticmethod
    def make(root):
        for kind in ('images', 'semantic'):
            (root / f'data/{kind}/train').mkdir(parents=True)
        for i in range(2):
            label = np.zeros((97, 131), np.uint8)
            label[20 : 50 + i, 30:70] = 1
            picture = np.random.default_rng(i).integers(0, 256, (97, 131, 3), dtype=np.uint8)
            assert cv2.imwrite(str(root / f'data/images/train/{i}.png'), picture)
            assert cv2.imwrite(str(root / f'data/semantic/train/{i}.png'), label)
        data = (
            f'train_dataloader = dict(batch_size=2, num_workers=0, dataset=dict(data_root={str(root / "data")!r}))\n'
            'train_cfg = dict(max_iters=1, val_interval=1)'
        )
        return SHORT.format(data=data, **SEGMENTER)

    @staticmethod
    def damage(root, numbers):
        i = numbers.randrange(2)
        kind = numbers.choice(['image', 'map', 'map', 'label', 'label', 'size', 'size', 'gone', 'no images', 'colour'])
        image, label = root / f'data/images/train/{i}.png', root / f'data/semantic/train/{i}.png'
        if kind in ('image', 'map'):
            return f'{kind} {spoil(image if kind == "image" else label, numbers)}'
        if kind == 'label':
            held = cv2.imread(str(label), cv2.IMREAD_UNCHANGED)
            held[:] = numbers.choice([2, 7, 254])
            cv2.imwrite(str(label), held)
        elif kind == 'size':
            cv2.imwrite(str(label), np.zeros(numbers.choice([(10, 10), (97, 130), (131, 97)]), np.uint8))
        elif kind == 'gone':
            label.unlink()
        elif kind == 'colour':
            cv2.imwrite(str(label), np.full((97, 131, 3), 90, np.uint8))
        else:
            for path in [*(root / 'data/images/train').iterdir()]:
                path.unlink()
        return kind


def spoil(path, numbers, but=()):
    """Break a file's bytes so that it cannot be read."""
    data = path.read_bytes()
    kinds = ['truncated', 'empty', 'text', 'zeros', 'head', 'folder']
    kind = numbers.choice([kind for kind in kinds if kind not in but])
    path.unlink()
    if kind == 'folder':
        path.mkdir()
    else:
        path.write_bytes(
            dict(
                truncated=data[: numbers.randrange(1, 30)],
                empty=b'',
                text=b'not what you think\n',
                zeros=bytes(len(data)),
                head=bytes(12) + data[12:],
            )[kind]
        )
    return f'{kind} {path.name}'


SETS = dict(classes=Classes, events=Events, coco=Coco, maps=Maps)


def run(folder):
    said, error = io.StringIO(), io.StringIO()
    words = [str(folder / 'c.py'), '--work-dir', str(folder / 'run')]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error), toy.time_limit(180):
        status = toy.tool('train').main(words)
    return status, error.getvalue()


def prepare(folder, kind):
    folder.mkdir()
    text = SETS[kind].make(folder)
    name = f'{folder.name}-{random.randrange(10**9)}'  # runs of one process share logs and pictures otherwise
    look = f'visualizer = dict(name={name!r})' if '_base_' in text else f'visualizer["name"] = {name!r}'
    (folder / 'c.py').write_text(f'{text}\nexperiment_name = {name!r}\n{look}\n')


def breaks_cleanly(folder, kind, seed):
    folder = folder / f'{kind}-{seed}-{random.randrange(10**9)}'
    prepare(folder, kind)
    what = f'{kind} {seed}: {SETS[kind].damage(folder, random.Random(seed))}'
    before = toy.files(folder)
    status, error = run(folder)
    ours = [line for line in error.splitlines() if line.startswith('train.py: error: ')]
    assert 'Traceback' not in error, f'{what}: {error[-3000:]}'
    assert status == 2 and len(ours) == 1, f'{what}: {status} {error[-1500:]}'
    assert str(folder) in ours[0] or 'classes' in ours[0], f'{what}: {ours[0]}'
    after = toy.files(folder)
    assert {name: after.get(name) for name in before} == before, what
    assert not [name for name in after if '.tmp' in name or name.endswith('.pth')], what
    return what, ours[0].replace(str(folder), '')


CASES = dict(kind=st.sampled_from(list(SETS)), seed=st.integers(0, 10**6))
QUIET = dict(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@pytest.mark.parametrize('kind', SETS)
def test_whole_data_train(tmp_path, kind):
    """What the others break works while it is whole."""
    prepare(tmp_path / kind, kind)
    status, error = run(tmp_path / kind)
    assert status == 0, error


@settings(max_examples=20, **QUIET)
@given(**CASES)
def test_broken_data(tmp_path, kind, seed):
    breaks_cleanly(tmp_path, kind, seed)


@pytest.mark.slow
@settings(max_examples=200, **QUIET)
@given(**CASES)
def test_much_broken_data(tmp_path, kind, seed):
    breaks_cleanly(tmp_path, kind, seed)
