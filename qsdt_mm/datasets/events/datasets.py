"""Data sets of event cameras, in the folders that their users have on disk."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmpretrain.datasets import BaseDataset

from qsdt_mm.errors import InputError, require, require_positive_int, why_no_file

from .caltech101 import CLASSES
from .files import natural, picture_files, read_events, read_frames, read_picture
from .readers.detection import SUFFIXES
from .recordings import read_labels

Sample = tuple[Path, int] | tuple[Path, int, dict[str, Any]]
ARCHIVES = ('.zip', '.tar', '.gz', '.tgz', '.rar', '.7z')


class EventDataset(BaseDataset):
    """Base of event data sets: samples are files, which the pipeline reads one by one.

    A sample has ``img_path``, ``gt_label``, ``sensor_size`` (H, W) and ``num_frames``; of a part of a recording also
    ``window``, its first time and end in microseconds, and of one whose camera was turned ``swap_axes``.

    Args:
        data_root: folder of the data set.
        split: which part.
        num_frames: T, for ``EventsToFrames``; None leaves it to the pipeline.
        on_error: what a malformed file does. 'raise': stop where it is met; 'skip': all files are read once when the
            data set is built, and those that are malformed are left out, counted and named in the log.
        sensor_size: ``(H, W)``; None: the class's own.
        kwargs: those of mmpretrain's ``BaseDataset``.

    Raises:
        ValueError: an argument is out of range.
        InputError: a file or folder is missing or malformed.

    >>> class Recordings(EventDataset):
    ...     def samples(self):
    ...         return [(Path(self.data_root) / 'left.npz', 0), (Path(self.data_root) / 'right.npz', 1)]
    >>> dataset = Recordings('.', num_frames=4)
    >>> len(dataset), dataset[1]['img_path'], dataset[1]['gt_label'], dataset[1]['num_frames']
    (2, 'right.npz', 1, 4)
    """

    SENSOR_SIZE: tuple[int, int] | None = None
    SPLITS: tuple[str, ...] = ('train', 'test')

    def __init__(
        self,
        data_root: str,
        split: str = 'train',
        num_frames: int | None = None,
        on_error: str = 'raise',
        sensor_size: tuple[int, int] | None = None,
        **kwargs: Any,
    ) -> None:
        require(split in self.SPLITS, 'split', split, ', '.join(self.SPLITS))
        require(on_error in ('raise', 'skip'), 'on_error', on_error, 'raise or skip')
        if num_frames is not None:
            require_positive_int('num_frames', num_frames)
        self.split, self.num_frames, self.on_error = split, num_frames, on_error
        self.sensor_size = tuple(sensor_size) if sensor_size else self.SENSOR_SIZE
        kwargs.setdefault('test_mode', split != 'train')
        super().__init__(**{'ann_file': '', **kwargs}, data_root=str(data_root))

    def samples(self) -> list[Sample]:
        """Return the files and labels of the split, each with what else ``LoadEvents`` needs to know, if anything."""
        raise NotImplementedError

    def ready_made(self) -> bool:
        """Return whether the files hold frames rather than events."""
        return False

    def check(self, sample: dict[str, Any]) -> None:
        """Read a sample's file, to see whether it can be.

        Raises:
            InputError: it is malformed.
        """
        if self.ready_made():
            read_frames(sample['img_path'], self.num_frames)
        else:
            read_events(sample['img_path'], self.sensor_size, sample.get('window'))

    def load_data_list(self) -> list[dict[str, Any]]:
        """Return all samples of the split; nothing is read yet."""
        absent = why_no_file(self.data_root, folder=True)
        if absent:
            raise InputError(f'{type(self).__name__}: data_root {self.data_root} {absent}')
        return [
            dict(
                img_path=str(path),
                gt_label=label,
                sensor_size=self.sensor_size,
                num_frames=self.num_frames,
                **(more[0] if more else {}),
            )
            for path, label, *more in self.samples()
        ]

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out malformed files, if asked to."""
        if self.on_error == 'raise':
            return self.data_list
        kept, faults = [], []
        for sample in self.data_list:
            try:
                self.check(sample)
            except InputError as error:
                faults.append(str(error))
            else:
                kept.append(sample)
        if faults:
            shown = '; '.join(faults[:5]) + ('; ...' if len(faults) > 5 else '')
            print_log(
                f'{type(self).__name__} {self.split}: skipped {len(faults)} of {len(self.data_list)} files: {shown}',
                'current',
            )
        if not kept:
            raise InputError(f'{self.data_root}: none of {len(self.data_list)} files can be read: {faults[0]}')
        return kept


