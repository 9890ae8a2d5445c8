"""Photographs that a camera has turned: pixels lie as the sensor saw them, a note (EXIF) says how to show them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ORIENTATION = 0x0112  # of EXIF: 1 as it is, 2 to 4 mirrored or upside down, 5 to 8 width and height exchanged
UNTURNED = "LoadImageFromFile(color_type='color_ignore_orientation')"
TURNED = "LoadImageFromFile(color_type='color')"


def stored_size(path: str | Path) -> tuple[tuple[int, int], int] | None:
    """Return height and width of an image as its pixels are stored, and its EXIF orientation.

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


def turns(loader: Any) -> bool:
    """Return whether a step that reads images turns them as EXIF says (mmcv's ``imfrombytes``)."""
    plain = loader.color_type == 'unchanged' or 'ignore_orientation' in str(loader.color_type)
    return not plain and getattr(loader, 'imdecode_backend', 'cv2') not in ('turbojpeg', 'tifffile')


def size_fault(path: str, read: tuple[int, int], said: tuple[int, int]) -> str:
    """Say that an image has another size than its annotations, and what to do if it lies on its side.

    Args:
        path: of the image.
        read: its height and width as the pipeline reads it.
        said: its height and width by the annotations.
    """
    text = f'{path} has {read[0]} x {read[1]} pixels: its annotations say {said[0]} x {said[1]}'
    if read != (said[1], said[0]):
        return text
    try:
        stored = stored_size(path)
    except OSError:
        stored = None
    if stored is None or stored[1] < 5:
        return f'{text}: are height and width exchanged?'
    if stored[0] == said:
        return f'{text}: EXIF turns the photo, and they are of the pixels as stored: read it unturned, with {UNTURNED}'
    return f'{text}: they are of the photo as EXIF turns it: read it turned, with {TURNED}'
