"""From events to frames: steps of data pipelines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform, Compose
from torchvision.transforms.functional import InterpolationMode, center_crop, hflip, resize

from qsdt_mm.errors import InputError, require, require_positive_int

from .files import Events, picture_files, read_events, read_frames, read_picture, sensor_size_of

MOST_PIXELS = 1 << 28  # of all frames of a sample: 2 GiB of counts
MOST_CHANNELS = 512  # of an OpenCV image


def path_of(results: dict[str, Any]) -> str:
    """Return the file to read.

    Raises:
        InputError: there is none, as when mmpretrain's inferencers have read a picture for a network of events.
    """
    if 'img_path' not in results:
        raise InputError('a network of events takes files of events or frames, not pictures: no img_path was given')
    return results['img_path']


class LoadEvents(BaseTransform):
    """Reads the events of ``img_path``: adds ``events``, and ``sensor_size`` where the data set gave none.

    Where the sample says a ``window``, only those of that time; with ``swap_axes`` columns and rows change places.

    Raises:
        InputError: the file is malformed; the message names the file and the fault.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f'{folder}/a.npz', t=[0, 5], x=[3, 1], y=[0, 2], p=[1, 0])
    ...     LoadEvents()(dict(img_path=f'{folder}/a.npz'))['sensor_size']
    (3, 4)
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read and check."""
        path, size = path_of(results), results.get('sensor_size')
        events = read_events(path, size, results.get('window'))
        if results.get('swap_axes'):
            events = events._replace(x=events.y, y=events.x)
        if size is None:
            results['sensor_size'] = sensor_size_of(path) or events.sensor_size
        results['events'] = events
        return results


class LoadEventFrames(BaseTransform):
    """Reads ready-made frames of ``img_path``, ``(T, 2, H, W)``: adds ``frames``.

    Args:
        num_frames: T that is expected; None: the data set's ``num_frames``, if it gives one.

    Raises:
        InputError: the file is malformed or holds another number of frames.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.savez(f'{folder}/a.npz', frames=np.zeros((4, 2, 8, 8)))
    ...     LoadEventFrames(num_frames=4)(dict(img_path=f'{folder}/a.npz'))['frames'].shape
    (4, 2, 8, 8)
    """

    def __init__(self, num_frames: int | None = None) -> None:
        if num_frames is not None:
            require_positive_int('num_frames', num_frames)
        self.num_frames = num_frames

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read and check."""
        return set_frames(
            results, read_frames(path_of(results), self.num_frames or results.get('num_frames')), original=True
        )


