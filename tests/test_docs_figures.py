"""Pictures of the docs: small, told in words, drawn by scripts that are here, from the numbers of the pages."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
import torch

ROOT = Path(__file__).parents[1]
DOCS = ROOT / 'docs/en'
PICTURES = sorted((DOCS / 'images').iterdir())
PAGES = [*sorted(ROOT.glob('README*.md')), *sorted(DOCS.glob('*.md'))]
SCRIPTS = sorted((ROOT / 'docs/figures').glob('*.py'))
PAGE = """
## Speed

| what | else |
|---|---|
| a | 1 |

| network | slow, ms | fast (times) |
|---|---|---|
| one | 20.5 | 10 (2.1) |
| two | **3** | - |

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


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / f'docs/figures/{name}.py')
    found = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(found)
    return found


@pytest.fixture(scope='module')
def tables():
    return script('draw_tables')


@pytest.mark.parametrize('path', PICTURES, ids=lambda path: path.name)
def test_a_picture_is_small_shown_and_drawn_here(path):
    assert path.stat().st_size < 150_000
    assert any(path.name in page.read_text(encoding='utf-8') for page in PAGES)
    # A family of pictures is named by its first word: first_*.png
    family = f'{path.stem.split("_")[0]}_*{path.suffix}'
    assert any(path.name in text or family in text for text in (s.read_text(encoding='utf-8') for s in SCRIPTS))


@pytest.mark.parametrize('page', PAGES, ids=lambda path: path.name)
def test_every_picture_is_told_in_words(page):
    """For those who do not see it: as a sentence, not as a file's name."""
    for words in re.findall(r'!\[([^\]]*)\]\(', page.read_text(encoding='utf-8')):
        assert len(words) > 15 and not words.endswith(('.png', '.jpg', '.gif')), words


def test_numbers_are_the_tables_own(tables):
    assert tables.table(PAGE, 'Speed') == {'slow, ms': dict(one=20.5, two=3), 'fast (times)': dict(one=10)}
    assert tables.table(PAGE, 'Size') == {'`small`, MB': dict(one=4.5)}


def test_they_are_drawn_from_the_pages(tables, tmp_path):
    tables.main(str(tmp_path))
    assert {path.stem for path in tmp_path.iterdir()} == set(tables.FIGURES)
    assert all((DOCS / f'images/{path.name}').is_file() for path in tmp_path.iterdir())
    tables.draw_deployment(PAGE, tmp_path / 'other.png')


class TestSpikes:
    """What is shown of a network is chosen by what it does."""

    spikes = script('draw_spikes')

    def test_the_channel_that_goes_with_the_image(self):
        image = torch.tensor([[0.0, 1.0], [2.0, 3.0]])
        counts = torch.stack([3 - image, torch.ones(2, 2), image, image**3])
        found = self.spikes.correlation(counts, image)
        assert torch.allclose(found[:3], torch.tensor([-1.0, 0.0, 1.0]), atol=1e-6) and found.argmax() == 2

    def test_the_channel_with_most_to_show(self):
        assert self.spikes.most_to_show(torch.tensor([[[4, 4]], [[0, 4]], [[0, 0]]]), 4) == 1


def test_the_digit_that_stays_inside():
    film = script('draw_moving_digit')
    inside, outside = np.zeros((2, 1, 2, 32, 32))
    inside[..., 15:18, 15:18] = 1
    outside[..., 15:18, 30:] = 1
    assert film.edge_share(inside) == 0 and film.edge_share(outside) == 1


def test_kept_pictures_are_made_smaller(tmp_path):
    from PIL import Image

    keep = script('draw_get_started')
    Image.effect_noise((1500, 300), 60).convert('RGB').save(tmp_path / 'large.png')
    keep.shrink(tmp_path / 'large.png', tmp_path / 'small.png')
    assert Image.open(tmp_path / 'small.png').size == (1000, 200)
    assert (tmp_path / 'small.png').stat().st_size < (tmp_path / 'large.png').stat().st_size / 2


def test_energy_is_drawn_from_its_own_table(tmp_path):
    energy = script('draw_energy')
    assert energy.table(ENERGY) == {
        'operations': {'spike, unary': 1.5, 'integer': 2},
        'each-read': {'spike, unary': 20, 'integer': 4.25},
    }
    energy.main(picture=str(tmp_path / 'drawn.png'))
    assert (tmp_path / 'drawn.png').stat().st_size > 2_000 and energy.PICTURE.is_file()


def test_slots_are_drawn_and_shown(tmp_path):
    drawn = script('draw_slots')
    drawn.main(str(tmp_path))
    page = (ROOT / 'docs/en/spike_driven_inference.md').read_text(encoding='utf-8')
    for name in drawn.FIGURES:
        assert (tmp_path / f'{name}.png').stat().st_size > 2_000
        assert f'(images/{name}.png)' in page and (ROOT / f'docs/en/images/{name}.png').is_file()
