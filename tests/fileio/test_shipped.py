"""Networks that come with the package are found by name, after what lies at that path."""

import shutil

import pytest
from mmengine.runner import CheckpointLoader

from qsdt_mm.errors import CheckpointError, InputError
from qsdt_mm.fileio import shipped
from qsdt_mm.fileio.checkpoint import load_checkpoint_safely, load_from_disk
from qsdt_mm.fileio.folders import FILES, OF_PLAN, kinds_in, packed_checkpoint, read_packed, write_packed

DIGITS = 'qsd-tiny_1xb32_digits'


def test_every_folder_is_whole_and_small():
    folders = shipped.shipped_folders()
    assert DIGITS in folders and list(folders) == sorted(folders)
    for name, folder in folders.items():
        assert folder.name == name and {path.name for path in folder.iterdir()} == set(FILES)
        assert sum(path.stat().st_size for path in folder.iterdir()) <= 5e6, name
        assert 'trainable' in kinds_in(folder)


def test_a_name_is_a_path_wherever_a_checkpoint_is_taken():
    whole = packed_checkpoint(shipped.shipped_folders()[DIGITS])
    for load in (load_checkpoint_safely, lambda name: load_from_disk(name, 'cpu')):
        found = load(DIGITS)
        assert found['meta'] == dict(dataset_meta=dict(classes=tuple('0123456789')))
        assert all(found['state_dict'][key].equal(value) for key, value in whole['state_dict'].items())


def test_mmengine_names_the_loader():
    """It says which backend loads a file, from the tenth letter of a loader's name on."""
    assert CheckpointLoader._get_checkpoint_loader(DIGITS).__name__[10:] == 'disk'


def test_what_lies_there_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = shipped.located(DIGITS)
    (tmp_path / DIGITS).mkdir()  # a work directory, say
    assert shipped.located(DIGITS) == folder
    shutil.copytree(folder, tmp_path / DIGITS, dirs_exist_ok=True)
    assert shipped.located(DIGITS).resolve() == tmp_path / DIGITS
    shutil.rmtree(DIGITS)
    (tmp_path / DIGITS).write_text('a checkpoint')
    assert shipped.located(DIGITS) is None


@pytest.mark.parametrize(
    'path', ['', '.', '..', f'../weights/{DIGITS}', f'./{DIGITS}', 'https://x.y/z', 'x' * 5000, '\0']
)
def test_other_paths_are_no_names(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shipped.located(path) is None and shipped.meant(path) == ''


@pytest.mark.parametrize('name', ['qsd-tiny_1xb32_digit', 'qsd-tiny-1xb32-digits', DIGITS.upper()])
def test_near_names_are_told(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError, match=rf'checkpoint {name} does not exist \(did you mean {DIGITS}\?\)$'):
        load_checkpoint_safely(name)
    assert shipped.meant('epoch_12.pth') == ''


def test_no_integers_are_stored_twice(tmp_path):
    """What the plan has in common with the network is lent by it, each once."""
    import safetensors

    with safetensors.safe_open(shipped.located(DIGITS) / FILES[1], framework='pt') as file:
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    rows = [tensor.numpy().tobytes() for tensor in stored.values() if tensor.dim() == 2 and tensor.numel() > 64]
    assert len(rows) == len(set(rows)) and any(name.startswith(OF_PLAN) for name in stored)
    plan, network = (read_packed(shipped.located(DIGITS), kind) for kind in ('deploy', 'trainable'))
    assert not any(name.startswith(OF_PLAN) for name in [*plan.tensors, *network.tensors])
    assert sum(name.endswith('.weight') for name in plan.tensors) > 40


@pytest.mark.parametrize('other', ['none', 'plan/steps.0.weight', 7])
def test_tensors_are_borrowed_from_the_network_alone(other, tmp_path, monkeypatch):
    import torch

    from qsdt_mm.fileio import folders

    weight = torch.tensor([[1, -2, 3]], dtype=torch.int8)
    tensors, bits = (
        {'fc.weight': weight, 'plan/steps.0.weight': weight},
        {'fc.weight': (4, 0), 'plan/steps.0.weight': (4, 0)},
    )
    share = folders._share

    def wrong(stored, forms):
        share(stored, forms)
        assert forms['plan/steps.0.weight']['of'] == 'fc.weight'
        forms['plan/steps.0.weight']['of'] = other

    monkeypatch.setattr(folders, '_share', wrong)
    write_packed(tmp_path, 'complete', dict(plan={}), tensors, bits, dict(steps={}, modules={}), '')
    with pytest.raises(InputError, match='of=.*a tensor of the network'):
        read_packed(tmp_path, 'deploy')
