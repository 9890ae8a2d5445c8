"""Label images of colours become label maps; a colour that has no class stops the tool."""

import cv2
import numpy as np
import pytest
import toy_runs as toy
from PIL import Image

from qsdt_mm.datasets.colours import parse_palette
from qsdt_mm.errors import InputError

SKY, ROAD, TREE, VOID = (128, 128, 128), (128, 64, 128), (128, 128, 0), (0, 0, 0)
PALETTE = 'sky 128 128 128\nroad 128 64 128\nvoid 0 0 0\ntree 128 128 0\n'


def run(*words):
    return toy.tool('dataset_converters/colours_to_labels').main([*map(str, words)])


def stripes(*colours):
    return np.repeat(np.array(colours, np.uint8)[:, None], 6, 1)


@pytest.fixture
def masks(tmp_path):
    """Three images, in as many kinds of files."""
    folder = tmp_path / 'masks'
    (folder / 'town').mkdir(parents=True)
    Image.fromarray(stripes(SKY, TREE, ROAD)).save(folder / 'a.png')
    clear = np.dstack([stripes(VOID, SKY, SKY), np.full((3, 6), 7, np.uint8)])
    Image.fromarray(clear).save(folder / 'town/b.png')
    Image.fromarray(stripes(ROAD, ROAD, VOID)).quantize(4).save(folder / 'town/c.bmp')
    (folder / 'notes.txt').write_text('not an image')
    return folder


def labels(folder, name):
    found = cv2.imread(str(folder / name), cv2.IMREAD_UNCHANGED)
    assert found.ndim == 2 and found.dtype == np.uint8 and (found == found[:, :1]).all()
    return found[:, 0].tolist()


@pytest.mark.parametrize('by', ['file', 'lines', 'table', 'numbers', 'hexadecimal'])
def test_a_palette(masks, tmp_path, capsys, by):
    text = dict(
        file=PALETTE,
        lines=PALETTE,
        table='name,r,g,b\nsky,128,128,128\nroad,128,64,128\nvoid,0,0,0\ntree,128,128,0\n',
        numbers='3 void 0 0 0\n2 tree 128 128 0\n1 road 128 64 128\n0 sky 128 128 128\n',
        hexadecimal='# mine\n\nsky #808080\n#804080 road\nvoid #000000\ntree #808000\n',
    )[by]
    (tmp_path / 'palette.txt').write_text(text)
    given = ['--colours', *text.splitlines()] if by == 'lines' else ['--palette', tmp_path / 'palette.txt']
    before = toy.files(masks)
    assert run(masks, tmp_path / 'out', *given, '--void', 'void') == 0
    assert labels(tmp_path / 'out', 'a.png') == [0, 2, 1]
    assert labels(tmp_path / 'out', 'town/b.png') == [255, 0, 0]
    assert labels(tmp_path / 'out', 'town/c.png') == [1, 1, 255]
    assert toy.files(masks) == before
    said = capsys.readouterr().out
    assert '3 label maps' in said and 'road  33.33% of the pixels' in said
    written = (tmp_path / 'out/palette.txt').read_text().splitlines()
    assert {'0 sky 128 128 128', '255 void 0 0 0'} <= set(written)
    again = parse_palette(written, 'palette.txt')
    assert {str(entry): entry.label for entry in again}['tree 128 128 0'] == 2


def test_colours_that_are_found(masks, tmp_path):
    assert run(masks, tmp_path / 'out', '--find') == 0
    assert labels(tmp_path / 'out', 'a.png') == [3, 2, 1]  # in order of red, green, blue
    assert 'colour_1 128 64 128' in (tmp_path / 'out/palette.txt').read_text()


def test_three_equal_channels(tmp_path, capsys):
    (tmp_path / 'masks').mkdir()
    Image.fromarray(stripes((0,) * 3, (7,) * 3, (255,) * 3)).save(tmp_path / 'masks/a.png')
    assert run(tmp_path / 'masks', tmp_path / 'out', '--grey') == 0
    assert labels(tmp_path / 'out', 'a.png') == [0, 7, 255]
    Image.fromarray(stripes((0,) * 3, (7, 7, 8), (255,) * 3)).save(tmp_path / 'masks/b.png')
    capsys.readouterr()
    assert run(tmp_path / 'masks', tmp_path / 'more', '--grey') == 2
    assert '(7, 7, 8)' in capsys.readouterr().err


