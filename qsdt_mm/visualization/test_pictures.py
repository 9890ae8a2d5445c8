"""Names of the pictures of predictions, the same for all three libraries' visualizers."""

from __future__ import annotations

import functools
import inspect
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path, PurePath
from typing import Any

from qsdt_mm.errors import InputError, one_line


class PictureNames:
    """A name for each sample: that of its image, without the ending; of its folder too, where images share names.

    Args:
        paths: of all images, as far as they are known.

    >>> names = PictureNames(['cat/1.png', 'dog/1.png', 'dog/2.png'])
    >>> names.of(dict(img_path='dog/1.png'), number=0), names.of(dict(img_path='dog/2.png'), number=1)
    ('dog_1', '2')
    """

    def __init__(self, paths: list[str]) -> None:
        self.shared = {stem for stem, count in Counter(PurePath(path).stem for path in set(paths)).items() if count > 1}
        self.owners: dict[str, Any] = {}

    def of(self, sample: Any, number: int) -> str:
        """Return the name of a sample, which is the ``number``-th drawn; no two samples have the same."""
        path = sample.get('img_path')
        if not path:
            name = str(sample.get('sample_idx', number))
        else:
            name = PurePath(path).stem
            if name in self.shared:
                name = '_'.join([*PurePath(path).parts[-2:-1], name])
        owner, wanted, count = path or number, name, 1
        while self.owners.setdefault(name, owner) != owner:
            count += 1
            name = f'{wanted}_{count}'
        return name


def image_paths(dataset: Any) -> list[str]:
    """Return the paths of a data set's images; none where it does not tell."""
    if not hasattr(dataset, 'get_data_info'):
        return []
    found = (dataset.get_data_info(i) for i in range(len(dataset)))
    return [str(info['img_path']) for info in found if isinstance(info, dict) and info.get('img_path')]


def save_pictures(visualizer: Any, dataset: Any, folder: str | None, interval: int = 1) -> None:
    """Have a visualizer draw one in ``interval`` samples and write it as ``folder/<name>.png``.

    Args:
        visualizer: any library's; every method that takes ``data_sample`` and ``out_file`` is changed.
        dataset: of the samples.
        folder: a path as the user wrote it; None leaves it to the visualizer where pictures go.
        interval: samples between two pictures.

    Raises:
        InputError: by these methods, when something cannot be drawn.
    """
    names, drawn = PictureNames(image_paths(dataset) if folder else []), itertools.count()

    def saving(draw: Callable) -> Callable:
        @functools.wraps(draw)
        def method(*args: Any, **kwargs: Any) -> Any:
            number = next(drawn)
            if number % interval:
                return None
            name = names.of(kwargs['data_sample'], number)
            if folder:
                kwargs['out_file'] = str(Path(folder) / f'{name}.png')
            try:
                return draw(visualizer, *args, **kwargs)
            except (TypeError, ValueError, LookupError, AttributeError, AssertionError) as error:
                raise InputError(f'no picture of {name} can be drawn: {one_line(error)}') from error

        return method

    # The class's own methods: mmengine hands out the same visualizer again.
    for name, draw in inspect.getmembers(type(visualizer), inspect.isfunction):
        if {'data_sample', 'out_file'} <= set(inspect.signature(draw).parameters):
            setattr(visualizer, name, saving(draw))
