"""What a release says of itself, and that the source distribution is the whole tree."""

import re
import subprocess
import sys
import tarfile
from pathlib import Path, PurePosixPath

import pytest
import yaml

import qsdt_mm

ROOT = Path(__file__).parents[2]
BUILD = 'import sys, setuptools.build_meta as b; print(b.build_sdist(sys.argv[1]))'
HEADING = re.compile(r'^## (\d+\.\d+\.\d+) \((\d{4}-\d\d-\d\d)\)$', re.MULTILINE)
LINK = re.compile(r'\]\((?![a-z]+:|#)([^)\s#]+)')


def test_version_and_date_agree():
    (version, date), *earlier = HEADING.findall((ROOT / 'CHANGELOG.md').read_text(encoding='utf-8'))
    cited = yaml.safe_load((ROOT / 'CITATION.cff').read_text(encoding='utf-8'))
    assert version == qsdt_mm.__version__ == cited['version'] and date == str(cited['date-released'])
    assert sorted(earlier, key=lambda each: each[1], reverse=True) == earlier


def test_migration_leads_to_this_version():
    text = (ROOT / 'docs/en/migration.md').read_text(encoding='utf-8')
    assert qsdt_mm.__version__ in text.splitlines()[0]


@pytest.mark.slow
def test_source_distribution_is_the_tree(tmp_path):
    """Its READMEs' commands and links work there, and no file of a run or an environment is in it."""
    done = subprocess.run(
        [sys.executable, '-c', BUILD, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, timeout=200
    )
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / done.stdout.splitlines()[-1]) as archive:
        names = {PurePosixPath(*PurePosixPath(name).parts[1:]).as_posix() for name in archive.getnames()}
    for page in [*ROOT.glob('*.md'), *(ROOT / 'docs/en').glob('*.md')]:
        for target in LINK.findall(page.read_text(encoding='utf-8')):
            path = (page.parent / target).resolve()
            assert path.relative_to(ROOT.resolve()).as_posix() in names, f'{page.name}: {target}'
    assert {'Makefile', 'requirements/lock.txt', 'tests/packaging/test_release.py', 'mkdocs.yml'} <= names
    rooms = {name.partition('/')[0] for name in names if '/' in name} - {'qsdt_mm.egg-info'}
    assert rooms == {'.github', 'configs', 'demo', 'docs', 'qsdt_mm', 'requirements', 'tests', 'tools', 'weights'}
    assert [name for name in names if name.endswith(('.pth', '.pyc'))] == ['qsdt_mm/compat/startup/qsdt_mm.pth']
