"""Networks packed for training: quantized weights, notes and logits come back to the last bit; configs are data."""

import json

import pytest
import torch
from deployed import pictures
from tiny_backbones import TINY, tiny
from torch import nn

import qsdt_mm
from qsdt_mm import SpikeDrivenTransformer
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_weights, model_weights
from qsdt_mm.models.quantization import QuantWeightMixin


def config_of(family, **settings):
    return dict(type='qsdt_mm.SpikeDrivenTransformer', arch=dict(TINY[family]), out_indices=(0, 1, 2, 3, 4), **settings)


def network(family='qsd', **settings):
    """One whose steps an optimizer has driven below zero, and whose weights lie between the integers."""
    model = tiny(family, **settings)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_var, 0.5, 1.5)
        if isinstance(module, QuantWeightMixin) and module.quantizer is not None:
            with torch.no_grad():
                module.quantizer.step[::2] *= -1
    return model.eval()


@pytest.fixture(scope='module')
def packed(tmp_path_factory):
    model = network(weight_bits=3)
    for neuron in (m for m in model.modules() if hasattr(m, 'rounding')):
        neuron.rounding = 'half_even'  # as a checkpoint may say, of a family that rounds halves up
    folder = tmp_path_factory.mktemp('packed') / 'net'
    qsdt_mm.save_pretrained(model, folder, config=config_of('qsd', weight_bits=3), classes=['cat', 'dog'])
    return folder, model


def assert_same(model, other):
    image = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for a, b in zip(model(image), other(image), strict=True):
            assert torch.equal(a, b)


def test_weights_notes_and_logits_come_back(packed):
    folder, model = packed
    restored = qsdt_mm.from_pretrained(folder)
    assert not restored.training and restored.classes == ['cat', 'dog']
    found = 0
    for (name, module), (_, other) in zip(model.named_modules(), restored.named_modules(), strict=True):
        if isinstance(module, QuantWeightMixin):
            found += 1
            assert torch.equal(module.quantized_weight, other.quantized_weight), name
            assert torch.equal(module.int_weight().integers, other.int_weight().integers), name
        if hasattr(module, 'rounding'):
            assert other.rounding == 'half_even'
    assert found > 10
    assert_same(model, restored)


@pytest.mark.parametrize('family, bits', [('espike', 32), pytest.param('espike-large', 2, marks=pytest.mark.slow)])
def test_other_families_and_bits(tmp_path, family, bits):
    model = network(family, weight_bits=bits)
    qsdt_mm.save_pretrained(model, tmp_path / 'net', config=config_of(family, weight_bits=bits))
    assert_same(model, qsdt_mm.from_pretrained(tmp_path / 'net'))


def test_a_folder_takes_the_place_of_a_checkpoint(packed):
    folder, model = packed
    other = tiny(weight_bits=3)
    assert not load_weights(other, model_weights(load_checkpoint_safely(folder), folder))
    assert_same(model, other.eval())
    pretrained = SpikeDrivenTransformer(
        TINY['qsd'], weight_bits=3, out_indices=range(5), init_cfg=dict(type='Pretrained', checkpoint=str(folder))
    )
    pretrained.init_weights()
    assert_same(model, pretrained.eval())


def test_it_can_be_packed_again_and_trained(packed, tmp_path):
    model = qsdt_mm.from_pretrained(packed[0])
    qsdt_mm.save_pretrained(model, tmp_path / 'again')
    names = ('config.json', 'model.safetensors')
    first, second = ([(path / name).read_bytes() for name in names] for path in (packed[0], tmp_path / 'again'))
    assert first == second
    sum(output.mean() for output in model.train()(torch.randn(2, 3, 32, 32))).backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_both_kinds_in_one_folder(tmp_path):
    model, images = network(), pictures(2)
    options = dict(images=images, kind='both', config=config_of('qsd'), run=lambda m, x: m(x))
    qsdt_mm.save_pretrained(model, tmp_path / 'both', **options)
    plan = qsdt_mm.from_pretrained(tmp_path / 'both', kind='deploy')
    assert len(plan(images)) == 5 and plan.preprocessing == dict(size=[32, 32])
    assert_same(model, qsdt_mm.from_pretrained(tmp_path / 'both', kind='trainable'))


