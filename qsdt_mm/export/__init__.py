"""Networks in and out: checkpoints of the published implementations become ours."""

from .loading import load_backbone, load_published
from .published import Conversion, convert, convert_file

__all__ = ['Conversion', 'convert', 'convert_file', 'load_backbone', 'load_published']
