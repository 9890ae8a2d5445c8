"""What the README and the docs say is there, is there."""

import fnmatch
import re
from pathlib import Path

import pytest

from qsdt_mm.models.backbones.presets import ARCH_ZOO

ROOT = Path(__file__).parents[1]
PAGES = [
    *sorted(ROOT.glob('README*.md')),
    ROOT / 'CHANGELOG.md',
    ROOT / 'CONTRIBUTING.md',
    *sorted((ROOT / 'configs').rglob('*.md')),
    *sorted((ROOT / 'docs').rglob('*.md')),
]
CONFIGS = [path.name for path in (ROOT / 'configs').rglob('*.py')]


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_and_files_exist(page):
    text = page.read_text(encoding='utf-8')
    links = [link for link in re.findall(r'\]\(([^)#\s]+)\)', text) if '://' not in link]
    for link in links:
        assert (page.parent / link).exists(), link
    for path in re.findall(r'(?<![\w/])((?:tools|configs|docs|requirements)/[\w./-]+\.\w+)', text):
        placeholder = any(part.isupper() for part in Path(path).with_suffix('').parts)  # NAME.py, TASK/metafile.yml
        assert placeholder or (ROOT / path).exists() or (ROOT / 'tests' / path).exists(), path


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_configs_that_are_named_exist(page):
    for name in re.findall(r'(?<![\w/*-])([\w*-]+_\d+xb\d+_[\w*-]+\.py)', page.read_text(encoding='utf-8')):
        assert fnmatch.filter(CONFIGS, name), name


def test_the_table_of_presets_is_the_zoo():
    names = re.findall(r'^\| `((?:qsd|e)-\d+m)`', (ROOT / 'README.md').read_text(encoding='utf-8'), re.MULTILINE)
    assert names == list(ARCH_ZOO)


def test_make_targets_that_are_named_exist():
    makefile = (ROOT / 'Makefile').read_text()
    for page in PAGES:
        for target in re.findall(r'(?:^    |`)make ([a-z]+)', page.read_text(encoding='utf-8'), re.MULTILINE):
            assert re.search(rf'^{target}:', makefile, re.MULTILINE), target


def test_python_blocks_compile_and_examples_hold():
    for page in PAGES:
        for block in re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL):
            code = compile(block, str(page), 'exec')
            if 'assert' in block:  # it stands alone
                exec(code, {})
