"""Networks in and out: checkpoints of the published implementations become ours, and classifiers of ours theirs."""

from .conversion import Conversion, convert
from .files import config_path, convert_file, publish_file
from .loading import load_backbone, load_published
from .reverse import Publication, built_with, publish

__all__ = [
    'Conversion',
    'Publication',
    'built_with',
    'config_path',
    'convert',
    'convert_file',
    'load_backbone',
    'load_published',
    'publish',
    'publish_file',
]
