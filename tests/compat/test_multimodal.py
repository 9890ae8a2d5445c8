"""mmpretrain beside releases of transformers that its multimodal models do not import with."""

import shutil
from pathlib import Path

import fresh_python
import pytest

pytest.importorskip('mmpretrain')

ROOT = Path(__file__).parents[2]
# A transformers that has every name that anybody asks for, as a class with any attribute, except those MISSING.
ANYTHING = """
import abc, importlib.abc, importlib.machinery, sys, types

class Meta(abc.ABCMeta):
    def __getattr__(cls, name):
        if name.startswith('__'):
            raise AttributeError(name)
        return lambda *args, **kwargs: None

class Base(metaclass=Meta):
    def __init__(self, *args, **kwargs):
        pass
    def __call__(self, decorated):
        return decorated

class Anything(types.ModuleType):
    def __getattr__(self, name):
        if name.startswith('__') or name in {missing}:
            raise AttributeError(name)
        return Base if name == '_BaseAutoModelClass' else Meta(name, (Base,), dict())

class Submodules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    def find_spec(self, name, path=None, target=None):
        if name.startswith('transformers.') and name.rpartition('.')[2] not in {missing}:
            return importlib.machinery.ModuleSpec(name, self, is_package=True)
    def create_module(self, spec):
        return Anything(spec.name)
    def exec_module(self, module):
        pass

sys.meta_path.append(Submodules())
sys.modules[__name__].__class__ = Anything
"""
FIVE = ['find_pruneable_heads_and_indices']  # what transformers 5.24 no longer has
IMPORT = """
import {first}
import mmpretrain.models, mmpretrain.datasets
from mmpretrain.registry import MODELS
from mmpretrain.utils.dependency import WITH_MULTIMODAL
MODELS.build(dict(type='ImageClassifier', backbone=dict(type='ResNet', depth=18)))
print(WITH_MULTIMODAL, MODELS.get('BlipCaption').__name__, mmpretrain.models.LinearClsHead.__name__)
"""


def install(folder, version, missing):
    """This package as a wheel has it, beside a transformers of that version that misses some names."""
    (folder / 'qsdt_mm').symlink_to(ROOT / 'qsdt_mm')
    shutil.copytree(ROOT / 'qsdt_mm/compat/startup', folder / '_qsdt_mm')
    (folder / 'transformers').mkdir()
    (folder / 'transformers/__init__.py').write_text(ANYTHING.replace('{missing}', repr(missing)))
    for name, its in (('transformers', version), ('pycocotools', '2.0.11')):
        info = folder / f'{name}-{its}.dist-info'
        info.mkdir()
        (info / 'METADATA').write_text(f'Metadata-Version: 2.1\nName: {name}\nVersion: {its}\n')


@pytest.fixture(scope='module')
def beside(tmp_path_factory):
    """Runs Python in an environment of its own, which all that need the same one share."""
    folders = {}

    def run(version, missing, *words):
        key = (version, *missing)
        if key not in folders:
            folders[key] = tmp_path_factory.mktemp('beside')
            install(folders[key], version, missing)
        return fresh_python.run(words, cwd=folders[key], PYTHONPATH=str(folders[key]))

    return run


@pytest.mark.parametrize(
    ('missing', 'first', 'expected'),
    [
        (FIVE, '_qsdt_mm', 'False ask_install LinearClsHead'),  # fails in the models; known from the start only
        pytest.param(  # fails in what the models share
            ['BasicTokenizer'], 'qsdt_mm', 'False ask_install LinearClsHead', marks=pytest.mark.slow
        ),
        ([], 'qsdt_mm', 'True BlipCaption LinearClsHead'),
    ],
    ids=['models', 'shared', 'works'],
)
def test_mmpretrain_imports(beside, missing, first, expected):
    """Where the multimodal models do not import, mmpretrain goes without them; where they do, they are there."""
    done = beside('5.24.0', missing, '-c', IMPORT.format(first=first))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == expected


def test_mmpretrain_fails_without_the_guard(beside):
    code = 'import sys; from qsdt_mm.compat import in_place; sys.meta_path.remove(in_place("MultimodalFinder")); '
    done = beside('5.24.0', FIVE, '-c', code + 'import mmpretrain.models')
    assert done.returncode == 1 and done.stderr.splitlines()[-1] == 'TypeError: NoneType takes no arguments'


def test_what_else_fails_stays_an_error(beside):
    """A fault that the multimodal models have no part in is not hidden."""
    code = 'import qsdt_mm, sys; sys.modules["mmpretrain.models.utils.ema"] = None; import mmpretrain.models'
    done = beside('5.24.0', FIVE, '-c', code)
    assert done.returncode == 1 and 'mmpretrain.models.utils.ema' in done.stderr.splitlines()[-1]


def test_doctor_knows(beside):
    done = beside('5.24.0', FIVE, '-m', 'qsdt_mm.doctor')
    assert done.returncode == 0, done.stderr
    assert 'without its multimodal models, which do not import beside transformers 5.24.0 (TypeError' in done.stdout
    assert '-> nothing here needs them; only if you do: pip install "transformers<5"' in done.stdout