def test_a_folder_of_both_kinds_gives_plans_of_other_sizes(tmp_path):
    model, images, options = network(), pictures(2), dict(run=lambda m, x: m(x))
    qsdt_mm.save_pretrained(model, tmp_path / 'both', images=images, kind='both', config=config_of('qsd'), **options)
    small = qsdt_mm.from_pretrained(tmp_path / 'both', kind='deploy')
    trainable = qsdt_mm.from_pretrained(tmp_path / 'both', kind='trainable')
    for a, b in zip(qsdt_mm.deploy.plan(trainable, images, **options)(images), small(images), strict=True):
        assert torch.equal(a, b)
    wide = pictures(2, size=(32, 64))
    for a, b in zip(qsdt_mm.deploy.plan(trainable, wide, **options)(wide), small(images), strict=True):
        assert a.shape == (*b.shape[:3], 2 * b.shape[3])
    with pytest.raises(InputError, match=r'pixels=\(2, 3, 32, 64\).*\(N, 3, 32, 32\).*one size') as found:
        small(wide)
    assert '\n' not in str(found.value)


def changed(folder, tmp_path, **changes):
    new = tmp_path / 'changed'
    new.mkdir()
    config = json.loads((folder / 'config.json').read_text())
    (new / 'config.json').write_text(json.dumps({**config, **changes}))
    (new / 'model.safetensors').write_bytes((folder / 'model.safetensors').read_bytes())
    return new


ARCH = TINY['qsd']


@pytest.mark.parametrize(
    'changes, word',
    [
        (dict(model=dict(type='os.system', command='true')), 'model.type'),
        (dict(model=dict(type='mmengine.mkdir_or_exist', dir_name='made')), 'model.type'),
        (dict(model=dict(type='torch.hub.load', repo_or_dir='a')), 'model.type'),
        (dict(model=dict(type='shutil.Linear')), 'model.type'),
        (dict(model=dict(type=['Linear'])), 'model.type'),
        (dict(model=dict(type='SpikeDrivenTransformer', arch='../../qsd-8m')), 'model.arch'),
        (dict(model=dict(type='SpikeDrivenTransformer', arch='https://x/y')), 'model.arch'),
        (dict(model=config_of('qsd', init_cfg=dict(type='Pretrained', checkpoint='x'))), 'init_cfg'),
        (dict(model=config_of('qsd', pretrained=True)), 'model.pretrained'),
        (dict(model=config_of('qsd', teacher=dict(checkpoint='x'))), 'model.teacher.checkpoint'),
        (dict(model=config_of('qsd', weight_bits=4, nothing=3)), 'cannot be built'),
        (
            dict(model=dict(type='SpikeDrivenTransformer', arch=dict(ARCH, widths=(10**6,) * 5))),
            'larger than its weights',
        ),
        (
            dict(model=dict(type='SpikeDrivenTransformer', arch=dict(ARCH, depths=(10**7,) * 5))),
            'larger than its weights',
        ),
        (dict(model=dict(type='SpikeDrivenTransformer', arch=dict(ARCH, widths=(10**12,) * 5))), 'numbers up to'),
        (dict(model=dict(type='SpikeDrivenTransformer', arch=dict(ARCH, depths=(1, 1, 1, 1, 1)))), 'weights='),
        (dict(model=dict(type='SpikeDrivenTransformer', arch=ARCH, weight_bits=32)), 'weights='),
        (dict(model=None), 'model='),
        (dict(model='qsd-8m'), 'model='),
        (dict(default_scope='os'), 'default_scope'),
        (dict(classes=[1]), 'classes'),
        (dict(preprocessing='none'), 'preprocessing'),
    ],
)
def test_configs_that_are_no_network_are_refused(packed, tmp_path, monkeypatch, changes, word):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError) as caught:
        qsdt_mm.from_pretrained(changed(packed[0], tmp_path, **changes))
    assert word in str(caught.value) and '\n' not in str(caught.value), caught.value
    assert [path.name for path in tmp_path.iterdir()] == ['changed']


