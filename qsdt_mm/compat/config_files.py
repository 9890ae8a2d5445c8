"""Configuration files as mmengine reads them: with a variable changed at its definition, and through symbolic links."""

from __future__ import annotations

import ast
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import yaml
from mmengine.config import Config
from mmengine.config import config as reader
from mmengine.config.utils import ConfigParsingError

Change = Callable[[str, Any], Any]
_changes: list[Change] = []


def change_variable(name: str, value: Any) -> Any:
    """Return what a variable is to be in place of what a file made it; called in files read by ``with_variable``."""
    return _changes[-1](name, value)


def _binds(statement: ast.stmt, name: str) -> bool:
    if isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
        return False
    return any(
        isinstance(node, ast.Name) and node.id == name and not isinstance(node.ctx, ast.Load)
        for node in ast.walk(statement)
    )


def _followed(statements: list[ast.stmt], name: str) -> list[ast.stmt]:
    """Return statements, each that binds a name followed by one that changes it."""
    found = []
    for statement in statements:
        found.append(statement)
        if not _binds(statement, name):
            continue
        for inner in (statement, *getattr(statement, 'handlers', ()), *getattr(statement, 'cases', ())):
            for part in ('body', 'orelse', 'finalbody'):
                if getattr(inner, part, None):
                    setattr(inner, part, _followed(getattr(inner, part), name))
        found += _changing(name)
    return found


def _changing(name: str) -> list[ast.stmt]:
    return ast.parse(f'if {name!r} in globals():\n    {name} = __change__({name!r}, {name})').body


def _with_change(tree: ast.Module, name: str) -> ast.Module:
    start = 0
    while start < len(tree.body) and (
        isinstance(tree.body[start], ast.Expr)
        or isinstance(tree.body[start], ast.ImportFrom)
        and tree.body[start].module == '__future__'
    ):
        start += 1
    taken = ast.parse(f'from {__name__} import change_variable as __change__').body
    # Bases that are imported have bound their names already.
    tree.body = tree.body[:start] + taken + _changing(name) + _followed(tree.body[start:], name)
    return ast.fix_missing_locations(tree)


def _changed_yaml(path: str, name: str, change: Change) -> Any:
    """Return what a YAML file holds, with the variable changed in all places that are aliases of it."""
    with open(path, encoding='utf-8') as file:
        root = yaml.compose(file, yaml.SafeLoader)
    old = next(value for key, value in root.value if key.value == name)
    loader = yaml.SafeLoader('')
    value = change(name, yaml.SafeLoader('').construct_document(old))
    new = yaml.compose(yaml.safe_dump(value), yaml.SafeLoader)
    seen: set[int] = set()

    def replace(node: Any) -> Any:
        if node is old:
            return new
        if id(node) not in seen and not isinstance(node, yaml.ScalarNode):
            seen.add(id(node))
            if isinstance(node, yaml.MappingNode):
                node.value = [(key, replace(item)) for key, item in node.value]
            else:
                node.value = [replace(item) for item in node.value]
        return node

    return loader.construct_document(replace(root))


@contextmanager
def with_variable(name: str, change: Change) -> Iterator[None]:
    """Have every configuration file that is read while the block runs, bases among them, change a top-level name.

    Whatever binds the name is followed by a change of it, so that all that the file makes of the variable afterwards
    is made of the changed one.

    Args:
        name: the variable.
        change: gets the name and a value, and returns another value.
    """
    remove, imports, load = reader.RemoveAssignFromAST, reader.ImportTransformer, reader.load

    class Remove(remove):
        def visit_Module(self, node: ast.Module) -> ast.Module:
            return _with_change(self.generic_visit(node), name)

    class Imports(imports):
        def visit_Module(self, node: ast.Module) -> ast.Module:
            return _with_change(self.generic_visit(node), name)

    def load_changed(file: Any, *args: Any, **kwargs: Any) -> Any:
        found = load(file, *args, **kwargs)
        if not isinstance(found, dict) or name not in found:
            return found
        if str(file).endswith(('.yml', '.yaml')):
            return _changed_yaml(file, name, change)
        return {key: change(name, value) if key == name else value for key, value in found.items()}

    _changes.append(change)
    reader.load = load_changed
    if name.isidentifier():
        reader.RemoveAssignFromAST, reader.ImportTransformer = Remove, Imports
    try:
        yield
    finally:
        reader.RemoveAssignFromAST, reader.ImportTransformer, reader.load = remove, imports, load
        _changes.pop()


@contextmanager
def following_links(warn: Callable[[str], None] = warnings.warn) -> Iterator[None]:
    """Have a configuration file that is a symbolic link find its bases: beside the link or else beside the file itself.

    mmengine looks beside the link only, where a tree of links has them and a single link has not.

    Args:
        warn: is told of a base that is in both places and not the same.
    """
    place, lazy = Config._get_cfg_path, Config._parse_lazy_import

    def get_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        found, scope = place(cfg_path, filename)
        other = os.path.join(os.path.dirname(os.path.realpath(filename)), cfg_path)
        if '::' in cfg_path or not os.path.exists(other):
            return found, scope
        if not os.path.exists(found):
            return other, scope
        if not os.path.samefile(found, other):
            warn(f'{filename} is a link, and its base {cfg_path} is taken from beside the link, not from {other}')
        return found, scope

    def parse(filename: str) -> tuple:
        try:
            return lazy(filename)
        except ConfigParsingError:
            real = os.path.realpath(filename)
            if real == os.path.abspath(filename):
                raise
            return lazy(real)

    Config._get_cfg_path, Config._parse_lazy_import = staticmethod(get_path), staticmethod(parse)
    try:
        yield
    finally:
        Config._get_cfg_path, Config._parse_lazy_import = staticmethod(place), staticmethod(lazy)
