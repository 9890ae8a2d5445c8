"""Networks in and out: checkpoints of the published implementations become ours."""

from .conversion import Conversion, convert
from .files import convert_file
from .loading import load_backbone, load_published

__all__ = ['Conversion', 'convert', 'convert_file', 'load_backbone', 'load_published']
