"""The simulated camera, and that one frame of all its events does not tell the direction."""

import numpy as np
import pytest

from qsdt_mm.datasets.events.moving_digits import DIRECTIONS, draw_path, moving_digit, render_video, threshold_crossings
from qsdt_mm.datasets.events.transforms import frames_of

SIZE = 24


def picture(seed=0):
    return np.random.default_rng(seed).random((9, 9))


def events(path, bright=True, phase=None, noise=0.0, seed=0):
    return moving_digit(picture(), path, bright, np.random.default_rng(seed), SIZE, noise=noise, phase=phase)


def frame(found, num_frames=1):
    return frames_of(found, num_frames, 'time', (SIZE, SIZE), (SIZE, SIZE))


def test_a_pixel_fires_at_each_threshold():
    """Up by 2.6 thresholds, down by 1.8, and up again by 1: against the definition, step by step."""
    curve = np.array([0.1, 2.7, 0.9, 1.9])[:, None, None]
    t, x, y, p = threshold_crossings(curve, 1.0, np.zeros((1, 1)), 300)
    order = np.argsort(t)
    # It meets level 1 first, which says where it stands; then 2; on the way down 1; then it has not moved by 1 to 2.
    assert p[order].tolist() == [1, 0]
    assert t[order] == pytest.approx([100 * 1.9 / 2.6, 100 + 100 * 1.7 / 1.8])


def test_events_restore_the_video():
    """Where a pixel stands after all its events is within a threshold of the log intensity."""
    path = draw_path(np.random.default_rng(0), 0, 4, SIZE)
    log_intensity = 0.6 * render_video(picture(), path, SIZE)
    t, x, y, p = threshold_crossings(log_intensity, 0.05, np.zeros((SIZE, SIZE)), 1000)
    change = np.zeros((SIZE, SIZE))
    np.add.at(change, (y, x), np.where(p == 1, 0.05, -0.05))
    assert np.abs(change - (log_intensity[-1] - log_intensity[0])).max() < 0.1001
    assert t.min() >= 0 and t.max() <= 1000 and len(t) > 1000


@pytest.mark.parametrize('wobble', [0.0, 1.0])
@pytest.mark.parametrize('directions', [4, 8])
def test_one_frame_is_the_same_backwards_with_the_contrast_inverted(directions, wobble):
    """To the last event; several frames are not, and neither is one of the same contrast."""
    rng = np.random.default_rng(0)
    for direction in range(directions):
        path = draw_path(rng, direction, directions, SIZE, wobble=wobble)
        phase = rng.uniform(0, 0.25, (SIZE, SIZE))
        there, back = events(path, True, phase), events(path[::-1], False, -phase)
        assert len(there.t) > 100
        assert np.array_equal(frame(there), frame(back))
        assert not np.array_equal(frame(there, 4), frame(back, 4))
        assert not np.array_equal(frame(there), frame(events(path[::-1], True, phase)))


@pytest.mark.parametrize('direction', range(8))
def test_reversed_paths_are_paths_of_the_opposite_direction(direction):
    """Start anywhere, the same lengths and wobbles: the samples of one reversed have the moments of the other."""
    rng = np.random.default_rng(0)

    def draw(label, backwards):
        paths = np.stack([draw_path(rng, label, 8, SIZE)[:: -1 if backwards else 1] for _ in range(1500)])
        moves = paths - paths[:, :1]
        starts = np.exp(2j * np.pi * paths[:, 0] / SIZE).mean(0)  # on a sensor whose edges are joined
        return np.concatenate([moves.mean(0).ravel(), moves.std(0).ravel(), np.abs(starts)])

    assert np.abs(draw(direction, True) - draw((direction + 4) % 8, False)).max() < 0.25


@pytest.mark.parametrize('directions', DIRECTIONS)
def test_labels_are_directions(directions):
    signs = {'right': (0, 1), 'left': (0, -1), 'down': (1, 0), 'up': (-1, 0)}
    for label, name in enumerate(DIRECTIONS[directions]):
        moved = np.diff(draw_path(np.random.default_rng(label), label, directions, SIZE)[[0, -1]], axis=0)[0]
        wanted = np.sum([signs[word] for word in name.split('-')], 0)
        assert (np.sign(moved.round(3)) == wanted).all() and 14 <= np.linalg.norm(moved) <= 22.01


def test_inverted_contrast_inverts_polarity():
    path = draw_path(np.random.default_rng(0), 1, 4, SIZE)
    phase = np.random.default_rng(0).uniform(0, 0.25, (SIZE, SIZE))
    bright, dark = frame(events(path, True, phase)), frame(events(path, False, -phase))
    assert np.array_equal(bright[0, 0], dark[0, 1]) and np.array_equal(bright[0, 1], dark[0, 0])


def test_noise_and_order():
    path = draw_path(np.random.default_rng(0), 1, 4, SIZE)
    found = events(path, noise=20.0)
    assert (np.diff(found.t) >= 0).all() and found.t[0] >= 0 and found.t[-1] <= 100_000
    expected = 20 * SIZE * SIZE * 0.1
    assert abs(len(found.t) - len(events(path).t) - expected) < 5 * expected**0.5
