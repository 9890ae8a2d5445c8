"""What a stranger expects to find: how to cite, contribute and check, in step with the project."""

import ast
import re
from pathlib import Path

import pytest
import yaml

import qsdt_mm

ROOT = Path(__file__).parents[1]


def read(name):
    return yaml.safe_load((ROOT / name).read_text(encoding='utf-8'))


def test_citation_is_of_this_version_and_names_both_papers():
    citation = read('CITATION.cff')
    assert citation['version'] == qsdt_mm.__version__ and citation['type'] == 'software'
    assert {'cff-version', 'message', 'title', 'authors', 'license'} <= set(citation)
    readme = (ROOT / 'README.md').read_text(encoding='utf-8')
    papers = re.findall(r'\[([^\]]+)\]\((https://arxiv\.org/abs/[\d.]+)\)', readme)
    assert [(paper['title'], paper['url']) for paper in citation['references']] == [
        (' '.join(title.split()), url) for title, url in papers
    ]
    assert all(
        set(author) == {'family-names', 'given-names'} for p in citation['references'] for author in p['authors']
    )


def test_ruff_has_one_version():
    (hooks,) = read('.pre-commit-config.yaml')['repos']
    assert {hook['id'] for hook in hooks['hooks']} == {'ruff-check', 'ruff-format'}
    for name in ('lock', 'classic', 'docs'):
        (version,) = re.findall(r'^ruff==(.+)$', (ROOT / f'requirements/{name}.txt').read_text(), re.MULTILINE)
        assert hooks['rev'] == f'v{version}', name


def test_ci_runs_what_the_makefile_has():
    workflow = read('.github/workflows/ci.yml')
    runs = [step['run'] for job in workflow['jobs'].values() for step in job['steps'] if 'run' in step]
    targets = [re.match(r'make (\w+)', run)[1] for run in runs]
    assert 'test' in targets
    makefile = (ROOT / 'Makefile').read_text()
    assert all(re.search(rf'^{target}:', makefile, re.MULTILINE) for target in targets)


def test_every_folder_of_configs_has_a_readme():
    for folder in (path for path in (ROOT / 'configs').iterdir() if path.is_dir() and path.name != '_base_'):
        text = (folder / 'README.md').read_text(encoding='utf-8')
        assert text.startswith('# ') and '\n## Results\n' in text
        for path in folder.glob('*.py'):
            assert f'`{path.stem}`' in text, path


def test_no_test_file_is_long():
    tests = list((ROOT / 'tests').rglob('*.py'))
    lengths = {path.relative_to(ROOT): len(path.read_text(encoding='utf-8').splitlines()) for path in tests}
    assert tests and not {path: length for path, length in lengths.items() if length > 400}


QUESTIONS = {'What', 'How', 'Which', 'Whether', 'When', 'Where', 'Who', 'Whose', 'Why'}
ARTICLES = {'The', 'A', 'An', 'Our', 'Its', 'Those'}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def public_docstrings(node, name):
    """Yield name, node and docstring of a module or class, and of what is public in it; constants have some too."""
    yield name, node, ast.get_docstring(node)
    for child, after in zip(node.body, [*node.body[1:], None]):
        if isinstance(child, (ast.Assign, ast.AnnAssign)) and isinstance(after, ast.Expr):
            yield f'{name}, line {after.lineno}', child, getattr(after.value, 'value', None)
        elif isinstance(child, ast.ClassDef) and not child.name.startswith('_'):
            yield from public_docstrings(child, f'{name}.{child.name}')
        elif isinstance(child, FUNCTIONS) and not child.name.startswith('_'):
            yield f'{name}.{child.name}', child, ast.get_docstring(child)


def misnamed(source, name=''):
    """Return the public names whose docstrings begin with a question, or of a function with no verb."""
    found = [(who, node, text.split()[0]) for who, node, text in public_docstrings(ast.parse(source), name) if text]
    return [
        f'{who}: {word}'
        for who, node, word in found
        if word in QUESTIONS or isinstance(node, FUNCTIONS) and (word in ARTICLES or not word[0].isupper())
    ]


@pytest.mark.parametrize('path', sorted((ROOT / 'qsdt_mm').rglob('*.py')), ids=lambda path: path.stem)
def test_docstrings_begin_with_a_verb_or_noun(path):
    assert misnamed(path.read_text(encoding='utf-8'), path.stem) == []


@pytest.mark.parametrize(
    'source',
    [
        '"""What it holds."""',
        'class Net:\n    """How it is built."""',
        'class Net:\n    def run(self):\n        """Whether it runs."""',
        'LIMIT = 3\n"""Where it ends."""',
        'async def run():\n    """The run."""',
        'def run():\n    """``x + 1``."""',
    ],
)
def test_a_docstring_that_begins_otherwise_is_found(source):
    assert len(misnamed(source)) == 1


def test_what_is_private_may_begin_as_it_likes():
    assert not misnamed('def _run():\n    """Whether it runs."""\nclass _Net:\n    """What it is."""')
