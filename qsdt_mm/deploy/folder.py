"""Plans as plain data and tensors, and back: what is read is checked by a run without values before it is used."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from qsdt_mm.errors import InputError, one_line, require

from . import steps as steps_module
from .plan import Plan
from .steps import EXACT, Charge, Convolve, Fire, Step

STEPS: dict[str, type[Step]] = {
    name: kind
    for name, kind in vars(steps_module).items()
    if isinstance(kind, type) and issubclass(kind, Step) and kind is not Step
}
SETTINGS = dict(
    Convolve=('to', 'high', 'bits', 'layer', 'conv_args', 'source', 'most'),
    Fire=('ratio', 'max_spike_count', 'time_steps', 'nudge', 'decay', 'resets', 'digits'),
    Product=('num_heads', 'max_spike_count', 'widths', 'size'),
    SumPositions=('digits', 'limit'),
    Round=('scale', 'shift', 'low', 'high', 'whole'),
    Resize=('size', 'factors', 'digits'),
    Scale=('worth',),
    Arrange=('function', 'arguments', 'size', 'factors'),
)
"""Settings of steps; another name may be of a later version, and would change what is computed."""
MOST_COUNT = 127
LARGEST_NUMBER = 2**31
LARGEST_VALUE = 2**28
"""Elements of a value for one image."""
MOST_STEPS = 20_000


def describe(plan: Plan) -> tuple[dict[str, Any], dict[str, Tensor], dict[str, tuple[int, int]]]:
    """Return a plan as plain data, its tensors, and bits and channels of those that are integers of few bits."""
    bits = {
        f'steps.{i}.weight': (step.bits, int(step.layer == 'conv_transpose'))
        for i, step in enumerate(plan.steps)
        if isinstance(step, Convolve)
    }
    rows = [
        dict(step=type(step).__name__, inputs=list(step.inputs), output=step.output, settings=plain(step.settings))
        for step in plan.steps
    ]
    content = dict(shape=list(plan.shape), outputs=_structure(plan.outputs), steps=rows)
    return content, dict(plan.named_buffers()), bits


def version_of(content: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> int:
    """Return the first version of the format that knows all of a plan that :func:`describe` described."""
    charges = [i for i, row in enumerate(content['steps']) if row['step'] == 'Charge']
    return 2 if any(f'steps.{i}.offset' in tensors for i in charges) else 1


def plain(value: Any) -> Any:
    """Return settings in JSON's types.

    Raises:
        TypeError: a setting has none.
    """
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    if hasattr(value, 'item'):
        return value.item()
    raise TypeError(f'{type(value).__name__} is no number, word, list or dict')


def _structure(outputs: Any) -> Any:
    """Return the outputs' structure; lists stay lists, tuples are said to be tuples."""
    if isinstance(outputs, str):
        return outputs
    if isinstance(outputs, Mapping):
        return dict(dict={name: _structure(item) for name, item in outputs.items()})
    items = [_structure(item) for item in outputs]
    return dict(tuple=items) if isinstance(outputs, tuple) else items


def _outputs(content: Any, known: set[str], depth: int = 0) -> Any:
    if isinstance(content, str):
        require(content in known, 'outputs', content, 'values of steps', InputError)
        return content
    inner = content
    if isinstance(content, dict) and len(content) == 1 and depth < 16:
        ((kind, inner),) = content.items()
        if kind == 'dict' and isinstance(inner, dict):
            return {name: _outputs(item, known, depth + 1) for name, item in inner.items()}
        if kind == 'tuple' and isinstance(inner, list):
            return tuple(_outputs(item, known, depth + 1) for item in inner)
    require(
        isinstance(content, list) and depth < 16, 'outputs', str(content)[:80], 'names in lists and dicts', InputError
    )
    return [_outputs(item, known, depth + 1) for item in content]


