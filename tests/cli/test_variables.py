"""Options that change a configuration's variable, when all has been made of it: refused, with the keys to change."""

import pytest
import toy_runs as toy

from qsdt_mm.cli import load_config, parse_options
from qsdt_mm.cli.cfg_options import names_read
from qsdt_mm.cli.variables import check_variables
from qsdt_mm.compat.config_files import reader
from qsdt_mm.errors import InputError, InputWarning

CONFIGS = sorted((toy.ROOT / 'configs').glob('[!_]*/*.py'))


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
    """Configurations that inherit in every way there is."""
    files = {
        'data.json': '{"n": 4, "val_cfg": {"a": 1}}',
        'base.py': """
            _base_ = ['data.json']
            from datetime import datetime as _now
            model = dict(a={{_base_.n}}, b=_base_.n + 1, c=f'{_base_.n}x', dozen=12)
            for i in range(3):
                pass
            if True:
                k = 3
                test_cfg = dict(a=k, b=i)
            step = [dict(type='A', n=0), dict(type='B', n=1)]
            step.insert(1, dict(type='C', n=3))
            train_dataloader = dict(pipeline=step, batch_size=10, names=['r', 't'])
            work_dir = f'runs/{id(object())}/{_now.now()}'
            a, (b, c) = 1, (2, 3)
            optim_wrapper = dict(a=[x * a for x in range(3)], b=(lambda: b)())
            model.update(z=c)
            s = 'x'
            s += 'y'
            log_level = s
            free, ten, dozen = 1, 10, 12
            """,
        'child.py': "_base_ = 'base.py'\nk = 7\nval_dataloader = dict(k=k)\n",
        'attributes.py': """
            _base_ = 'base.py'
            inner = _base_.test_cfg
            steps = _base_.step
            steps[1].n += 1
            val_evaluator = dict(inner=inner, m=inner.b + 1, n=steps[0].n)
            """,
        'other.py': "_base_ = 'base.py'\ntest_cfg = dict(a=5)\n",
        'anchors.yaml': """
            max_epochs: &e 12
            train_cfg: {by_epoch: true, max_epochs: *e}
            pipe: &p
            - {type: A, n: 1}
            - {type: B, n: [1, 2]}
            train_dataloader: {dataset: {pipeline: *p}}
            """,
        'anchored.yml': '_base_: anchors.yaml\nmodel: {n: 1}\n',
        'lazy_base.py': """
            from torch.optim import AdamW
            epochs = 3
            size = (1, 2)
            model = dict(type=AdamW, size=size)
            """,
        'lazy.py': """
            from mmengine.config import read_base
            with read_base():
                from .lazy_base import *
                from .lazy_base import size as mine
            train_cfg = dict(by_epoch=True, max_epochs=epochs)
            val_cfg = dict(m=mine)
            model.update(dict(lr=epochs * 2))
            """,
    }
    folder = tmp_path_factory.mktemp('configs')
    for name, text in files.items():
        lines = text.strip('\n').splitlines()
        indent = len(lines[0]) - len(lines[0].lstrip())
        (folder / name).write_text('\n'.join(line[indent:] for line in lines) + '\n')
    return folder


def check(path, words):
    from mmengine.config import Config

    return check_variables(str(path), Config.fromfile(str(path)), parse_options(words.split()))


REFUSED = [
    ('base.py', 'n=5', 'model.a=5 model.b=6 model.c=5x'),
    ('child.py', 'n=5', 'model.a=5 model.b=6 model.c=5x'),
    ('base.py', 'i=7', 'test_cfg.b=7'),
    ('base.py', 'k=4', 'test_cfg.a=4'),
    ('child.py', 'k=8', 'test_cfg.a=8 val_dataloader.k=8'),
    ('base.py', 'step.1.n=4', 'train_dataloader.pipeline.1.n=4'),
    ('base.py', 'step.0.type=X', 'train_dataloader.pipeline.0.type=X'),
    ('base.py', 'a=3', 'optim_wrapper.a="[0,3,6]"'),
    ('base.py', 'b=4', 'optim_wrapper.b=4'),
    ('base.py', 'c=9', 'model.z=9'),
    ('base.py', 's=z', 'log_level=z'),
    ('attributes.py', 'inner.a=9', 'val_evaluator.inner.a=9'),
    ('attributes.py', 'steps.0.n=9', 'val_evaluator.n=9'),
    ('anchored.yml', 'max_epochs=3', 'train_cfg.max_epochs=3'),
    ('anchored.yml', 'pipe.1.n=4', 'train_dataloader.dataset.pipeline.1.n=4'),
    ('lazy.py', 'epochs=4', 'train_cfg.max_epochs=4 model.lr=8'),
    ('lazy.py', 'size=(3,4)', 'model.size="(3,4)" val_cfg.m="(3,4)"'),
    ('lazy.py', 'mine=(3,4)', 'val_cfg.m="(3,4)"'),
]


