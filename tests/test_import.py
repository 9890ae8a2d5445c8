"""``import qsdt_mm``: light, silent, and without the task libraries."""

import subprocess
import sys
import textwrap
from pathlib import Path

import fresh_python
import pytest

from qsdt_mm.compat.distributions import to_install

ROOT = Path(__file__).parents[1]

BLOCK = '''
import sys

class Blocked:
    """Makes the task libraries look as if they were not installed."""

    def find_spec(self, name, path=None, target=None):
        if name.split('.')[0] in ('mmpretrain', 'mmdet', 'mmseg'):
            raise ModuleNotFoundError(f'No module named {name!r}', name=name)

sys.meta_path.insert(0, Blocked())
'''


def run_python(code):
    """A fresh interpreter at the root of the repository: exit status, output, errors."""
    return subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_import_is_silent_and_leaves_the_task_libraries_alone():
    done = run_python("""
        import sys
        import qsdt_mm
        loaded = {name.split('.')[0] for name in sys.modules}
        assert not loaded & {'mmpretrain', 'mmdet', 'mmseg', 'matplotlib'}, loaded
        assert qsdt_mm.__version__
        for name in qsdt_mm.__all__:
            getattr(qsdt_mm, name)
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, '', '')


def test_the_core_works_without_the_task_libraries():
    """Also: what needs one of them says in one line which, and how to get it."""
    code = BLOCK + textwrap.dedent("""
        import torch, qsdt_mm
        from mmengine.registry import DATASETS, MODELS, DefaultScope
        arch = dict(family='qsd', widths=(4, 4, 8, 8, 8), depths=(1, 1, 1, 1, 1), num_heads=2)
        (out, ) = MODELS.build(dict(type='SpikeDrivenTransformer', arch=arch))(torch.randn(2, 3, 32, 32))
        out.sum().backward()
        for scope, kind in (
            ('mmpretrain', 'SpikeLinearClsHead'), ('mmdet', 'SpikeFPN'), ('mmdet', 'SpikeRPNHead'),
            ('mmdet', 'SpikeShared2FCBBoxHead'), ('mmdet', 'SpikeFCNMaskHead'), ('mmseg', 'SpikeFPNHead'),
        ):
            with DefaultScope.overwrite_default_scope(scope):
                try:
                    MODELS.build(dict(type=kind))
                except ImportError as error:
                    print(error)
    """)
    done = fresh_python.run(['-c', code], cwd=ROOT)
    assert done.returncode == 0, done.stderr
    # mmengine, too, warns about the scope
    assert [line for line in done.stdout.splitlines() if 'which is not installed' in line] == [
        f'{kind} needs {library}, which is not installed: pip install {to_install(library)}'
        for kind, library in (
            ('SpikeLinearClsHead', 'mmpretrain'),
            ('SpikeFPN', 'mmdet'),
            ('SpikeRPNHead', 'mmdet'),
            ('SpikeShared2FCBBoxHead', 'mmdet'),
            ('SpikeFCNMaskHead', 'mmdet'),
            ('SpikeFPNHead', 'mmseg'),
        )
    ]


def test_unknown_names_are_refused_as_usual():
    import qsdt_mm

    with pytest.raises(AttributeError, match="'qsdt_mm' has no attribute 'load_publishd'"):
        _ = qsdt_mm.load_publishd