def build(content: Any, tensors: Mapping[str, Tensor]) -> Plan:
    """Return the plan that :func:`describe` described.

    Raises:
        InputError: it is no plan: a step is unknown or does not fit its values; one line that names it.
    """
    require(isinstance(content, dict), 'plan', type(content).__name__, 'shape, outputs and steps', InputError)
    shape, rows = content.get('shape'), content.get('steps')
    sizes = isinstance(shape, list) and len(shape) in (3, 4) and all(type(n) is int and n > 0 for n in shape)
    require(sizes and math.prod(shape) <= LARGEST_VALUE, 'plan.shape', shape, '[C, H, W] or [T, C, H, W]', InputError)
    fits = isinstance(rows, list) and 0 < len(rows) <= MOST_STEPS
    require(fits, 'plan.steps', type(rows).__name__, f'a list of 1 to {MOST_STEPS} steps', InputError)
    of_step: list[dict[str, Tensor]] = [{} for _ in rows]
    for name, tensor in tensors.items():
        match = re.fullmatch(r'steps\.(\d{1,5})\.(\w+)', name)
        require(bool(match) and int(match[1]) < len(rows), 'tensor', name, 'one of a step', InputError)
        finite = not tensor.is_floating_point() or bool(tensor.isfinite().all())
        require(finite, f'tensor {name}', 'infinite or NaN', 'numbers', InputError)
        of_step[int(match[1])][match[2]] = tensor
    known, steps = {'pixels'}, []
    for i, (row, own) in enumerate(zip(rows, of_step)):
        steps.append(_step(i, row, own, known))
        known.add(steps[-1].output)
    try:
        plan = Plan(steps, _outputs(content.get('outputs'), known), shape)
    except RecursionError as error:
        raise InputError('plan.outputs is nested too deep') from error
    try_without_values(plan)
    return plan


