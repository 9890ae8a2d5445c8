"""Catch a change of a configuration's variable that comes too late: what was made of it has been made."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mmengine.config import Config, ConfigDict

from qsdt_mm.compat.config_files import following_links, with_variable
from qsdt_mm.errors import InputError, one_line

from .cfg_options import names_read

SHOWN = 6  # keys in a message
FIRST = dict(train_cfg=0, model=1, train_dataloader=2)  # of those, where there are several


def check_variables(path: str, cfg: Config, options: Mapping[str, Any]) -> list[str]:
    """Check that options change no variable that other keys were made of when the configuration was read.

    ``max_epochs = 12; train_cfg = dict(max_epochs=max_epochs)`` makes ``train_cfg.max_epochs=12``, and nothing reads
    ``max_epochs`` any more. Which keys those are is found by reading the files again, with the variable changed where
    it is defined: keys that become others were made of it, by whatever expression, in whatever file.

    Args:
        path: The file.
        cfg: The configuration, without the options.
        options: The options, ``{'a.b.c': value}``, which fit the configuration.

    Returns:
        Remarks about names that nothing reads, as far as can be seen.

    Raises:
        InputError: An option changes a variable, and not all that was made of it; the message names those keys.
    """
    old = plain(cfg._cfg_dict)
    late: dict[str, dict[str, Any]] = {}
    for key, value in options.items():
        name = key.partition('.')[0]
        if name in old and name not in names_read(cfg):
            late.setdefault(name, {})[key] = value
    return [remark for name, changes in late.items() if (remark := _check(path, cfg, name, changes, options))]


def _check(path: str, cfg: Config, name: str, changes: dict[str, Any], options: Mapping[str, Any]) -> str | None:
    old, read = plain(cfg._cfg_dict), names_read(cfg)
    said = ' '.join(f'{key}={worded(value)}' for key, value in changes.items())

    def change(_: str, value: Any) -> Any:
        return as_before(changed(value, name, changes), value)

    wanted = changed(old[name], name, changes)
    if same(wanted, old[name]):
        return None
    try:
        new = plain(read_again(path, name, change))
    except Exception as error:
        raise InputError(
            f'--cfg-options {said}: {name} is a variable, and what the configuration makes of it cannot be made so '
            f'({one_line(error)}): change what is made of it instead'
        ) from error
    made = {key: value for key, value in differences(old, new) if key.partition('.')[0] in read}
    if made:  # what is another each time it is read, such as a date, was not made of it
        unsteady = dict(differences(old, plain(read_again(path, name))))
        made = {key: value for key, value in made.items() if key not in unsteady}
    if not made or not same(new.get(name), wanted):  # it was changed in place after it was bound
        made = dict(copies(old, old[name], changes, [key for key in old if key in read])) or made
    made = dict(sorted(made.items(), key=lambda item: FIRST.get(item[0].partition('.')[0], len(FIRST))))
    why = f'{name} is a variable, of which the configuration has made'
    if not made:
        why = f'nothing reads {name}, whose value stands as well under'
        made = dict.fromkeys(namesakes({key: old[key] for key in old if key in read}, name, old[name]), wanted)
    left = {key: value for key, value in made.items() if not any(covers(option, key) for option in options)}
    if left:
        raise InputError(f'--cfg-options {said} does nothing: {why} {listed(list(left))}; give {instead(left)}')
    if made:
        return None
    return f'--cfg-options {said}: nothing reads {name}, unless code of your own does (runner.cfg.{name})'


def read_again(path: str, name: str, change: Any = lambda name, value: value) -> ConfigDict:
    """Return the configuration of a file, read with a variable changed where it is defined."""
    with with_variable(name, change), following_links(lambda remark: None):
        return Config.fromfile(path, import_custom_modules=False)._cfg_dict


def as_before(value: Any, before: Any) -> Any:
    """Return a value with ``ConfigDict`` for dicts where it was so before: bases come as such, read by attribute."""
    known = next(_config_dicts(before), None)
    if known is None:
        return value
    kept = ConfigDict(value) if isinstance(value, dict) else value
    return Config._dict_to_config_dict(kept, vars(known).get('scope'))


def _config_dicts(value: Any) -> Iterator[ConfigDict]:
    if isinstance(value, ConfigDict):
        yield value
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _config_dicts(item)


def changed(value: Any, name: str, changes: Mapping[str, Any]) -> Any:
    """Return a variable's value with options applied as mmengine does; those that do not fit it leave it."""
    for key, new in changes.items():
        if key == name and not isinstance(new, Mapping):
            value = copy.deepcopy(new)
            continue
        trial = Config({name: copy.deepcopy(value)})
        try:
            trial.merge_from_dict({key: copy.deepcopy(new)})
        except (KeyError, TypeError, ValueError, AttributeError, IndexError):
            continue
        value = plain(dict.__getitem__(trial._cfg_dict, name), lazy=lambda item: item)
    return value