def test_what_cannot_be_loaded_is_not_written(tmp_path):
    model = network()
    for config, word in [
        (config_of('espike'), 'weights='),
        (dict(config_of('qsd'), neuron=network), 'model.neuron'),
        (dict(backbone=1), 'config='),
    ]:
        with pytest.raises(InputError) as caught:
            qsdt_mm.save_pretrained(model, tmp_path / 'net', config=config)
        assert word in str(caught.value)
    for options, word in [(dict(), 'config'), (dict(kind='zip'), 'kind'), (dict(kind='deploy'), 'images')]:
        with pytest.raises(ValueError, match=word):
            qsdt_mm.save_pretrained(model, tmp_path / 'net', **options)
    assert not list(tmp_path.iterdir())


def test_names_that_are_no_folder_go_to_the_hub(packed, tmp_path, monkeypatch):
    import huggingface_hub

    asked = {}

    def snapshot(name, **options):
        asked[name] = options
        if name == 'owner/net':
            return str(packed[0])
        raise OSError('no connection\nand more')

    monkeypatch.setattr(huggingface_hub, 'snapshot_download', snapshot)
    assert_same(qsdt_mm.from_pretrained('owner/net', revision='v1'), packed[1])
    assert asked['owner/net']['revision'] == 'v1' and 'config.json' in asked['owner/net']['allow_patterns']
    with pytest.raises(InputError, match='owner/other is no folder here.*no connection$'):
        qsdt_mm.from_pretrained('owner/other')
    for name in ('../net', '/nowhere/net', 'a/b/c', '~/net', '~nobody-here/net', 'https://x/y', 'x' * 5000):
        with pytest.raises(InputError, match='does not exist'):
            qsdt_mm.from_pretrained(name)
    assert set(asked) == {'owner/net', 'owner/other'}


def test_only_packed_folders_are_uploaded(packed, tmp_path, monkeypatch):
    import huggingface_hub

    calls = []
    monkeypatch.setattr(huggingface_hub.HfApi, 'create_repo', lambda self, name, **_: calls.append(name))
    monkeypatch.setattr(
        huggingface_hub.HfApi, 'upload_folder', lambda self, **options: calls.append(options) or 'there'
    )
    assert qsdt_mm.push_to_hub(packed[0], 'owner/net') == 'there'
    assert calls[0] == 'owner/net' and 'model.safetensors' in calls[1]['allow_patterns']
    with pytest.raises(InputError, match='no packed network'):
        qsdt_mm.push_to_hub(tmp_path, 'owner/net')
    assert len(calls) == 2


def test_weights_that_layers_share_are_kept_once(tmp_path):
    from mmengine.registry import MODELS

    @MODELS.register_module(name='SharedForTest', force=True)
    class Shared(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Sequential(tiny(), nn.Linear(3, 3)), nn.Sequential(tiny(), nn.Linear(3, 3))
            self.b[0], self.b[1].weight = self.a[0], self.a[1].weight

    Shared.__module__ = 'qsdt_mm.for_test'  # of a library that is known
    model = Shared().eval()
    qsdt_mm.save_pretrained(model, tmp_path / 'net', config=dict(type='SharedForTest'))
    restored = qsdt_mm.from_pretrained(tmp_path / 'net')
    assert restored.b[0] is restored.a[0] and restored.b[1].weight is restored.a[1].weight
    assert_same(model.b[0], restored.b[0])
    assert torch.equal(model.a[1].weight, restored.b[1].weight) and torch.equal(model.b[1].bias, restored.b[1].bias)
    assert torch.equal(
        model.b[0].stages[0].downsample.synapse.quantized_weight,
        restored.a[0].stages[0].downsample.synapse.quantized_weight,
    )
    MODELS.module_dict.pop('SharedForTest')
