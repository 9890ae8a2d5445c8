"""Arrows between the rooms of the package run one way; see docs/en/architecture.md."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'qsdt_mm'
FLOORS = {
    'errors': 1,
    'compat': 1,
    'version': 1,
    'fileio': 2,
    'ops': 2,
    'datasets': 2,
    'registry': 2,
    'models': 3,
    'inference': 4,
    'analysis': 4,
    'published': 4,
    'deploy': 5,
    'visualization': 5,
    'engine': 6,
    'cli': 7,
    'doctor': 8,
}
"""A room may import lower floors, and rooms of its own floor as long as no circle comes of it."""
TASK_ROOMS = ('qsdt_mm.models.heads', 'qsdt_mm.models.necks', 'qsdt_mm.models.selfsup', 'qsdt_mm.models.distillation')


def module_name(path):
    name = '.'.join(path.relative_to(ROOT).with_suffix('').parts)
    return name.removesuffix('.__init__')


FILES = {module_name(path): path for path in sorted(PACKAGE.rglob('*.py'))}


def imports_of(name):
    """Modules of the package that a module imports, anywhere in its code, lazily too."""
    path, found = FILES[name], set()
    package = name if path.name == '__init__.py' else name.rpartition('.')[0]
    tree = ast.parse(path.read_text(encoding='utf-8'))
    of_types = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == 'TYPE_CHECKING']
    skipped = {inner for node in of_types for inner in ast.walk(node)}  # never run
    for node in ast.walk(tree):
        if node in skipped:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parts = package.split('.')[: -node.level + 1 or None] if node.level else []
            base = '.'.join([*parts, *([node.module] if node.module else [])])
            found |= {base if f'{base}.{alias.name}' not in FILES else f'{base}.{alias.name}' for alias in node.names}
    return {target for target in found if target in FILES and target != name}


IMPORTS = {name: imports_of(name) for name in FILES}


def room(name):
    return name.split('.')[1] if '.' in name else 'qsdt_mm'


def offences(allowed):
    return sorted(f'{name} imports {target}' for name in FILES for target in IMPORTS[name] if not allowed(name, target))


def test_every_room_has_a_floor():
    assert {room(name) for name in FILES} - {'qsdt_mm'} == set(FLOORS)


def test_no_import_runs_up():
    """Only the package itself, which registers everything, stands above all rooms; nobody imports it."""
    assert not offences(
        lambda name, target: (
            room(name) == 'qsdt_mm' or room(target) != 'qsdt_mm' and FLOORS[room(target)] <= FLOORS[room(name)]
        )
    )


def test_errors_import_nothing_of_ours():
    assert not IMPORTS['qsdt_mm.errors']


@pytest.mark.parametrize(
    'below, above',
    [
        ('models', ('engine', 'datasets', 'analysis', 'inference', 'published', 'visualization', 'cli')),
        ('ops', ('models', 'fileio', 'errors', 'datasets')),
        ('fileio', ('datasets', 'ops')),
        ('inference', ('datasets', 'analysis', 'published')),
        ('analysis', ('datasets', 'published')),
        ('engine', ('published',)),
    ],
)
def test_rooms_that_do_not_know_each_other(below, above):
    assert not offences(lambda name, target: room(name) != below or room(target) not in above)


def test_views_know_no_task():
    views = ('inference', 'analysis', 'deploy')
    assert not offences(lambda name, target: room(name) not in views or not target.startswith(TASK_ROOMS))


def test_no_circle_of_files():
    # What a package's __init__ re-exports is looked up in the files: a file that imports its own package's __init__
    # would make a circle, and does not.
    tuple(TopologicalSorter(IMPORTS).static_order())


def test_no_circle_of_rooms():
    graph = {}
    for name, targets in IMPORTS.items():
        if room(name) != 'qsdt_mm':
            graph.setdefault(room(name), set()).update(room(target) for target in targets)
    tuple(TopologicalSorter({name: targets - {name, 'qsdt_mm'} for name, targets in graph.items()}).static_order())
