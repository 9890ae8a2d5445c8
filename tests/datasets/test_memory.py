"""Images held in memory: the samples of the data set they come from, in whole batches; what does not fit is refused."""

import pickle

import numpy as np
import pytest
import torch

pytest.importorskip('mmpretrain')

from mmengine.dataset import ConcatDataset, DefaultSampler, RepeatDataset, default_collate, pseudo_collate  # noqa: E402
from mmengine.registry import FUNCTIONS  # noqa: E402
from mmengine.runner import Runner  # noqa: E402
from mmpretrain.datasets import CustomDataset  # noqa: E402
from PIL import Image  # noqa: E402
from torch.utils.data import DataLoader, Subset  # noqa: E402

from qsdt_mm.datasets.labels import CheckedPipeline, Limits  # noqa: E402
from qsdt_mm.datasets.memory import InMemoryImages  # noqa: E402
from qsdt_mm.datasets.sample_batches import ImageBatch, SampleBatch, collate_images  # noqa: E402
from qsdt_mm.engine.hooks.labels import samples_of  # noqa: E402
from qsdt_mm.errors import InputError  # noqa: E402

PACK = dict(type='PackInputs')
LOAD = dict(type='LoadImageFromFile')


def draw(folder, sizes=(), classes=('ant', 'bee'), number=5):
    """Write small images of noise, and one more for each of ``sizes``."""
    random = np.random.default_rng(0)
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i, size in enumerate([(6, 8)] * number + (list(sizes) if label else [])):
            Image.fromarray(random.integers(0, 256, (*size, 3), np.uint8)).save(folder / name / f'{i}.jpg')
    return str(folder)


@pytest.fixture(scope='module')
def root(tmp_path_factory):
    return draw(tmp_path_factory.mktemp('images') / 'train')


def in_memory(root, *steps, **arguments):
    return InMemoryImages(dict(type='CustomDataset', data_root=root), pipeline=[*steps, PACK], **arguments)


def same(ours, theirs):
    """Whether two packed samples have the same pixels, fields and notes."""
    a, b = ours['data_samples'], theirs['data_samples']
    return torch.equal(ours['inputs'], theirs['inputs']) and a.to_dict().keys() == b.to_dict().keys() and all(
        torch.equal(a.get(key), b.get(key)) if isinstance(a.get(key), torch.Tensor) else a.get(key) == b.get(key)
        for key in a.to_dict()
    )  # fmt: skip


@pytest.mark.parametrize('test_mode', [False, True])
def test_samples_are_those_of_the_source_one_by_one_and_in_batches(root, test_mode):
    theirs = CustomDataset(data_root=root, pipeline=[LOAD, PACK], test_mode=test_mode)
    ours = in_memory(root, LOAD, test_mode=test_mode)
    assert len(ours) == 10 and ours.metainfo['classes'] == theirs.metainfo['classes'] == ('ant', 'bee')
    batch = ours.__getitems__([7, 0, 3])
    assert isinstance(batch, ImageBatch)
    for place, index in enumerate([7, 0, 3]):
        assert same(ours[index], theirs[index]) and same(batch[place], theirs[index])


def test_steps_without_chance_are_done_once_and_others_for_each_sample(root):
    resize = dict(type='Resize', scale=(4, 4))
    flip = dict(type='RandomFlip', prob=1.0)
    ours = in_memory(root, LOAD, resize, flip)
    assert ours.images.shape == (10, 3, 4, 4) and len(ours.pipeline.transforms) == 2
    theirs = CustomDataset(data_root=root, pipeline=[LOAD, resize, flip, PACK])
    batch = ours.__getitems__([1, 2])
    assert isinstance(batch, list) and all(same(batch[i], theirs[i + 1]) for i in range(2))


def test_a_loader_gives_the_batches_that_it_would_give_of_the_source(root):
    """Shuffled alike, the last batch shorter; with processes too, with other collate functions, and repeated."""
    theirs = CustomDataset(data_root=root, pipeline=[LOAD, PACK])
    ours = in_memory(root, LOAD)

    def batches(dataset, collate, **more):
        sampler = DefaultSampler(dataset, shuffle=True, seed=3)
        return list(DataLoader(dataset, 4, sampler=sampler, collate_fn=collate, **more))

    for wrap in (lambda data: data, lambda data: RepeatDataset(data, 2), lambda data: ConcatDataset([data, data])):
        expected = batches(wrap(theirs), default_collate)
        for collate in (collate_images, default_collate):
            found = batches(wrap(ours), collate)
            assert len(found) == len(expected)
            for a, b in zip(found, expected):
                assert torch.equal(a['inputs'], b['inputs'])
                assert [s.gt_label for s in a['data_samples']] == [s.gt_label for s in b['data_samples']]
    lists = batches(ours, pseudo_collate)
    assert torch.equal(lists[0]['inputs'][1], batches(theirs, pseudo_collate)[0]['inputs'][1])
    (first, *_) = batches(ours, collate_images, num_workers=1)
    assert isinstance(first['data_samples'], SampleBatch)
    assert torch.equal(first['inputs'], batches(theirs, default_collate)[0]['inputs'])


