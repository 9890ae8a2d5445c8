"""Draw docs/en/images/studies_*.png: each study in docs/logs/studies, a dot for each run, a bar for mean and deviation.

python docs/figures/draw_studies.py
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path

from qsdt_mm.visualization.figures import new_figure, save_figure

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / 'docs'))

import studies  # noqa: E402

IMAGES = ROOT / 'docs/en/images'
FIRST, OTHER = '#b2182b', '#2166ac'


def draw(name: str, folder: Path = IMAGES) -> Path:
    """One line for each variant, the study's own order from above; the first one's mean goes through all."""
    study, found = studies.load(name), studies.finals(name)
    figure = new_figure(8, 0.9 + 0.27 * len(found))
    axes = figure.subplots()
    for line, values in enumerate(found.values()):
        colour = OTHER if line else FIRST
        mean = statistics.mean(values)
        deviation = statistics.stdev(values) if len(values) > 1 else 0.0
        axes.errorbar(mean, line, xerr=deviation, fmt='|', color=colour, capsize=3, markersize=12, linewidth=1.5)
        axes.plot(values, [line] * len(values), 'o', color=colour, markersize=4, alpha=0.6, markeredgewidth=0)
        axes.annotate(
            f'{mean:.1f}', (1, line), xycoords=('axes fraction', 'data'), xytext=(6, 0), textcoords='offset points',
            va='center', fontsize=8,
        )  # fmt: skip
    axes.axvline(statistics.mean(next(iter(found.values()))), color=FIRST, linewidth=0.8, linestyle=':')
    axes.set_yticks(range(len(found)), list(found), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlabel(study['unit'])
    axes.set_title(study['title'], fontsize=10, loc='left')
    axes.spines[['top', 'right']].set_visible(False)
    path = folder / f'studies_{name}.png'
    save_figure(figure, path)
    return path


def main() -> None:
    """Draw every study that has a log."""
    for log in sorted(studies.LOGS.glob('*.json')):
        print(draw(log.stem).relative_to(ROOT))


if __name__ == '__main__':
    main()
