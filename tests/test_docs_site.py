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
        paths = list((ROOT / 'configs' / task).glob('*_shapes*.py'))
        assert paths
        for path in paths:
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

    def test_links_to_configs_lead_to_their_pages(self):
        config = '../../configs/classification/qsd-tiny_1xb32_digits'
        there = [SimpleNamespace(src_uri='configs/classification/qsd-tiny_1xb32_digits.md')]
        text = self.hooks.on_page_markdown(
            f'[`a`]({config}.py), [b](../../configs/classification/gone.py)', files=there
        )
        assert text == '[`a`](configs/classification/qsd-tiny_1xb32_digits.md), b'

    def test_a_config_as_a_page(self):
        source = '"""What it is.\n\npython a.py \\\\\n    --b\nData: none.\nExpect: 3 %.\n"""\n\n_base_ = []\nx = 1\n'
        page = self.hooks.config_page('name', source)
        assert '# name\n\nWhat it is.\n' in page and '```bash\npython a.py \\\n    --b\n```' in page
        assert '**Data**: none.' in page and page.endswith('```python\n_base_ = []\nx = 1\n```\n')

    def test_figures_stay_in_one_piece(self):
        html = self.hooks.on_page_content('T x D = 1 x 4, 4 bits, 3 Milan <pre>2 x 2\n3 MB</pre> 3 MB')
        assert html == 'T&nbsp;x&nbsp;D = 1&nbsp;x&nbsp;4, 4&nbsp;bits, 3 Milan <pre>2 x 2\n3 MB</pre> 3&nbsp;MB'
        assert self.hooks.on_page_content('<code>1 x 4</code>') == '<code class="whole">1 x 4</code>'
        long = f'<code>{"long " * 8}</code>'
        assert self.hooks.on_page_content(long) == long

    def test_words_of_a_command_stay_in_one_piece(self):
        html = self.hooks.on_page_content('<pre><code>a.py --cfg-options b\n</code></pre><p>x-y</p>')
        assert html == '<pre><code>a.py <span class="word">--cfg-options</span> b\n</code></pre><p>x-y</p>'

    def test_words_of_the_glossary(self):
        words = self.hooks.glossary('| word | what it means |\n|---|---|\n| count, counts | Spikes of `one` step |\n')
        assert words == {'count': 'Spikes of one step', 'counts': 'Spikes of one step'}
        html = '<h1>A <abbr title="x">T</abbr></h1><abbr title="x">T</abbr> <abbr title="x">T</abbr>'
        assert self.hooks.explained_once(html) == '<h1>A T</h1><abbr title="x">T</abbr> T'

    def test_every_word_of_the_glossary_is_read(self):
        text = (DOCS / 'glossary.md').read_text(encoding='utf-8')
        rows = [line for line in text.splitlines() if line.startswith('| ') and not line.startswith('| word ')]
        words = self.hooks.glossary(text)
        assert len(rows) > 30 and len(set(words.values())) == len(rows)
        assert all('`' not in meaning and '|' not in meaning for meaning in words.values())

    def test_boxes_have_their_titles(self):
        text = self.hooks.on_page_markdown('> [!WARNING]\n> **Not trained here.** Nobody has.\n')
        assert text == '> [!WARNING] Not trained here\n> Nobody has.\n'

    def test_roles(self):
        assert (
            self.hooks.on_page_content('as in :func:<code>spike_count</code>')
            == 'as in <code class="whole">spike_count</code>'
        )


class TestCheck:
    """The script that looks at the site in a browser; what it finds is seen by running it."""

    check = module(ROOT / 'docs/check_site.py')

    def test_no_site(self, tmp_path, capsys):
        assert self.check.main(['--site', str(tmp_path)]) == 2
        assert capsys.readouterr().err.count('\n') == 1

    def test_no_browser(self, tmp_path, capsys, monkeypatch):
        (tmp_path / 'index.html').touch()
        monkeypatch.setattr(self.check.shutil, 'which', lambda name: None)
        assert self.check.main(['--site', str(tmp_path)]) == 0
        assert capsys.readouterr().out.startswith('not checked')

    def test_pages(self, tmp_path):
        for name in ('a.html', 'b.html', '404.html'):
            (tmp_path / name).touch()
        assert [path.stem for path in self.check.chosen(tmp_path, [])] == ['a', 'b']
        assert [path.stem for path in self.check.chosen(tmp_path, ['b'])] == ['b']


def test_nothing_is_loaded_from_elsewhere():
    """What makes the search work from the disk is there; the plugin would load it from a server."""
    text = (ROOT / 'mkdocs.yml').read_text(encoding='utf-8')
    (script,) = re.findall(r'polyfills: \[(\S+)\]', text)
    assert 'iframe-worker' in script and (DOCS / script).is_file() and '  - offline\n' in text


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
    for name in ('configs', 'docs', 'qsdt_mm', 'requirements'):
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
    zoo = (tmp_path / 'build/docs/model_zoo.html').read_text(encoding='utf-8')
    pages = re.findall(r'href="(configs/[^"]+)"', zoo)
    assert len(pages) > 50 and all((tmp_path / 'build/docs' / page).is_file() for page in pages)
    reference = (tmp_path / 'build/docs/api.html').read_text(encoding='utf-8')
    assert 'membrane potential' in reference
    assert '&gt;&gt;&gt;' in reference and '<blockquote' not in reference  # examples are code
