"""Classes of the data against each other and the network's; label maps that hold none."""

import numpy as np
import pytest
import torch
from label_sets import STEPS, label_map, make_set, network, pictures, segments, write
from mmengine.dataset import ConcatDataset, RepeatDataset

from qsdt_mm.cli.class_checks import check_class_weights, check_classes, check_same_classes
from qsdt_mm.cli.label_map_checks import check_label_values
from qsdt_mm.errors import InputError

pytest.importorskip('mmpretrain')
pytest.importorskip('mmseg')

MASKS = [label_map(0, 255)] * 3


def folders(root, **numbers):
    for name, number in numbers.items():
        (root / name).mkdir(parents=True)
        for i in range(number):
            write(root / f'{name}/{i}.png', np.zeros((4, 4, 3), np.uint8))
    return pictures(root)


def classifier(num_classes):
    return network(num_classes, kind='head')


def test_one_class(tmp_path):
    data = folders(tmp_path, images=2)
    with pytest.raises(InputError, match=r'one class only \(images, 2 images\).*num_classes=2'):
        check_classes(data, classifier(2), 'training')
    with pytest.raises(InputError, match='one class only'):
        check_classes(RepeatDataset(data, 2), classifier(2), 'training')
    assert 'outputs have no class' in check_classes(data, classifier(2), 'test')[0]  # no reason to stop there


def test_empty_classes_and_outputs_without_a_class_are_said(tmp_path):
    data = folders(tmp_path, cat=1, dog=1, eel=0)
    assert check_classes(data, classifier(3), 'validation') == [
        'warning: 1 of the 3 classes of the validation data have no image: eel'
    ]
    said = check_classes(data, classifier(10), 'training')
    assert 'have 3 classes (cat, dog, eel)' in said[0] and 'num_classes=10: 7 outputs have no class' in said[0]


def test_pictures_that_are_not_listed_are_said(tmp_path):
    """A folder half of webp files was trained on without that half, and without a word."""
    data = folders(tmp_path, cat=2, dog=2)
    assert check_classes(data, classifier(2), 'training') == []
    write(tmp_path / 'cat/9.webp', np.zeros((4, 4, 3), np.uint8))
    (tmp_path / 'dog/2.png').symlink_to(tmp_path / 'nowhere.png')
    for name in ('cat/.DS_Store', 'cat/notes.txt', 'dog/._0.webp', 'cover.webp'):
        (tmp_path / name).write_text('no picture of a class')
    for one in (data, RepeatDataset(data, 2)):
        (line,) = check_classes(one, classifier(2), 'training')
        assert f'2 pictures in the folders of the training data are left out, {tmp_path}/cat/9.webp for one' in line
    told = pictures(tmp_path, extensions=('.png', '.webp'))
    assert '1 pictures' in check_classes(told, classifier(2), 'training')[0]  # the dead link


def test_classes_that_the_training_does_not_know(tmp_path):
    train = folders(tmp_path / 'train', cat=1, dog=1)
    val = folders(tmp_path / 'val', cat=1, dog=1, eel=1)
    for first, second in ((train, val), (RepeatDataset(train, 2), val)):
        with pytest.raises(InputError, match=r'do not know: eel \(training 2: cat, dog; validation 3: cat, dog, eel\)'):
            check_same_classes(first, second)
    assert check_same_classes(val, train) == []  # a part of them is normal
    assert check_same_classes(folders(tmp_path / 'few', cat=1, dog=1, eel=0), val) == [
        'warning: 1 images of the validation data have classes without an image to train on: eel'
    ]


def test_lists_of_labels(tmp_path):
    folders(tmp_path, a=3)
    (tmp_path / 'train.txt').write_text('a/0.png 0\na/1.png 1\n')
    (tmp_path / 'val.txt').write_text('a/0.png 0\na/2.png 2\n')
    train, val = (pictures(tmp_path, ann_file=f'{part}.txt') for part in ('train', 'val'))
    assert 'classes without an image to train on: 2' in check_same_classes(train, val)[0]


@pytest.mark.parametrize('what', ['training', 'validation', 'test'])
def test_masks_of_0_and_255(tmp_path, what):
    data = segments(make_set(tmp_path, MASKS))
    for one in (data, RepeatDataset(data, 2), ConcatDataset([data, data])):
        with pytest.raises(InputError, match='all . label maps of the .* data hold 0 and 255 .* 3 classes: .*write 1'):
            check_label_values(one, network(), what)


def test_one_such_map_is_normal(tmp_path):
    data = segments(make_set(tmp_path, [*MASKS, label_map(0, 2, 255)]))
    assert check_label_values(data, network(), 'training') == []
    few = segments(make_set(tmp_path / 'few', [label_map(0, 255), label_map(0)]))
    assert 'all pixels have label 0' in check_label_values(few, network(), 'validation')[0]


def test_an_option_that_says_so(tmp_path):
    """The loader that changes 255, a label to ignore of another value, or a later step of the user's."""

    def later(results):
        results['gt_seg_map'][results['gt_seg_map'] == 255] = 1
        return results

    make_set(tmp_path, MASKS)
    cured = segments(tmp_path, steps=[STEPS[0], dict(type='LoadLabelMap', mapping={255: 1}), STEPS[2]])
    assert check_label_values(cured, network(), 'training') == []
    assert check_label_values(segments(tmp_path), network(256, 65535), 'training') == []
    assert check_label_values(segments(tmp_path, steps=[*STEPS[:2], later, STEPS[2]]), network(), 'training') == []
    assert check_label_values(segments(tmp_path), network(1), 'training') == []


def test_all_void(tmp_path):
    for values, settings in ((255, {}), (0, dict(reduce_zero_label=True))):
        data = segments(make_set(tmp_path / str(values), [label_map(values)] * 2), **settings)
        with pytest.raises(InputError, match='all 2 label maps of the validation data hold 255 .* ignore'):
            check_label_values(data, network(), 'validation')
    data = segments(make_set(tmp_path / 'eleven', [label_map(11)] * 2))
    with pytest.raises(InputError, match='hold 11 and nothing else'):
        check_label_values(data, network(11, 11), 'training')


def test_nothing_but_background_is_said(tmp_path):
    (said,) = check_label_values(segments(make_set(tmp_path, [label_map(0)] * 3)), network(), 'training')
    assert said == 'warning: 3 label maps of the training data were read: all pixels have label 0 or are ignored'


def test_few_maps_are_read_where_nothing_is_wrong(tmp_path, monkeypatch):
    data = segments(make_set(tmp_path, [label_map(0, 1)] * 9))
    asked = []
    monkeypatch.setattr(data, 'get_data_info', lambda i, real=data.get_data_info: asked.append(i) or real(i))
    assert check_label_values(data, network(), 'training') == [] and len(asked) == 1


def test_weights_of_classes():
    net = network(3)
    net.decode_head.loss_decode = torch.nn.Module()
    for weights in ([1, 2, 3], 'file.npy', None):
        net.decode_head.loss_decode.class_weight = weights
        check_class_weights(net)
    net.decode_head.loss_decode.class_weight = [1, 2]
    with pytest.raises(InputError, match='in decode_head has 2 weights: expected one for each of the 3 classes'):
        check_class_weights(net)
