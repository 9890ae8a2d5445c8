"""What the README and the docs say is there, is there."""

import ast
import fnmatch
import re
from pathlib import Path

import pytest
import yaml

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
    if page.name == 'migration.md':  # the first column of its tables says what was there before
        text = re.sub(r'^\|[^|]*\|', '|', text, flags=re.MULTILINE)
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


READMES = sorted(ROOT.glob('README*.md'))


@pytest.mark.parametrize('page', READMES, ids=lambda path: path.name)
def test_the_table_of_configs_has_all_that_classify(page):
    cells = re.findall(r'^\| (`[^|]+\.py`) \|', page.read_text(encoding='utf-8'), re.MULTILINE)
    patterns = [name for cell in cells for name in re.findall(r'`([^`]+)`', cell)]
    for path in (ROOT / 'configs/classification').glob('*.py'):
        assert any(fnmatch.fnmatchcase(path.name, pattern) for pattern in patterns), path.name


@pytest.mark.parametrize('page', READMES, ids=lambda path: path.name)
def test_results_are_those_of_the_cards(page):
    """Of networks that come with the package: each row by its letter, to the decimals that it has."""
    text = page.read_text(encoding='utf-8')
    checked = 0
    for row, letter in re.findall(r'^(\| .+) \| ([A-Z]) \|$', text, re.MULTILINE):
        command = re.findall(rf'tools/test\.py (\S+) --inference (\w+)[^#]*# {letter}$', text, re.MULTILINE)
        if not command:
            continue
        ((name, form),) = command
        form = {'spike': 'integer'}.get(form, form)  # equal, bit for bit
        card = (ROOT / 'weights' / name / 'README.md').read_text(encoding='utf-8')
        metric = float(re.search(rf'^\| {form} \| ([\d.]+) \|$', card, re.MULTILINE)[1])
        assert any(f'{metric:.{d}f}' in re.findall(r'[\d.]+', row) for d in (0, 1, 2)), (row, metric)
        checked += 1
    assert checked == 4


def test_papers_are_cited_as_in_the_citation_file():
    """On each first page the same BibTeX, whose titles, authors, years and addresses are those of CITATION.cff."""
    pages = [page.read_text(encoding='utf-8') for page in (*READMES, ROOT / 'docs/en/index.md')]
    (bibtex,) = {re.search(r'```bibtex\n(.*?)```', page, re.DOTALL)[1] for page in pages}
    entries = [dict(re.findall(r'(\w+) += \{(.+?)\}', entry, re.DOTALL)) for entry in bibtex.split('\n@')]
    papers = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))['references']
    for entry, paper in zip(entries, papers, strict=True):
        authors = [f'{author["family-names"]}, {author["given-names"]}' for author in paper['authors']]
        assert re.split(r'\s+and\s+', entry['author']) == authors
        assert (entry['title'], entry['year'], entry['url']) == (paper['title'], str(paper['year']), paper['url'])
        assert entry.get('doi') == paper.get('doi')


def test_make_targets_that_are_named_exist():
    makefile = (ROOT / 'Makefile').read_text()
    for page in PAGES:
        for target in re.findall(r'(?:^    |`)make ([a-z]+)', page.read_text(encoding='utf-8'), re.MULTILINE):
            assert re.search(rf'^{target}:', makefile, re.MULTILINE), target


def test_python_blocks_compile_and_examples_hold(monkeypatch):
    monkeypatch.chdir(ROOT)
    seen = set()
    for page in PAGES:
        for block in re.findall(r'```python\n(.*?)```', page.read_text(encoding='utf-8'), re.DOTALL):
            code, said = compile(block, str(page), 'exec'), ast.dump(ast.parse(block))
            if 'assert' in block and said not in seen:  # it stands alone; translations say the same
                exec(code, {})
                seen.add(said)
