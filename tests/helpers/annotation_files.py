"""Pictures and hand-written files for the tests of annotations."""

from PIL import Image

from qsdt_mm.datasets.annotations.coco import read_annotations
from qsdt_mm.datasets.annotations.objects import Faults
from qsdt_mm.datasets.annotations.pictures import Pictures

ORIENTATION = 0x0112


def save_picture(path, size, orientation=None, colour=(200, 30, 30)):
    """A picture of one colour; EXIF's orientation, if given, says how to turn it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.new('RGB', size, colour)
    exif = picture.getexif()
    if orientation:
        exif[ORIENTATION] = orientation
    picture.save(path, exif=exif)
    return path


def write(path, text, encoding='utf-8'):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode(encoding))
    return path


def read(kind, root, **options):
    """Pictures and faults of ``root/labels`` with the pictures of ``root/images``."""
    faults = Faults()
    found = read_annotations(kind, root / 'labels', Pictures(root / 'images'), faults, **options)
    return found, faults