class EventFiles(EventDataset):
    """Events listed in a file of lines ``path label``, paths relative to ``data_root``; the suffix may be left out.

    A path may have spaces in it: the label is the last word. Files may be of any format that is read.

    Args:
        ann_file: the list, relative to ``data_root``.
        kwargs: those of :class:`EventDataset`; ``classes`` names the labels, in order.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, 'train.txt').write_text('recordings/a.npz 1')
    ...     EventFiles(folder, ann_file='train.txt', classes=['left', 'right'])[0]['gt_label']
    1
    """

    SPLITS = ('train', 'val', 'test')

    def __init__(self, data_root: str, ann_file: str, **kwargs: Any) -> None:
        super().__init__(data_root, ann_file=ann_file, **kwargs)

    def samples(self) -> list[Sample]:
        """Return the lines of the list."""
        classes = self.metainfo.get('classes')
        found = []
        for where, line in read_list(Path(self.ann_file)):
            name, *words = line.rsplit(maxsplit=1)
            if not words or not words[0].isdecimal():
                raise InputError(f'{where}: expected "path label", got {line!r}')
            name, label = unquoted(name), int(words[0])
            if classes and label >= len(classes):
                raise InputError(f'{where}: label {label}: expected 0 to {len(classes) - 1}')
            found.append((with_suffix(Path(self.data_root) / name), label))
        return found


class FolderEvents(EventDataset):
    """Base of data sets that SpikingJelly prepares: ``data_root/source/.../CLASS/*.npz``.

    Args:
        source: folder of events, ``events_np``, or of ready-made frames, such as ``frames_number_16_split_by_number``.
        kwargs: those of :class:`EventDataset`.

    >>> dataset = FolderEvents('data/mine', source='frames_number_16_split_by_number', lazy_init=True)
    >>> dataset.root().as_posix(), dataset.ready_made()
    ('data/mine/frames_number_16_split_by_number/train', True)
    """

    def __init__(self, data_root: str, split: str = 'train', source: str = 'events_np', **kwargs: Any) -> None:
        self.source = source
        super().__init__(data_root, split, **kwargs)

    def ready_made(self) -> bool:
        """Return whether the source holds frames."""
        return self.source.startswith('frames_')

    def folder_of(self, label: int) -> str:
        """Return the name of a class's folder."""
        return self.metainfo['classes'][label]

    def root(self) -> Path:
        """Return the folder of the classes' folders."""
        return Path(self.data_root) / self.source / self.split

    def samples(self) -> list[Sample]:
        """Return the files of all classes, in the order of their names, numbers as numbers."""
        found = []
        for label in range(len(self.metainfo['classes'])):
            folder = self.root() / self.folder_of(label)
            absent = why_no_file(folder, folder=True)
            if absent:
                raise InputError(f'{type(self).__name__}: folder {folder} {absent}{packed(Path(self.data_root))}')
            found += [(path, label) for path in self.part(event_files(folder, type(self).__name__))]
        return found

    def part(self, files: list[Path]) -> list[Path]:
        """Return the files of one class that belong to the split."""
        return files