@pytest.mark.parametrize(('name', 'words', 'instead'), REFUSED)
def test_what_was_made_of_a_variable_is_named(folder, name, words, instead):
    with pytest.raises(InputError) as error:
        check(folder / name, words)
    text = str(error.value)
    assert text.endswith(f'; give {instead} instead') and '\n' not in text
    given = ' '.join(parse_options([words]))
    assert text.startswith(f'--cfg-options {given}=') and f'{given.split(".")[0]} is a variable' in text


@pytest.mark.parametrize(('name', 'words', 'instead'), REFUSED)
def test_the_options_named_instead_do_what_was_wanted(folder, name, words, instead):
    assert check(folder / name, instead.replace('"', '')) == []
    assert check(folder / name, f'{words} {instead}'.replace('"', '')) == []  # both


@pytest.mark.parametrize(
    ('name', 'words'),
    [
        ('base.py', 'free=2'),
        ('base.py', 'ten=11'),  # 10 elsewhere is another
        ('other.py', 'k=4'),  # what was made of it was replaced
    ],
)
def test_names_that_nothing_reads_are_remarked_on(folder, name, words):
    (remark,) = check(folder / name, words)
    assert remark.startswith(f'--cfg-options {words}: nothing reads {words[:-2].rstrip("=")}, unless code of your own')


@pytest.mark.parametrize(
    ('name', 'words'),
    [('base.py', 'free=1'), ('base.py', 'k=3'), ('base.py', 'val_cfg.a=2 train_dataloader.batch_size=3')],
)
def test_options_that_change_nothing_or_are_read(folder, name, words):
    assert check(folder / name, words) == []


def test_part_of_what_was_made(folder):
    with pytest.raises(InputError, match='has made model.b, model.c; give model.b=6 model.c=5x instead'):
        check(folder / 'base.py', 'n=5 model.a=5')
    assert check(folder / 'base.py', 'n=5 model.a=5 model.b=6 model.c=y') == []
    with pytest.raises(InputError, match=r'step=3: step is a variable, .* cannot be made so \(AttributeError: '):
        check(folder / 'base.py', 'step=3')


def test_a_namesake_of_equal_value_where_nothing_was_made(folder):
    """As in the merged configuration that a run writes down: names are all that is left of its variables."""
    with pytest.raises(
        InputError, match=r'nothing reads dozen, whose value stands as well under model.dozen; give model'
    ):
        check(folder / 'base.py', 'dozen=13')
    assert check(folder / 'base.py', 'dozen=13 model.dozen=13') == []
    digits = load_config(str(toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'))
    digits.dump(folder / 'dumped.py')
    for words, instead in (
        ('max_epochs=1', 'train_cfg.max_epochs=1'),
        ('arch.num_heads=4', 'model.backbone.arch.num_heads=4'),
    ):
        with pytest.raises(InputError, match=f'; give {instead} instead'):
            check(folder / 'dumped.py', words)


def test_reading_is_as_before_afterwards(folder):
    before = reader.RemoveAssignFromAST, reader.ImportTransformer, reader.load
    with pytest.raises(InputError):
        check(folder / 'base.py', 'step=3')
    assert (reader.RemoveAssignFromAST, reader.ImportTransformer, reader.load) == before


@pytest.mark.parametrize('words', ['max_epochs=1', 'arch.num_heads=4', 'test_pipeline.0.scale=40'])
def test_every_tool_reads_configurations_so(words, capsys):
    digits = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
    assert toy.tool('misc/print_config').main([str(digits), '--cfg-options', words]) == 2
    (line,) = toy.our_lines(capsys.readouterr().err, 'print_config.py')
    assert f'--cfg-options {words} does nothing: ' in line


def test_a_remark_is_one_line_and_the_run_goes_on(tmp_path, capsys, as_in_use):
    config = toy.variant(tmp_path / 'c.py', 'mine = 3')
    assert toy.tool('misc/print_config').main([str(config), '--cfg-options', 'mine=4']) == 0
    said = capsys.readouterr()
    assert said.err.splitlines() == [
        'print_config.py: warning: --cfg-options mine=4: nothing reads mine, unless code of your own does '
        '(runner.cfg.mine)'
    ]
    assert 'mine = 4' in said.out
    with pytest.warns(InputWarning, match='nothing reads mine'):
        load_config(str(config), ['mine=4'])


def test_no_name_that_is_read_is_refused():
    """Over all configurations: whatever a run reads can be changed, a variable's value beside it or not."""
    from mmengine.config import Config

    seen = 0
    for path in CONFIGS[::12]:
        cfg = Config.fromfile(str(path), import_custom_modules=False)
        for name in names_read(cfg) & set(cfg.keys()):
            assert check_variables(str(path), cfg, {name: 'x'}) == []
            seen += 1
    assert seen > 60 and {'train_cfg', 'model', 'resume', 'load_from', 'auto_scale_lr', 'tta_model'} <= names_read(cfg)
