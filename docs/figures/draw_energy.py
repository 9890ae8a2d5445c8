"""Draw docs/en/images/energy.png: the measured table of docs/en/energy.md, whose numbers it takes.

python docs/figures/draw_energy.py
"""

from __future__ import annotations

import sys
from pathlib import Path

from qsdt_mm.visualization.figures import new_figure, save_figure

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/en/energy.md'
PICTURE = ROOT / 'docs/en/images/energy.png'
OPERATIONS, COLOURS = '#999999', ('#2166ac', '#1b7837', '#b2182b')


def table(text: str) -> dict[str, dict[str, float]]:
    """Return the first table of the part "Measured": numbers by column and form."""
    part = text.split('### Measured\n', 1)[1]
    lines = part[part.index('\n|') + 1 :].split('\n\n', 1)[0].splitlines()
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in lines]
    return {name: {row[0]: float(row[i]) for row in rows[2:]} for i, name in enumerate(rows[0][1:], start=1)}


def main(page: str = str(PAGE), picture: str = str(PICTURE)) -> None:
    """One panel for each place of sums and weights, one bar for each form: operations first, memory after."""
    columns = table(Path(page).read_text(encoding='utf-8'))
    operations = columns.pop('operations')
    figure = new_figure(10.5, 2.9)
    for axes, colour, (name, total) in zip(figure.subplots(1, len(columns), sharey=True), COLOURS, columns.items()):
        forms = list(total)
        work = [operations[form] for form in forms]
        memory = [total[form] - operations[form] for form in forms]
        axes.barh(forms, work, color=OPERATIONS, label='operations')
        drawn = axes.barh(forms, memory, left=work, color=colour, label='memory')
        axes.bar_label(drawn, [f'{total[form]:g}' for form in forms], padding=2, fontsize=8)
        axes.set_title(name.replace('the same', 'weight-stationary'), fontsize=11)
        axes.set_xlabel('uJ an image')
        axes.margins(x=0.14)
        axes.spines[['top', 'right']].set_visible(False)
        axes.legend(frameon=False, fontsize=8, loc='lower right', bbox_to_anchor=(1, 0.3))
    figure.axes[0].invert_yaxis()
    save_figure(figure, Path(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
