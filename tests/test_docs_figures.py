"""The picture of the page about deployment shows the numbers of its tables."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGE = """
## Speed

| what | else |
|---|---|
| a | 1 |

| network | slow, ms | fast (times) |
|---|---|---|
| one | 20.5 | 10 (2.1) |
| two | 3 | - |

### Size

| network | `small`, MB |
|---|---|
| one | 4.50 |
"""


@pytest.fixture(scope='module')
def figure():
    spec = importlib.util.spec_from_file_location('draw_deployment', ROOT / 'docs/figures/draw_deployment.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


def test_numbers_are_the_tables_own(figure):
    assert figure.table(PAGE, 'Speed') == {'slow, ms': dict(one=20.5, two=3), 'fast (times)': dict(one=10)}
    assert figure.table(PAGE, 'Size') == {'`small`, MB': dict(one=4.5)}


def test_it_is_drawn_from_the_page(figure, tmp_path):
    figure.main(picture=str(tmp_path / 'drawn.png'))
    assert (tmp_path / 'drawn.png').stat().st_size > 5_000 and figure.PICTURE.is_file()
    (tmp_path / 'page.md').write_text(PAGE)
    figure.main(str(tmp_path / 'page.md'), str(tmp_path / 'other.png'))
