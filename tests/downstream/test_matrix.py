"""Stock configs with only the backbone exchanged: they train, predict, convert; docs/en/downstream.md lists them.

``make matrix`` runs all of them, beside the stock ones, and writes the table anew.
"""

import gc
import importlib.util
import os
import re
from functools import partial
from pathlib import Path

import pytest
from stock_configs import SIZE, Network, stock_model, swap
from stock_families import FAMILIES, QUICK

import qsdt_mm  # noqa: F401  mmdet imports without compiled ops after it
from qsdt_mm.analysis import measure_energy
from qsdt_mm.analysis.strides import check_strides
from qsdt_mm.inference import convert
from qsdt_mm.models.layers import layers_outside_units

pytestmark = pytest.mark.filterwarnings('ignore')
PAGE = Path(__file__).parents[2] / 'docs/en/downstream.md'
WRITE = os.environ.get('QSDT_MATRIX') == 'write'
BEGIN, END = '<!-- matrix -->\n', '<!-- end of matrix -->'
HEAD = ('library', 'config', 'stock', 'ours', 'integer = spike', 'layers outside units')


def cases(table):
    return [(library, name) for library, text in table.items() for name in text.split()]


def imported(library):
    if importlib.util.find_spec(library) is None:
        pytest.skip(f'{library} is not installed')
    importlib.import_module(f'{library}.models')
    importlib.import_module(f'{library}.utils').register_all_modules(init_default_scope=False)


def swapped(library, name):
    model = stock_model(library, name)
    from mmengine.registry import DefaultScope

    with DefaultScope.overwrite_default_scope(library):
        swap(library, model)
    return Network(library, model)


def in_both_modes(ours):
    """Predictions with integers and with spikes."""
    return [ours.predict(convert(ours.network, mode)) for mode in ('integer', 'spike')]


def energy_of(ours):
    return measure_energy(ours.network, [0], run=lambda _: ours.predict() and 2)


def equal(one, other):
    return len(one) == len(other) and all(a.shape == b.shape and a.equal(b) for a, b in zip(one, other))


@pytest.mark.parametrize(('library', 'name'), cases(QUICK))
def test_nothing_but_the_backbone_is_exchanged(library, name):
    imported(library)
    ours = swapped(library, name)
    check_strides(ours.network)
    ours.step()
    backbone = ours.network.backbone
    assert all(p.grad is not None and p.grad.isfinite().all() for p in backbone.parameters())
    integer, spike = in_both_modes(ours)
    assert integer and equal(integer, spike)
    assert {row.name for row in energy_of(ours).outside} >= {name for name, _ in layers_outside_units(ours.network)}


def attempt(work):
    """'yes', or why not, in a few words."""
    try:
        work()
    except Exception as error:
        op = re.search(r"mmcv's op (\w+)|(\w+) has no stand-in", str(error))
        if op:
            return f'needs the op {op[1] or op[2]}'
        return f'no: {type(error).__name__}: {" ".join(str(error).split())[:60]}'.replace('|', '/')
    return 'yes'


def row_of(library, name):
    """A line of the table."""

    def stock(size=SIZE):
        network = Network(library, stock_model(library, name), size=size)
        network.step(), network.predict()

    found = {}

    def run():
        ours = found['ours'] = swapped(library, name)
        check_strides(ours.network)
        ours.step(), ours.predict()

    def modes():
        one, other = in_both_modes(found['ours'])
        if not equal(one, other):
            raise ValueError('other predictions')
        if not sum(t.numel() for t in one):
            raise ValueError('nothing predicted')

    states = [attempt(stock), attempt(run)]
    if library == 'mmpretrain' and states[0] != 'yes':  # some take one size alone
        states[0] = attempt(partial(stock, 224))
    outside = '-'
    if states[1] == 'yes':
        states.append(attempt(modes))
        energy = attempt(lambda: energy_of(found['ours']))
        outside = len(layers_outside_units(found['ours'].network)) if energy == 'yes' else energy
    else:
        states.append('-')
    gc.collect()
    return ' | '.join(map(str, ('', library, f'`{name}`', *states, outside, ''))).strip()


def rows_of_page():
    text = PAGE.read_text()
    return [line for line in text.partition(BEGIN)[2].partition(END)[0].splitlines() if '`' in line]


def write(rows):
    """Replace lines of the page's table, or add them, in the order of the families; and count."""
    lines = {line.split('`')[1]: line for line in [*rows_of_page(), *rows]}
    names = [name for _, name in cases(FAMILIES) if name in lines]
    table = [lines[name].split(' | ') for name in names]
    counts = [
        f'- {library}: {sum(r[2] == "yes" for r in own)} of {len(own)} stock configs run here, '
        f'{sum(r[3] == "yes" for r in own)} with our backbone, {sum(r[4] == "yes" for r in own)} of them with spikes '
        'bit for bit as with integers.'
        for library in FAMILIES
        if (own := [r for r in table if r[0].strip('| ') == library])
    ]
    head = ['| ' + ' | '.join(HEAD) + ' |', '|' + '---|' * len(HEAD)]
    text = PAGE.read_text()
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2]
    table = '\n'.join(['', *counts, '', *head, *(lines[name] for name in names), '', ''])
    PAGE.write_text(before + BEGIN + table + END + after)


@pytest.mark.slow
@pytest.mark.parametrize(('library', 'name'), cases(FAMILIES))
def test_the_table_is_true(library, name):
    imported(library)
    row = row_of(library, name)
    print(row)
    if WRITE:
        write([row])
    else:
        assert row in rows_of_page(), 'make matrix writes the table anew'