def _step(index: int, row: Any, tensors: dict[str, Tensor], known: set[str]) -> Step:
    where = f'plan.steps[{index}]'
    require(isinstance(row, dict), where, type(row).__name__, 'a dict', InputError)
    kind, inputs, output, settings = (row.get(key) for key in ('step', 'inputs', 'output', 'settings'))
    require(isinstance(kind, str) and kind in STEPS, f'{where}.step', kind, ', '.join(STEPS), InputError)
    found = isinstance(inputs, list) and inputs and all(isinstance(name, str) and name in known for name in inputs)
    require(bool(found), f'{where}.inputs', inputs, 'values of steps before it', InputError)
    require(isinstance(output, str) and output not in known, f'{where}.output', output, 'a new name', InputError)
    _check_settings(settings, f'{where}.settings')
    unknown = sorted(settings.keys() - set(SETTINGS.get(kind, ())))
    require(
        not unknown, f'{where}, {kind}: settings', unknown[:3], ', '.join(SETTINGS.get(kind, ())) or 'none', InputError
    )
    tensors = {
        name: tensor if tensor.dtype == torch.int8 else tensor.float() if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    try:
        step = STEPS[kind](tuple(inputs), output, **tensors, **settings)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise InputError(f'{where}, {kind}: {one_line(error)}') from error
    held = sorted(name for name, _ in step.named_buffers())
    require(
        held == sorted(tensors), f'{where}, {kind}: tensors', sorted(tensors), ', '.join(held) or 'none', InputError
    )
    return step


def _check_settings(value: Any, where: str, depth: int = 0) -> None:
    """Refuse anything but plain values of moderate size; names are words of Python."""
    if depth == 0:
        require(isinstance(value, dict), where, type(value).__name__, 'a dict', InputError)
    if isinstance(value, dict) and depth < 4:
        for name, item in value.items():
            require(name.isidentifier() and not name.startswith('_'), where, name, 'names of settings', InputError)
            _check_settings(item, f'{where}.{name}', depth + 1)
            if name in ('max_spike_count', 'high') and where.endswith('settings'):
                counts, lowest = item if isinstance(item, list) else [item], int(name != 'high')
                allowed = all(type(n) is int and lowest <= n <= MOST_COUNT for n in counts)
                allowed |= name == 'high' and 'whole' in value  # of a sum that is rounded, not of counts
                require(allowed, f'{where}.{name}', item, f'counts up to {MOST_COUNT}', InputError)
    elif isinstance(value, list) and depth < 4 and len(value) <= 64:
        for item in value:
            _check_settings(item, where, depth + 1)
    else:
        number = type(value) in (int, float) and abs(value) <= LARGEST_NUMBER
        word = isinstance(value, str) and len(value) <= 64
        require(
            number or word or value is None or isinstance(value, bool),
            where,
            str(value)[:64],
            'a plain value',
            InputError,
        )


@torch.no_grad()
def try_without_values(plan: Plan) -> None:
    """Run a plan on shapes alone.

    Raises:
        InputError: a step does not fit its values, or makes a very large one.
    """
    values = {'pixels': torch.empty(1, *plan.shape, device='meta')}
    for i, step in enumerate(plan.steps):
        where = f'plan.steps[{i}], {type(step).__name__}'
        if isinstance(step, Convolve):
            _check_convolution(step, where)
        if isinstance(step, Fire):
            _check_firing(step, where)
        if isinstance(step, Charge):
            _check_charge(step, where)
        held = {name: buffer.to('meta') for name, buffer in step.named_buffers()}
        try:
            result = torch.func.functional_call(step, held, tuple(values[name] for name in step.inputs))
        except Exception as error:  # whatever torch says of shapes and settings that do not fit
            raise InputError(f'{where}: {one_line(error)[:200]}') from error
        require(
            result.numel() <= LARGEST_VALUE,
            where,
            tuple(result.shape),
            f'at most {LARGEST_VALUE} values an image',
            InputError,
        )
        values[step.output] = result


def _check_charge(step: Charge, where: str) -> None:
    offset = dict(step.named_buffers()).get('offset', step.delta)
    shape = tuple(step.delta.shape)
    require(len(shape) == 1, f'{where}.delta', shape, '(C,), one for each channel', InputError)
    require(offset.shape == shape, f'{where}.offset', tuple(offset.shape), shape, InputError)
    within = offset is step.delta or bool((offset.long().abs() <= EXACT).all())
    require(within, f'{where}.offset', 'more', f'at most {EXACT} half steps', InputError)


def _check_firing(step: Fire, where: str) -> None:
    decay, resets, digits = (step.settings.get(name) for name in ('decay', 'resets', 'digits'))
    share = decay is None or type(decay) in (int, float) and 0 <= decay <= 1
    require(share, f'{where}.decay', decay, 'a share from 0 to 1', InputError)
    require(resets in (None, True, False), f'{where}.resets', resets, 'True or False', InputError)
    few = digits is None or type(digits) is int and 1 <= digits <= 64
    require(few, f'{where}.digits', digits, '1 to 64', InputError)


def _check_convolution(step: Convolve, where: str) -> None:
    settings = step.settings
    for name, kinds in (
        ('to', ('count', 'byte', 'whole', 'real')),
        ('source', ('count', 'byte', 'whole')),
        ('layer', ('conv', 'conv_transpose', 'linear')),
    ):
        require(settings.get(name) in kinds, f'{where}.{name}', settings.get(name), ', '.join(kinds), InputError)
    most = settings.get('most')
    limit = MOST_COUNT if settings['source'] == 'count' else 2**15
    require(type(most) is int and 1 <= most <= limit, f'{where}.most', most, f'1 to {limit}', InputError)
    dim = int(settings['layer'] == 'conv_transpose')
    integers = step.weight.dtype == torch.int8 and step.weight.dim() > dim
    require(
        integers, f'{where}.weight', f'{tuple(step.weight.shape)} {step.weight.dtype}', 'integers of 8 bits', InputError
    )
    pairs = () if settings['layer'] == 'linear' else ('stride', 'padding', 'dilation')
    pairs += ('output_padding',) if settings['layer'] == 'conv_transpose' else ()
    args = settings.get('conv_args')
    names = {*pairs, 'groups'} if pairs else set()
    require(
        isinstance(args, dict) and set(args) == names, f'{where}.conv_args', args, ', '.join(sorted(names)), InputError
    )
    for name, value in args.items():
        numbers = [value, 1] if name == 'groups' else value
        lowest = 0 if 'padding' in name else 1
        fits = isinstance(numbers, list) and len(numbers) == 2 and all(type(n) is int and n >= lowest for n in numbers)
        require(fits, f'{where}.{name}', value, f'whole numbers from {lowest} on', InputError)
    channels = step.weight.shape[dim]
    for name in ('multiplier', 'bias', 'scale'):
        shape = tuple(getattr(step, name).shape)
        require(
            shape == (channels,), f'{where}.{name}', shape, f'({channels},), one for each output channel', InputError
        )
