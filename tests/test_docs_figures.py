"""Pictures of the pages about deployment and energy show the numbers of their tables; slots are drawn as they are."""

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


ENERGY = """
### Measured

Words.

| form | operations | each-read |
|---|---|---|
| spike, unary | 1.5 | 20 |
| integer | 2 | 4.25 |

Other words.

| form | operations |
|---|---|
| other | 1 |
"""


def module(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f'docs/figures/{name}.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope='module')
def figure():
    return module('draw_deployment')


def test_numbers_are_the_tables_own(figure):
    assert figure.table(PAGE, 'Speed') == {'slow, ms': dict(one=20.5, two=3), 'fast (times)': dict(one=10)}
    assert figure.table(PAGE, 'Size') == {'`small`, MB': dict(one=4.5)}


def test_it_is_drawn_from_the_page(figure, tmp_path):
    figure.main(picture=str(tmp_path / 'drawn.png'))
    assert (tmp_path / 'drawn.png').stat().st_size > 10_000 and figure.PICTURE.is_file()
    (tmp_path / 'page.md').write_text(PAGE)
    figure.main(str(tmp_path / 'page.md'), str(tmp_path / 'other.png'))


def test_energy_is_drawn_from_its_own_table(tmp_path):
    energy = module('draw_energy')
    assert energy.table(ENERGY) == {
        'operations': {'spike, unary': 1.5, 'integer': 2},
        'each-read': {'spike, unary': 20, 'integer': 4.25},
    }
    energy.main(picture=str(tmp_path / 'drawn.png'))
    assert (tmp_path / 'drawn.png').stat().st_size > 10_000 and energy.PICTURE.is_file()


def test_slots_are_drawn_and_shown(tmp_path):
    drawn = module('draw_slots')
    drawn.main(str(tmp_path))
    page = (ROOT / 'docs/en/spike_driven_inference.md').read_text(encoding='utf-8')
    for name in drawn.FIGURES:
        assert (tmp_path / f'{name}.png').stat().st_size > 10_000
        assert f'(images/{name}.png)' in page and (ROOT / f'docs/en/images/{name}.png').is_file()
