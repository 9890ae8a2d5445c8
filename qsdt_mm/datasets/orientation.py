"""Photographs that a camera has turned: pixels lie as the sensor saw them, a note (EXIF) says how to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ORIENTATION = 0x0112  # of EXIF: 1 as it is, 2 to 4 mirrored or upside down, 5 to 8 width and height exchanged
UNTURNED, TURNED = 'color_ignore_orientation', 'color'  # for color_type of LoadImageFromFile


def stored_size(path: str | Path) -> tuple[tuple[int, int], int] | None:
    """Return height and width of an image as its file says them, and its EXIF orientation.

    Only the head of the file is read. None for what Pillow does not know.

    Raises:
        OSError: there is no such file.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            return (image.height, image.width), image.getexif().get(ORIENTATION, 1)
    except (UnidentifiedImageError, Image.DecompressionBombError, SyntaxError, ValueError):
        return None


def loader_of(pipeline: Any) -> Any:
    """Return the step of a pipeline that reads the image, None if it is not of mmcv's kind."""
    return next((step for step in getattr(pipeline, 'transforms', ()) if hasattr(step, 'color_type')), None)


def size_fault(path: str, read: tuple[int, int], said: tuple[int, int]) -> str:
    """Say that an image has another size than its annotations, and what to do if it lies on its side.

    Args:
        path: of the image.
        read: its height and width as the pipeline reads it.
        said: its height and width by the annotations.
    """
    text = f'{path} has {read[0]} x {read[1]} pixels: its annotations say {said[0]} x {said[1]}'
    if tuple(read) != (said[1], said[0]):
        return text
    try:
        turned = (stored_size(path) or (None, 1))[1] >= 5
    except OSError:
        turned = False
    if not turned:
        return f'{text}: are height and width exchanged?'
    from mmcv import imread  # not earlier: the library's compiled part may need our stand-in

    kinds = {UNTURNED: 'as they are stored', TURNED: 'as EXIF turns them'}
    found = next((option for option in kinds if imread(path, flag=option).shape[:2] == tuple(said)), None)
    if found is None:
        return f'{text}: EXIF turns the photo: save it turned, and annotate that'
    return (
        f'{text}, the size of its pixels {kinds[found]}: read all photos so, with '
        f'LoadImageFromFile(color_type={found!r}) in each pipeline'
    )
