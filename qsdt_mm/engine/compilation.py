"""``compile`` of a configuration: ``torch.compile`` for the backbone while it trains.

mmengine compiles the whole training step, with an optimizer in it that the compiler cannot trace.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.logging import MMLogger
from torch import nn

from qsdt_mm.errors import InputError, require


def compile_options(value: Any) -> dict[str, Any] | None:
    """Return the arguments of ``torch.compile`` that ``compile`` stands for; None where nothing is to be compiled.

    Raises:
        InputError: it is neither None, True, False nor a dict.
    """
    if value is None or value is False:
        return None
    allowed = "True, False or a dict, as of compile.backend='inductor' compile.mode='default'"
    require(value is True or isinstance(value, Mapping), 'compile', value, allowed, InputError)
    if value is True:
        return {}
    return value.to_dict() if hasattr(value, 'to_dict') else dict(value)


@contextmanager
def compiler_faults(options: Mapping[str, Any], *kinds: type[Exception]) -> Iterator[None]:
    """Say in one line what the compiler cannot do.

    Raises:
        InputError: in place of an error of these kinds.
    """
    try:
        yield
    except kinds as error:
        shown = ', '.join(f'{key}={value!r}' for key, value in options.items()) or 'True'
        text = ' '.join(str(error).partition('\n\n')[0].split())  # what follows is advice for compiler developers
        name = type(error).__name__
        raise InputError(f'compile ({shown}) does not work here: {name}: {text[:300]}') from error


def own(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return a copy of the options, of which the compiler takes some out."""
    return {key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}


def check_compiler(options: Mapping[str, Any], device: torch.device) -> None:
    """Compile a line of arithmetic, forward and backward, so that what cannot work is said before a run begins.

    Raises:
        InputError: an option, a backend or a compiler is missing or wrong.
    """
    if not hasattr(torch.compiler, 'is_compiling'):
        raise InputError(f'compile needs torch 2.3 or later, this is {torch.__version__}')

    def square(x: torch.Tensor) -> torch.Tensor:
        return (x * x).sum()

    with compiler_faults(options, Exception):
        compiled = torch.compile(square, **own(options))
        compiled(torch.ones(3, device=device, requires_grad=True)).backward()


class _Compiled:
    """Call of a backbone: compiled in training, uncompiled in evaluation and while hooks watch its modules.

    A hook that comes or goes is not seen by compiled code.
    """

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone, self.compiled = backbone, backbone._compiled_call_impl
        self.hooks, self.told = self.count_hooks(), False

    def count_hooks(self) -> int:
        return sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in self.backbone.modules())

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if not (self.backbone.training and torch.is_grad_enabled()):
            return self.backbone._call_impl(*args, **kwargs)
        if self.count_hooks() == self.hooks:
            return self.compiled(*args, **kwargs)
        if not self.told:
            self.told = True
            MMLogger.get_current_instance().info('Steps in which hooks watch modules of the backbone run uncompiled')
        return self.backbone._call_impl(*args, **kwargs)


def compile_backbone(model: nn.Module, options: Mapping[str, Any]) -> None:
    """Have the backbone compiled when training first calls it; names, copies and checkpoints stay what they are.

    Args:
        model: with an attribute ``backbone``.
        options: arguments of ``torch.compile``.

    Raises:
        InputError: it has no backbone, or one that computes activations again.
    """
    backbone = getattr(model, 'backbone', None)
    if not isinstance(backbone, nn.Module):
        raise InputError(f'compile compiles model.backbone, which {type(model).__name__} does not have')
    if getattr(backbone, 'with_cp', False):
        raise InputError('compile and model.backbone.with_cp=True exclude each other: leave one of them out')
    backbone.compile(**own(options))
    backbone._compiled_call_impl = _Compiled(backbone)  # of all attributes, the one that copies leave out
