"""report.html: whole, by itself, of whatever a run has left, and with nothing in it that a name could bring in."""

import json
import logging
import re
from html.parser import HTMLParser
from types import SimpleNamespace

import pytest
import toy_runs as toy
from mmengine.config import Config

from qsdt_mm.analysis.class_results import ClassResults
from qsdt_mm.cli import load_config, run_report
from qsdt_mm.cli.builders import add_hooks
from qsdt_mm.cli.run_notes import differences_from_base, read_notes, write_notes
from qsdt_mm.cli.run_report import RunReportHook, firing_of, last_test, write_report
from qsdt_mm.cli.runs import Run
from qsdt_mm.errors import InputError
from qsdt_mm.fileio.reports import write_json
from qsdt_mm.visualization.firing_rates import draw_firing_rates, parts_of

EVIL = '<script>alert(1)</script>"\'><img src=http://a.example/x>{{ 7 * 7 }}'
NEURON = 'backbone.stages.{}.neuron'


def written(folder, epochs=2, evil=EVIL):
    """A work directory of a run that was stopped."""
    at = folder / '20260101_000000' / 'vis_data'
    at.mkdir(parents=True)
    lines = []
    for epoch in range(1, epochs + 1):
        lines.append(dict(lr=0.1, loss=1 / epoch, step=10 * epoch))
        firing = {f'firing/{NEURON.format(i)}/{what}': value for i in (0, 1) for what, value in dict(
            rate=0.1 * i, silent=1.0 - i, saturated=0.0).items()}  # fmt: skip
        lines.append(dict(firing, step=10 * epoch))
        lines.append({'accuracy/top1': 40.0 * epoch, 'step': epoch})
    (at / 'scalars.json').write_text(''.join(json.dumps(line) + '\n' for line in lines))
    (at.parent / 'a.log').write_text('2026/01/01 00:00:00 - mmengine - INFO - Epoch(train) [1][10/10] loss: 1\n')
    classes = ClassResults([evil, 'b'], [3, 4], [0.5, 1.0], 'right', 'images', [[1, 2], [0, 4]], 'test')
    write_json(folder / 'classes.json', classes.as_dict())
    notes = dict(command=evil, config=evil, differences=[[evil, None, evil]], versions={evil: evil}, device=evil)
    write_json(at.parent / 'run.json', notes)
    (folder / f'{evil.replace("/", "")}.pth').touch()
    return folder


