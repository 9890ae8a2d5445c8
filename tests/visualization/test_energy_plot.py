"""Where the axes of figures say that parts of a network begin and end."""

import pytest

from qsdt_mm.visualization.energy import mark_parts, part_of
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
