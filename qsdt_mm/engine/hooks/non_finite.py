"""Stop at the first value that is not finite, say where it arose, and never save it."""

from collections.abc import Iterator, Mapping
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor, nn

from qsdt_mm.compat.sharded import gather, local_part
from qsdt_mm.compat.wrappers import unwrap
from qsdt_mm.errors import NonFiniteLossError, NonFiniteWeightsError


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from _tensors(item)
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _tensors(item)


def _finite(value: Any) -> bool:
    return all(
        bool(torch.isfinite(local_part(t.detach())).all())
        for t in _tensors(value)
        if t.is_floating_point() or t.is_complex()
    )


def _bad_weight(module: nn.Module) -> str | None:
    state = [*module.named_parameters(), *module.named_buffers()]
    return next((name for name, value in state if not _finite(value)), None)


def first_non_finite(model: nn.Module, args: tuple, kwargs: dict) -> tuple[str, nn.Module] | None:
    """Run a model once more without gradients and find the first module whose output is not finite.

    Args:
        model: The model.
        args: Its positional arguments.
        kwargs: Its keyword arguments.

    Returns:
        The module's dotted name (empty for the model itself) and the module; ``None`` if all outputs were
        finite.
    """
    found: list[tuple[str, nn.Module]] = []

    def watch(name: str):

        def hook(module: nn.Module, inputs: tuple, output: Any) -> None:
            if not found and not _finite(output):  # children finish before their parents do
                found.append((name, module))

        return hook

    handles = [
        module.register_forward_hook(watch(name)) for name, module in model.named_modules() if name
    ]  # the root's own output is the losses
    gather(model)
    try:
        with torch.no_grad():
            model.forward(*args, **kwargs)
    finally:
        for handle in handles:
            handle.remove()
    return found[0] if found else None


class _LossGuard:
    """The pair of forward hooks; a copy of the model shares it rather than copying the run with it."""

    def __init__(self, runner) -> None:
        self.runner = runner
        self.random_state: tuple | None = None
        self.handles: list = []

    def __deepcopy__(self, memo: dict) -> '_LossGuard':
        return self

    def attach(self, model: nn.Module) -> None:
        self.handles = [
            model.register_forward_pre_hook(self.remember, with_kwargs=True),
            model.register_forward_hook(self.check, with_kwargs=True),
        ]

    def detach(self) -> None:
        for handle in self.handles:
            handle.remove()
        self.handles = []

    def remember(self, module: nn.Module, args: tuple, kwargs: dict) -> None:
        if module.training and kwargs.get('mode') == 'loss':
            gpu = torch.cuda.get_rng_state() if torch.cuda.is_initialized() else None
            self.random_state = (torch.get_rng_state(), gpu)

    def check(self, module: nn.Module, args: tuple, kwargs: dict, output: Any) -> None:
        if not (module.training and kwargs.get('mode') == 'loss' and isinstance(output, Mapping)):
            return
        # only what carries "loss" in its name is summed into the loss: an accuracy may be what it likes
        losses = {key: list(_tensors(value)) for key, value in output.items() if 'loss' in key}
        flags = [torch.isfinite(t.detach()).all() for values in losses.values() for t in values]
        if not flags:
            return
        bad = (~torch.stack([flag.to(flags[0].device) for flag in flags]).all()).to(torch.uint8)
        if get_world_size() > 1:  # all ranks look together, or the collectives of a second pass would wait for ever
            all_reduce(bad, 'max')
        if bad.item():
            self.detach()
            raise NonFiniteLossError(self.explain(module, args, kwargs, losses))

    def explain(self, model: nn.Module, args: tuple, kwargs: dict, losses: dict[str, list[Tensor]]) -> str:
        name, value = next(((key, t) for key, values in losses.items() for t in values if not _finite(t)), (None, None))
        where = f'iteration {self.runner.iter + 1} (epoch {self.runner.epoch + 1})'
        inputs_finite = _finite([args, kwargs])
        cpu_state, gpu_state = self.random_state or (None, None)
        if cpu_state is not None:
            torch.set_rng_state(cpu_state)
        if gpu_state is not None:
            torch.cuda.set_rng_state(gpu_state)
        found = first_non_finite(model, args, kwargs)
        if name is None:
            return f'a loss on another process is not finite at {where}'
        shown = value.detach().float().flatten()
        text = f'{name} is {shown[~torch.isfinite(shown)][0].item()} at {where}: '
        if not inputs_finite:
            text += 'the input of the model already holds values that are not finite; '
        if found is None:
            weight = _bad_weight(model)
            text += "every module's output is finite, so it arose in the computation of the loss itself" + (
                f'; {weight} is not finite' if weight else ''
            )
        else:
            weight = _bad_weight(found[1])
            text += f'the first module whose output is not finite is {found[0]} ({type(found[1]).__name__}), ' + (
                f'whose {weight} is already not finite' if weight else 'its weights are finite'
            )
        hub = self.runner.message_hub.runtime_info
        last = hub.get('last_ckpt')
        return text + (f'; the last good checkpoint is {last}' if last else '; no checkpoint had been saved yet')


@HOOKS.register_module()
class NonFiniteGuardHook(Hook):
    """Stop training when a loss is NaN or infinite, before the optimizer step, and never save such weights.

    The losses are checked as the model returns them (one synchronisation, which mmengine's logging needs
    anyway). When one is not finite, the same batch passes through the model once more, with the same random
    numbers, to find the first module whose output is not finite. Before each checkpoint, parameters and
    running statistics are checked, so the last checkpoint saved is always a good one.

    Raises:
        NonFiniteLossError: A loss is not finite; the message names the loss, the iteration and the module.
        NonFiniteWeightsError: A checkpoint was due and a parameter is not finite.

    >>> from types import SimpleNamespace
    >>> runner = SimpleNamespace(model=nn.Linear(1, 1))
    >>> checkpoint = dict(state_dict=dict(weight=torch.tensor([[float('nan')]])), meta=dict(iter=7))
    >>> NonFiniteGuardHook().before_save_checkpoint(runner, checkpoint)
    Traceback (most recent call last):
        ...
    qsdt_mm.errors.NonFiniteWeightsError: weight is not finite after iteration 7 (state_dict): this checkpoint is not
    saved, earlier ones are untouched
    """

    priority = 'LOWEST'  # after hooks that change what will be saved

    def __init__(self) -> None:
        self._guard: _LossGuard | None = None

    def before_train(self, runner) -> None:
        """Start watching the model."""
        self._guard = _LossGuard(runner)
        self._guard.attach(unwrap(runner.model))

    def after_train(self, runner) -> None:
        """Stop watching, so that the model can be pickled again."""
        if self._guard is not None:
            self._guard.detach()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        """Refuse a checkpoint with weights that are not finite."""
        model = unwrap(runner.model)
        checked = {name for name, _ in model.named_parameters()}
        checked |= {name for name, _ in model.named_buffers() if name.endswith(('running_mean', 'running_var'))}
        for part in ('state_dict', 'ema_state_dict'):
            for key, value in checkpoint.get(part, {}).items():
                plain = key[7:] if part.startswith('ema') and key.startswith('module.') else key
                if plain in checked and not _finite(value):
                    iteration = checkpoint.get('meta', {}).get('iter')
                    raise NonFiniteWeightsError(
                        f'{plain} is not finite after iteration {iteration} ({part}): this checkpoint is not '
                        f'saved, earlier ones are untouched'
                    )