class LoadDrawnEvents(BaseTransform):
    """Reads T pictures of the folder ``img_path`` as the released HAR-DVS network wants them: adds ``frames``.

    Of shades of grey g in [0, 1], short side resized (bicubic), centre cut out, ``channel 0 = [g < 0.12]`` and
    ``channel 1 = [0.3 < g <= 0.78]``: zeros and ones, ``(T, 2, crop_size, crop_size)`` float32. Frames after the last
    picture are zero. In training the T pictures begin anywhere, and each is mirrored or not by itself, as published;
    else they are the first T, so that results can be repeated (the released script begins anywhere in testing, too, in
    whatever order the disk lists).

    Args:
        num_frames: T; None: the data set's ``num_frames``.
        resize: short side in pixels before the centre is cut out.
        crop_size: side of the frames.
        training: begin anywhere, and mirror at random.

    Raises:
        ValueError: an argument is out of range, or neither it nor the data set says how many frames.
        InputError: a picture cannot be read, or there is none.

    Source: SFA (arXiv 2411.16061), the released scripts for HAR-DVS.

    >>> import tempfile
    >>> from PIL import Image
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Image.new('L', (4, 4), color=128).save(f'{folder}/1.png')
    ...     frames = LoadDrawnEvents(num_frames=2, resize=4, crop_size=4)(dict(img_path=folder))['frames']
    >>> frames.sum((2, 3)).tolist()  # a grey picture, and no second one
    [[0.0, 16.0], [0.0, 0.0]]
    """

    def __init__(
        self, num_frames: int | None = None, resize: int = 256, crop_size: int = 224, training: bool = False
    ) -> None:
        if num_frames is not None:
            require_positive_int('num_frames', num_frames)
        require_positive_int('resize', resize)
        require_positive_int('crop_size', crop_size)
        require(crop_size <= resize, 'crop_size', crop_size, f'at most resize={resize}')
        self.num_frames, self.resize, self.crop_size, self.training = num_frames, resize, crop_size, training

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Read, cut and threshold."""
        num_frames = self.num_frames or results.get('num_frames')
        require(num_frames is not None, 'num_frames', num_frames, 'a number here or in the data set')
        files = picture_files(results['img_path'])
        start = np.random.randint(max(len(files) - num_frames, 0) + 1) if self.training else 0
        frames = np.zeros((num_frames, 2, self.crop_size, self.crop_size), np.float32)
        for frame, path in zip(frames, files[start : start + num_frames]):
            picture = resize(read_picture(path), self.resize, InterpolationMode.BICUBIC)
            picture = center_crop(picture, self.crop_size)
            if self.training and np.random.rand() < 0.5:
                picture = hflip(picture)
            grey = np.asarray(picture, np.float32) / 255
            frame[0], frame[1] = grey < 0.12, (grey > 0.3) & (grey <= 0.78)
        return set_frames(results, frames, original=True)

    def __repr__(self) -> str:
        return (
            f'LoadDrawnEvents(num_frames={self.num_frames}, resize={self.resize}, crop_size={self.crop_size}, '
            f'training={self.training})'
        )


class EventsToFrames(BaseTransform):
    """Counts events in T frames: adds ``frames``, ``(T, 2, H, W)`` float32; channel 0 darker, channel 1 brighter.

    Args:
        num_frames: T; None: the data set's ``num_frames``.
        split_by: 'time': frames of equal duration; 'number': frames of equally many events (to one).
        size: ``(H, W)`` of the frames, or one number for both; places of the sensor are merged or spread, and no event
            is lost. None: the sensor's.

    Raises:
        ValueError: an argument is out of range, or neither it nor the data set says how many frames.

    >>> events = Events(t=np.array([0, 9]), x=np.array([3, 1]), y=np.array([0, 2]), p=np.array([1, 0]))
    >>> frames = EventsToFrames(num_frames=2)(dict(events=events))['frames']
    >>> frames.shape, frames.sum((2, 3)).tolist()  # brighter in the first frame, darker in the second
    ((2, 2, 3, 4), [[0.0, 1.0], [1.0, 0.0]])
    """

    def __init__(
        self, num_frames: int | None = None, split_by: str = 'time', size: int | Sequence[int] | None = None
    ) -> None:
        if num_frames is not None:
            require_positive_int('num_frames', num_frames)
        require(split_by in ('time', 'number'), 'split_by', split_by, 'time or number')
        self.num_frames, self.split_by, self.size = num_frames, split_by, None
        if size is not None:
            sides = (size, size) if isinstance(size, int) else tuple(size)
            require(len(sides) == 2, 'size', size, 'a number or (H, W)')
            for side in sides:
                require_positive_int('size', side)
            self.size = sides

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Count; the events themselves are dropped."""
        num_frames = self.num_frames or results.get('num_frames')
        require(num_frames is not None, 'num_frames', num_frames, 'a number here or in the data set')
        events = results.pop('events')
        sensor_size = results.get('sensor_size') or events.sensor_size
        size = self.size or sensor_size
        if num_frames * size[0] * size[1] > MOST_PIXELS:
            file = results.get('img_path', 'events')
            raise InputError(
                f'{file}: {num_frames} frames of {size[0]} x {size[1]} pixels are too many: give size or sensor_size'
            )
        return set_frames(results, frames_of(events, num_frames, self.split_by, sensor_size, size), original=True)

    def __repr__(self) -> str:
        return f'EventsToFrames(num_frames={self.num_frames}, split_by={self.split_by!r}, size={self.size})'


