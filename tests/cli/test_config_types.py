"""Where a tuple is wanted, a list does: in options, in configs, and in YAML and JSON, which know no tuples."""

from collections.abc import Sequence
from typing import Any, Optional, Union

import pytest
import toy_runs as toy

from qsdt_mm import cli
from qsdt_mm.cli.config_types import UNFIT, fitted, tuples_where_wanted

CONFIGS = sorted(str(path.relative_to(toy.ROOT / 'configs')) for path in (toy.ROOT / 'configs').glob('[!_]*/*.py'))


def lists(value):
    """The same without tuples."""
    if isinstance(value, dict):
        return {key: lists(item) for key, item in value.items()}
    return [lists(item) for item in value] if isinstance(value, (list, tuple)) else value


def equal(a, b):
    """Equal, lists and tuples told apart."""
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(equal, a, b))
    return a == b


@pytest.mark.parametrize(
    ('hint', 'value', 'wanted'),
    [
        (tuple, [1, 2], (1, 2)),
        (tuple[int, int], [1, 2], (1, 2)),
        (tuple[int, ...], [1, 2, 3], (1, 2, 3)),
        (tuple[int, int], [1, 2, 3], UNFIT),
        (Optional[Union[int, tuple[int, int]]], [1, 2], (1, 2)),  # noqa: UP007, UP045
        (int | tuple[int, int] | None, [1, 2], (1, 2)),
        (int | tuple[int, int] | None, None, None),
        (int | list[int], [1, 2], [1, 2]),
        (Sequence[int | tuple], [1, 2], [1, 2]),  # two sizes, not one of two sides
        (Sequence[int | tuple], [[1, 2], 3], [(1, 2), 3]),
        (tuple[int, int] | Sequence[tuple[int, int]], [1, 2], (1, 2)),
        (tuple[int, int] | Sequence[tuple[int, int]], [[1, 2], [3, 4]], [(1, 2), (3, 4)]),
        (tuple[float, float], [1, 2.5], (1, 2.5)),
        (tuple[str, ...], ['a'], ('a',)),
        (list, (1, 2), UNFIT),
        (Any, [1], [1]),
        (float, 1, 1),
        (str, [1], UNFIT),
    ],
)
def test_values_and_annotations(hint, value, wanted):
    found = fitted(value, hint)
    assert found is UNFIT if wanted is UNFIT else equal(wanted, found)


@pytest.mark.parametrize('name', CONFIGS)
def test_pipelines_written_with_lists_are_the_same(name):
    """All sizes, ranges and scales of all configs; nothing changes in what is written with tuples."""
    for library in ('mmpretrain', 'mmdet', 'mmseg'):
        pytest.importorskip(library)
    cfg = cli.load_config(str(toy.ROOT / 'configs' / name))
    cli.import_library(cfg)
    held, scope = cfg.to_dict(), cfg.get('default_scope')
    written, same = lists(held), cfg.to_dict()
    tuples_where_wanted(written, scope)
    tuples_where_wanted(same, scope)
    assert equal(sorted(held), sorted(same)) and held == same

    def compare(a, b, place=''):
        for key, value in a.items() if isinstance(a, dict) else enumerate(a) if isinstance(a, (list, tuple)) else ():
            compare(value, b[key], f'{place}.{key}')
            if place and str(key) in ('scale', 'size', 'crop_size', 'scales', 'img_scale', 'ratio_range', 'betas'):
                assert equal(value, b[key]), (f'{place}.{key}', value, b[key])

    compare({key: value for key, value in held.items() if key.endswith('dataloader')}, written)


SEGMENTATION = 'segmentation/semantic-fpn_qsd-small_1xb4_shapes-64x64.py'


@pytest.mark.parametrize('form', ['[37,29]', '(37,29)', '"[37, 29]"'])
def test_a_list_as_an_option(form):
    pytest.importorskip('mmseg')
    path = str(toy.ROOT / 'configs' / SEGMENTATION)
    steps = cli.load_config(path).test_dataloader.dataset.pipeline
    number = next((i for i, step in enumerate(steps) if step['type'] == 'Resize'), None)
    if number is None:
        number = 1
        words = ['test_dataloader.dataset.pipeline.1.type=Resize', f'test_dataloader.dataset.pipeline.1.scale={form}']
    else:
        words = [f'test_dataloader.dataset.pipeline.{number}.scale={form}']
    cfg = cli.load_config(path, words)
    assert equal(cfg.test_dataloader.dataset.pipeline[number].scale, (37, 29))


def test_what_was_a_tuple_stays_one(tmp_path):
    """Where nothing says what is taken."""
    path = tmp_path / 'c.py'
    path.write_text("a = dict(type='NobodyKnows', size=(1, 2), names=['x'], other=[3])\nsize = (1, 2)\n")
    cfg = cli.load_config(str(path), ['a.size=[5,6]', 'a.names=[y,z]', 'a.other=(7,8)', 'size=[3,4]'])
    assert equal(cfg.a.size, (5, 6)) and equal(cfg.a.names, ['y', 'z']) and equal(cfg.a.other, (7, 8))
    assert equal(cfg.size, (3, 4))


@pytest.mark.parametrize('suffix', ['yaml', 'json'])
def test_a_config_that_was_saved_in_a_form_without_tuples_trains(tmp_path, suffix):
    pytest.importorskip('mmpretrain')
    pytest.importorskip('sklearn')
    base = str(toy.ROOT / 'configs/classification/qsd-tiny_1xb32_digits.py')
    saved = tmp_path / f'digits.{suffix}'
    small = ['model.backbone.arch.widths=[4,8,8,8,8]', 'model.backbone.arch.num_heads=2', 'model.head.in_channels=8']
    small += ['train_dataloader.dataset.indices=32', 'val_dataloader.dataset.indices=32', 'train_cfg.max_epochs=1']
    words = [base, '--save-path', str(saved), '--cfg-options', *small]
    assert toy.tool('misc/print_config').main(words) == 0
    assert toy.tool('train').main([str(saved), '--work-dir', str(tmp_path / 'run')]) == 0
    assert (tmp_path / 'run' / 'epoch_1.pth').is_file()
