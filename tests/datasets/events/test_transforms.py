"""From events to the network's input."""

import numpy as np
import pytest
import torch
from event_samples import random_events, write
from mmengine.registry import TRANSFORMS

import qsdt_mm  # noqa: F401
from qsdt_mm.datasets.events.files import Events
from qsdt_mm.datasets.events.transforms import AugmentFrames, EventsToFrames, LoadEvents, RandomRoll, frame_indices

SIZE = (20, 30)


def frames(num_frames=4, **options):
    events = Events(*(random_events()[name].astype(np.int64) for name in 'txyp'))
    return EventsToFrames(num_frames, **options)(dict(events=events, sensor_size=SIZE))


@pytest.mark.parametrize('split_by', ['time', 'number'])
def test_counts_are_a_plain_loop(split_by):
    fields, expected = random_events(), np.zeros((4, 2, *SIZE))
    t = fields['t'].astype(int)
    for i in range(200):
        bin_of = 4 * i // 200 if split_by == 'number' else min(4 * (t[i] - t[0]) // (t[-1] - t[0]), 3)
        expected[bin_of, fields['p'][i], fields['y'][i], fields['x'][i]] += 1
    results = frames(split_by=split_by)
    assert results['frames'].dtype == np.float32 and np.array_equal(results['frames'], expected)
    assert results['img_shape'] == results['ori_shape'] == SIZE and 'events' not in results
    if split_by == 'number':
        assert results['frames'].sum((1, 2, 3)).tolist() == [50] * 4


@pytest.mark.parametrize('kind', [np.uint32, np.int64, np.uint64, np.float64])
def test_frames_of_time(kind):
    assert frame_indices(np.array([5, 6, 7, 8, 9], kind), 2, 'time').tolist() == [0, 0, 1, 1, 1]
    assert frame_indices(np.array([7, 7], kind), 3, 'time').tolist() == [0, 0]  # all at once
    late = np.array([2**31, 2**32 - 1], kind)  # no overflow
    assert frame_indices(late, 16, 'time').tolist() == [0, 15]


def test_fewer_events_than_frames():
    assert frame_indices(np.array([1, 2]), 5, 'number').tolist() == [0, 2]


def test_another_size_loses_no_event():
    small, large = frames(size=(10, 15))['frames'], frames(size=40)['frames']
    assert small.shape == (4, 2, 10, 15) and large.shape == (4, 2, 40, 40)
    assert small.sum() == large.sum() == 200
    whole = frames()['frames']
    assert np.array_equal(small, whole.reshape(4, 2, 10, 2, 15, 2).sum((3, 5)))


def test_the_same_as_spikingjelly(tmp_path):
    utils = pytest.importorskip('spikingjelly.datasets.utils')
    fields = random_events()
    for split_by in ('time', 'number'):
        theirs = utils.integrate_events_by_fixed_frames_number(fields, split_by, 4, *SIZE)
        ours = frames(split_by=split_by)['frames']
        # By time their frames are whole microseconds long; by number 200 divides by 4.
        assert np.abs(ours - theirs).sum() <= (4 if split_by == 'time' else 0)


