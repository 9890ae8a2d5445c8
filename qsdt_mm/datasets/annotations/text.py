"""Text of files from elsewhere: in whatever encoding they say, and XML that cannot do harm."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from qsdt_mm.errors import InputError

MARKS = ((codecs.BOM_UTF8, 'utf-8-sig'), (codecs.BOM_UTF16_LE, 'utf-16'), (codecs.BOM_UTF16_BE, 'utf-16'))
LARGEST = 256 * 2**20  # bytes


def read_text(path: Path, declared: str | None = None) -> str:
    """Return a file's text: in the encoding that its first bytes mark, the declared one, or UTF-8.

    Raises:
        InputError: it is not in that encoding, or is no text file; the message names file and line.
        OSError: the file cannot be read.
    """
    if path.stat().st_size > LARGEST:
        raise InputError(f'{path} is larger than {LARGEST // 2**20} MiB: no annotations of a picture')
    data = path.read_bytes()
    encoding = next((name for mark, name in MARKS if data.startswith(mark)), None)
    if encoding is None:
        head = re.match(rb'<\?xml[^>]*?encoding\s*=\s*["\']([\w.:-]+)', data[:300])
        encoding = (head.group(1).decode('ascii') if head else None) or declared or 'utf-8'
    try:
        return data.decode(encoding)
    except LookupError as error:
        raise InputError(f'{path}: encoding {encoding!r} is not known') from error
    except UnicodeDecodeError as error:
        line = data.count(b'\n', 0, error.start) + 1
        raise InputError(f'{path}, line {line}: no {encoding} text; save it as UTF-8') from error


def read_xml(path: Path) -> Element:
    """Return the root of an XML file; each element knows its line as the attribute ``{line}``.

    Entities are refused: they can grow without bound, or name other files.

    Raises:
        InputError: the file is no XML, or declares entities; the message names file and line.
        OSError: the file cannot be read.
    """
    text = read_text(path)
    parser, builder = expat.ParserCreate('utf-8'), TreeBuilder()

    def start(tag: str, attributes: dict[str, str]) -> None:
        builder.start(tag, {**attributes, '{line}': str(parser.CurrentLineNumber)})

    def refuse(*_: object) -> None:
        raise InputError(f'{path}, line {parser.CurrentLineNumber}: declares an entity, which is refused')

    parser.StartElementHandler, parser.EndElementHandler = start, builder.end
    parser.CharacterDataHandler, parser.EntityDeclHandler = builder.data, refuse
    try:
        parser.Parse(text.encode('utf-8'), True)
    except expat.ExpatError as error:
        raise InputError(f'{path}, line {error.lineno}: no XML: {expat.ErrorString(error.code)}') from error
    return builder.close()