class DVS128Gesture(FolderEvents):
    """11 gestures of 29 persons on a sensor of 128 x 128, split by person: ``SOURCE/{train,test}/{0..10}/*.npz``.

    Where there is no such folder, the files of the published archive are read: ``trials_to_{train,test}.txt``, the
    recordings that they name, and the parts of them that each ``*_labels.csv`` labels, 1 to 11.

    Args and errors as in :class:`FolderEvents`; ``split`` is 'train' (23 persons) or 'test'.

    Source: Amir et al., "A low power, fully event-based gesture recognition system" (CVPR 2017).

    >>> dataset = DVS128Gesture('data/dvs128_gesture', split='test', lazy_init=True)
    >>> dataset.root().as_posix(), dataset.sensor_size, len(dataset.metainfo['classes'])
    ('data/dvs128_gesture/events_np/test', (128, 128), 11)
    """

    SENSOR_SIZE = (128, 128)
    METAINFO = dict(
        classes=(
            'hand clapping',
            'right hand wave',
            'left hand wave',
            'right arm clockwise',
            'right arm counter-clockwise',
            'left arm clockwise',
            'left arm counter-clockwise',
            'arm roll',
            'air drums',
            'air guitar',
            'other gestures',
        )
    )

    def folder_of(self, label: int) -> str:
        """Return the folder's name, which is the label."""
        return str(label)

    def samples(self) -> list[Sample]:
        """Return the files of all classes, or the labelled parts of the archive's recordings."""
        places = [Path(self.data_root), Path(self.data_root) / 'DvsGesture']
        archive = next((place for place in places if (place / f'trials_to_{self.split}.txt').is_file()), None)
        if archive is None or self.root().is_dir():
            return super().samples()
        found = []
        for where, name in read_list(archive / f'trials_to_{self.split}.txt'):
            recording = archive / unquoted(name)
            table = recording.with_name(f'{recording.stem}_labels.csv')
            for label, start, end in read_labels(table):
                if not 1 <= label <= len(self.metainfo['classes']):
                    raise InputError(f'{table} ({where}): class {label}: expected 1 to {len(self.metainfo["classes"])}')
                found.append((recording, label - 1, dict(window=(start, end))))
        return found


class SharedOut(FolderEvents):
    """Base of data sets without a split of their own: the first ``train_share`` of each class, by number, train.

    The rest test. The log says so.

    Args:
        split: 'train' or 'test'.
        train_share: share of each class to train on, in (0, 1).
        kwargs: those of :class:`FolderEvents`.

    >>> SharedOut('data/mine', train_share=0.5, lazy_init=True).part(['a_1.npz', 'a_2.npz'])
    ['a_1.npz']
    """

    def __init__(self, data_root: str, split: str = 'train', train_share: float = 0.9, **kwargs: Any) -> None:
        require(isinstance(train_share, (int, float)) and 0 < train_share < 1, 'train_share', train_share, 'in (0, 1)')
        self.train_share = train_share
        super().__init__(data_root, split, **kwargs)

    def root(self) -> Path:
        """Return the folder of the classes' folders, which no split divides."""
        return Path(self.data_root) / self.source

    def part(self, files: list[Path]) -> list[Path]:
        """Return the first files for training, the others for testing."""
        end = round(len(files) * self.train_share)
        return files[:end] if self.split == 'train' else files[end:]

    def samples(self) -> list[Sample]:
        """Return the files of the split."""
        found = super().samples()
        which = 'first' if self.split == 'train' else 'last'
        share = self.train_share if self.split == 'train' else 1 - self.train_share
        print_log(
            f'{type(self).__name__} {self.split}: the {which} {100 * share:.4g} % of each class by number, '
            f'{len(found)} files (the data set has no split of its own)',
            'current',
        )
        if not found:
            raise InputError(f'{self.root()}: train_share={self.train_share} leaves nothing for split {self.split}')
        return found


class CIFAR10DVS(SharedOut):
    """10,000 images of CIFAR-10 before a sensor of 128 x 128: ``SOURCE/CLASS/cifar10_CLASS_NUMBER.npz``.

    Where there is no such folder, the published archives are read, unpacked to ``CLASS/cifar10_CLASS_NUMBER.aedat``.
    Their events are turned as SpikingJelly's files are: the images stood on their side before the camera.

    Args and errors as in :class:`SharedOut`.

    Source: Li et al., "CIFAR10-DVS: an event-stream dataset for object classification" (2017); folders of SpikingJelly.

    >>> dataset = CIFAR10DVS('data/cifar10_dvs', split='test', train_share=0.8, lazy_init=True)
    >>> dataset.part([f'cifar10_cat_{i}.npz' for i in range(10)])  # the last fifth of a class
    ['cifar10_cat_8.npz', 'cifar10_cat_9.npz']
    """

    SENSOR_SIZE = (128, 128)
    METAINFO = dict(classes=('airplane', 'automobile', 'bird', 'cat', 'deer', 'dog', 'frog', 'horse', 'ship', 'truck'))

    def root(self) -> Path:
        """Return the folder of the classes' folders."""
        root = super().root()
        places = [Path(self.data_root), Path(self.data_root) / 'extract']
        published = [place for place in places if (place / self.metainfo['classes'][0]).is_dir()]
        return published[0] if published and not root.is_dir() else root

    def samples(self) -> list[Sample]:
        """Return the files of the split."""
        more = {'.aedat': dict(swap_axes=True)}
        return [(path, label, more.get(path.suffix.lower(), {})) for path, label, *_ in super().samples()]


