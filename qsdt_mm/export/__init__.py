"""Networks in and out: checkpoints of the published implementations become ours."""

from .published import Conversion, convert, convert_file, load_published

__all__ = ['Conversion', 'convert', 'convert_file', 'load_published']
