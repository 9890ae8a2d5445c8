"""Files, folders and names that pages, docstrings and comments speak of exist."""

import ast
import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from qsdt_mm.compat import renamed

ROOT = Path(__file__).parents[1]
SOURCES = ('qsdt_mm', 'tools', 'demo', 'configs', 'docs', 'tests', 'weights')
FILES = [path.relative_to(ROOT) for name in SOURCES for path in (ROOT / name).rglob('*') if path.is_file()]
FILES += [path.relative_to(ROOT) for path in ROOT.iterdir() if path.is_file()]
ENDS = {'/'.join(path.parts[i:]) for path in FILES for i in range(len(path.parts))}
FOLDERS = {'/'.join(folder.parts[i:]) for path in FILES for folder in path.parents for i in range(len(folder.parts))}
PAGES = [path for path in FILES if path.suffix == '.md']
CODE = [path for path in FILES if path.suffix == '.py' and path.parts[0] in ('qsdt_mm', 'tools', 'demo', 'configs')]
# What commands make, what a reader writes, and bases that other libraries have.
MADE = re.compile(r'(work_dirs|data|annotations|boxes|mine|build|_base_/models)/|.*(NAME|TASK)')
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


class TestArchitecture:
    """The guided walks and the table of rooms, against the code."""

    PAGE = (ROOT / 'docs/en/architecture.md').read_text(encoding='utf-8')
    WALKS = dict(re.findall(r'^### (.+?)\n(.*?)(?=^##)', PAGE, re.DOTALL | re.MULTILINE))

    @staticmethod
    def steps(walk):
        """Numbered steps of a walk: the file that each begins with, and all names in backticks."""
        found = re.findall(r'^(\d+)\. `([\w/.]+\.py)`: (.*?)(?=^\d+\. |\Z)', walk, re.DOTALL | re.MULTILINE)
        return [(int(number), file, re.findall(r'`([^`]+)`', text)) for number, file, text in found]

    @staticmethod
    def defined(file):
        """Classes, functions, methods and constants of a file, imported names left out."""
        tree = ast.parse(file.read_text(encoding='utf-8'))
        found = set()
        for node in tree.body:
            if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                found.add(node.name)
            if isinstance(node, ast.ClassDef):
                found |= {f'{node.name}.{inner.name}' for inner in node.body if isinstance(inner, ast.FunctionDef)}
        return found

    def test_there_are_three_walks(self):
        assert [title.split()[1] for title in self.WALKS] == ['image', 'checkpoint', 'config']

    @pytest.mark.parametrize('title', WALKS)
    def test_each_step_names_what_exists(self, title):
        walk = self.WALKS[title]
        steps = self.steps(walk)
        assert [number for number, _, _ in steps] == list(range(1, len(re.findall(r'^\d+\. ', walk, re.M)) + 1))
        for _, file, named in steps:
            path = next(p for p in (ROOT / 'qsdt_mm' / file, ROOT / file) if p.is_file())
            first = re.match(r'[\w.]+', named[0])[0]
            assert first in self.defined(path), f'{file} has no {first}'

    @pytest.mark.parametrize('title', WALKS)
    def test_every_function_named_exists(self, title):
        """Wherever in a step it is; commands, options and values aside."""
        everywhere = {name for path in FILES if path.suffix == '.py' for name in self.defined(ROOT / path)}
        words = [word for _, _, named in self.steps(self.WALKS[title]) for word in named]
        names = [
            word for word in words if re.fullmatch(r'[A-Za-z]\w*(?:\.\w+)?', word) and ('_' in word or '.' in word)
        ]
        assert [name for name in names if name not in everywhere] == []

    @pytest.mark.parametrize('title', WALKS)
    def test_a_walk_never_goes_back(self, title):
        steps = self.steps(self.WALKS[title])
        files = [file for _, file, _ in steps]
        assert len(files) == len(set(files))
        names = [name for _, _, named in steps for name in named if '_' in name or '.' in name]
        assert len(names) == len(set(names))

    def test_the_table_of_rooms(self):
        """Its floors are those that the test of imports keeps, and it lists every import that there is."""
        spec = importlib.util.spec_from_file_location('architecture', ROOT / 'tests/test_architecture.py')
        rules = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(rules)
        rows = re.findall(r'^\| (\d) \| `(\w+)` \| .+? \| ([^|]+) \|$', self.PAGE, re.MULTILINE)
        assert {room: int(floor) for floor, room, _ in rows} == rules.FLOORS
        for _, room, may in rows:
            allowed = set(rules.FLOORS) if may == 'all below' else set(re.findall(r'`(\w+)`', may)) | {room}
            for name, targets in rules.IMPORTS.items():
                if rules.room(name) == room:
                    assert {rules.room(target) for target in targets} <= allowed, name


class TestMigration:
    """The page lists what the code refuses, and nothing that is not so."""

    PAGE = (ROOT / 'docs/en/migration.md').read_text(encoding='utf-8')

    def rows(self, heading):
        section = re.search(rf'^## {heading}\n(.*?)(?=^## |\Z)', self.PAGE, re.DOTALL | re.MULTILINE)[1]
        found = [re.findall(r'`([^`]+)`', line) for line in section.splitlines() if line.startswith('| `')]
        return [tuple(row) for row in found]

    def test_keys(self):
        rows = {row[:2] for row in self.rows('Keys and types in configs')}
        types = {(f'type={old!r}', f'type={new!r}') for old, new in renamed.TYPES.items()}
        assert rows == {*renamed.ARGUMENTS.items(), *types}

    def test_modules(self):
        rows = {tuple(name.removeprefix('qsdt_mm.') for name in row) for row in self.rows('Rooms and modules')}
        assert rows == set(renamed.MODULES.items())

    def test_classes_and_functions(self):
        everywhere = {
            name
            for path in (ROOT / 'qsdt_mm').rglob('*.py')
            for name in re.findall(r'^ *(?:def|class) (\w+)', path.read_text(encoding='utf-8'), re.MULTILINE)
        }
        attributes, listed = {'max_spike_count'}, {}
        for row in self.rows('Classes and functions'):
            olds, news = row[: len(row) // 2], row[len(row) // 2 :]
            assert not everywhere & {name.rpartition('.')[2] for name in olds}, olds
            assert {name.rpartition('.')[2] for name in news} - attributes <= everywhere, news
            listed.update(zip(olds, news))
        refused = {old: new.rpartition('.')[2] for old, new in renamed.NAMES.items()}
        assert {old: new for old, new in listed.items() if '.' not in old} == {
            o: n for o, n in refused.items() if o != n
        }
        last = {tuple(name.rpartition('.')[2] for name in row) for row in listed.items() if '.' in row[0]}
        assert last == set(renamed.ATTRIBUTES.items())
