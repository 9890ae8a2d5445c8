"""Networks in and out: checkpoints of the published implementations become ours."""

from .conversion import Conversion, convert
from .files import config_path, convert_file
from .loading import load_backbone, load_published

__all__ = ['Conversion', 'config_path', 'convert', 'convert_file', 'load_backbone', 'load_published']