class AugmentFrames(BaseTransform):
    """Passes all frames through transforms of images as one: what is drawn at random is the same for all T.

    The frames go as the image ``img``, ``(H, W, T * 2)``. Transforms that only move or resize will do: ``RandomFlip``,
    ``RandomCrop``, ``RandomResizedCrop``, ``Resize``.

    Args:
        transforms: configs of the image transforms, or the transforms.

    Raises:
        ValueError: there are more than 256 frames, which OpenCV does not take.

    >>> frames = np.zeros((4, 2, 8, 8), np.float32)
    >>> augment = AugmentFrames([dict(type='mmcv.Resize', scale=(16, 16))])
    >>> augment(dict(frames=frames, img_shape=(8, 8)))['frames'].shape
    (4, 2, 16, 16)
    """

    def __init__(self, transforms: Sequence[Any]) -> None:
        self.transforms = Compose(list(transforms))

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Fold time into channels, transform, unfold."""
        steps, channels, height, width = results['frames'].shape
        require(steps * channels <= MOST_CHANNELS, 'num_frames', steps, f'{MOST_CHANNELS // 2} or fewer to augment')
        image = results['frames'].reshape(steps * channels, height, width).transpose(1, 2, 0)
        results = self.transforms({**results, 'img': np.ascontiguousarray(image)})
        if results is None:
            return None
        image = results.pop('img')
        frames = np.ascontiguousarray(image.transpose(2, 0, 1)).reshape(steps, channels, *image.shape[:2])
        return set_frames(results, frames)


class RandomRoll(BaseTransform):
    """Moves all frames by the same random distance; what leaves on one side comes back on the other.

    For scenes whose edges are joined, such as the moving digits.

    >>> frames = np.eye(4, dtype=np.float32)[None, None]
    >>> RandomRoll()(dict(frames=frames))['frames'].sum((2, 3)).tolist()  # nothing is lost
    [[4.0]]
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Draw a distance and move."""
        height, width = results['frames'].shape[-2:]
        shift = (np.random.randint(height), np.random.randint(width))
        results['frames'] = np.roll(results['frames'], shift, (-2, -1))
        return results


def set_frames(results: dict[str, Any], frames: np.ndarray, original: bool = False) -> dict[str, Any]:
    """Put frames among the results, with their size where mmcv's transforms look for it."""
    results['frames'] = frames
    results['img_shape'] = frames.shape[-2:]
    if original:
        results['ori_shape'] = frames.shape[-2:]
    return results


def frame_indices(t: np.ndarray, num_frames: int, split_by: str) -> np.ndarray:
    """Return the frame, 0 to T - 1, that each event falls in.

    'time': ``floor(T (t - t_first) / (t_last - t_first))``, the last event in the last frame; 'number': ``floor(T i /
    N)`` for event i of N.
    """
    if split_by == 'number':
        return np.arange(len(t)) * num_frames // len(t)
    elapsed = t - t[0]  # sorted, so unsigned stamps do not wrap
    if elapsed.dtype.kind == 'f':
        index = (elapsed / (elapsed[-1] or 1) * num_frames).astype(np.int64)
    else:
        index = elapsed.astype(np.int64) * num_frames // max(int(elapsed[-1]), 1)
    return np.minimum(index, num_frames - 1)


def frames_of(
    events: Events, num_frames: int, split_by: str, sensor_size: tuple[int, int], size: tuple[int, int]
) -> np.ndarray:
    """Count events, ``(T, 2, H, W)`` float32.

    Args:
        events: inside the sensor.
        num_frames, split_by: as in :class:`EventsToFrames`.
        sensor_size, size: ``(H, W)`` of the sensor and of the frames.
    """
    rows, columns = (
        values if new == old else values * new // old
        for values, new, old in zip((events.y, events.x), size, sensor_size)
    )
    place = frame_indices(events.t, num_frames, split_by) * 2 + events.p
    place = (place * size[0] + rows) * size[1] + columns
    shape = (num_frames, 2, *size)
    return np.bincount(place, minlength=int(np.prod(shape))).astype(np.float32).reshape(shape)
