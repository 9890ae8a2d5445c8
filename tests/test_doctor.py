"""The report of what is installed."""

import subprocess
import sys
from pathlib import Path

import fresh_python
import pytest

from qsdt_mm import compat, doctor
from qsdt_mm.compat import distributions

ROOT = Path(__file__).parents[1]


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)


def check_report(text):
    names = [line.split()[0] for line in text.splitlines() if line[0] != ' ']
    assert names[:2] == ['Python', 'qsdt_mm'] and {'torch', 'mmengine', 'mmcv', 'CPU'} <= set(names)
    if not compat.ops_are_compiled():
        assert 'stood in for: nms, softnms, roi_align, sigmoid_focal_loss, nms_match, ' in text


def test_report(capsys):
    assert doctor.main() == 0
    check_report(capsys.readouterr().out)


@pytest.mark.slow
def test_report_of_a_program():
    done = run('-m', 'qsdt_mm.doctor')
    assert (done.returncode, done.stderr) == (0, '')
    check_report(done.stdout)


def test_what_is_missing_comes_with_advice(monkeypatch):
    monkeypatch.setitem(sys.modules, 'mmdet', None)
    monkeypatch.setattr(doctor, 'version_of', lambda *distributions: None)
    found = {finding.name: finding for finding in doctor.packages()}
    assert found['mmdet'].state == 'not installed' and not found['mmdet'].fatal
    assert found['mmdet'].advice == f'pip install {distributions.to_install("mmdet")} (for detection)'


@pytest.mark.parametrize(
    ('installed', 'expected'),
    [
        ({'onedl-mmengine'}, ['onedl-mmdetection', 'onedl-mmcv', 'timm']),
        ({'mmengine'}, ['mmdet', 'mmcv-lite', 'timm']),
        ({'mmengine', 'onedl-mmengine'}, ['onedl-mmdetection', 'onedl-mmcv', 'timm']),
        (set(), ['onedl-mmdetection', 'onedl-mmcv', 'timm']),
    ],
    ids=['maintained', 'original', 'both', 'neither'],
)
def test_advice_is_of_the_line_that_is_installed(monkeypatch, installed, expected):
    def version(name):
        if name not in installed:
            raise distributions.metadata.PackageNotFoundError(name)
        return '1.0'

    monkeypatch.setattr(distributions.metadata, 'version', version)
    assert [distributions.to_install(module) for module in ('mmdet', 'mmcv', 'timm')] == expected


def test_what_does_not_import_says_why(monkeypatch):
    def broken(name):
        raise OSError('libGL.so.1: cannot open shared object file')

    monkeypatch.setattr(doctor.importlib, 'import_module', broken)
    found = next(doctor.packages())
    assert found.fatal and 'libGL.so.1: cannot open' in found.advice


@pytest.mark.parametrize(('module', 'package'), [('mmengine', 'onedl-mmengine'), ('torchvision', 'torchvision')])
def test_import_without_a_needed_package_is_one_line(module, package):
    code = f'import sys; sys.modules[{module!r}] = None; import qsdt_mm'
    code += '' if module == 'mmengine' else '.doctor; sys.exit(qsdt_mm.doctor.main())'
    done = fresh_python.run(['-c', code], cwd=ROOT)
    if module == 'mmengine':
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith(
            f'ImportError: qsdt_mm needs {module}, which is not installed: pip install {package}'
        )
    else:
        assert (
            done.returncode == 1
            and f'-> its files are gone: pip install --force-reinstall --no-deps {package}' in done.stdout
        )


@pytest.fixture
def installed(monkeypatch):
    """Makes these distributions, and no others, look installed."""

    def only(*names):
        def version(name):
            if name not in names:
                raise distributions.metadata.PackageNotFoundError(name)
            return '1.0'

        monkeypatch.setattr(distributions.metadata, 'version', version)

    return only


WHOLE = ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmpretrain', 'onedl-mmdetection', 'onedl-mmsegmentation')


def test_one_line_of_packages_is_no_finding(installed):
    for names in (WHOLE, WHOLE[:2], ('mmengine', 'mmcv', 'mmpretrain', 'mmdet', 'mmsegmentation'), ()):
        installed(*names)
        assert [*doctor.lines()] == []


