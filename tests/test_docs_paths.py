"""Files, folders and names that pages, docstrings and comments speak of exist."""

import importlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ('qsdt_mm', 'tools', 'demo', 'configs', 'docs', 'tests')
FILES = [path.relative_to(ROOT) for name in SOURCES for path in (ROOT / name).rglob('*') if path.is_file()]
FILES += [path.relative_to(ROOT) for path in ROOT.iterdir() if path.is_file()]
ENDS = {'/'.join(path.parts[i:]) for path in FILES for i in range(len(path.parts))}
FOLDERS = {'/'.join(folder.parts[i:]) for path in FILES for folder in path.parents for i in range(len(folder.parts))}
PAGES = [path for path in FILES if path.suffix == '.md']
CODE = [path for path in FILES if path.suffix == '.py' and path.parts[0] in ('qsdt_mm', 'tools', 'demo', 'configs')]
# What commands make, and what a reader writes.
MADE = re.compile(r'(work_dirs|data|annotations|mine|build)/|.*(NAME|TASK)')
OLD = (Path('docs/en/migration.md'), Path('qsdt_mm/compat/renamed.py'))


def named_files(text):
    """Paths with a folder; ``mmdet::_base_/...`` is another library's."""
    found = re.findall(r'(?<![\w./~:-])((?:[\w-]+/)+[\w.-]*\w\.(?:py|md|sh|yml|toml|cff|json))\b', text)
    return [name for name in found if not MADE.match(name)]


def names(text):
    """Dotted names of the package, in pages and cross references."""
    return re.findall(r'(?:`|import |::: )(qsdt_mm(?:\.\w+)+)', text)


def exists(name):
    """Whether a dotted name is a module, or something in one."""
    whole, parts = name, []
    while True:
        try:
            found = importlib.import_module(whole)
            break
        except ModuleNotFoundError:
            whole, _, last = whole.rpartition('.')
            parts.insert(0, last)
    for part in parts:
        found = getattr(found, part, None)
    return found is not None


@pytest.mark.parametrize('path', [p for p in (*PAGES, *CODE) if p not in OLD], ids=Path.as_posix)
def test_paths_exist(path):
    text = (ROOT / path).read_text(encoding='utf-8')
    assert [name for name in named_files(text) if name not in ENDS] == []
    if path.suffix == '.md':
        folders = [name.rstrip('/') for name in re.findall(r'`((?:[\w-]+/)+)`', text)]
        assert [name for name in folders if name not in FOLDERS and not MADE.match(f'{name}/')] == []


@pytest.mark.parametrize('path', [p for p in PAGES if p not in OLD], ids=Path.as_posix)
def test_tests_and_names_exist(path):
    """Tests that a page refers to as ``file.py::name``, and dotted names of the package."""
    text = (ROOT / path).read_text(encoding='utf-8')
    for file, test in re.findall(r'([\w/]+\.py)(?:::\w+)*::(\w+)', text):
        (source,) = [p for p in FILES if p.as_posix() == f'tests/{file}' or p.as_posix() == file]
        assert re.search(rf'(?:def|class) {test}\b', (ROOT / source).read_text(encoding='utf-8')), f'{file}::{test}'
    assert [name for name in names(text) if not name.endswith('.pth') and not exists(name)] == []


def test_a_stale_page_is_seen():
    """The rules find what they are there for."""
    text = 'In `engine/cli.py` and `qsdt_mm.export.loading`; `work_dirs/a/b.py`, configs/TASK/NAME.py'
    assert named_files(text) == ['engine/cli.py'] and 'engine/cli.py' not in ENDS
    assert names('`qsdt_mm.nowhere.loading`') == ['qsdt_mm.nowhere.loading'] and not exists('qsdt_mm.nowhere.loading')
    assert exists('qsdt_mm.inference.conversion.convert') and not exists('qsdt_mm.inference.conversion.converted')