def plain(config: Any, lazy: Callable[[Any], Any] = str) -> Any:
    """Return a configuration as dicts and lists, without importing what stands for an import in it.

    Args:
        config: A configuration, or a part of one.
        lazy: Makes a value of what stands for an import.
    """
    if isinstance(config, Mapping):
        return {key: plain(value, lazy) for key, value in dict.items(config)}
    if type(config) in (list, tuple):
        return type(config)(plain(item, lazy) for item in config)
    return lazy(config) if type(config).__name__ in ('LazyObject', 'LazyAttr') else config


def same(a: Any, b: Any) -> bool:
    """Return whether two values are equal; what cannot be compared is another."""
    try:
        return type(a) is type(b) and bool(a == b)
    except (ValueError, TypeError, RuntimeError):  # arrays
        return False


def differences(a: Any, b: Any, where: str = '') -> Iterator[tuple[str, Any]]:
    """Yield the keys in which two configurations differ, ``a.b.0.c``, with the second's values."""
    start = f'{where}.' if where else ''
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            if key in a and key in b:
                yield from differences(a[key], b[key], f'{start}{key}')
            else:
                yield f'{start}{key}', b.get(key)
    elif isinstance(a, (list, tuple)) and isinstance(b, (list, tuple)) and len(a) == len(b) and _nested(a):
        for i, pair in enumerate(zip(a, b)):
            yield from differences(*pair, f'{start}{i}')
    elif not same(a, b):
        yield where, b


def _nested(value: Sequence) -> bool:
    return any(isinstance(item, (Mapping, list, tuple)) for item in value)


def copies(config: Any, value: Any, changes: Mapping[str, Any], read: Sequence[str]) -> Iterator[tuple[str, Any]]:
    """Yield the keys under which a dict, or a list of some, stands again, where a change of a part of it belongs.

    For variables that are changed in place after they were bound (``pipeline.insert(1, step)``).
    """
    if not (isinstance(value, Mapping) and value or isinstance(value, (list, tuple)) and _nested(value)):
        return

    def search(node: Any, where: str) -> Iterator[str]:
        if same(node, value):
            yield where
        elif isinstance(node, (Mapping, list, tuple)):
            for key, item in node.items() if isinstance(node, Mapping) else enumerate(node):
                yield from search(item, f'{where}.{key}')

    for top in read:
        for where in search(config[top], top):
            for key, new in changes.items():
                rest = key.partition('.')[2]
                yield (f'{where}.{rest}' if rest else where), new


def namesakes(config: Any, name: str, value: Any, where: str = '') -> Iterator[str]:
    """Yield the keys that end in a name and hold a value, as in a configuration that was written with all merged."""
    if isinstance(config, (Mapping, list, tuple)):
        for key, item in config.items() if isinstance(config, Mapping) else enumerate(config):
            if key == name and same(item, value):
                yield f'{where}{key}'
            else:
                yield from namesakes(item, name, value, f'{where}{key}.')


def covers(option: str, key: str) -> bool:
    """Return whether an option sets a key, by itself or with all that is around it."""
    return f'{key}.'.startswith(f'{option}.')


def worded(value: Any) -> str:
    """Return a value as it is written on the command line, without spaces; long ones are cut short."""
    text = repr(value) if not isinstance(value, str) else value
    return text if len(text) <= 60 else f'{text[:57]}...'


def listed(keys: Sequence[str]) -> str:
    """Return the first keys of a list, and how many more there are."""
    more = len(keys) - SHOWN
    return ', '.join(keys[:SHOWN]) + (f' and {more} more' if more > 0 else '')


def instead(made: Mapping[str, Any]) -> str:
    """Return the options that do what was wanted, where they can be written as options."""
    words = []
    for key, value in made.items():
        text = str(value).replace(' ', '') if isinstance(value, (list, tuple)) else str(value)
        if not re.fullmatch(r'[\w./:,()\[\]+-]{1,60}', text):
            return 'options for those keys'
        words.append(f'{key}="{text}"' if re.search(r'[()\[\]]', text) else f'{key}={text}')
    return f'{" ".join(words)} instead' if len(words) <= SHOWN else 'options for those keys'
