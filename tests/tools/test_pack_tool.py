"""tools/deployment/pack.py, and the other tools on what it packed: the same figures as from the checkpoint."""

import importlib.util
import json
import pickle

import pytest
import torch
import toy_runs as toy
from small_digits import CONFIG, checkpoint, options

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    """A checkpoint of a small network, and folders of both kinds that were packed of it."""
    folder = tmp_path_factory.mktemp('packed')
    checkpoint(folder / 'new.pth')
    assert pack(folder / 'new.pth', folder / 'both', '--kind', 'both', '--calibrate', 8) == 0
    return folder


def pack(checkpoint, folder, *words):
    words = [str(CONFIG), str(checkpoint), str(folder), *map(str, words), *options()]
    return toy.tool('deployment/pack').main(words)


def scores(tmp_path, checkpoint, *words):
    out = tmp_path / 'out.pkl'
    command = [str(CONFIG), str(checkpoint), '--work-dir', str(tmp_path / 'run'), '--out', str(out), *map(str, words)]
    assert toy.tool('test').main([*command, *options()]) == 0
    with open(out, 'rb') as file:
        return torch.stack([sample['pred_score'] for sample in pickle.load(file)])


def test_a_plan_gives_the_same_figures_packed_or_not(made, tmp_path):
    words = ['--inference', 'deploy']
    packed = scores(tmp_path, made / 'both' / 'deploy', '--json', tmp_path / 'figures.json')
    assert torch.equal(packed, scores(tmp_path, made / 'new.pth', *words, '--calibrate', 8))
    assert packed.std() > 0 and len(packed) == 12
    report = json.loads((tmp_path / 'figures.json').read_text())
    assert report['inference'] == 'deploy' and 'accuracy/top1' in report['metrics']


def test_weights_give_the_same_figures_packed_or_not(made, tmp_path):
    packed = scores(tmp_path, made / 'both')
    assert torch.equal(packed, scores(tmp_path, made / 'new.pth'))


@pytest.mark.parametrize(('change', 'word'), [
    ('model.head.num_classes=7', 'the plan gives outputs of 10, the network of the configuration 7'),
])  # fmt: skip
def test_a_plan_of_another_network_is_refused(made, tmp_path, capsys, change, word):
    words = [str(CONFIG), str(made / 'both' / 'deploy'), '--work-dir', str(tmp_path / 'run'), *options(), change]
    assert toy.tool('test').main(words) == 2
    assert word in toy.our_lines(capsys.readouterr().err, 'test.py')[-1]


@pytest.mark.slow
def test_a_plan_can_be_made_of_packed_weights(made, tmp_path):
    words = ['--inference', 'deploy', '--calibrate', 8]
    plan = scores(tmp_path, made / 'both' / 'trainable', *words)
    assert torch.equal(plan, scores(tmp_path, made / 'both' / 'deploy', *words[:2]))


def test_what_is_noted_with_it(made):
    for kind in ('deploy', 'trainable'):
        config = json.loads((made / 'both' / kind / 'config.json').read_text())
        assert config['classes'] == list('0123456789')
        assert config['preprocessing'] == dict(mean=[77.0], std=[85.0], channels='grey', size=[32, 32])


def test_energy_and_demo_take_packed_weights(made, tmp_path, capsys):
    import cv2
    import numpy as np

    words = [str(CONFIG), str(made / 'both'), '--images', '4', *options()]
    assert toy.tool('analysis_tools/energy').main(words) == 0
    assert 'mJ an image' in capsys.readouterr().out
    photo = tmp_path / 'photo.png'
    cv2.imwrite(str(photo), np.full((32, 32, 3), 90, np.uint8))
    spec = importlib.util.spec_from_file_location('image_demo', toy.ROOT / 'demo/image_demo.py')
    demo = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(demo)
    shown = {}
    for kind in ('both', 'both/deploy'):
        out = tmp_path / kind
        assert demo.main([str(photo), str(CONFIG), str(made / kind), '--out-dir', str(out), *options()]) == 0
        assert 'class    ' in capsys.readouterr().out
        shown[kind] = sorted(path.name for path in out.glob('photo*'))
    assert shown['both'] == sorted([*shown['both/deploy'], 'photo_firing.png']) and shown['both/deploy']


