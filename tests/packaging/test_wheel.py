"""What a wheel holds, built offline from a tree with remains of work in it."""

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from packaging.metadata import Metadata

import qsdt_mm
from qsdt_mm import compat, doctor
from qsdt_mm.fileio.folders import FILES

ROOT = Path(__file__).parents[2]
PARTS = ('setup.py', 'pyproject.toml', 'MANIFEST.in', 'README.md', 'LICENSE', 'model-index.yml', 'dataset-index.yml')
BUILD = 'import sys, setuptools.build_meta as b; print(getattr(b, sys.argv[1])(sys.argv[2]))'


def copy_tree(target):
    """The parts of the repository that packaging reads, and what should not be in a wheel."""
    target.mkdir()
    for name in PARTS:
        shutil.copy(ROOT / name, target / name)
    for name in ('qsdt_mm', 'configs', 'tools', 'demo', 'weights'):
        shutil.copytree(ROOT / name, target / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in (
        'tests/test_a.py',
        'work_dirs/run/qsd-tiny_1xb32_digits.py',
        'work_dirs/run/epoch_1.pth',
        'data/set/0.jpg',
        'build/lib/qsdt_mm/old.py',
        'build/lib/stale/__init__.py',
        'configs/__pycache__/a.cpython-311.pyc',
        'tools/notes.ipynb',
        'weights/half_done/model.safetensors',
        'weights/qsd-tiny_1xb32_digits/notes.txt',
    ):
        (target / name).parent.mkdir(parents=True, exist_ok=True)
        (target / name).write_text('')
    return target


def build(tree, out, kind='build_wheel'):
    """Build as pip does without isolation; returns the path."""
    out.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, '-c', BUILD, kind, str(out)], cwd=tree, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    return out / done.stdout.splitlines()[-1]


@pytest.fixture(scope='module')
def tree(tmp_path_factory):
    return copy_tree(tmp_path_factory.mktemp('packaging') / 'tree')


@pytest.fixture(scope='module')
def wheel(tree):
    return build(tree, tree.parent / 'wheel')


@pytest.fixture(scope='module')
def site(wheel):
    """The wheel's files as installed."""
    out = wheel.parent / 'site'
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(out)
    return out


def test_wheel_holds_the_package_and_mims_files_and_nothing_else(tree, wheel):
    version = qsdt_mm.__version__
    assert wheel.name == f'qsdt_mm-{version}-py3-none-any.whl'
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(tree).as_posix() for path in (tree / 'qsdt_mm').rglob('*.py')}
    mim = {'model-index.yml', 'dataset-index.yml', 'demo/digit.png'}
    for folder, patterns in dict(configs=('*.py', '*.yml'), tools=('*.py', '*.sh'), demo=('*.py',)).items():
        mim |= {path.relative_to(tree).as_posix() for pattern in patterns for path in (tree / folder).rglob(pattern)}
    assert {
        'configs/classification/qsd-tiny_1xb32_digits.py',
        'configs/detection/metafile.yml',
        'tools/train.py',
    } <= mim
    expected = modules | {f'{package}/.mim/{name}' for package in ('_qsdt_mm', 'qsdt_mm') for name in mim}
    networks = {path.parent.name for path in (ROOT / 'weights').glob('*/config.json')}
    assert {'qsd-tiny_1xb32_digits'} <= networks
    expected |= {f'qsdt_mm/weights/{network}/{file}' for network in networks for file in FILES}
    expected |= {'_qsdt_mm/__init__.py', '_qsdt_mm/multimodal.py', 'qsdt_mm.pth'}
    assert {name for name in names if not name.startswith(f'qsdt_mm-{version}.dist-info/')} == expected
    # onedl-mim takes the folder of the first file of an installation; pip lists them in this order
    assert min(names).startswith('_qsdt_mm/.mim/')


def test_building_leaves_nothing_behind(tree, wheel):
    assert not list(tree.glob('*.egg-info'))
    assert {path.name for path in (tree / 'build').iterdir()} == {'lib'}  # the one that was there


def test_metadata_is_valid_and_its_page_links_nothing_of_the_tree(wheel):
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith('.dist-info/METADATA'))
        metadata = Metadata.from_email(archive.read(name))  # validates every field, as an index does
    assert (metadata.name, str(metadata.version)) == ('qsdt_mm', qsdt_mm.__version__)
    assert metadata.description_content_type == 'text/markdown'
    targets = re.findall(r'\]\(([^)]*)\)|\b(?:src|srcset|href)="([^"]*)"', metadata.description)
    targets = [one or other for one, other in targets]
    assert targets and all(target.startswith(('https://', '#')) for target in targets)
    assert len(metadata.description) > 0.9 * len((ROOT / 'README.md').read_text())
    extras = {name for need in metadata.requires_dist for name in metadata.provides_extra if name in str(need.marker)}
    assert extras == set(metadata.provides_extra)


def test_weights_are_most_of_a_small_wheel(wheel):
    """Once: what mim reads holds none, and nothing else is large."""
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    weights = {name for name, size in sizes.items() if size > 150_000}
    assert weights and all(re.fullmatch(r'qsdt_mm/weights/[^/]+/model\.safetensors', name) for name in weights)
    assert wheel.stat().st_size - sum(sizes[name] for name in weights) < 2_000_000
    assert wheel.stat().st_size < 40_000_000


