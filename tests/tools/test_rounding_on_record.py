"""A checkpoint trained here before neurons had a rounding rule, through every tool that loads one.

It is an E-SpikeFormer of a few thousand weights, trained on the digits for one epoch by commit 7b72691, whose output
for one image is written down below. It rounded half up, which presets of that family do no longer.
"""

import gzip
import shutil

import pytest
import torch
import toy_runs as toy
from halves import rules

pytest.importorskip('mmpretrain')

from mmengine.registry import DefaultScope  # noqa: E402

from qsdt_mm import (
    cli,  # noqa: E402
)

NO_RECORD = "has no rounding rule on record: its neurons round 'half_up', as all did when it was made"
EVEN = ('model.backbone.neuron.rounding=half_even', 'model.head.neuron.rounding=half_even')
# Of the code that trained it, in float64.
LOGITS = [
    [0.19882080680690706, 0.0143883575219661, 0.16663663275539875, -0.2761365114711225, -0.2722047008574009]
    + [-0.05569024570286274, 0.06723377155140042, -0.2254427415318787, -0.26880857022479177, -0.47920603211969137],
    [0.18881257972680032, -0.031030202051624656, 0.09415107406675816, -0.21746152685955167, -0.1836767978966236]
    + [-0.004667764529585838, 0.093592066783458, -0.12459916761144996, -0.1476224479265511, -0.3490927368402481],
]


@pytest.fixture(scope='module')
def old(tmp_path_factory):
    """The checkpoint."""
    path = tmp_path_factory.mktemp('old') / 'old.pth'
    with gzip.open(toy.HERE / 'before_rounding.pth.gz') as source, open(path, 'wb') as target:
        shutil.copyfileobj(source, target)
    return path


@pytest.fixture
def config(tmp_path):
    """Its configuration, on few digits."""
    base = toy.ROOT / 'configs/_base_'
    bases = [str(base / name) for name in ('models/espike.py', 'datasets/digits.py', 'default_runtime.py')]
    few = 'dict(num_workers=0, persistent_workers=False, dataset=dict(indices=40))'
    path = tmp_path / 'config.py'
    path.write_text(f"""
_base_ = {bases}
arch = dict(family='espike', widths=(4, 4, 4, 16, 8), depths=(0, 0, 0, 1, 0), num_heads=1,
            strides=(1, 2, 2, 2, 1), stem_kernel=3)
model = dict(backbone=dict(arch=arch, in_channels=1), head=dict(num_classes=10, in_channels=8))
train_dataloader = {few}
val_dataloader = {few}
test_dataloader = {few}
optim_wrapper = dict(optimizer=dict(type='AdamW', lr=1e-5))
train_cfg = dict(by_epoch=True, max_epochs=2, val_interval=1)
val_cfg = dict()
test_cfg = dict()
randomness = dict(seed=0)
""")
    return path


pytestmark = pytest.mark.usefixtures('said')


def on_record(notes):
    return {entry['rounding'] for entry in notes.values() if 'rounding' in entry}


def built(config, checkpoint=None, *options):
    """The model as most tools build and load it."""
    cfg = cli.load_config(str(config), options)
    cli.import_library(cfg)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        return cli.build_model(cfg, checkpoint, cli.Session('test')).double()


@torch.no_grad()
def logits(model):
    image = (torch.arange(2 * 32 * 32) % 46 - 23).double().view(2, 1, 32, 32) / 8
    return model(image)


def test_the_network_is_the_one_that_was_trained(old, config, said):
    assert rules(built(config)) == {'half_even'} and not said
    model = built(config, old)
    assert rules(model) == {'half_up'} and said == [f"{old} {NO_RECORD}, not 'half_even' as new ones here"]
    torch.testing.assert_close(logits(model), torch.tensor(LOGITS).double(), rtol=1e-6, atol=1e-9)


def test_the_config_may_say_otherwise(old, config, said):
    model = built(config, old, *EVEN)
    assert rules(model) == {'half_even'}
    assert said == [f"{old} {NO_RECORD}; the config says 'half_even', which holds"]
    assert (logits(model) - torch.tensor(LOGITS)).abs().max() > 0.1


def test_testing(old, config, tmp_path, said):
    """The tool loads the file twice; it says so once."""
    assert toy.evaluate(old, tmp_path / 'run', config=config) == 0
    assert said == [f"{old} {NO_RECORD}, not 'half_even' as new ones here"]


@pytest.mark.parametrize('start', ['load_from', 'resume'])
def test_training_on(old, config, tmp_path, said, start):
    """What is trained on rounds as before, averaged weights included, and says so from then on."""
    config.write_text(config.read_text() + "custom_hooks = [dict(type='EMAHook')]\n")
    words = ['--resume', old] if start == 'resume' else []
    changes = {} if start == 'resume' else dict(load_from=old, train_cfg__max_epochs=1)
    if start == 'resume':  # as the old run with averaged weights would have saved it
        state = toy.state(old)
        state['ema_state_dict'] = type(state['state_dict'])(
            {'steps': torch.tensor(45), **{f'module.{name}': value for name, value in state['state_dict'].items()}}
        )
        state['ema_state_dict']._metadata = {
            f'module.{name}'.rstrip('.'): dict(notes) for name, notes in state['state_dict']._metadata.items()
        }
        words = ['--resume', tmp_path / 'old.pth', '--new-optimizer']  # the old file has none
        torch.save(state, tmp_path / 'old.pth')
    assert toy.train(tmp_path / 'run', *words, config=config, **changes) == 0
    assert len(said) == 1 and NO_RECORD in said[0] and 'old.pth' in said[0]
    made = tmp_path / 'run' / ('epoch_2.pth' if start == 'resume' else 'epoch_1.pth')
    state = toy.state(made)
    assert on_record(state['state_dict']._metadata) == on_record(state['ema_state_dict']._metadata) == {'half_up'}
    said.clear()
    assert rules(built(config, made)) == {'half_up'}
    assert said == [f"{made} has neurons on record that round 'half_up', not 'half_even' as new ones here"]


def test_a_backbone_to_start_from(old, config, said):
    option = f'model.backbone.init_cfg.checkpoint={old}'
    text = "model['backbone']['init_cfg'] = dict(type='Pretrained', checkpoint='x', prefix='backbone.')\n"
    config.write_text(config.read_text() + text)
    model = built(config, None, option)
    assert rules(model.backbone) == {'half_up'} and rules(model.head) == {'half_even'} and len(said) == 1
    assert said[0].startswith(f'{old} {NO_RECORD}')


def test_a_teacher(old, config, said):
    from qsdt_mm.models.distillation.classifier import build_teacher

    cfg = cli.load_config(str(config))
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        teacher = build_teacher(dict(cfg.model, checkpoint=str(old)))
    assert rules(teacher) == {'half_up'} and len(said) == 1


def test_tools_that_print_neurons_print_the_rule(config, capsys):
    assert 'rounding=half_even' in repr(built(config).backbone)