class NMNIST(FolderEvents):
    """MNIST's digits before a camera that moves, on 34 x 34 pixels: ``{Train,Test}/{0..9}/*.bin``, as published.

    Args and errors as in :class:`FolderEvents`; ``split`` is 'train' (60,000) or 'test' (10,000).

    Source: Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades" (2015).

    >>> dataset = NMNIST('data/nmnist', split='test', lazy_init=True)
    >>> dataset.root().as_posix(), dataset.sensor_size
    ('data/nmnist/Test', (34, 34))
    """

    SENSOR_SIZE = (34, 34)
    METAINFO = dict(classes=tuple('0123456789'))

    def __init__(self, data_root: str, split: str = 'train', source: str = '', **kwargs: Any) -> None:
        super().__init__(data_root, split, source, **kwargs)

    def root(self) -> Path:
        """Return the folder of the digits' folders."""
        return Path(self.data_root) / self.source / self.split.capitalize()


class NCaltech101(SharedOut):
    """Caltech101 before a camera that moves, up to 240 x 180 pixels (columns x rows): ``Caltech101/CLASS/image_*.bin``.

    100 classes of objects and one of background; the folder ``Caltech101`` may be ``data_root`` itself.

    Args and errors as in :class:`SharedOut`.

    Source: Orchard et al., "Converting static image datasets to spiking neuromorphic datasets using saccades" (2015).

    >>> dataset = NCaltech101('data/ncaltech101', lazy_init=True)
    >>> dataset.root().as_posix(), dataset.sensor_size, len(dataset.metainfo['classes'])
    ('data/ncaltech101/Caltech101', (180, 240), 101)
    """

    SENSOR_SIZE = (180, 240)
    METAINFO = dict(classes=CLASSES)

    def __init__(self, data_root: str, split: str = 'train', source: str = 'Caltech101', **kwargs: Any) -> None:
        super().__init__(data_root, split, source=source, **kwargs)

    def root(self) -> Path:
        """Return the folder of the classes' folders."""
        root, itself = super().root(), Path(self.data_root)
        return itself if not root.is_dir() and (itself / self.metainfo['classes'][1]).is_dir() else root


class HARDVS(FolderEvents):
    """300 actions on a sensor of 346 x 260 (columns x rows): ``action_NNN/dvSave-*.npz`` and ``{split}_label.txt``.

    Each line of a label file begins with a sample's path, ``action_001/dvSave-2021_10_15_19_18_02``; its class is the
    folder's number. AEDAT 4.0 files do as well. With ``source`` the folders that SpikingJelly prepares are read
    instead: ``SOURCE/{train,val,test}/action_NNN/*.npz``.

    Args:
        split: 'train', 'val' or 'test'.
        source: None: label files; else a folder as in :class:`FolderEvents`.
        kwargs: those of :class:`EventDataset`.

    Source: Wang et al., "HARDVS: revisiting human activity recognition with dynamic vision sensors" (AAAI 2024).

    >>> dataset = HARDVS('data/hardvs', split='val', lazy_init=True)
    >>> dataset.sensor_size, dataset.metainfo['classes'][-1]
    ((260, 346), 'action_300')
    """

    SENSOR_SIZE = (260, 346)
    SPLITS = ('train', 'val', 'test')
    METAINFO = dict(classes=tuple(f'action_{i:03}' for i in range(1, 301)))

    def __init__(self, data_root: str, split: str = 'train', source: str | None = None, **kwargs: Any) -> None:
        super().__init__(data_root, split, source or '', **kwargs)

    def samples(self) -> list[Sample]:
        """Return the lines of the label file, or the folders of ``source``."""
        if self.source:
            return super().samples()
        labels = {name: label for label, name in enumerate(self.metainfo['classes'])}
        found = []
        for where, line in read_list(Path(self.data_root) / f'{self.split}_label.txt'):
            name = unquoted(self.name_in(line))
            action = Path(name).parent.name
            if action not in labels:
                raise InputError(f'{where}: {name!r} is not in a folder {next(iter(labels))} to {list(labels)[-1]}')
            found.append((with_suffix(Path(self.data_root) / name), labels[action]))
        return found

    def name_in(self, line: str) -> str:
        """Return the path that a line begins with, which may have spaces in it, without the columns after it."""
        name, columns = re.fullmatch(r'(.+?)((?:\s+(?:_|-?\d+)){0,2})', line).groups()
        if len(columns.split()) < 2 and not (columns and re.search(r'\s', name)):
            return name
        longer = (line, line.rsplit(maxsplit=1)[0])  # a number may be of the name
        return next((one for one in longer if with_suffix(Path(self.data_root) / one).is_file()), name)