@pytest.mark.slow
def test_a_packed_network_is_fine_tuned(made, tmp_path):
    """On other classes: the head, which does not fit, begins anew."""
    changes = [f'load_from={made / "both"}', 'train_cfg.max_epochs=1', 'train_dataloader.dataset.indices=64']
    changes += ['model.head.num_classes=12', 'val_dataloader.dataset.indices=8', 'optim_wrapper.optimizer.lr=0.0']
    words = [str(CONFIG), '--work-dir', str(tmp_path / 'run'), *options(), *changes]
    assert toy.tool('train').main(words) == 0
    trained = toy.state(tmp_path / 'run/epoch_1.pth')['state_dict']
    start = toy.state(made / 'new.pth')['state_dict']
    name = 'backbone.stages.1.blocks.0.0.branch.query.quantizer.step'
    steps = [key for key in start if key.startswith('backbone') and key.endswith('quantizer.step')]
    assert steps and all(torch.equal(trained[key], start[key].abs()) for key in steps), name


def lines_of(capsys, prog):
    lines = toy.our_lines(capsys.readouterr().err, prog)
    assert len(lines) == 1
    return lines[0]


def test_nothing_is_overwritten_unless_asked(made, tmp_path, capsys):
    folder = tmp_path / 'net'
    assert pack(made / 'new.pth', folder, '--kind', 'trainable') == 0
    assert 'MB in all files' in capsys.readouterr().out
    before = (folder / 'model.safetensors').read_bytes()
    assert pack(made / 'new.pth', folder, '--kind', 'trainable') == 2
    assert '--overwrite' in lines_of(capsys, 'pack.py')
    assert pack(made / 'both', folder, '--kind', 'trainable', '--overwrite') == 0
    assert (folder / 'model.safetensors').read_bytes() == before
    with pytest.raises(SystemExit):
        pack(folder, folder, '--overwrite')
    assert 'would take its place' in capsys.readouterr().err


@pytest.mark.parametrize(
    'words, word',
    [
        (['{made}/none.pth', '{tmp}/net'], 'does not exist'),
        (['{made}/both/deploy', '{tmp}/net'], 'is of kind deploy'),
        (['{made}', '{tmp}/net'], 'is a folder, not a file'),
        (['{made}/new.pth', '{made}/both'], 'is in the way'),
    ],
)
def test_bad_input_is_one_line(made, tmp_path, capsys, words, word):
    assert pack(*(text.format(made=made, tmp=tmp_path) for text in words)) == 2
    assert word in lines_of(capsys, 'pack.py')
    assert not list(tmp_path.iterdir())


def test_places_that_take_no_folder_are_named_before_the_work(made, tmp_path, capsys):
    for place, why in ((tmp_path / ('n' * 300), 'File name too long'), (made / 'new.pth' / 'net', 'Not a directory')):
        with pytest.raises(SystemExit):
            pack(made / 'new.pth', place)
        assert f'cannot be written: {why}' in lines_of(capsys, 'pack.py')


def test_a_plan_has_no_weights_to_test(made, tmp_path, capsys):
    words = [str(CONFIG), str(made / 'both' / 'deploy'), '--work-dir', str(tmp_path / 'run'), *options()]
    assert toy.tool('test').main([*words, '--inference', 'float']) == 2
    assert 'is of kind deploy' in lines_of(capsys, 'test.py')
    energy = [str(CONFIG), str(made / 'both' / 'deploy'), '--images', '1', *options()]
    assert toy.tool('analysis_tools/energy').main(energy) == 2
    assert 'is of kind deploy' in lines_of(capsys, 'energy.py')
    with pytest.raises(SystemExit):
        toy.tool('test').main([str(CONFIG), 'x.pth', '--calibrate', '3'])
