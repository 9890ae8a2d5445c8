"""Format, bits and end of an image file, read before it is decoded."""

from __future__ import annotations

import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, UnidentifiedImageError

from qsdt_mm.errors import InputError

TAILS = {'JPEG': b'\xff\xd9', 'PNG': b'IEND'}
"""Bytes at the end of a whole file; some writers put a few bytes behind it."""


class Head(NamedTuple):
    """Beginning of an image file, read.

    Args:
        format: as PIL names it: ``'PNG'``, ``'JPEG'``, ...
        mode: PIL's: ``'L'`` grey, ``'P'`` palette, ``'RGB'``, ``'RGBA'``, ``'CMYK'``, ``'I;16'``, ...
        bits: of one channel.

    >>> Head('PNG', 'RGB', bits=8).format
    'PNG'
    """

    format: str
    mode: str
    bits: int


def is_local(path: Any) -> bool:
    """Return whether a path is one of this machine's files, rather than of a storage that mmengine reads."""
    return isinstance(path, (str, Path)) and '://' not in str(path) and not str(path).startswith('s3:')


def reads_disk(step: Any) -> bool:
    """Return whether a loading step reads this machine's files, as it does unless it names another storage."""
    for name in ('backend_args', 'file_client_args'):
        settings = getattr(step, name, None)
        if settings and settings.get('backend', 'local') not in ('local', 'disk', 'LocalBackend', 'HardDiskBackend'):
            return False
    return True


@contextmanager
def _opened(path: str | Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')  # of very large pictures, odd EXIF
        with Image.open(path) as image:
            yield image


def read_head(path: str | Path) -> Head:
    """Return what a file's head says; without format and mode if only OpenCV can read it.

    Raises:
        InputError: there is no file, it is empty, or it is no image.
    """
    path = Path(path)
    try:
        with _opened(path) as image:
            bits = 8
            if image.format == 'PNG':
                with open(path, 'rb') as file:
                    bits = file.read(25)[24]
            elif image.format == 'TIFF':
                bits = max(image.tag_v2.get(258) or (1,))
            elif image.mode.startswith('I'):
                bits = 16
            return Head(image.format or '', image.mode, bits)
    except UnidentifiedImageError as error:
        if path.stat().st_size == 0:
            raise InputError(f'{path} is empty') from error
        values = _decoded(path)
        if values is not None:  # a format of OpenCV's alone
            return Head('', '', 8 * values.itemsize)
        raise InputError(f'{path} is no image') from error
    except OSError as error:
        raise InputError(f'{path}: {error.strerror or error}') from error
    except Exception as error:  # PIL raises all sorts of things on broken heads, SyntaxError among them
        raise InputError(f'{path} is no image ({" ".join(str(error).split())[:80]})') from error


def _decoded(path: str | Path) -> np.ndarray | None:
    import cv2

    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
    except cv2.error:
        return None


def check_whole(path: str | Path, decode: bool = False) -> None:
    """Refuse a file that ends too early.

    A decoder fills the rest of a short JPEG file with grey and says nothing that a program can see.

    Args:
        path: an image.
        decode: whether to decode it even if its end looks right.

    Raises:
        InputError: it is cut short, or damaged.
    """
    head = read_head(path)
    if not head.format:
        return
    mark = TAILS.get(head.format)
    if mark and not decode:
        with open(path, 'rb') as file:
            file.seek(0, 2)
            file.seek(-min(file.tell(), 4096), 2)
            decode = mark not in file.read()
    if not decode:
        return
    try:
        with _opened(path) as image:
            image.load()
    except Image.DecompressionBombError:
        return
    except Exception as error:
        if 'truncated' in str(error).lower():
            raise InputError(f'{path} is cut short: its last rows are missing') from error
        raise InputError(f'{path} is damaged ({" ".join(str(error).split())[:80]})') from error


def has_clear_pixels(path: str | Path) -> bool:
    """Return whether an image has pixels that are not opaque."""
    with _opened(path) as image:
        if 'transparency' not in image.info and image.mode not in ('RGBA', 'LA', 'PA'):
            return False
        return image.convert('RGBA').getchannel('A').getextrema()[0] < 255


def highest_value(path: str | Path) -> int:
    """Return the highest value of an image whose channels have 16 bits; 65,535 if it cannot be read."""
    values = _decoded(path)
    return 65535 if values is None else int(values.max(initial=0))
