"""Draw pictures of tables, whose pages hold the numbers: deployment.png, cifar10.png and memory.png.

python docs/figures/draw_tables.py docs/en/images
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from qsdt_mm.visualization.figures import new_figure, save_figure

PAGES = Path(__file__).parents[1] / 'en'
COLOURS = ['#c51b1b', '#e08214', '#fdb863', '#5a5a9c', '#1b7837', '#a0a0a0', '#4d4d4d']
NUMBER = re.compile(r'\d+(\.\d+)?')


def rows(text: str, heading: str, first: str) -> list[list[str]]:
    """Return the cells of the first table under a heading whose first column has this name, its header included."""
    section = re.split(r'^#+ ', text.split(f'# {heading}\n', 1)[1], maxsplit=1, flags=re.MULTILINE)[0]
    tables = re.findall(r'(?:^\|.*\n)+', section + '\n', re.MULTILINE)
    found = [[[cell.strip() for cell in line.strip('|').split('|')] for line in t.splitlines()] for t in tables]
    header, _, *body = next(cells for cells in found if cells[0][0] == first)
    return [header, *body]


def number(cell: str) -> float | None:
    """Return the number that a cell begins with, bold or not; None without one."""
    found = NUMBER.match(cell.replace('**', ''))
    return float(found[0]) if found else None


def table(text: str, heading: str) -> dict[str, dict[str, float]]:
    """Return a table of networks, one a row: its numbers, by column and row; a cell without one is left out."""
    header, *body = rows(text, heading, 'network')
    columns: dict[str, dict[str, float]] = {name: {} for name in header[1:]}
    for row in body:
        for name, cell in zip(columns, row[1:]):
            if (value := number(cell)) is not None:
                columns[name][row[0]] = value
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


def draw_deployment(text: str, path: Path) -> None:
    """Sizes on the left, times on the right."""
    sizes = {
        name.replace('`', '').removesuffix(', MB'): row for name, row in table(text, 'Size').items() if 'MB' in name
    }
    figure = new_figure(10, 4.2)
    left, right = figure.subplots(1, 2)
    bars(left, sizes, [COLOURS[0], COLOURS[3], COLOURS[5]], 'all files, MB')
    colours = [COLOURS[i] for i in (5, 0, 1, 2, 3, 6)]
    bars(right, table(text, 'Speed'), colours, 'one image, one thread, ms')
    left.set_title('size')
    right.set_title('speed, 224 x 224 px')
    save_figure(figure, path)


def draw_cifar10(text: str, path: Path, images: int = 2000) -> None:
    """Accuracy by weights and spikes, with the standard error of a share of so many images."""
    _, *body = rows(text, 'What counts and low-bit weights are worth', 'weights')
    names = [f'{weights}, {spikes.partition(" (")[0]}' for weights, spikes, *_ in body]
    values = [number(row[2]) for row in body]
    errors = [(value * (100 - value) / images) ** 0.5 for value in values]
    figure = new_figure(6, 2.4)
    axes = figure.subplots()
    drawn = axes.barh(names, values, 0.6, xerr=errors, capsize=4, color=[COLOURS[0], COLOURS[5], COLOURS[3]])
    axes.bar_label(drawn, fmt='%.2f %%', padding=6, fontsize=9)
    axes.invert_yaxis()
    axes.set(xlim=(0, 80), xlabel=f'top-1, {images:,} images; whiskers: one standard error')
    axes.spines[['top', 'right']].set_visible(False)
    save_figure(figure, path)


def draw_memory(text: str, path: Path) -> None:
    """Memory of training, published code first."""
    columns = {name.replace('`', ''): values for name, values in table(text, 'Memory of training').items()}
    figure = new_figure(7, 2.7)
    bars(figure.subplots(), columns, [COLOURS[5], COLOURS[0], COLOURS[4], COLOURS[3]], 'MB an image')
    save_figure(figure, path)


FIGURES = {'deployment': draw_deployment, 'cifar10': draw_cifar10, 'memory': draw_memory}
"""By name, which is that of the picture; the page's, but for memory."""
SOURCES = {'memory': 'performance'}


def main(folder: str, pages: str = str(PAGES)) -> None:
    """Draw all of them."""
    for name, draw in FIGURES.items():
        page = Path(pages) / f'{SOURCES.get(name, name)}.md'
        draw(page.read_text(encoding='utf-8'), Path(folder) / f'{name}.png')


if __name__ == '__main__':
    main(*sys.argv[1:])
