"""Configurations broken at random: one clear line and status 2, no traceback, no hang, nothing on disk touched."""

import contextlib
import copy
import io
import math
import random

import pytest
import toy_runs as toy
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

pytest.importorskip('mmpretrain')
pytest.importorskip('sklearn')

from mmengine.config import Config  # noqa: E402

DIGITS = toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py'
WRONG = [-1, 0, 2.5, math.nan, math.inf, 'word', '', None, True, [], {}, ['word'], [-1], dict(a=1), (1, 2, 3, 4, 5, 6)]
KEYS = ['weights_bits', 'num_class', 'lr', 'depth', 'foo', 'pipelines']
TOKENS = ['(', ')', ']', '}', "'", ',,', '=', 'def', ' = = ', '\\', '\x00', '"""', '\n    indented = 1', 'dict(', '*/']


def small_digits():
    """The demo's network, smaller, on 16 digits."""
    cfg = Config.fromfile(DIGITS)
    cfg.model.backbone.arch.update(widths=(4, 8, 8, 8, 8), num_heads=2)
    cfg.model.head.in_channels = 8
    for loader in (cfg.train_dataloader, cfg.val_dataloader):
        loader.batch_size, loader.dataset.indices = 8, 16
    cfg.train_cfg.max_epochs, cfg.max_epochs = 1, 1
    for name in ('test_dataloader', 'test_cfg', 'test_evaluator', 'train_pipeline', 'test_pipeline', 'arch'):
        cfg.pop(name)  # nothing that a training does not read
    return cfg


def small_toy():
    """The toy configuration, one epoch."""
    cfg = Config.fromfile(toy.CONFIG)
    cfg.train_cfg.update(max_epochs=1, val_interval=1)
    cfg.train_dataloader.num_workers = 0
    for name in ('test_dataloader', 'test_cfg', 'test_evaluator', 'auto_scale_lr'):
        cfg.pop(name)
    return cfg


BASES = {}


@pytest.fixture(scope='module', autouse=True)
def bases():
    BASES.update(digits=small_digits().to_dict(), toy=small_toy().to_dict())
    yield
    BASES.clear()


def places(node, path=()):
    """Paths to everything in nested dicts and lists."""
    items = node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ()
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


def broken(base, kind, seed):
    """The text of a broken configuration, and what was done to it."""
    numbers, held = random.Random(seed), copy.deepcopy(BASES[base])
    for key in ('env_cfg', 'randomness'):  # these change the whole process
        held.pop(key, None)
    if kind == 'base':
        return "_base_ = ['nowhere/base.py']\nmodel = dict(type='ToyModel')\n", 'a base that is not there'
    if kind == 'syntax':
        text = Config(held).pretty_text
        at = numbers.randrange(len(text))
        token = numbers.choice(TOKENS)
        cut = numbers.choice([0, 1, 5])
        return text[:at] + token + text[at + cut :], f'{token!r} at {at}'
    found = [p for p in places(held) if p[0] not in ('custom_imports', 'work_dir', 'default_scope')]
    path = numbers.choice(found)
    node = held
    for key in path[:-1]:
        node = node[key]
    if kind == 'missing':
        del node[path[-1]]
        return Config(held).pretty_text, f'without {path}'
    if kind == 'unknown':
        node = node[path[-1]] if isinstance(node[path[-1]], dict) else node
        if isinstance(node, list):
            node.append(numbers.choice(KEYS))
            return Config(held).pretty_text, f'one more in {path[:-1]}'
        key = numbers.choice(KEYS)
        node[key] = 1
        return Config(held).pretty_text, f'{key} in {path}'
    value = numbers.choice(WRONG)
    node[path[-1]] = value
    text = f"nan, inf = float('nan'), float('inf')\n{Config(held).pretty_text}"
    return text, f'{path} = {value!r}'


def run(config, folder):
    """Train with it in this process; returns the status and what was said."""
    said, error = io.StringIO(), io.StringIO()
    words = [str(config), '--work-dir', str(folder / 'run')]
    with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error), toy.time_limit(120):
        status = toy.tool('train').main(words)
    return status, error.getvalue()


def breaks_cleanly(folder, base, kind, seed):
    text, what = broken(base, kind, seed)
    folder = folder / f'{base}-{kind}-{seed}'
    folder.mkdir(exist_ok=True)
    config = folder / 'broken.py'
    config.write_text(f'{text}\nexperiment_name = {f"{base}_{kind}_{seed}_{random.randrange(10**9)}"!r}\n')
    before = toy.files(folder)
    status, error = run(config, folder)
    ours = [line for line in error.splitlines() if line.startswith('train.py: error: ')]
    assert 'Traceback' not in error, f'{base}, {what}: {error[-3000:]}'
    assert status in (0, 1, 2), f'{base}, {what}: {status}'
    assert len(ours) == (status != 0), f'{base}, {what}: {error}'
    if status == 1:
        assert 'not finite' in ours[0] or ' is nan' in ours[0] or ' is inf' in ours[0], f'{base}, {what}: {ours}'
    if status == 2:
        assert len(ours[0]) > len('train.py: error: ') + 12 and '<' not in ours[0][:20], ours
        after = toy.files(folder)
        assert {name: after.get(name) for name in before} == before
        assert not [name for name in after if '.tmp' in name]
        # what is not found at once is found when its turn comes: the log may be there, and whole checkpoints
        assert after == before or (folder / 'run').is_dir()
        for path in (folder / 'run').glob('*.pth'):
            assert toy.state(path)
    return status, what, ours


CASES = dict(
    base=st.sampled_from(['digits', 'digits', 'toy']),
    kind=st.sampled_from(['value', 'value', 'value', 'missing', 'unknown', 'syntax', 'base']),
    seed=st.integers(0, 10**6),
)
QUIET = dict(
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def test_what_is_broken_works_while_it_is_whole(tmp_path):
    for base, held in BASES.items():
        config = tmp_path / f'{base}.py'
        config.write_text(Config(held).pretty_text)
        (tmp_path / base).mkdir()
        assert run(config, tmp_path / base)[0] == 0


@settings(max_examples=20, **QUIET)
@given(**CASES)
def test_broken_configs(tmp_path, base, kind, seed):
    breaks_cleanly(tmp_path, base, kind, seed)


@pytest.mark.slow
@settings(max_examples=200, **QUIET)
@given(**CASES)
def test_many_broken_configs(tmp_path, base, kind, seed):
    breaks_cleanly(tmp_path, base, kind, seed)