def run_in(site, code, *paths):
    """Run code in an interpreter that has nothing but these folders of packages; returns what it prints."""
    start = f'import site, sys; site.addsitedir({str(site)!r}); sys.path[:0] = {[str(path) for path in paths]!r}\n'
    done = subprocess.run([sys.executable, '-I', '-S', '-c', start + code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, '')
    return done.stdout.strip()


@pytest.fixture
def mmcv(tmp_path):
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv/__init__.py').write_text('')
    return tmp_path / 'mmcv'


WHERE = "import importlib.util; print(importlib.util.find_spec('mmcv._ext').origin)"


def test_stand_in_is_found_without_importing_the_package(site, mmcv):
    code = WHERE + "\nprint([name for name in ('qsdt_mm', 'torch', 'mmcv') if name in sys.modules])"
    assert run_in(site, code, mmcv.parent).splitlines() == [str(site / 'qsdt_mm/compat/mmcv_ext.py'), "['mmcv']"]


def test_starting_up_imports_one_small_module(site):
    code = f"""
import encodings.utf_8_sig  # from Python 3.13 on, .pth files are read with it
before = set(sys.modules)
site.addsitedir({str(site)!r})
print(sorted(set(sys.modules) - before))
"""
    assert run_in(site.parent, code) == "['__future__', '_qsdt_mm']"


def test_compiled_ops_win(site, mmcv):
    (mmcv / '_ext.py').write_text('')
    assert run_in(site, WHERE, mmcv.parent) == str(mmcv / '_ext.py')


def test_compiled_ops_of_a_later_finder_win(site, mmcv, tmp_path):
    """An editable mmcv is found by a finder that may come after ours."""
    (tmp_path / 'built.py').write_text('')
    code = f"""
import importlib.util
class Later:
    @staticmethod
    def find_spec(name, path=None, target=None):
        if name == 'mmcv._ext':
            return importlib.util.spec_from_file_location(name, {str(tmp_path / 'built.py')!r})
sys.meta_path.append(Later)
"""
    assert run_in(site, code + WHERE, mmcv.parent) == str(tmp_path / 'built.py')


def test_package_and_startup_share_one_finder(site):
    code = """
import importlib.util
spec = importlib.util.spec_from_file_location('second', sys.modules['_qsdt_mm'].__file__)
spec.loader.exec_module(importlib.util.module_from_spec(spec))
print(sum(getattr(finder, '__name__', '') == 'StandInFinder' for finder in sys.meta_path))
"""
    assert run_in(site, code) == '1'


def test_editable_wheel_starts_up_too(tree):
    wheel = build(tree, tree.parent / 'editable', 'build_editable')
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        assert 'qsdt_mm.pth' in names and not any('.mim' in name or 'weights/' in name for name in names)
        archive.extractall(wheel.parent / 'site')
    code = 'import _qsdt_mm; print(_qsdt_mm.__file__)'
    assert run_in(wheel.parent / 'site', code) == str(tree / 'qsdt_mm/compat/startup/__init__.py')


FROM_ELSEWHERE = """
import sys, torch, qsdt_mm
print(qsdt_mm.__file__)
print(sorted(qsdt_mm.list_pretrained()))
print(sorted({'mmpretrain', 'mmdet', 'mmseg'} & set(sys.modules)))
plan = qsdt_mm.from_pretrained('qsd-tiny_1xb32_digits', kind='deploy')
print(tuple(plan(torch.zeros(1, *plan.shape, dtype=torch.uint8)).shape))
print(type(qsdt_mm.from_pretrained('qsd-tiny_1xb32_digits')).__name__)
"""


def test_networks_are_found_by_name_outside_the_tree(site, tmp_path):
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-c', FROM_ELSEWHERE],
        cwd=tmp_path,
        env=dict(os.environ, PYTHONPATH=str(site)),
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    names = sorted(path.parent.name for path in (ROOT / 'weights').glob('*/config.json'))
    place = str(site / 'qsdt_mm/__init__.py')
    assert done.stdout.splitlines() == [place, str(names), '[]', '(1, 10)', 'SpikeImageClassifier']


@pytest.mark.slow
def test_source_distribution_makes_the_same_wheel(tree, wheel):
    source = build(tree, tree.parent / 'source', 'build_sdist')
    shutil.unpack_archive(source, source.parent)
    again = build(source.parent / source.name.removesuffix('.tar.gz'), source.parent / 'wheel')
    contents = []
    for path in (wheel, again):
        with zipfile.ZipFile(path) as archive:
            contents.append({name: archive.read(name) for name in archive.namelist() if not name.endswith('RECORD')})
    assert contents[0] == contents[1]


def test_version_is_said_once():
    files = [ROOT / name for name in ('setup.py', 'pyproject.toml', 'model-index.yml')]
    files += [path for path in (ROOT / 'qsdt_mm').rglob('*.py') if path.name != 'version.py']
    version = re.compile(rf'(?<![\w.]){re.escape(qsdt_mm.__version__)}(?![\w.])')  # not a part of a tensor's name
    assert [path.name for path in files if version.search(path.read_text(encoding='utf-8'))] == []


def test_doctor_says_when_the_stand_in_comes_late(monkeypatch):
    """As in a tree that is on the path, but not installed."""
    if compat.ops_are_compiled() is not False:
        pytest.skip('mmcv has compiled ops, or is not here')
    monkeypatch.setitem(sys.modules, '_qsdt_mm', qsdt_mm)
    assert not any('is imported' in finding.state for finding in doctor.compiled_ops())
    monkeypatch.delitem(sys.modules, '_qsdt_mm')
    (late,) = (finding for finding in doctor.compiled_ops() if 'is imported' in finding.state)
    assert 'pip install' in late.advice and not late.fatal
