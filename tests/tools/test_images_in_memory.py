"""Training and testing from memory: resumed runs end alike, and tests give what the data set itself gives."""

import pickle
import shutil

import pytest
import torch
import toy_runs as toy

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

CONFIG = """
_base_ = {base!r}

data_preprocessor = dict(
    type='AugmentingClsDataPreprocessor', crop_padding=3, cutout=5, random_erasing=dict(mode='rand')
)
resize = dict(type='Resize', scale=32, interpolation='bicubic')
loader = dict(batch_size=16, collate_fn=dict(type='collate_images'))
train_dataloader = dict(
    **loader,
    dataset=dict(
        _delete_=True,
        type='InMemoryImages',
        source=dict(type='Digits', split='train'),
        pipeline=[resize, dict(type='PackInputs')],
        indices=48,
    ),
)
test_pipeline = [resize, dict(type='RandomGrayscale', prob=1.0, channel_weights=(1, 2, 1)), dict(type='PackInputs')]
val_dataloader = dict(
    **loader,
    dataset=dict(
        _delete_=True,
        type='InMemoryImages',
        source=dict(type='Digits', split='test'),
        pipeline=test_pipeline,
        indices=40,
        test_mode=True,
    ),
)
test_dataloader = val_dataloader
model = dict(backbone=dict(arch=dict(widths=(4, 8, 8, 8, 8), depths=(0, 1, 1, 1, 1))), head=dict(in_channels=8))
param_scheduler = [dict(type='ConstantLR', factor=1.0, by_epoch=True)]
train_cfg = dict(max_epochs=2)
"""


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    """The configuration, a run of two epochs, and one that was stopped after the first and went on."""
    root = tmp_path_factory.mktemp('memory')
    config = root / 'memory.py'
    base = str(toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py')
    config.write_text(CONFIG.format(base=base), encoding='utf-8')
    whole, stopped = root / 'whole', root / 'stopped'
    assert toy.train(whole, config=config) == 0
    shutil.copytree(whole, stopped)
    for path in stopped.glob('*epoch_2.pth'):
        path.unlink()
    (stopped / 'last_checkpoint').write_text(str(stopped / 'epoch_1.pth'))
    assert toy.train(stopped, '--resume', stopped / 'epoch_1.pth', config=config) == 0
    return config, whole, stopped


def test_a_resumed_run_ends_with_the_same_weights(runs):
    _, whole, stopped = runs
    first, second, third = (
        torch.load(path, weights_only=False)['state_dict']
        for path in (whole / 'epoch_1.pth', whole / 'epoch_2.pth', stopped / 'epoch_2.pth')
    )
    assert all(torch.equal(second[name], third[name]) for name in second)
    assert not torch.equal(first['head.fc.synapse.weight'], second['head.fc.synapse.weight'])


@pytest.mark.parametrize('words', [(), pytest.param(('--tta',), marks=pytest.mark.slow)])
def test_scores_are_those_of_the_data_set_itself(runs, tmp_path, words):
    config, whole, _ = runs
    plain = tmp_path / 'plain.py'
    plain.write_text(
        f"_base_ = {str(config)!r}\ntest_dataloader = dict(dataset=dict(_delete_=True, type='Digits', split='test', "
        'pipeline={{_base_.test_pipeline}}, indices=40))\n',
        encoding='utf-8',
    )
    found = []
    for path in (config, plain):
        out = tmp_path / f'{path.stem}.pkl'
        assert toy.evaluate(whole / 'epoch_2.pth', tmp_path / path.stem, '--out', out, *words, config=path) == 0
        found.append(pickle.loads(out.read_bytes()))
    assert len(found[0]) == len(found[1]) == 40
    for ours, theirs in zip(*found):
        assert torch.equal(ours['pred_score'], theirs['pred_score']) and ours['sample_idx'] == theirs['sample_idx']
