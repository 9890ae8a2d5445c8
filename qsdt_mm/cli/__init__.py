"""The shell that the command-line tools share."""

from .builders import build_model, build_runner
from .config import LOADERS, default_loaders, import_library, load_config, of_root, parse_options, set_work_dir
from .parser import ToolParser
from .shell import Session, run_tool

__all__ = [
    'LOADERS',
    'Session',
    'ToolParser',
    'build_model',
    'build_runner',
    'default_loaders',
    'import_library',
    'load_config',
    'of_root',
    'parse_options',
    'run_tool',
    'set_work_dir',
]