class TestAugmentation:
    @pytest.mark.parametrize(
        'transform',
        [
            dict(type='mmcv.RandomFlip', prob=0.5, direction=['horizontal', 'vertical']),
            dict(type='mmpretrain.RandomCrop', crop_size=16, padding=4),
            dict(type='mmpretrain.RandomResizedCrop', scale=24),
            dict(type='mmcv.Resize', scale=(15, 10)),
        ],
        ids=lambda transform: transform['type'],
    )
    def test_the_same_for_all_steps(self, transform):
        pytest.importorskip('mmpretrain')
        np.random.seed(0)
        one = np.random.default_rng(0).random((1, 2, *SIZE)).astype(np.float32)
        for _ in range(5):
            results = AugmentFrames([transform])(dict(frames=np.repeat(one, 5, 0)))
            out = results['frames']
            assert out.shape[:2] == (5, 2) and out.dtype == np.float32 and out.shape[2:] == results['img_shape']
            assert all(np.array_equal(out[0], step) for step in out[1:])
            assert 'img' not in results

    def test_steps_and_polarities_keep_their_places(self):
        given = np.random.default_rng(0).random((3, 2, *SIZE)).astype(np.float32)
        flip = AugmentFrames([dict(type='mmcv.RandomFlip', prob=1.0, direction='horizontal')])
        assert np.array_equal(flip(dict(frames=given))['frames'], given[..., ::-1])

    def test_rolling(self):
        one = np.random.default_rng(0).random((1, 2, *SIZE)).astype(np.float32)
        rolled = [RandomRoll()(dict(frames=np.repeat(one, 3, 0)))['frames'] for _ in range(4)]
        assert all(np.array_equal(frames[0], step) for frames in rolled for step in frames)
        assert len({frames.tobytes() for frames in rolled}) == 4
        assert all(np.array_equal(np.sort(frames, None), np.sort(np.repeat(one, 3, 0), None)) for frames in rolled)

    def test_too_many_frames(self):
        with pytest.raises(ValueError, match='num_frames=257 is not allowed: expected 256 or fewer to augment'):
            AugmentFrames([])(dict(frames=np.zeros((257, 2, 1, 1), np.float32)))


def test_a_pipeline_gives_what_the_backbone_takes(tmp_path):
    """Through mmpretrain's packing and data preprocessor, with either of its collate functions."""
    pytest.importorskip('mmpretrain')
    from mmengine.dataset import Compose, default_collate, pseudo_collate
    from mmengine.registry import MODELS, DefaultScope

    with DefaultScope.overwrite_default_scope('mmpretrain'):
        pipeline = Compose(
            [
                dict(type='LoadEvents'),
                dict(type='EventsToFrames', split_by='number', size=32),
                dict(type='PackInputs', input_key='frames'),
            ]
        )
        sample = dict(img_path=str(write(tmp_path / 'a.npz')), gt_label=1, sensor_size=SIZE, num_frames=3)
        packed = [pipeline(dict(sample)) for _ in range(2)]
        preprocessor = MODELS.build(dict(type='ClsDataPreprocessor', num_classes=4))
    for collate in (default_collate, pseudo_collate):
        images = preprocessor(collate(packed))['inputs']
        assert images.shape == (2, 3, 2, 32, 32) and images.dtype is torch.float32 and images.sum() == 400
    arch = dict(family='qsd', widths=(4, 4, 8, 8, 16), depths=(0, 0, 0, 1, 0), num_heads=2)
    assert qsdt_mm.SpikeDrivenTransformer(arch, 2, time_steps=3)(images)[0].shape == (2, 16, 2, 2)
    assert packed[0]['data_samples'].img_path == str(tmp_path / 'a.npz')


def test_without_a_sensor_size_it_is_the_largest_place(tmp_path):
    results = LoadEvents()(dict(img_path=write(tmp_path / 'a.npz')))
    assert results['sensor_size'] == SIZE


def test_ready_frames(tmp_path):
    np.savez(tmp_path / 'a.npz', frames=frames()['frames'])
    load = TRANSFORMS.build(dict(type='LoadEventFrames'))
    results = load(dict(img_path=tmp_path / 'a.npz', num_frames=4))
    assert results['frames'].shape == (4, 2, *SIZE) and results['img_shape'] == SIZE


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        (dict(num_frames=0), 'num_frames=0'),
        (dict(split_by='events'), "split_by='events' is not allowed: expected time or number"),
        (dict(size=(3, 4, 5)), r'size=\(3, 4, 5\)'),
        (dict(size=0), 'size=0'),
    ],
)
def test_bad_arguments(options, words):
    with pytest.raises(ValueError, match=words):
        EventsToFrames(**options)


def test_frames_without_a_number():
    with pytest.raises(ValueError, match='num_frames=None is not allowed: expected a number here or in the data set'):
        frames(None)