class HARDVSPictures(EventDataset):
    """HAR-DVS as the pictures that come with it, which the released network was trained on: folders of drawn frames.

    Each line of ``{train,test}_label.txt`` is ``path _ label``; every folder in ``path`` is a sample, or ``path``
    itself where there is none. ``img_path`` is the folder.

    Args:
        split: 'train' or 'test'; the released script validates on the latter.
        kwargs: those of :class:`EventDataset`.

    Source: Wang et al., "HARDVS: revisiting human activity recognition with dynamic vision sensors" (AAAI 2024).

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     Path(folder, 'action_007').mkdir()
    ...     _ = Path(folder, 'train_label.txt').write_text('action_007 0 6')
    ...     HARDVSPictures(folder)[0]['gt_label']
    6
    """

    METAINFO = HARDVS.METAINFO

    def samples(self) -> list[Sample]:
        """Return the folders of pictures, in the order of the label file, numbers as numbers within a line."""
        found, count = [], len(self.metainfo['classes'])
        for where, line in read_list(Path(self.data_root) / f'{self.split}_label.txt'):
            name, *words = line.rsplit(maxsplit=2)
            if len(words) != 2 or not words[1].isdecimal():
                raise InputError(f'{where}: expected "path _ label", got {line!r}')
            label, folder = int(words[1]), Path(self.data_root) / unquoted(name)
            if label >= count:
                raise InputError(f'{where}: label {label}: expected 0 to {count - 1}')
            absent = why_no_file(folder, folder=True)
            if absent:
                raise InputError(f'{where}: folder {folder} {absent}')
            inside = sorted((path for path in folder.iterdir() if path.is_dir()), key=lambda path: natural(path.name))
            found += [(path, label) for path in inside or [folder]]
        return found

    def check(self, sample: dict[str, Any]) -> None:
        """Refuse a folder without pictures, or one that cannot be read."""
        for path in picture_files(sample['img_path']):
            read_picture(path)


def read_list(path: Path) -> list[tuple[str, str]]:
    """Return the lines that are not empty, as (where it is, line).

    Raises:
        InputError: there is no such file, or nothing in it.
    """
    try:
        text = path.read_text(encoding='utf-8-sig')  # editors on Windows begin files with a mark
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except UnicodeDecodeError as error:
        raise InputError(f'{path} is not a text file') from error
    lines = [(f'{path}, line {i}', line.strip()) for i, line in enumerate(text.splitlines(), 1) if line.strip()]
    if not lines:
        raise InputError(f'{path} lists no sample')
    return lines


def unquoted(name: str) -> str:
    """Return a name without the quotes around it, as some write one with spaces."""
    return name[1:-1] if len(name) > 2 and name[0] == name[-1] and name[0] in '"\'' else name


def with_suffix(path: Path) -> Path:
    """Return the path with the suffix of a file of events at its end: its own, that of a file there, or ``.npz``."""
    if path.suffix.lower() in SUFFIXES:
        return path
    places = [path.with_name(f'{path.name}{suffix}') for suffix in SUFFIXES]
    return next((place for place in places if place.is_file()), places[0])


def event_files(folder: Path, who: str) -> list[Path]:
    """Return the npz files in a folder, or, where there are none, its other files of events; numbers as numbers.

    Raises:
        InputError: there are none.
    """
    files = [path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and not path.name.startswith('.')]
    files = [path for path in files if path.suffix == '.npz'] or files
    if not files:
        raise InputError(f'{who}: folder {folder} holds no file of events ({", ".join(SUFFIXES)})')
    return sorted(files, key=lambda path: natural(path.name))


def packed(folder: Path) -> str:
    """Return a hint where a folder holds archives that were not unpacked."""
    found = sorted(path.name for path in folder.iterdir() if path.suffix.lower() in ARCHIVES)
    return f'; {folder} holds {", ".join(found[:3])}: unpack it there first' if found else ''
