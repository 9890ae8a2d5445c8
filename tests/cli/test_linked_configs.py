"""A configuration that is a symbolic link finds its bases, beside the link or beside the file."""

import pytest
import toy_runs as toy

from qsdt_mm.cli import load_config
from qsdt_mm.errors import InputError, InputWarning


@pytest.fixture
def tree(tmp_path):
    files = {
        'a/base/one.py': "_base_ = ['two.yaml']\nval_cfg = dict(x=1)\n",
        'a/base/two.yaml': 'test_cfg: {y: 2}\n',
        'a/c.py': "_base_ = 'base/one.py'\nn = 3\ntrain_cfg = dict(n=n)\n",
        'a/lazy_base.py': 'val_cfg = dict(x=1)\ntest_cfg = dict(y=2)\n',
        'a/lazy.py': (
            'from mmengine.config import read_base\nwith read_base():\n    from .lazy_base import *\n'
            'n = 3\ntrain_cfg = dict(n=n)\n'
        ),
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def read(path, *options):
    cfg = load_config(str(path), list(options))
    return cfg.train_cfg.n, cfg.val_cfg.x, cfg.test_cfg.y


@pytest.mark.parametrize('name', ['c.py', 'lazy.py'])
def test_a_single_link(tree, name):
    (tree / name).symlink_to(tree / 'a' / name)
    (tree / 'again.py').symlink_to(name)  # a relative one, to another
    assert read(tree / 'a' / name) == read(tree / name) == read(tree / 'again.py') == (3, 1, 2)
    assert read(tree / name, 'train_cfg.n=4') == (4, 1, 2)
    with pytest.raises(InputError, match='n is a variable, of which .* train_cfg.n=4 instead'):
        read(tree / name, 'n=4')


def test_a_base_that_is_a_link(tree):
    (tree / 'b.py').write_text("_base_ = 'linked.py'\n")
    (tree / 'linked.py').symlink_to(tree / 'a/c.py')
    assert read(tree / 'b.py') == (3, 1, 2)


def test_a_linked_folder(tree):
    (tree / 'b').symlink_to(tree / 'a')
    assert read(tree / 'b/c.py') == read(tree / 'b/lazy.py') == (3, 1, 2)


def test_a_tree_of_links_keeps_to_itself(tree):
    """As ``cp -rs`` makes it, with one file of one's own."""
    (tree / 'mine/base').mkdir(parents=True)
    for name in ('c.py', 'base/one.py'):
        (tree / 'mine' / name).symlink_to(tree / 'a' / name)
    (tree / 'mine/base/two.yaml').write_text('test_cfg: {y: 9}\n')
    with pytest.warns(
        InputWarning, match=r'one.py is a link, and its base two.yaml is taken from beside the link, not'
    ):
        assert read(tree / 'mine/c.py') == (3, 1, 9)


def test_neither_place_has_the_base(tree, capsys):
    (tree / 'a/base/one.py').unlink()
    (tree / 'c.py').symlink_to(tree / 'a/c.py')
    (tree / 'dead.py').symlink_to(tree / 'gone.py')
    said = {
        'c.py': 'base/one.py',
        'dead.py': f'is a link to {tree / "gone.py"}, which does not exist',
        'a': 'is a folder',
    }
    for name, what in said.items():
        assert toy.tool('misc/print_config').main([str(tree / name)]) == 2
        (line,) = toy.our_lines(capsys.readouterr().err, 'print_config.py')
        assert f'config {tree / name} ' in line and what in line
