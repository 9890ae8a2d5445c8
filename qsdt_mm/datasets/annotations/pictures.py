"""Pictures beside annotations: which there are, and how large they are when they stand upright."""

from __future__ import annotations

import math
import posixpath
import warnings
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath

from qsdt_mm.errors import InputError

from .objects import AnnotatedPicture, Point

ENDINGS = {'.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp', '.ppm', '.pgm'}
ORIENTATION = 0x0112  # EXIF's tag
SWAPPED = {5, 6, 7, 8}  # orientations that exchange the sides


def files_below(folder: Path, endings: set[str]) -> list[Path]:
    """Return the files of a folder and those below it, in order; hidden ones do not count.

    Raises:
        InputError: there is no such folder.
    """
    if not folder.is_dir():
        raise InputError(f'{folder} is no folder')
    found = (path for path in folder.rglob('*') if path.suffix.lower() in endings and path.is_file())
    return sorted(p for p in found if not any(part.startswith('.') for part in p.relative_to(folder).parts))


class Pictures:
    """The pictures of a folder, found by the names that annotations use.

    Raises:
        InputError: there is no such folder.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     (Path(folder) / 'cat.png').touch()
    ...     Pictures(Path(folder)).find('cat').name
    'cat.png'
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths = files_below(folder, ENDINGS)
        self._places: dict[str, list[Path]] = defaultdict(list)
        for path in self.paths:
            inside = path.relative_to(folder)
            for key in {inside.as_posix(), inside.with_suffix('').as_posix(), path.name, path.stem}:
                self._places[key].append(path)

    def find(self, *names: str | PurePosixPath | Path) -> Path:
        """Return the picture of the first name that only one has: a path in the folder or a mere name, with or without
        its ending.

        Raises:
            InputError: there is none, or there are several.
        """
        several = None
        for name in filter(None, map(str, names)):
            path = PureWindowsPath(name)  # takes both kinds of slashes
            for key in (posixpath.normpath(path.as_posix()), path.name):
                found = self._places.get(key, [])
                if len(found) == 1:
                    return found[0]
                if found and several is None:
                    several = f'several pictures are called {key}: {found[0]} and {found[1]}'
        if several:
            raise InputError(several)
        wanted = next(filter(None, map(str, names)), '')
        raise InputError(f'its picture, {wanted}, is not in {self.folder}')


def size_and_orientation(path: Path) -> tuple[int, int, int]:
    """Return width and height of a picture as it is stored, and EXIF's orientation (1 is upright).

    Raises:
        InputError: the file is no picture.
    """
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')  # of large pictures, and of EXIF that is damaged elsewhere
            with Image.open(path) as picture:
                orientation = picture.getexif().get(ORIENTATION, 1)
                return *picture.size, orientation if orientation in range(1, 9) else 1
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise InputError(f'{path} is no picture that can be read') from error


def upright_size(width: int, height: int, orientation: int) -> tuple[int, int]:
    """Return the sides of a picture when it stands upright."""
    return (height, width) if orientation in SWAPPED else (width, height)


def upright_point(point: Point, width: float, height: float, orientation: int) -> Point:
    """Return where a point of a stored picture lies when EXIF's orientation has turned it.

    Args:
        point: x and y as stored, in pixels from the left and upper edges.
        width, height: as stored.
        orientation: 1 to 8 (EXIF 2.32, tag 274).
    """
    x, y = point
    return {
        1: (x, y),
        2: (width - x, y),
        3: (width - x, height - y),
        4: (x, height - y),
        5: (y, x),
        6: (height - y, x),
        7: (height - y, width - x),
        8: (y, width - x),
    }[orientation]


def open_picture(path: Path, declared: Sequence[object] = ()) -> AnnotatedPicture:
    """Return a picture without objects, and with what turns those of its annotations upright if they need it.

    Training reads pictures upright. Annotations mostly do; those whose declared size is that of the picture as it is
    stored, on its side, were drawn on it so.

    Args:
        path: the picture.
        declared: width and height in the annotations; zeros, or what is no number, do not count.

    Raises:
        InputError: the file is no picture, or of another size than declared.
    """
    width, height, orientation = size_and_orientation(path)
    upright = upright_size(width, height, orientation)
    picture = AnnotatedPicture(path, *upright)
    if len(declared) != 2 or not all(isinstance(side, (int, float)) and 0 < side < math.inf for side in declared):
        return picture
    given = (round(declared[0]), round(declared[1]))
    if given == upright:
        return picture
    if given == (width, height):
        picture.turn = lambda point: upright_point(point, width, height, orientation)
        return picture
    raise InputError(f'{path} is {upright[0]} x {upright[1]}, but its annotations speak of {given[0]} x {given[1]}')
