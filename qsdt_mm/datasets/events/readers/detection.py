"""Finding the reader that a file needs by its first bytes; the name decides only where the bytes fit several."""

from __future__ import annotations

import re
from pathlib import Path

from qsdt_mm.errors import InputError, why_no_file

from .aedat import open_aedat
from .aedat4 import Aedat4
from .arrays import ArrayReader
from .atis import AtisBin, looks_like_atis
from .base import Reader, fault
from .hdf5 import Hdf5Reader
from .prophesee import open_prophesee
from .text import TextReader

SUFFIXES = ('.npz', '.npy', '.aedat', '.aedat4', '.raw', '.dat', '.bin', '.h5', '.hdf5', '.txt', '.csv')
"""Names that files of events usually end in."""
HEAD = 1 << 15
KNOWN = 'AEDAT 2.0, 3.1 and 4.0, Prophesee .raw and .dat, N-MNIST .bin, HDF5, .npy, .npz and text are read'
OTHERS = {
    b'\x1f\x8b': 'a gzip archive: unpack it first',
    b'BZh': 'a bzip2 archive: unpack it first',
    b'\xfd7zXZ': 'an xz archive: unpack it first',
    b'7z\xbc\xaf': 'a 7-zip archive: unpack it first',
    b'Rar!': 'a rar archive: unpack it first',
    b'#ROSBAG': 'a ROS bag',
    b'SQLite format 3': 'a database (perhaps a ROS 2 bag)',
    b'MATLAB 5.0': "MATLAB's .mat",
    b'Event Stream': 'an .es event stream',
    b'\x89PNG': 'a picture',
    b'\xff\xd8\xff': 'a picture',
}


def open_events(path: str | Path, keep_cut: bool = False) -> Reader:
    """Return the reader of a file.

    Args:
        path: the file.
        keep_cut: read a file that ends within an event up to there, rather than refuse it.

    Raises:
        InputError: it is not there, empty, malformed, or of no format that is known here.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, 'recording').write_text('0 3 0 1' + chr(10) + '5 1 2 0')
    ...     open_events(f'{folder}/recording').FORMAT
    'text'
    """
    absent = why_no_file(path)
    if absent:
        raise InputError(f'{path} {absent}')
    with open(path, 'rb') as file:
        head = file.read(HEAD)
    if not head:
        raise fault(path, 0, 'the file is empty')
    if head.startswith(b'#!AER-DAT4'):
        return Aedat4(path, keep_cut)
    if head.startswith(b'#!AER-DAT'):
        return open_aedat(path, keep_cut)
    if head.startswith((b'\x93NUMPY', b'PK\x03\x04', b'PK\x05\x06')):
        return ArrayReader(path, keep_cut=keep_cut)
    if b'\x89HDF\r\n\x1a\n' in {head[at : at + 8] for at in (0, 512, 1024, 2048)}:
        return Hdf5Reader(path, keep_cut)
    for start, what in OTHERS.items():
        if head.startswith(start):
            raise fault(path, 0, f'{what}; {KNOWN}')
    if looks_like_text(head):
        if re.match(rb'\s*[{\[<]', head):
            raise fault(path, 0, f'text that is no table of events; {KNOWN}')
        return TextReader(path, keep_cut)
    if head.startswith(b'% '):
        return open_prophesee(path, keep_cut)
    if Path(path).suffix.lower() == '.raw':
        raise fault(path, 0, 'a .raw file without the header that names its encoding ("% evt 3.0")')
    if looks_like_atis(path, head):
        return AtisBin(path, keep_cut=keep_cut)
    raise fault(path, 0, f'begins with {head[:8].hex(" ")}, which is no file of events; {KNOWN}')


def looks_like_text(head: bytes) -> bool:
    """Return whether bytes are printable ASCII with white space, a mark at the start apart."""
    head = head.removeprefix(b'\xef\xbb\xbf')
    return bool(head) and not re.search(rb'[^\t\n\r\x20-\x7e]', head)
