"""Where the axes of figures say that parts of a network begin and end."""

import pytest

from qsdt_mm.analysis.energy import EnergyReport, LayerEnergy
from qsdt_mm.visualization.energy import dearest, mark_parts, part_of, plot_stages, plot_whole
from qsdt_mm.visualization.figures import new_figure


@pytest.mark.parametrize(
    ('name', 'part'),
    [
        ('backbone.stages.2.blocks.0.1.branch.0.synapse', '2'),
        ('stages.10.downsample', '10'),
        ('neck.lateral_convs.0', 'neck'),
        ('head.fc.synapse', 'head'),
        ('synapse', 'synapse'),
    ],
)
def test_part(name, part):
    assert part_of(name) == part


def test_labels_stand_in_the_middle_of_their_parts():
    axes = new_figure(4, 3).subplots()
    mark_parts(axes, ['stages.0.a', *(f'stages.1.{i}' for i in range(4)), 'head.a', 'head.b'])
    assert [label.get_text() for label in axes.get_xticklabels()] == ['0', '1', 'head']
    assert axes.get_xticks().tolist() == [0, 2.5, 5.5]
    assert [line.get_xdata()[0] for line in axes.lines] == [0.5, 4.5]
    assert axes.get_xlim() == (-0.5, 6.5)


ROWS = [
    LayerEnergy('backbone.stages.0.conv', 'conv', 'image', energy=4e6, dense_energy=4e6),
    LayerEnergy('backbone.stages.0.a$', 'conv', 'spikes', energy=1e6, dense_energy=8e6),
    LayerEnergy('backbone.stages.1.a', 'conv', 'spikes', energy=2e6, dense_energy=6e6),
    LayerEnergy('head.fc', 'linear', 'membrane', energy=1e6, dense_energy=2e6),
]
REPORT = EnergyReport('fp32', '', 1, ROWS)


def test_bars_of_a_part_stand_on_each_other_and_their_axis_is_linear():
    axes = new_figure(4, 3).subplots()
    plot_stages(REPORT, axes)
    tops = {}
    for bar in axes.patches:
        place = bar.get_x() + bar.get_width() / 2
        tops[round(place)] = max(tops.get(round(place), 0), bar.get_y() + bar.get_height())
    assert tops == pytest.approx({0: 5.0, 1: 2.0, 2: 1.0}) and axes.get_yscale() == 'linear'
    assert [label.get_text() for label in axes.get_xticklabels()] == ['stage 0', 'stage 1', 'head']
    assert axes.lines[0].get_ydata() == pytest.approx([12.0, 6.0, 2.0])


def test_the_dense_network_and_the_factor():
    axes = new_figure(4, 3).subplots()
    plot_whole(REPORT, axes)
    assert [text.get_text().strip() for text in axes.texts] == ['0.02 mJ', '0.008 mJ, 2.5 times less']


def test_the_dearest_layers_come_first():
    assert dearest(REPORT, 2).split('\n')[1:5] == ['stages.0.conv', '  4 µJ, 50%', 'stages.1.a', '  2 µJ, 25%']
    assert r'a\$' in dearest(REPORT)