@pytest.mark.parametrize(
    ('other', 'advice'),
    [
        ('mmcv-lite', 'pip uninstall mmcv-lite, then pip install --force-reinstall --no-deps onedl-mmcv'),
        ('mmsegmentation', 'pip uninstall mmsegmentation, then pip install --force-reinstall --no-deps onedl-mmseg'),
    ],
)
def test_two_packages_with_the_same_files(installed, other, advice):
    """What is uninstalled takes the files of the other along."""
    installed(*WHOLE, other)
    (found,) = doctor.lines()
    assert other in found.state and advice in found.advice


def test_packages_of_two_lines(installed):
    installed('onedl-mmengine', 'onedl-mmcv', 'mmdet', 'mmpretrain')
    (found,) = doctor.lines()
    assert found.state == 'of two lines: onedl-mmengine, onedl-mmcv; mmpretrain, mmdet'
    assert found.advice.endswith('pip uninstall mmpretrain mmdet, then pip install onedl-mmpretrain onedl-mmdetection')


def test_leftovers_of_mmcv_1(tmp_path, monkeypatch):
    import mmcv

    (tmp_path / 'runner').mkdir()
    (tmp_path / 'runner/__init__.py').write_text('')
    monkeypatch.setattr(mmcv, '__path__', [*mmcv.__path__, str(tmp_path)])
    found = [finding for finding in doctor.lines() if 'files of mmcv 1' in finding.state]
    assert len(found) == 1 and 'remove the folder mmcv' in found[0].advice


@pytest.mark.parametrize(
    ('error', 'advice'),
    [
        (
            ModuleNotFoundError('', name='mmcv'),
            'its files are gone: pip install --force-reinstall --no-deps onedl-mmcv',
        ),
        (
            ModuleNotFoundError('', name='mmcv.ops'),
            'misses the module mmcv.ops: pip install --force-reinstall --no-deps onedl-mmcv',
        ),
        (ModuleNotFoundError('', name='addict'), 'misses the module addict: pip install addict'),
        (ImportError('mmcv/_ext.so: undefined symbol: x'), 'pip install --force-reinstall --no-deps onedl-mmcv'),
    ],
    ids=['gone', 'part', 'dependency', 'symbol'],
)
def test_halves_of_an_installation(installed, monkeypatch, error, advice):
    def fail(name):
        if name == 'mmcv':
            raise error

    installed(*WHOLE, 'torch')
    monkeypatch.setattr(doctor.importlib, 'import_module', fail)
    found = {finding.name: finding for finding in doctor.packages()}
    assert found['mmcv'].fatal and found['mmcv'].advice.endswith(advice)


def test_compiled_ops_that_do_not_load(tmp_path, monkeypatch):
    """They win over the stand-in, and the report says why nothing works with them."""
    import mmcv

    for name in [name for name in sys.modules if name == compat.EXTENSION]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / '_ext.py').write_text('raise ImportError("undefined symbol: _ZN3c10")')
    monkeypatch.setattr(mmcv, '__path__', [str(tmp_path), *mmcv.__path__])
    (found,) = doctor.compiled_ops()
    assert found.state == 'compiled' and 'they do not load (undefined symbol: _ZN3c10)' in found.advice
    assert f'rm {tmp_path / "_ext.py"}' in found.advice


def test_folders_that_cannot_be_written(tmp_path, monkeypatch):
    for name in ('MPLCONFIGDIR', 'TRITON_CACHE_DIR', 'TORCH_HOME', 'XDG_CACHE_HOME', 'XDG_CONFIG_HOME'):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv('HOME', str(tmp_path))
    assert [*doctor.caches()] == []
    (tmp_path / 'file').touch()
    monkeypatch.setenv('HOME', str(tmp_path / 'file'))
    assert [f.advice.split()[1].partition('=')[0] for f in doctor.caches()] == [
        'MPLCONFIGDIR',
        'TRITON_CACHE_DIR',
        'TORCH_HOME',
    ]
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))
    assert len([*doctor.caches()]) == 2