def test_a_configuration_names_it(root):
    source = dict(type='mmpretrain.CustomDataset', data_root=root)
    loader = Runner.build_dataloader(
        dict(
            batch_size=4,
            num_batch_per_epoch=2,
            dataset=dict(type='qsdt_mm.InMemoryImages', source=source, pipeline=[PACK]),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='collate_images'),
        ),
        seed=0,
    )
    batches = list(loader)
    assert len(batches) == 2 and isinstance(batches[0]['data_samples'], SampleBatch)
    assert FUNCTIONS.get('qsdt_mm.collate_images') is FUNCTIONS.get('collate_images') is collate_images


def test_parts_of_each_class(root):
    """The last ones, and all but these, are the whole; subsets look at the same pixels."""
    train, val, whole = in_memory(root, skip_last_per_class=2), in_memory(root, last_per_class=2), in_memory(root)
    assert (len(train), len(val)) == (6, 4)
    paths = [[info['img_path'][-9:] for info in data.data_list] for data in (train, val, whole)]
    assert sorted(paths[0] + paths[1]) == sorted(paths[2]) and paths[1][:2] == ['ant/3.jpg', 'ant/4.jpg']
    few = in_memory(root, indices=[8, 1])
    assert len(few.images) == 2 and same(few[0], {**whole[8], 'data_samples': few[0]['data_samples']})
    subset = whole.get_subset([9, 0])
    assert subset.images is whole.images and len(subset) == 2 and len(whole) == 10
    assert subset.__getitems__([0, 1]).samples.gt_label.tolist() == [1, 0]
    assert torch.equal(Subset(whole, [4, 9]).__getitems__([1]).inputs[0], whole.images[9])
    whole.get_subset_(-3)
    assert whole.__getitems__([0, 2]).samples.gt_label.tolist() == [1, 1]


def test_single_samples_can_be_written_into(root):
    ours = in_memory(root)
    grey = InMemoryImages(
        dict(type='CustomDataset', data_root=root, pipeline=[dict(LOAD, color_type='grayscale')]), pipeline=[PACK]
    )
    assert grey.get_data_info(0)['img'].shape == (6, 8) and grey[0]['inputs'].shape == (1, 6, 8)
    for data in (ours, grey):
        before = data.images.clone()
        data.get_data_info(0)['img'][:] = 0
        assert torch.equal(data.images, before)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (dict(last_per_class=6), r'last_per_class=6 is too much: class ant has 5 images'),
        (dict(skip_last_per_class=5), r'skip_last_per_class=5 is too much: class ant has 5 images'),
        (dict(last_per_class=0), r'last_per_class=0 is not allowed: expected a positive int'),
        (dict(last_per_class=1, skip_last_per_class=1), 'last_per_class=1 is not allowed: expected None with'),
    ],
)
def test_parts_that_there_are_not(root, arguments, said):
    with pytest.raises(ValueError, match=said):
        in_memory(root, **arguments)


def test_images_of_several_sizes_are_refused(tmp_path):
    root = draw(tmp_path / 'odd', sizes=[(7, 9)])
    with pytest.raises(InputError, match=r'bee/5.jpg has 9 x 7 pixels of 3 channels, .*ant/0.jpg has 8 x 6 .*Resize'):
        in_memory(root, LOAD)
    assert len(in_memory(root, LOAD, dict(type='Resize', scale=(8, 8)))) == 11


@pytest.mark.parametrize(
    ('damage', 'said'),
    [
        (lambda file: file.write_bytes(file.read_bytes()[:-9]), 'is cut short'),
        (lambda file: file.write_bytes(b''), 'bee/2.jpg'),
        (lambda file: file.write_text('<html>not found</html>'), 'is no image'),
    ],
)
def test_files_that_are_no_whole_images_are_named(tmp_path, damage, said):
    root = draw(tmp_path / 'images')
    damage(tmp_path / 'images/bee/2.jpg')
    with pytest.raises(InputError, match=said) as caught:
        in_memory(root, LOAD)
    assert 'bee/2.jpg' in str(caught.value) and '\n' not in str(caught.value)


def test_images_as_floats_or_beyond_memory_are_refused(root, monkeypatch):
    source = dict(type='CustomDataset', data_root=root, pipeline=[dict(LOAD, to_float32=True)])
    with pytest.raises(InputError, match='is read as float32 .*: images in memory are arrays of uint8'):
        InMemoryImages(source, pipeline=[PACK])
    monkeypatch.setattr('os.sysconf', lambda name: 20)
    with pytest.raises(InputError, match='10 images of 8 x 6 pixels take 0.0 GB in memory, this machine has 0.0'):
        in_memory(root)


def test_labels_outside_of_the_network_are_refused(root):
    ours = in_memory(root)
    ours.pipeline = CheckedPipeline(ours.pipeline, Limits(num_classes=1))
    with pytest.raises(InputError, match=r'bee/0.jpg has the label 1: expected 0 to 0'):
        ours.__getitems__([0])
    ours.pipeline = CheckedPipeline(ours.pipeline, Limits(num_classes=2))
    assert len(ours.__getitems__([0])) == 1


def test_samples_of_a_batch_stay_what_was_written_into_them(root):
    batch = in_memory(root).__getitems__([0, 9]).samples
    batch[1].set_pred_label(1)
    assert [sample.get('pred_label') for sample in batch] == [None, torch.tensor([1])]
    assert len(batch[:1]) == 1 and batch[-1] is batch[1] and [*samples_of(dict(data_samples=batch))] == [*batch]
    with pytest.raises(IndexError):
        batch[2]
    again = pickle.loads(pickle.dumps(batch))
    assert again[0].img_path == batch[0].img_path
