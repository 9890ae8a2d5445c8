"""Loading pretrained weights so that nothing is left out unnoticed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import nn


@contextmanager
def whole_weights_only(module: nn.Module, optional: Sequence[str]) -> Iterator[None]:
    """Require, within the context, that loading weights into ``module`` fills all of it.

    mmengine's ``Pretrained`` loads what fits and logs the rest: a forgotten ``prefix`` would train from scratch.

    Args:
        module: the module that weights are loaded into.
        optional: ends of names that may be missing or unknown, such as ``.step``.

    Raises:
        ValueError: weights are missing, unknown or of another shape; one line with the first of them.
    """
    loads: list[tuple[list[str], list[str]]] = []

    def before(state: dict[str, Any], *arguments: Any) -> None:
        loads.append((list(state), arguments[-1]))  # the last collects what is wrong with shapes

    def after(_: nn.Module, incompatible: Any) -> None:
        keys, errors = loads.pop()
        ends = (*optional, 'num_batches_tracked')
        wrong = [
            (text, [name for name in names if not name.endswith(ends)])
            for text, names in (
                ('missing', incompatible.missing_keys),
                ('unknown to it', incompatible.unexpected_keys),
                ('of another shape', [error.split(':')[0].removeprefix('size mismatch for ') for error in errors]),
            )
        ]
        if any(names for _, names in wrong):
            parts = [
                f'{len(names)} {text} ({", ".join(names[:3])}{", ..." * (len(names) > 3)})'
                for text, names in wrong
                if names
            ]
            first = next(iter(module.state_dict()))
            inside = [key.removesuffix(first) for key in keys if key.endswith(f'.{first}')]
            hint = f'; the file holds them under {inside[0]!r}: add prefix={inside[0]!r} to init_cfg' if inside else ''
            raise ValueError(f'pretrained weights do not fit {type(module).__name__}: {"; ".join(parts)}{hint}')

    hooks = [module._register_load_state_dict_pre_hook(before), module.register_load_state_dict_post_hook(after)]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
