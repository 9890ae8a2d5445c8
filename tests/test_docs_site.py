"""The documentation builds without a warning, shows the configs as they are, and draws its own figures."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs/en'


def module(path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_configs_on_the_page_are_the_files():
    """Without their docstrings."""
    blocks = re.findall(r'```python\n(.*?)\n```', (DOCS / 'own_data.md').read_text(encoding='utf-8'), re.DOTALL)
    for task in ('classification', 'detection', 'segmentation'):
        (path,) = (ROOT / 'configs' / task).glob('*_shapes*.py')
        assert path.read_text(encoding='utf-8').split('"""', 2)[2].strip() in blocks, path


@pytest.mark.slow
def test_figures_are_drawn(tmp_path):
    """And every picture of the concepts page is one of them."""
    figures = module(ROOT / 'docs/figures/draw_concepts.py')
    figures.main(str(tmp_path))
    drawn = {path.name for path in tmp_path.iterdir()}
    shown = set(re.findall(r'\(images/(\w+\.png)\)', (DOCS / 'concepts.md').read_text(encoding='utf-8')))
    assert drawn == shown and all((DOCS / 'images' / name).is_file() for name in shown)


class TestHooks:
    hooks = module(ROOT / 'docs/site/hooks.py')

    def test_missing_pages_are_left_out_and_new_ones_added(self, tmp_path):
        for name in ('a.md', 'b.md', 'new.md'):
            (tmp_path / name).write_text('# A page\n')
        nav = [{'Start': ['a.md', 'gone.md']}, {'Empty': ['lost.md']}, {'Named': 'b.md'}]
        config = self.hooks.on_config(dict(docs_dir=str(tmp_path), nav=nav))
        assert config['nav'] == [{'Start': ['a.md']}, {'Named': 'b.md'}, {'More': ['new.md']}]

    def test_links_that_leave_the_docs(self):
        text = self.hooks.on_page_markdown('See [the log](../../CHANGELOG.md) and [events](events.md).')
        assert text == 'See the log and [events](events.md).'

    def test_roles(self):
        assert self.hooks.on_page_content('as in :func:<code>spike_count</code>') == 'as in <code>spike_count</code>'


def test_examples_are_code(monkeypatch):
    monkeypatch.setitem(sys.modules, 'griffe', SimpleNamespace(Extension=object))  # a library of the site's alone
    extension = module(ROOT / 'docs/site/doctests.py')
    found = SimpleNamespace(
        docstring=SimpleNamespace(value='Add.\n\n>>> 1 + (\n...     1)\n2\n\nMore.\n\n    >>> 3\n    3')
    )
    extension.Doctests().on_instance(obj=found, node=None)
    assert found.docstring.value == (
        'Add.\n\n```pycon\n>>> 1 + (\n...     1)\n2\n```\n\nMore.\n\n    ```pycon\n    >>> 3\n    3\n    ```'
    )
    extension.Doctests().on_instance(obj=SimpleNamespace(docstring=None))


@pytest.mark.slow
def test_the_site_builds_strictly(tmp_path):
    """As make docs does, in an environment of its own; with one page less, too."""
    for name in ('docs', 'qsdt_mm', 'requirements'):
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns('__pycache__'))
    for name in ('Makefile', 'mkdocs.yml'):
        shutil.copy(ROOT / name, tmp_path / name)
    for missing in (None, 'reliability.md', 'install.md'):
        if missing:
            (tmp_path / 'docs/en' / missing).unlink(missing_ok=True)
        env = {key: value for key, value in os.environ.items() if key != 'VIRTUAL_ENV'}
        done = subprocess.run(
            ['make', 'docs', f'PYTHON={sys.executable}'],
            cwd=tmp_path,
            env=env,
            capture_output=True,
            text=True,
            timeout=900,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert not re.search('WARNING|ERROR', done.stdout + done.stderr.replace('WARNING: Location', '')), done.stderr
    for page in ('index', 'get_started', 'own_data', 'concepts', 'extend', 'tools', 'troubleshooting', 'api'):
        assert '<h1' in (tmp_path / f'build/docs/{page}.html').read_text(encoding='utf-8'), page
    reference = (tmp_path / 'build/docs/api.html').read_text(encoding='utf-8')
    assert 'membrane potential' in reference
    assert '&gt;&gt;&gt;' in reference and '<blockquote' not in reference  # examples are code
