"""Tools for events: the moving digits, and pictures of events."""

import json

import numpy as np
import pytest
import toy_runs as toy
from event_samples import write
from PIL import Image

from qsdt_mm.datasets.events.files import read_events

SMALL = ['--train', '9', '--val', '4', '--size', '24']


def run(tool, *words):
    return toy.tool(tool).main([str(word) for word in words])


class TestMovingDigits:
    TOOL = 'dataset_converters/make_moving_digits_events'

    @pytest.fixture(autouse=True)
    def needs(self):
        pytest.importorskip('mmpretrain')
        pytest.importorskip('sklearn')

    def test_what_it_makes(self, tmp_path, capsys):
        from qsdt_mm.datasets.events.datasets import EventFiles

        out = tmp_path / 'data'
        assert run(self.TOOL, out, *SMALL) == 0
        text = capsys.readouterr().out
        assert '9 train, 4 val' in text and '24 x 24' in text and 'right, down, left, up' in text
        meta = json.loads((out / 'meta.json').read_text())
        assert meta['settings']['seed'] == 0 and meta['classes']['direction'] == ['right', 'down', 'left', 'up']
        for split, count in (('train', 9), ('val', 4)):
            direction, digit = (
                EventFiles(out, f'{split}_{task}.txt', split=split, on_error='skip', sensor_size=(24, 24))
                for task in ('direction', 'digit')
            )
            assert len(direction) == len(digit) == count
            assert direction.get_gt_labels().tolist() == [i % 4 for i in range(count)]
            events = read_events(direction.get_data_info(0)['img_path'])
            assert len(events.t) > 30 and events.t[-1] > 80_000 and set(np.unique(events.p)) == {0, 1}
        assert [path.name for path in tmp_path.iterdir()] == ['data']

    def test_seeds_and_overwriting(self, tmp_path, capsys):
        out, other = tmp_path / 'data', tmp_path / 'other'
        assert run(self.TOOL, out, *SMALL) == 0 and run(self.TOOL, other, *SMALL) == 0
        same = [(path / 'train/00003.npz').read_bytes() for path in (out, other)]
        assert same[0] == same[1]
        capsys.readouterr()
        assert run(self.TOOL, out, *SMALL, '--seed', 1) == 2
        lines = toy.our_lines(capsys.readouterr().err, 'make_moving_digits_events.py')
        assert lines == [
            f'make_moving_digits_events.py: error: {out} exists: name another folder, or replace it with --overwrite'
        ]
        assert run(self.TOOL, out, *SMALL, '--seed', 1, '--directions', 8, '--overwrite') == 0
        assert (out / 'train/00003.npz').read_bytes() != same[0]
        assert sorted(path.name for path in tmp_path.iterdir()) == ['data', 'other']

    def test_another_folder_is_not_replaced(self, tmp_path, capsys):
        (tmp_path / 'mine').mkdir()
        (tmp_path / 'mine/thesis.tex').write_text('years of work')
        assert run(self.TOOL, tmp_path / 'mine', *SMALL, '--overwrite') == 2
        assert 'was not made by make_moving_digits_events.py: not replaced' in capsys.readouterr().err
        assert (tmp_path / 'mine/thesis.tex').is_file()

    def test_a_failure_leaves_nothing(self, tmp_path, capsys):
        assert run(self.TOOL, tmp_path / 'data', *SMALL, '--threshold', 100, '--noise', 0) == 2
        assert '--contrast 0.6 with --threshold 100.0 fires no event' in capsys.readouterr().err
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        ('words', 'hint'),
        [
            (['--train', '0'], '--train must be at least 1, got 0'),
            (['--size', '8'], '--size must be at least 16, got 8'),
            (['--digit', '40'], '--digit 40 does not fit --size 32'),
            (['--threshold', '0'], '--threshold must be above 0, got 0.0'),
            (['--noise', '-1'], '--noise must be 0 or more, got -1.0'),
            (['--directions', '3'], '--directions'),
        ],
    )
    def test_bad_options(self, capsys, words, hint):
        with pytest.raises(SystemExit) as caught:
            run(self.TOOL, *words)
        error = capsys.readouterr().err
        assert caught.value.code == 2 and error.count('\n') == 1 and hint in error


class TestShowEvents:
    TOOL = 'visualization/show_events'

    def test_pictures_of_events(self, tmp_path, capsys):
        path = write(tmp_path / 'a.npz')
        assert run(self.TOOL, path, '--out-dir', tmp_path / 'out', '--num-frames', 5) == 0
        text = capsys.readouterr().out
        assert '200' in text and '20 x 30' in text
        assert Image.open(tmp_path / 'out/a_events.png').format == 'PNG'
        gif = Image.open(tmp_path / 'out/a_frames.gif')
        assert gif.format == 'GIF' and gif.n_frames == 5 and gif.size[0] % 30 == gif.size[1] % 20 == 0

    def test_pictures_of_ready_frames(self, tmp_path, capsys):
        np.savez(tmp_path / 'f.npz', frames=np.random.default_rng(0).integers(0, 5, (3, 2, 20, 30)))
        assert run(self.TOOL, tmp_path / 'f.npz', '--out-dir', tmp_path) == 0
        assert Image.open(tmp_path / 'f_frames.gif').n_frames == 3 and (tmp_path / 'f_events.png').is_file()

    @pytest.mark.parametrize(
        ('words', 'hint'),
        [
            ([], 'has no field y'),
            (['--sensor', '10x10'], 'has no field y'),
        ],
    )
    def test_a_malformed_file_is_one_line(self, tmp_path, capsys, words, hint):
        path = write(tmp_path / 'a.npz', y=None)
        assert run(self.TOOL, path, '--out-dir', tmp_path, *words) == 2
        lines = toy.our_lines(capsys.readouterr().err, 'show_events.py')
        assert len(lines) == 1 and hint in lines[0] and not (tmp_path / 'a_events.png').exists()

    def test_a_sensor_that_is_too_small(self, tmp_path, capsys):
        path = write(tmp_path / 'a.npz')
        assert run(self.TOOL, path, '--out-dir', tmp_path, '--sensor', '10x10') == 2
        assert 'is outside the sensor: expected 0 to 9' in capsys.readouterr().err

    @pytest.mark.parametrize('words', [['--sensor', '10'], ['--num-frames', '0'], ['--fps', '0']])
    def test_bad_options(self, capsys, words):
        with pytest.raises(SystemExit) as caught:
            run(self.TOOL, 'a.npz', *words)
        assert caught.value.code == 2 and words[0] in capsys.readouterr().err
