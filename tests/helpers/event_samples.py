"""Small event files for tests."""

import numpy as np


def random_events(seed=0, count=200, size=(20, 30)):
    """Sorted events as a dict of arrays."""
    rng = np.random.default_rng(seed)
    return dict(
        t=np.sort(rng.integers(0, 10_000, count)).astype(np.uint32),
        x=rng.integers(0, size[1], count).astype(np.uint16),
        y=rng.integers(0, size[0], count).astype(np.uint16),
        p=rng.integers(0, 2, count).astype(np.uint8),
    )


def write(path, **changes):
    """Write random events, with some fields replaced or (None) left out; returns the path."""
    fields = {**random_events(), **changes}
    path.parent.mkdir(parents=True, exist_ok=True)
    np.savez(path, **{name: value for name, value in fields.items() if value is not None})
    return path
