"""Digits that move before an event camera, simulated.

A camera's pixel fires when its log intensity has changed by a threshold since it last fired: brighter is polarity 1,
darker polarity 0.

No single frame tells the direction of motion. Let a digit move along a path, bright on dark, and let it move along the
same path backwards, dark on bright: what brightens a pixel in one video brightens it in the other, and counts of events
are equal, for each pixel and polarity. Paths have no preferred start and contrasts no preferred sign, so one frame of
all events is as likely under one direction as under the opposite one; only their order tells them apart.
"""

from __future__ import annotations

import math

import numpy as np

from qsdt_mm.compat.renamed import refuse_old_names

from .files import Events

__getattr__ = refuse_old_names(__name__, 'film')

DIRECTIONS = {
    4: ('right', 'down', 'left', 'up'),
    8: ('right', 'down-right', 'down', 'down-left', 'left', 'up-left', 'up', 'up-right'),
}
"""Names of the directions; label k of n moves at an angle of 2 pi k / n, rows counted downwards."""


def draw_path(
    rng: np.random.Generator,
    direction: int,
    directions: int,
    size: int,
    travel: tuple[float, float] = (14.0, 22.0),
    wobble: float = 1.0,
    segments: int = 48,
) -> np.ndarray:
    """Draw a path in one direction with constant speed, from anywhere, with a slow wobble across.

    Reversed paths of a direction are distributed as paths of the opposite one.

    Args:
        rng: source of random numbers.
        direction, directions: label, and how many there are.
        size: side of the sensor, whose edges are joined.
        travel: least and greatest length, in pixels.
        wobble: greatest amplitude across the direction, in pixels; 0 gives straight lines.
        segments: into which the path is cut.

    Returns:
        ``(segments + 1, 2)``: rows and columns.
    """
    angle = 2 * math.pi * direction / directions
    along, across = np.array([math.sin(angle), math.cos(angle)]), np.array([math.cos(angle), -math.sin(angle)])
    start, length = rng.uniform(0, size, 2), rng.uniform(*travel)
    amplitude, phase = rng.uniform(0, wobble) if wobble else 0.0, rng.uniform(0, 2 * math.pi)
    time = np.linspace(0, 1, segments + 1)[:, None]
    return start + time * length * along + amplitude * np.sin(2 * math.pi * time + phase) * across


def render_video(picture: np.ndarray, path: np.ndarray, size: int) -> np.ndarray:
    """Carry a picture along a path on a sensor whose edges join, interpolated: ``(segments + 1, size, size)``."""
    scene = np.zeros((size, size))
    scene[: picture.shape[0], : picture.shape[1]] = picture
    frames = []
    for row, column in path:
        (y, x), (fy, fx) = (math.floor(row), math.floor(column)), (row % 1, column % 1)
        moved = np.roll(scene, (y, x), (0, 1))
        moved = (1 - fy) * moved + fy * np.roll(moved, 1, 0)
        frames.append((1 - fx) * moved + fx * np.roll(moved, 1, 1))
    return np.stack(frames)


def threshold_crossings(
    log_intensity: np.ndarray, threshold: float, phase: np.ndarray, duration: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return a video's events, by the camera model: a pixel fires when it has moved by a threshold since its last.

    A pixel's levels are ``phase + k * threshold``. Which of them it fired at last, before the video, is not known: the
    first one that it meets is taken for that.

    Args:
        log_intensity: ``(segments + 1, H, W)``, linear in between.
        threshold: in units of log intensity.
        phase: ``(H, W)``.
        duration: of the video, in microseconds.

    Returns:
        t (float), x, y, p, in no order.
    """
    levels = (log_intensity - phase) / threshold
    last = np.full(levels.shape[1:], np.nan)  # the level that a pixel fired at last
    step = duration / (len(levels) - 1)
    found = []
    for k, (before, after) in enumerate(zip(levels, levels[1:])):
        rises = after > before
        # Up to the level just below, or down to the level just above.
        reached = np.where(rises, np.floor(after), np.ceil(after))
        sign = np.where(rises, 1, -1)
        origin = np.where(np.isnan(last), np.where(rises, np.ceil(before), np.floor(before)), last)
        crossed = (reached - origin) * sign
        last = np.where(crossed >= 0, reached, last)
        y, x = np.nonzero(crossed > 0)
        times = crossed[y, x].astype(int)
        y, x = np.repeat(y, times), np.repeat(x, times)
        nth = np.arange(len(y)) - np.repeat(np.cumsum(times) - times, times) + 1
        level = origin[y, x] + nth * sign[y, x]
        share = (level - before[y, x]) / (after[y, x] - before[y, x])
        found.append((step * (k + share), x, y, rises[y, x].astype(np.int64)))
    t, x, y, p = (np.concatenate(parts) for parts in zip(*found))
    return t, x, y, p


def moving_digit(
    picture: np.ndarray,
    path: np.ndarray,
    bright: bool,
    rng: np.random.Generator,
    size: int = 32,
    contrast: float = 0.6,
    threshold: float = 0.25,
    noise: float = 0.5,
    duration: int = 100_000,
    phase: np.ndarray | None = None,
) -> Events:
    """Return the events of a digit that moves along a path.

    Args:
        picture: ``(h, w)``, 0 to 1.
        path: as :func:`draw_path` gives it.
        bright: bright on dark, or dark on bright.
        rng: source of random numbers.
        size: side of the sensor, in pixels.
        contrast: between picture and ground, in log intensity.
        threshold: of the camera, in log intensity.
        noise: events that each pixel fires for no reason, per second.
        duration: in microseconds.
        phase: of the pixels' levels, ``(size, size)``; None draws it.

    Source: the camera model of Lichtsteiner et al., "A 128 x 128 120 dB 15 us latency asynchronous temporal contrast
    vision sensor" (2008).
    """
    phase = rng.uniform(0, threshold, (size, size)) if phase is None else phase
    log_intensity = (contrast if bright else -contrast) * render_video(picture, path, size)
    t, x, y, p = threshold_crossings(log_intensity, threshold, phase, duration)
    count = rng.poisson(noise * size * size * duration * 1e-6)
    t = np.concatenate([t, rng.uniform(0, duration, count)]).astype(np.int64)
    x, y = (np.concatenate([v, rng.integers(0, size, count)]) for v in (x, y))
    p = np.concatenate([p, rng.integers(0, 2, count)])
    order = np.argsort(t, kind='stable')
    return Events(t[order], x[order], y[order], p[order])
