"""mim, of both lines, on an installed wheel: slow, and openmim has to come from a package index."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / 'downstream'))
import plain  # noqa: E402

from qsdt_mm import list_pretrained  # noqa: E402

ROOT = Path(__file__).parents[2]
CONFIG = 'qsd-tiny_1xb32_digits'
PICTURES = ('found.png', 'found.json', 'firing.png')
PIP = (sys.executable, '-m', 'pip', '--disable-pip-version-check', '-q')

pytestmark = pytest.mark.slow


class Mim:
    """An environment with this package and one mim, and everything else from the environment of the tests."""

    def __init__(self, folder, package, line):
        self.line = line
        subprocess.run([sys.executable, '-m', 'venv', '--without-pip', str(folder)], check=True)
        self.python = folder / 'bin/python'
        (site,) = folder.glob('lib/python*/site-packages')
        # a path in a .pth: the .pth files over there are not read, so that its editable installation is not seen
        (site / 'around.pth').write_text(sysconfig.get_path('purelib'))
        self.install('--no-deps', '--no-index', '--no-build-isolation', *package)
        if line == 'openmim':
            # openmim imports pkg_resources, which later versions of setuptools do not have
            try:
                self.install('--no-deps', 'openmim==0.3.9', 'setuptools<82')
            except subprocess.CalledProcessError as error:
                pytest.skip(f'openmim cannot be installed here: {error.stderr[-200:]}')

    def install(self, *words):
        command = [*PIP, '--python', str(self.python), 'install', *words]
        subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)

    def __call__(self, *words, cwd, status=0):
        """Run mim; returns all that it says."""
        environment = {key: value for key, value in os.environ.items() if key != 'PYTHONPATH'}
        done = subprocess.run(
            [str(self.python), '-W', 'ignore', '-m', 'mim', *map(str, words)],
            cwd=cwd,
            env=dict(environment, OMP_NUM_THREADS='1', COLUMNS='200'),
            capture_output=True,
            text=True,
            timeout=1200,
        )
        assert (done.returncode == 0) == (status == 0), done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout + done.stderr


@pytest.fixture(scope='module')
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp('wheel')
    subprocess.run(
        [*PIP, 'wheel', '--no-deps', '--no-build-isolation', '--no-index', '-w', str(out), str(ROOT)], check=True
    )
    (path,) = out.glob('*.whl')
    return path


@pytest.fixture(scope='module', params=['onedl-mim', 'openmim'])
def mim(request, wheel, tmp_path_factory):
    if request.param == 'onedl-mim':
        pytest.importorskip('mim')
    return Mim(tmp_path_factory.mktemp(request.param), [str(wheel)], request.param)


def test_search(mim, wheel, tmp_path):
    with zipfile.ZipFile(wheel) as archive:
        paths = [Path(name) for name in archive.namelist() if name.startswith('qsdt_mm/.mim/configs/')]
    names = {path.stem for path in paths if path.suffix == '.py' and '_base_' not in path.parts}
    assert CONFIG in names
    said = mim('search', 'qsdt_mm', '--valid-config', cwd=tmp_path)
    assert all(f"'{name}'" in said for name in names)
    said = mim('search', 'qsdt_mm', '--config', 'qsd-15m_8xb196_in1k', '--json', 'found.json', cwd=tmp_path)
    assert '15160432' in (tmp_path / 'found.json').read_text()


def test_train_test_and_run(mim, tmp_path):
    """A config is found by its name alone, far from the repository."""
    few = ['train_dataloader.dataset.indices=64', 'test_dataloader.dataset.indices=32', 'train_cfg.max_epochs=1']
    said = mim(
        'train', 'qsdt_mm', f'{CONFIG}.py', '--gpus', 0, '--work-dir', 'run', '--cfg-options', *few, cwd=tmp_path
    )
    assert f'.mim/configs/classification/{CONFIG}.py' in said and str(ROOT) not in said
    said = mim('test', 'qsdt_mm', f'{CONFIG}.py', '--checkpoint', 'run/epoch_1.pth', cwd=tmp_path)
    assert 'accuracy/top1' in said
    said = mim('run', 'qsdt_mm', 'print_config', f'run/{CONFIG}.py', cwd=tmp_path)
    assert 'SpikeDrivenTransformer' in said


def test_networks_by_name(mim, tmp_path):
    """Tools and demo of the installed wheel, outside the tree."""
    said = mim('run', 'qsdt_mm', 'test', CONFIG, '--inference', 'deploy', '--json', 'figures.json', cwd=tmp_path)
    assert str(ROOT) not in said
    figures = json.loads((tmp_path / 'figures.json').read_text())['metrics']
    assert round(figures['accuracy/top1'], 4) == list_pretrained()[CONFIG]['metrics']['top-1, deploy']
    (demo,) = mim.python.parents[1].glob('lib/python*/site-packages/qsdt_mm/.mim/demo/image_demo.py')
    subprocess.run(
        [str(mim.python), demo, demo.with_name('digit.png'), CONFIG, '--out-dir', 'digit'],
        cwd=tmp_path,
        env={key: value for key, value in os.environ.items() if key != 'PYTHONPATH'},
        check=True,
        timeout=600,
    )
    assert {path.name for path in (tmp_path / 'digit').iterdir()} == {f'digit_{e}' for e in PICTURES}


def test_shipped_config_in_the_librarys_own_tool(mim, tmp_path):
    (config,) = mim.python.parents[1].glob(f'lib/python*/site-packages/qsdt_mm/.mim/configs/*/{CONFIG}.py')
    few = ['train_dataloader.dataset.indices=64', 'val_dataloader.dataset.indices=32', 'train_cfg.max_epochs=1']
    library = 'onedl-mmpretrain' if mim.line == 'onedl-mim' else 'qsdt_mm'  # openmim looks for one called mmpretrain
    mim('train', library, config, '--gpus', 0, '--work-dir', 'run', '--cfg-options', *few, cwd=tmp_path)
    assert (tmp_path / 'run/epoch_1.pth').is_file()


def test_download_of_what_has_no_weights_is_refused(mim, tmp_path):
    said = mim('download', 'qsdt_mm', '--config', CONFIG, '--dest', 'here', cwd=tmp_path, status=1)
    assert 'Expected fields' in said and "but got {'weight'}" in said


def test_editable_installation(tmp_path):
    """onedl-mim goes to the tree; openmim finds no editable installation of any package."""
    pytest.importorskip('mim')
    mim = Mim(tmp_path / 'environment', ['-e', str(ROOT)], 'onedl-mim')
    assert f"'{CONFIG}'" in mim('search', 'qsdt_mm', '--valid-config', cwd=tmp_path)
    config = ROOT / f'configs/classification/{CONFIG}.py'
    assert 'SpikeDrivenTransformer' in mim('run', 'qsdt_mm', 'print_config', config, cwd=tmp_path)
    few = ['train_dataloader.dataset.indices=32', 'train_cfg.max_epochs=1']
    mim('train', 'qsdt_mm', config, '--work-dir', 'run', '--no-validate', '--cfg-options', *few, cwd=tmp_path)
    assert (tmp_path / 'run/epoch_1.pth').is_file()


DISTRIBUTIONS = dict(mmpretrain='onedl-mmpretrain', mmdet='onedl-mmdetection', mmseg='onedl-mmsegmentation')


@pytest.mark.parametrize('header', plain.HEADERS)
@pytest.mark.parametrize('library', plain.CONFIGS)
def test_plain_configs_elsewhere(mim, library, header, tmp_path):
    """Configs of stock libraries, trained and tested by the libraries' own tools."""
    pytest.importorskip(library)
    if mim.line == 'openmim':
        pytest.skip('looks for distributions called mmdet, mmpretrain, mmsegmentation')
    name = DISTRIBUTIONS[library]
    config = plain.write_config(tmp_path / 'plain.py', library, header, plain.make_data(tmp_path / 'data'))
    mim('train', name, config, '--gpus', 0, '--work-dir', 'run', cwd=tmp_path)
    said = mim('test', name, config, '--checkpoint', 'run/epoch_1.pth', '--work-dir', 'run', cwd=tmp_path)
    assert plain.METRIC[library] in said
