"""Draw moving_digit.png and moving_digit.gif, as show_events.py does: the fullest recording that the edge does not cut.

python tools/dataset_converters/make_moving_digits_events.py
python docs/figures/draw_moving_digit.py data/moving_digits docs/en/images
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from qsdt_mm.datasets.events.files import read_events
from qsdt_mm.datasets.events.transforms import frames_of
from qsdt_mm.visualization.events import draw_events, write_video

SIZE = (32, 32)
EDGE = 5  # pixels that the digit should not touch
NEAR_EDGE = 0.2  # share of events, for noise is everywhere
FRAMES = 8


def edge_share(frames: np.ndarray) -> float:
    """Return the largest share of a frame's events ``(T, 2, H, W)`` that lie near the edge."""
    inside = frames[..., EDGE:-EDGE, EDGE:-EDGE].sum((1, 2, 3))
    return float((1 - inside / frames.sum((1, 2, 3)).clip(1)).max())


def main(folder: str, out: str) -> None:
    """Choose a recording, and draw its events, its frames and a film of them."""
    paths = sorted(Path(folder, 'val').glob('*.npz'))
    recordings = {path: read_events(path, SIZE) for path in paths}
    frames = {path: frames_of(events, FRAMES, 'time', SIZE, SIZE) for path, events in recordings.items()}
    inside = [path for path in paths if edge_share(frames[path]) < NEAR_EDGE] or paths
    best = max(inside, key=lambda path: len(recordings[path].t))
    print(best)
    draw_events(recordings[best], frames[best], Path(out) / 'moving_digit.png')
    write_video(frames[best], 4, Path(out) / 'moving_digit.gif')


if __name__ == '__main__':
    main(*sys.argv[1:])
