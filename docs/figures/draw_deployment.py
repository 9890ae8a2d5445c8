"""Draw docs/en/images/deployment.png: the tables of size and speed of docs/en/deployment.md, which hold its numbers.

python docs/figures/draw_deployment.py
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qsdt_mm.visualization.figures import new_figure, save_figure

ROOT = Path(__file__).parents[2]
PAGE = ROOT / 'docs/en/deployment.md'
PICTURE = ROOT / 'docs/en/images/deployment.png'
COLOURS = ['#c51b1b', '#e08214', '#fdb863', '#5a5a9c', '#1b7837', '#a0a0a0', '#4d4d4d']
NUMBER = re.compile(r'\d+(\.\d+)?')


def table(text: str, heading: str) -> dict[str, dict[str, float]]:
    """Return the first table under a heading whose rows are networks: its numbers, by column and row.

    Of a cell its first number; a cell without one is left out.
    """
    section = re.split(r'^#+ ', text.split(f'# {heading}\n', 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    rows = [[cell.strip() for cell in line.strip('|').split('|')] for line in section.splitlines() if line[:1] == '|']
    start = next(i for i, row in enumerate(rows) if row[0] == 'network')
    columns: dict[str, dict[str, float]] = {name: {} for name in rows[start][1:]}
    for row in rows[start + 2 :]:
        for name, cell in zip(columns, row[1:]):
            if found := NUMBER.match(cell):
                columns[name][row[0]] = float(found[0])
    return columns


def bars(axes, columns: dict[str, dict[str, float]], colours: list[str], unit: str) -> None:
    """Draw a group of bars for each network, one for each column."""
    networks = list(next(iter(columns.values())))
    height = 0.8 / len(columns)
    for i, (name, values) in enumerate(columns.items()):
        places = [networks.index(network) + height * (i + 0.5) - 0.4 for network in values]
        drawn = axes.barh(places, list(values.values()), height * 0.9, color=colours[i % len(colours)], label=name)
        axes.bar_label(drawn, fmt='%.4g', padding=2, fontsize=7)
    axes.set_yticks(range(len(networks)), networks)
    axes.invert_yaxis()
    axes.set_xlabel(unit)
    axes.margins(x=0.12)
    axes.spines[['top', 'right']].set_visible(False)
    axes.legend(frameon=False, fontsize=8)


def main(page: str = str(PAGE), picture: str = str(PICTURE)) -> None:
    """Sizes on the left, times on the right."""
    text = Path(page).read_text(encoding='utf-8')
    sizes = {
        name.replace('`', '').removesuffix(', MB'): row for name, row in table(text, 'Size').items() if 'MB' in name
    }
    times = table(text, 'Speed')
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    bars(left, sizes, [COLOURS[0], COLOURS[3], COLOURS[5]], 'all files, MB')
    bars(
        right,
        times,
        [COLOURS[5], COLOURS[0], COLOURS[1], COLOURS[2], COLOURS[3], COLOURS[6]],
        'one image, one thread, ms',
    )
    left.set_title('size')
    right.set_title('speed, 224 x 224 px')
    save_figure(figure, Path(picture))


if __name__ == '__main__':
    main(*sys.argv[1:])
