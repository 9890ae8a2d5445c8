"""The report of what is installed."""

import subprocess
import sys
from pathlib import Path

import pytest

from qsdt_mm import compat, doctor
from qsdt_mm.compat import distributions

ROOT = Path(__file__).parents[1]


def run(*words):
    return subprocess.run([sys.executable, *words], cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_report():
    done = run('-m', 'qsdt_mm.doctor')
    assert (done.returncode, done.stderr) == (0, '')
    names = [line.split()[0] for line in done.stdout.splitlines() if line[0] != ' ']
    assert names[:2] == ['Python', 'qsdt_mm'] and {'torch', 'mmengine', 'mmcv', 'CPU'} <= set(names)
    if not compat.ops_are_compiled():
        assert 'stood in for: nms, softnms, roi_align_forward' in done.stdout


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
    done = run('-c', code if module == 'mmengine' else code + '.doctor; sys.exit(qsdt_mm.doctor.main())')
    if module == 'mmengine':
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1].endswith(
            f'ImportError: qsdt_mm needs {module}, which is not installed: pip install {package}'
        )
    else:
        assert done.returncode == 1 and f'-> pip install {package}' in done.stdout