class Page(HTMLParser):
    """The tags of a page, its addresses and its text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.text = set(), [], ''
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.addresses += [value for name, value in attributes if name in ('src', 'href', 'srcset', 'data', 'action')]

    def handle_data(self, data):
        self.text += data


@pytest.fixture(scope='module')
def page(tmp_path_factory):
    folder = written(tmp_path_factory.mktemp('runs') / 'first')
    return folder, Page(write_report(folder).read_text(encoding='utf-8'))


def test_it_loads_nothing(page):
    assert page[1].addresses and all(re.match(r'#\w+$|data:image/png;base64,', where) for where in page[1].addresses)


def test_names_stay_text(page):
    assert 'script' not in page[1].tags
    assert page[1].text.count(EVIL) >= 6  # a class, the command, the configuration, a setting, a version, the device


def test_what_a_stopped_run_did_not_draw_is_drawn(page):
    folder, found = page
    assert {path.name for path in folder.glob('*.png')} == {
        'learning_curves.png', 'firing_rates_by_epoch.png', 'confusion.png',
    }  # fmt: skip
    assert not list(folder.glob('.*'))
    for words in ('80.0 %', 'epoch 2', 'stage 0', 'Neurons with half of their channels', NEURON.format(0)):
        assert words in found.text


@pytest.mark.parametrize(
    'text', ['', '[]', '{}', '{"classes": 3, "differences": [3], "versions": [], "total": 1}', '\xff']
)
def test_damaged_files_are_left_out(tmp_path, monkeypatch, text):
    monkeypatch.setattr(run_report, 'draw_missing', lambda *args: None)
    folder = written(tmp_path / 'run')
    for name in ('classes.json', '20260101_000000/run.json', 'energy.json'):
        (folder / name).write_text(text, encoding='latin-1')
    found = Page(write_report(folder).read_text()).text
    assert 'No differences from a base were noted' in found and 'All classes' not in found


def test_no_training(tmp_path):
    with pytest.raises(InputError, match='holds no training'):
        write_report(tmp_path)


def test_the_tool(tmp_path, capsys):
    folder = written(tmp_path / 'run')
    report = toy.tool('analysis_tools/report')
    assert report.main([str(folder), '--out', str(tmp_path / 'page.html')]) == 0
    assert (tmp_path / 'page.html').is_file() and not (folder / 'report.html').exists()
    assert report.main([str(tmp_path / 'none')]) == 2
    assert capsys.readouterr().err.count('\n') == 1


def test_silent_and_saturated_neurons():
    watched = [{NEURON.format(0): (0.1, 0.0, 0.0), NEURON.format(1): (1.0, 0.0, 0.9), 'neck.neuron': (0.2, 0.1, 0.0)}]
    found = firing_of(Run('x', firing=[(1, watched[0])]))
    assert [row[0] for row in found['neurons']] == [NEURON.format(1)]
    assert [(part['name'], part['shares'][1][1]) for part in found['parts']] == [
        ('stage 0', False), ('stage 1', True), ('neck', False),
    ]  # fmt: skip
    axes = draw_firing_rates([1.0], watched, 'epoch').axes[0]
    red = [line for line in axes.lines if line.get_color() == '#c51b1b' and len(line.get_xdata())]
    assert [line.get_xydata().tolist() for line in red] == [[[1.0, 1.0]]]


def test_neurons_that_come_later():
    first, then = {'stages.0.a': (0.5, 0, 0)}, {'stages.0.a': (0.3, 0, 0), 'stages.1.a': (0.1, 0, 0)}
    early, late = parts_of([first, then, first])
    assert early.rates == [0.5, 0.3, 0.5] and late.rates[1:] == [0.1, 0.1] and late.rates[0] != late.rates[0]
    assert len(draw_firing_rates([1, 2, 3], [first, then, first], 'iteration').axes) == 2


def test_the_newest_test(tmp_path):
    for stamp, value in (('1', 50.0), ('2', 60.0), ('3', None)):
        (tmp_path / stamp).mkdir()
        if value:
            (tmp_path / stamp / f'{stamp}.json').write_text(json.dumps({'accuracy/top1': value, 'data_time': 1.0}))
    assert last_test(tmp_path) == {'accuracy/top1': 60.0}


def test_settings_that_differ_from_the_base(tmp_path, monkeypatch):
    (tmp_path / 'base.py').write_text("lr = 1\nmodel = dict(type='A', bits=4)\ntrain_dataloader = dict(batch_size=lr)")
    config = tmp_path / 'config.py'
    config.write_text("_base_ = './base.py'\nmodel = dict(bits=2)\n")
    cfg = Config.fromfile(config)
    cfg.merge_from_dict(
        {
            'train_dataloader.batch_size': 8,
            'train_dataloader.pin_memory': False,
            'val_dataloader': dict(collate_fn=dict(type='x')),
            'work_dir': 'x',
        }
    )
    assert differences_from_base(cfg) == [['model.bits', 4, 2], ['train_dataloader.batch_size', 1, 8]]
    assert differences_from_base(Config.fromfile(tmp_path / 'base.py')) == []
    monkeypatch.setattr('sys.argv', ['tools/train.py', 'a b.py'])
    write_notes(tmp_path / 'run', cfg)
    notes = read_notes(tmp_path)
    assert notes['command'] == "python tools/train.py 'a b.py'" and notes['differences'][0] == ['model.bits', '4', '2']
    assert notes['versions']['torch']
    (tmp_path / 'base.py').unlink()
    write_notes(tmp_path / 'run', cfg)
    assert read_notes(tmp_path)['differences'] == []


def test_a_page_that_cannot_be_written_is_a_warning(tmp_path):
    logger = logging.Logger('x')
    said = []
    logger.warning = said.append
    RunReportHook().after_train(SimpleNamespace(work_dir=str(tmp_path), logger=logger))
    assert len(said) == 1 and said[0].startswith('report.html was not written: ')


def test_a_training_and_its_test_leave_the_page(tmp_path, capsys):
    hooks = "default_hooks = dict(report=dict(type='RunReportHook'))"
    config = toy.variant(tmp_path / 'config.py', hooks)
    work_dir = tmp_path / 'run'
    assert toy.train(work_dir, '--epochs', 1, config=config, train_dataloader__num_workers=0) == 0
    page = work_dir / 'report.html'
    assert 'report.html' in capsys.readouterr().out and 'default_hooks.report.type' in page.read_text()
    page.write_text('old')
    assert toy.evaluate(work_dir / 'epoch_1.pth', work_dir, config=config) == 0
    assert 'test: ' in page.read_text()


@pytest.mark.parametrize('text', ['default_hooks = dict(energy=None)', "absent_hooks = ['energy']"])
def test_hooks_that_a_configuration_does_not_want(tmp_path, text):
    path = tmp_path / 'config.py'
    path.write_text(text)
    hooks = []
    runner = SimpleNamespace(hooks=hooks, register_hook=lambda hook: hooks.append(type(hook).__name__))
    add_hooks(runner, load_config(str(path)))
    assert hooks == ['ClassResultsHook', 'RunReportHook']