def test_unknown_colours(masks, tmp_path, capsys):
    near = (126, 66, 128)
    Image.fromarray(stripes(SKY, near, near)).save(masks / 'd.png')
    Image.fromarray(stripes(SKY, near, (1, 2, 3))).save(masks / 'e.png')
    words = ['--colours', *PALETTE.splitlines()]
    before = sorted(tmp_path.rglob('*'))
    assert run(masks, tmp_path / 'out', *words) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'colours_to_labels.py')
    assert '2 colours of 2 of 5 files are not in the palette, 24 pixels' in line
    assert f'most often (126, 66, 128), 18 pixels, first in {masks / "d.png"}: add them' in line
    assert sorted(tmp_path.rglob('*')) == before  # nothing half-written
    assert run(masks, tmp_path / 'near', *words, '--unknown', 'nearest') == 0
    assert labels(tmp_path / 'near', 'e.png') == [0, 1, 2]
    assert run(masks, tmp_path / 'void', *words, '--unknown', '255') == 0
    assert labels(tmp_path / 'void', 'd.png') == [0, 255, 255]


def test_what_is_there_stays(masks, tmp_path, capsys):
    (tmp_path / 'out').mkdir()
    (tmp_path / 'out/thesis.tex').write_text('years of work')
    assert run(masks, tmp_path / 'out', '--find') == run(masks, tmp_path / 'out', '--find', '--overwrite') == 2
    assert run(masks, masks, '--find', '--overwrite') == 2
    assert run(masks, masks / 'labels', '--find') == run(masks, tmp_path, '--find', '--overwrite') == 2
    lines = toy.our_lines(capsys.readouterr().err, 'colours_to_labels.py')
    assert 'exists: name another folder' in lines[0] and 'was not made by colours_to_labels.py' in lines[1]
    assert 'whose images would be read again' in lines[3] and not (masks / 'labels').exists()
    assert run(masks, tmp_path / 'new', '--find') == run(masks, tmp_path / 'new', '--find', '--overwrite') == 0


def test_bad_sources(tmp_path, masks, capsys):
    (tmp_path / 'empty').mkdir()
    for words, said in (
        ([tmp_path / 'empty', '--find'], 'holds no images'),
        ([tmp_path / 'none', '--find'], 'is no folder'),
        ([masks, '--palette', tmp_path / 'none.txt'], 'No such file'),
    ):
        assert run(words[0], tmp_path / 'out', *words[1:]) == 2
        assert said in capsys.readouterr().err
    (masks / 'x.png').write_bytes(b'text')
    assert run(masks, tmp_path / 'out', '--find') == 2
    assert 'x.png cannot be read' in capsys.readouterr().err
    (masks / 'x.png').unlink()
    Image.fromarray(stripes(SKY)).save(masks / 'a.bmp')
    assert run(masks, tmp_path / 'out', '--find') == 2
    assert 'would both become a.png' in capsys.readouterr().err


def test_photographs_have_no_palette(tmp_path, capsys):
    (tmp_path / 'masks').mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / 'masks/a.png')
    assert run(tmp_path / 'masks', tmp_path / 'out', '--find') == 2
    assert 'colours, more than 256' in capsys.readouterr().err


@pytest.mark.parametrize(
    ('lines', 'said'),
    [
        (['sky 1 2'], 'line 1: expected "name r g b"'),
        (['sky 1 2 3', 'road 1 2 300'], 'line 2: 300 is not allowed'),
        (['sky 1 2 3', 'road 1 2 3'], 'which sky has too'),
        (['1 2 3'], 'line 1: expected'),
        ([], 'has no colour'),
        (['sky 1 2 3'], "no class 'road'"),
    ],
)
def test_bad_palettes(lines, said):
    with pytest.raises(InputError) as caught:
        parse_palette(lines, 'p.txt', ['road'] if 'no class' in said else [])
    assert said in str(caught.value) and 'p.txt' in str(caught.value)


def test_names_of_several_words():
    found = parse_palette(['lane 2 left 1 2 3', '4 5 6 traffic sign'], 'p')
    assert [str(entry) for entry in found] == ['lane_2_left 1 2 3', 'traffic_sign 4 5 6']


@pytest.mark.parametrize(
    ('words', 'said'),
    [
        ([], 'say what the colours mean: --palette, --colours, --find or --grey'),
        (['--find', '--void', 'sky'], '--void goes with'),
        (['--find', '--unknown', '256'], '--unknown must be'),
        (['--find', '--void-label', '300'], '--void-label must be 0 to 255, got 300'),
    ],
)
def test_bad_options(masks, tmp_path, capsys, words, said):
    with pytest.raises(SystemExit) as caught:
        run(masks, tmp_path / 'out', *words)
    assert caught.value.code == 2 and said in capsys.readouterr().err
