"""The shell that the command-line tools share; parts are imported when first asked for, so that help comes at once."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
HOLDERS = dict(
    ToolParser='parser',
    Session='shell',
    run_tool='shell',
    build_model='builders',
    build_runner='builders',
)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    globals()[name] = found = getattr(import_module(f'{__name__}.{HOLDERS.get(name, "config")}'), name)
    return found
