"""Measure how time and memory grow with image and batch, and draw it: docs/en/images/cost.png.

python docs/figures/draw_cost.py            # measures for some minutes, on two threads
python docs/figures/draw_cost.py --redraw   # draws what docs/figures/cost.json holds
"""

import argparse
import contextlib
import importlib.util
import io
import json
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIGURES = Path(__file__).with_name('cost.json')
CONFIG = ROOT / 'configs/classification/qsd-15m_8xb196_in1k.py'
MODES = {'train': '#1b7837', 'eval': '#5a5a9c', 'integer': '#c51b1b'}
SIZES, BATCHES = (224, 448, 896), (1, 2, 4, 8)


def measure() -> list[dict]:
    """Run the benchmark for each mode, size and batch."""
    spec = importlib.util.spec_from_file_location('benchmark_tool', ROOT / 'tools/analysis_tools/benchmark.py')
    tool = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tool)
    rows = []
    for mode in MODES:
        for size, batch in [(size, 1) for size in SIZES] + [(224, batch) for batch in BATCHES[1:]]:
            with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
                path = Path(folder) / 'figures.json'
                words = (
                    f'{CONFIG} --mode {mode} --size {size} --batch {batch} --threads 2 --repeats 3 --warm-up 1 --floor'
                )
                assert tool.main([*words.split(), '--json', str(path)]) == 0
                figures = json.loads(path.read_text())
            row = figures[mode]
            rows.append(
                dict(
                    mode=mode,
                    size=size,
                    batch=batch,
                    seconds=row['seconds']['median'],
                    floor_seconds=figures['floor']['seconds'],
                    macs=figures['floor']['macs'],
                    peak_bytes=row['peak_bytes'],
                    kept_bytes=row.get('bytes_saved_for_backward_per_image', 0) * batch,
                )
            )
            print(rows[-1], flush=True)
    return rows


def draw(rows: list[dict], path: Path) -> None:
    """Time and memory over pixels and over images, on logarithmic axes."""
    from qsdt_mm.visualization.figures import new_figure, save_figure

    figure = new_figure(10, 4.2)
    left, middle, right = figure.subplots(1, 3)
    for mode, colour in MODES.items():
        by_size = sorted((r for r in rows if r['mode'] == mode and r['batch'] == 1), key=lambda r: r['size'])
        by_batch = sorted((r for r in rows if r['mode'] == mode and r['size'] == 224), key=lambda r: r['batch'])
        left.loglog([r['size'] for r in by_size], [r['seconds'] for r in by_size], 'o-', color=colour, label=mode)
        left.loglog([r['size'] for r in by_size], [r['floor_seconds'] for r in by_size], ':', color=colour)
        middle.loglog([r['batch'] for r in by_batch], [r['seconds'] for r in by_batch], 'o-', color=colour)
        middle.loglog([r['batch'] for r in by_batch], [r['floor_seconds'] for r in by_batch], ':', color=colour)
    kept = sorted((r for r in rows if r['mode'] == 'train' and r['batch'] == 1), key=lambda r: r['size'])
    right.loglog([r['size'] for r in kept], [r['kept_bytes'] / 1e6 for r in kept], 'o-', color=MODES['train'])
    left.set(title='time, one image', xlabel='height and width, px', ylabel='seconds (dotted: the floor)')
    middle.set(title='time, 224 px', xlabel='images in a batch')
    right.set(title='kept for the backward pass', xlabel='height and width, px', ylabel='MB')
    for axis, ticks in ((left, SIZES), (middle, BATCHES), (right, SIZES)):
        axis.set_xticks(ticks, [str(tick) for tick in ticks])
        axis.minorticks_off()
        axis.grid(alpha=0.3)
    left.legend(frameon=False)
    save_figure(figure, path)


def main() -> None:
    """Measure unless asked not to, and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--redraw', action='store_true', help='draw what was measured before')
    args = parser.parse_args()
    rows = json.loads(FIGURES.read_text()) if args.redraw else measure()
    FIGURES.write_text(json.dumps(rows, indent=1) + '\n')
    draw(rows, ROOT / 'docs/en/images/cost.png')


if __name__ == '__main__':
    main()
