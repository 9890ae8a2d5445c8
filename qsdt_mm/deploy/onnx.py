"""A plan as an ONNX file of stock operators, from uint8 pixels to the outputs: the plan's bits in every runtime.

Convolutions to counts and bytes are written as DequantizeLinear, Conv, QuantizeLinear, which runtimes fuse to 8-bit
kernels; unfused, their float arithmetic gives the same bits (see :mod:`qsdt_mm.deploy.arithmetic`).
"""

from __future__ import annotations

import copy
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten

from qsdt_mm.errors import InputError, require
from qsdt_mm.models.layers.attention import keys_first
from qsdt_mm.version import __version__

from .padding import padded
from .plan import Plan
from .steps import GRID, Convolve, Step

if TYPE_CHECKING:
    from onnx import ModelProto

OPSET = 21
WEIGHTS = ('int8', 'int4')
BATCH = 'batch'


def require_package(name: str) -> Any:
    """Return a module that only ONNX files need.

    Raises:
        InputError: it is not installed.
    """
    try:
        return import_module(name)
    except ImportError:
        extra = 'deploy-openvino' if name == 'openvino' else 'deploy'
        raise InputError(
            f'the package {name} is not installed: pip install {name}, or pip install -e ".[{extra}]" in the '
            'folder of qsdt_mm'
        ) from None


class _Graph:
    """Nodes and constants of a graph that grows.

    Args:
        plan: it is made from.
        weights: 'int8' or 'int4': how integers of up to four bits are kept.
    """

    def __init__(self, plan: Plan, weights: str) -> None:
        self.onnx = require_package('onnx')
        self.plan, self.shapes = plan, shapes_of(plan)
        self.types = self.onnx.TensorProto
        self.weights = weights
        self.nodes: list[Any] = []
        self.products: set[str] = set()
        self.constants: dict[str, Any] = {}
        self.carriers: dict[str, str] = {'pixels': 'uint8'}
        self.ranks: dict[str, int] = {'pixels': len(plan.shape) + 1}
        self.casts: dict[tuple[str, int], str] = {}

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(self.onnx.helper.make_node(operator, inputs, [output], name=output, **attributes))
        return output

    def constant(self, name: str, value: Any) -> str:
        if name not in self.constants:
            array = value.detach().cpu().numpy() if isinstance(value, Tensor) else np.asarray(value)
            self.constants[name] = self.onnx.numpy_helper.from_array(np.asarray(array, order='C'), name)
        return name

    def number(self, value: float | int, kind: type) -> str:
        text = f'{value:g}'.replace('-', 'minus_').replace('.', '_').replace('+', '')
        exact = value if kind is not np.float32 else float(np.float32(value))
        name = f'{kind.__name__}_{text}'
        if name in self.constants and self.onnx.numpy_helper.to_array(self.constants[name]) != kind(exact):
            name = f'{kind.__name__}_{np.float32(value).tobytes().hex()}'
        return self.constant(name, kind(value))

    def indices(self, values: list[int]) -> str:
        name = 'int64_' + '_'.join(str(v).replace('-', 'minus') for v in values)
        return self.constant(name, np.array(values, np.int64))

    def cast(self, source: str, to: int) -> str:
        if (source, to) not in self.casts:
            self.casts[source, to] = self.node(
                'Cast', [source], f'{source}_as_{self.types.DataType.Name(to).lower()}', to=to
            )
        return self.casts[source, to]

    def floats(self, name: str) -> str:
        """Return a value in float32."""
        carrier = self.carriers[name]
        if carrier == 'float':
            return name
        if carrier == 'flat':
            if (name, 'square') not in self.casts:
                self.casts[name, 'square'] = self.square(name, name, f'{name}_square')
            return self.casts[name, 'square']
        if carrier == 'uint8':
            return self.cast(name, self.types.FLOAT)
        key = (name, self.types.FLOAT)
        if key not in self.casts:
            zero = self.number(128, np.uint8)
            self.casts[key] = self.node(
                'DequantizeLinear', [name, self.number(1, np.float32), zero], f'{name}_as_float'
            )
        return self.casts[key]

    def weight(self, step: Step, to: int) -> str:
        """Return W in a type, from integers of few bits where the file is to be small."""
        name, base, multiplier = f'{step.output}_weight', step.weight, step.multiplier
        plain = bool((multiplier == 1).all())
        if self.weights == 'int4' and step.bits <= 4:
            packed = self._nibbles(f'{name}_int4', base)
            if plain:
                return self.node('Cast', [packed], name, to=to)
            wide = self.node('Cast', [packed], f'{name}_int32', to=self.types.INT32)
            dim = int(step.layer == 'conv_transpose')
            shape = [*[1] * dim, -1, *[1] * (base.dim() - 1 - dim)]
            factor = self.constant(f'{name}_multiplier', multiplier.int().view(shape))
            return self.node('Cast', [self.node('Mul', [wide, factor], f'{name}_multiplied')], name, to=to)
        if to == self.types.INT8:
            return self.constant(name, step.whole_weight)
        return self.node('Cast', [self.constant(f'{name}_int8', step.whole_weight)], name, to=to)

    def _nibbles(self, name: str, values: Tensor) -> str:
        flat = values.detach().cpu().contiguous().view(-1).numpy()
        flat = np.append(flat, np.int8(0)) if len(flat) % 2 else flat
        packed = ((flat[0::2] & 15) | ((flat[1::2] & 15) << 4)).astype(np.uint8)
        self.constants[name] = self.onnx.helper.make_tensor(
            name, self.types.INT4, tuple(values.shape), packed.tobytes(), raw=True
        )
        return name

    def column(self, name: str, values: Tensor, source: str) -> str:
        """Return values of channels as a constant that goes with a value."""
        return self.constant(name, values.float().view(-1, *[1] * (self.ranks[source] - 2)))

    def done(self, step: Step, carrier: str, rank: int | None = None) -> None:
        self.carriers[step.output] = carrier
        self.ranks[step.output] = self.ranks[step.inputs[0]] if rank is None else rank

    # ------------------------------------------------------------------------------------------------ steps
    def normalise(self, step: Step) -> None:
        out = step.output
        zeros = self.constant(f'uint8_0_{len(step.gain)}', np.zeros(len(step.gain), np.uint8))
        axis = self.ranks[step.inputs[0]] - 3
        product = self.node(
            'DequantizeLinear',
            [step.inputs[0], self.constant(f'{out}_gain', step.gain), zeros],
            f'{out}_product',
            axis=axis,
        )
        total = self.node('Add', [product, self.constant(f'{out}_offset', step.offset.view(-1, 1, 1))], f'{out}_sum')
        self.node('Round', [total], out)
        self.done(step, 'float')

    def convolve(self, step: Step) -> None:
        source, out = step.inputs[0], step.output
        if _in_bytes(step) and self.carriers[source] != 'float':
            self._convolve_in_bytes(step, source, out)
            return
        values = self.floats(source)
        weight = self.weight(step, self.types.FLOAT)
        bias = self.constant(f'{out}_bias', step.bias.float())
        if step.layer == 'linear':
            sums = self.node('Gemm', [values, weight, bias], f'{out}_sums', transB=1)
        else:
            sums = self.node(self._operator(step), [values, weight, bias], f'{out}_sums', **self._attributes(step))
        if step.limits is None or not bool((torch.frexp(step.scale)[0] == 0.5).all()):
            # Changes nothing, and keeps optimizers from multiplying the scale into the weights.
            sums = self.node('Round', [sums], f'{out}_whole')
        self.ranks[sums] = self.ranks[source]
        scale = self.column(f'{out}_scale', step.scale, sums)
        if step.limits is None:
            self.node('Mul', [sums, scale], out)
        else:
            low, high = (self.number(limit, np.float32) for limit in step.limits)
            rounded = self.node('Round', [self.node('Mul', [sums, scale], f'{out}_scaled')], f'{out}_rounded')
            if step.to_kind == 'whole' and _stays_within(step):
                clipped = self.node('Identity', [rounded], out)
            else:
                clipped = self.node('Clip', [rounded, low, high], out if step.to_kind == 'whole' else f'{out}_clipped')
            if step.to_kind == 'byte':
                self.node('Sub', [clipped, self.number(128, np.float32)], out)
            elif step.to_kind == 'count':  # so that the next convolution is one of bytes
                self.node('Cast', [clipped], out, to=self.types.UINT8)
        self.done(step, 'uint8' if step.to_kind == 'count' else 'float')

    def _convolve_in_bytes(self, step: Step, source: str, out: str) -> None:
        one, zero = self.number(1, np.float32), self.number(0, np.uint8)
        axis = int(step.layer == 'conv_transpose')
        channels = len(step.scale)
        # One for each convolution: runtimes fuse it.
        shift = self.number(128, np.uint8) if self.carriers[source] == 'byte' else zero
        values = self.node('DequantizeLinear', [source, one, shift], f'{out}_input')
        scale = self.constant(f'{out}_scale', step.scale)
        zeros = self.constant(f'int8_zeros_{channels}', np.zeros(channels, np.int8))
        weight = self.node(
            'DequantizeLinear', [self.weight(step, self.types.INT8), scale, zeros], f'{out}_kernel', axis=axis
        )
        zeros = self.constant(f'int32_zeros_{channels}', np.zeros(channels, np.int32))
        bias = self.node(
            'DequantizeLinear', [self.constant(f'{out}_bias', step.bias), scale, zeros], f'{out}_offset', axis=0
        )
        result = self.node(self._operator(step), [values, weight, bias], f'{out}_real', **self._attributes(step))
        result = self.node('QuantizeLinear', [result, one, zero], f'{out}_quantized')
        # Bytes too: without it OpenVINO leaves out the rounding of a result that is dequantized at once.
        low, high = (self.number(limit, np.uint8) for limit in step.limits)
        self.node('Clip', [result, low, high], out)
        self.done(step, 'byte' if step.to_kind == 'byte' else 'uint8')

    def _operator(self, step: Step) -> str:
        return 'ConvTranspose' if step.layer == 'conv_transpose' else 'Conv'

    def _attributes(self, step: Step) -> dict[str, Any]:
        args = step.conv_args

        def pair(name: str) -> list[int]:
            value = args[name]
            return [value, value] if isinstance(value, int) else list(value)

        attributes = dict(
            kernel_shape=list(step.weight.shape[2:]),
            group=args['groups'],
            strides=pair('stride'),
            pads=pair('padding') * 2,
            dilations=pair('dilation'),
        )
        if step.layer == 'conv_transpose':
            attributes['output_padding'] = pair('output_padding')
        return attributes

    def charge(self, step: Step) -> None:
        *membrane, increment = step.inputs
        out = step.output
        flat = len(self.shapes[out]) == 4
        values = self.flat(increment) if flat else self.floats(increment)
        if flat and self.carriers[increment] == 'byte':
            channels = len(step.delta)
            zeros = self.constant(f'uint8_128_{channels}', np.full(channels, 128, np.uint8))
            scaled = self.node(
                'DequantizeLinear',
                [values, self.constant(f'{out}_delta', step.delta), zeros],
                f'{out}_increment',
                axis=1,
            )
        else:
            delta = step.delta.view(-1, 1) if flat else step.delta.view(-1, *[1] * (self.ranks[increment] - 2))
            delta = self.constant(f'{out}_delta', delta)
            scaled = self.node('Mul', [values, delta], f'{out}_increment')
        rest = [self.flat(m) if flat else self.floats(m) for m in membrane]
        if isinstance(step.added, Tensor):
            added = step.added.view(-1, 1) if flat else step.added.view(-1, *[1] * (self.ranks[increment] - 2))
            rest.append(self.constant(f'{out}_offset', added))
        elif not rest:
            rest = [self.number(GRID / 2, np.float32)]
        if len(rest) > 1:
            rest = [self.node('Add', rest, f'{out}_membrane')]
        self.node('Add', [*rest, scaled], out)
        self.done(step, 'flat' if flat else 'float')

    def flat(self, name: str) -> str:
        """Return a value of images as ``(N, C, H W)``.

        ONNX Runtime moves its change of layout, channels last for 8-bit kernels, through all but a Reshape: so it moves
        bytes, not floats, and membranes have their channels first, where long runs share a scale.
        """
        carrier = self.carriers[name]
        if carrier == 'flat':
            return name
        if (name, 'flat') not in self.casts:
            shape = self.indices([0, self.shapes[name][1], -1])
            source = name if carrier == 'byte' else self.floats(name)
            self.casts[name, 'flat'] = self.node('Reshape', [source, shape], f'{name}_flat')
        return self.casts[name, 'flat']

    def square(self, values: str, like: str, out: str) -> str:
        """Return flat values in the shape that a value of the plan has."""
        return self.node('Reshape', [values, self.indices([0, *self.shapes[like][1:]])], out)

    def fire(self, step: Step) -> None:
        source, out = step.inputs[0], step.output
        flat = self.carriers[source] == 'flat' and step.time_steps == 1
        quantized = self._is_seen_in_bytes_alone(out)
        membrane = source if flat else self.floats(source)
        if step.nudge:
            membrane = self.node('Add', [membrane, self.number(step.nudge, np.float32)], f'{out}_nudged')
        if flat:
            self.square(self._count(membrane, f'{out}_flat', step, quantized), out, out)
        elif step.time_steps == 1:
            self._count(membrane, out, step, quantized)
        else:
            if step.coarse:
                membrane = self._rounded_to(membrane, f'{out}_coarse', step.digits - 1)
                membrane = self.node('Add', [membrane, self.number(2.0**-step.digits, np.float32)], f'{out}_beside')
            self._fire_over_time(membrane, out, step)
        self.done(step, 'uint8')

    def _count(self, membrane: str, out: str, step: Step, quantized: bool) -> str:
        if step.ratio != 1:
            membrane = self.node('Mul', [membrane, self.number(step.ratio, np.float32)], f'{out}_ratio')
        return self._to_count(membrane, out, step.max_spike_count, quantized)

    def _to_count(self, values: str, out: str, most: int, quantized: bool) -> str:
        """Round values to counts; quantized: whether convolutions of bytes alone see them.

        OpenVINO takes sums and products into a QuantizeLinear that follows, and leaves its rounding to the convolution
        of bytes that takes the result; anything else needs a Round of its own.
        """
        zero, one = self.number(0, np.uint8), self.number(1, np.float32)
        if quantized:
            values = self.node('QuantizeLinear', [values, one, zero], f'{out}_quantized')
            return self.node('Clip', [values, zero, self.number(most, np.uint8)], out)
        values = self.node('Round', [values], f'{out}_rounded')
        limits = [self.number(0, np.float32), self.number(most, np.float32)]
        return self.node('Cast', [self.node('Clip', [values, *limits], f'{out}_clipped')], out, to=self.types.UINT8)

    def _is_seen_in_bytes_alone(self, name: str) -> bool:
        users = [step for step in self.plan.steps if name in step.inputs]
        return bool(users) and all(isinstance(user, Convolve) and _in_bytes(user) for user in users)

    def _fire_over_time(self, membrane: str, out: str, step: Step) -> None:
        parts = [f'{out}_input_{t}' for t in range(step.time_steps)]
        self.nodes.append(
            self.onnx.helper.make_node('Split', [membrane], parts, name=f'{out}_split', axis=0, num_outputs=len(parts))
        )
        counts: list[str] = []
        carried = ''
        for t, current in enumerate(parts):
            if t:
                left = self._left_over(carried, counts[-1], f'{out}_{{}}_{t}', step)
                current = self.node('Add', [current, left], f'{out}_membrane_{t}')
            carried = current
            counts.append(self._count(current, f'{out}_count_{t}', step, False))
        self.node('Concat', counts, out, axis=0)

    def _left_over(self, membrane: str, count: str, name: str, step: Step) -> str:
        """Add what a neuron carries over to the next time step."""
        decay, resets, digits = (step.settings.get(key) for key in ('decay', 'resets', 'digits'))
        spent = self.cast(count, self.types.FLOAT)
        if resets:
            kept = self.node('Sub', [self.number(1, np.float32), spent], name.format('kept'))
            left = self.node('Mul', [membrane, kept], name.format('left'))
        else:
            if step.ratio != 1:
                spent = self.node('Mul', [spent, self.number(1 / step.ratio, np.float32)], name.format('spent'))
            left = self.node('Sub', [membrane, spent], name.format('left'))
        if decay is not None:
            left = self.node('Mul', [left, self.number(decay, np.float32)], name.format('decayed'))
        return left if digits is None else self._rounded_to(left, name.format('rounded'), digits)

    def _rounded_to(self, values: str, name: str, digits: int) -> str:
        """Add rounding to so many binary digits below one."""
        scaled = self.node('Mul', [values, self.number(2.0**digits, np.float32)], f'{name}_scaled')
        whole = self.node('Round', [scaled], f'{name}_whole')
        return self.node('Mul', [whole, self.number(2.0**-digits, np.float32)], name)

    def product(self, step: Step) -> None:
        out, (height, width) = step.output, step.size

        def heads(name: str, channels: int) -> str:
            shape = self.indices([0, step.num_heads, channels, height * width])
            return self.node('Reshape', [self.floats(name), shape], f'{out}_{name}')

        query, key, value = (heads(name, channels) for name, channels in zip(step.inputs, step.widths))
        key_width, value_width = step.widths[1:]
        turned = self.node('Transpose', [key], f'{out}_key', perm=[0, 1, 3, 2])
        if first_with_keys(key_width, value_width, height * width):
            product = self.node('MatMul', [self.node('MatMul', [value, turned], f'{out}_inner'), query], f'{out}_outer')
        else:
            product = self.node('MatMul', [value, self.node('MatMul', [turned, query], f'{out}_inner')], f'{out}_outer')
        shape = self.indices([0, step.num_heads * value_width, height, width])
        self.node('Reshape', [product, shape], out)
        self.products.add(out)
        self.done(step, 'float')

    def sumpositions(self, step: Step) -> None:
        out = step.output
        scaled = self.node(
            'Mul', [self.floats(step.inputs[0]), self.number(2.0**step.digits, np.float32)], f'{out}_scaled'
        )
        rounded = self.node('Round', [scaled], f'{out}_rounded')
        low, high = self.number(-step.limit, np.float32), self.number(step.limit, np.float32)
        kept = self.node('Clip', [rounded, low, high], f'{out}_kept')
        self.node('ReduceSum', [kept, self.indices([2, 3])], out, keepdims=1)
        self.done(step, 'float')

    def round(self, step: Step) -> None:
        values, out = self.floats(step.inputs[0]), step.output
        if step.shift:
            values = self.node('Add', [values, self.number(step.shift, np.float32)], f'{out}_shifted')
        elif step.whole and step.inputs[0] not in self.products:
            values = self.node(
                'Round', [values], f'{out}_whole'
            )  # keeps optimizers from moving the product into others; a Reshape does, too
        values = self.node('Mul', [values, self.constant(f'{out}_scale', np.float32(step.scale))], f'{out}_scaled')
        if step.low == 0 and step.high < 256:
            self._to_count(values, out, int(step.high), self._is_seen_in_bytes_alone(out))
            self.done(step, 'uint8')
            return
        rounded = self.node('Round', [values], f'{out}_rounded')
        self.node('Clip', [rounded, self.number(step.low, np.float32), self.number(step.high, np.float32)], out)
        self.done(step, 'float')

    def add(self, step: Step) -> None:
        self.node('Add', [self.floats(name) for name in step.inputs], step.output)
        self.done(step, 'float')

    def scale(self, step: Step) -> None:
        worth = self.constant(f'{step.output}_worth', np.float32(step.worth))
        self.node('Mul', [self.floats(step.inputs[0]), worth], step.output)
        self.done(step, 'float')

    def resize(self, step: Step) -> None:
        out, factor = step.output, 2.0**step.digits
        values = self.node('Mul', [self.floats(step.inputs[0]), self.number(factor, np.float32)], f'{out}_scaled')
        values = self.node('Round', [values], f'{out}_rounded')
        values = self.node('Mul', [values, self.number(1 / factor, np.float32)], f'{out}_kept')
        scales = self.constant(f'{out}_factors', np.array([1, 1, *step.factors], np.float32))
        values = self.node(
            'Resize', [values, '', scales], f'{out}_resized', mode='linear', coordinate_transformation_mode='half_pixel'
        )
        self.node('Add', [values, self.number(GRID / 2, np.float32)], out)
        self.done(step, 'float')

    def arrange(self, step: Step) -> None:
        bytes_alone = all(self.carriers[name] == 'uint8' for name in step.inputs)
        inputs = list(step.inputs) if bytes_alone else [self.floats(name) for name in step.inputs]
        carrier = 'uint8' if bytes_alone else 'float'
        rank = getattr(self, f'_{step.function}')(step, inputs, step.output, **step.arguments)
        self.done(step, carrier, rank)

    def _flatten(self, step: Step, inputs: list[str], out: str, start: int, end: int) -> int:
        rank = self.ranks[step.inputs[0]]
        start, end = start % rank, end % rank
        if start == 0 and end == 1 and rank == 5:
            return self._reshape_to(inputs[0], out, [-1, *self._sizes(step)[1:]])
        sizes = self._sizes(step)
        return self._reshape_to(inputs[0], out, [0 if start else -1, *sizes[1:]])

    def _sizes(self, step: Step) -> list[int]:
        return list(step.size)

    def _reshape_to(self, values: str, out: str, shape: list[int]) -> int:
        self.node('Reshape', [values, self.indices(shape)], out)
        return len(shape)

    def _unflatten(self, step: Step, inputs: list[str], out: str, dim: int, sizes: list[int]) -> int:
        before = [0] * (self.ranks[step.inputs[0]])
        dim = dim % len(before)
        after = list(step.size)
        shape = [*sizes, *after[len(sizes) :]] if dim == 0 else [0, *after[1:]]
        return self._reshape_to(inputs[0], out, shape)

    def _reshape(self, step: Step, inputs: list[str], out: str, shape: list[int]) -> int:
        return self._reshape_to(inputs[0], out, shape)

    def _repeat_in_front(self, step: Step, inputs: list[str], out: str, times: int) -> int:
        rank = self.ranks[step.inputs[0]]
        new = self.node('Unsqueeze', [inputs[0], self.indices([0])], f'{out}_new')
        self.node('Expand', [new, self.indices([times, *[1] * rank])], out)
        return rank + 1

    def _permute(self, step: Step, inputs: list[str], out: str, dims: list[int]) -> int:
        self.node('Transpose', inputs, out, perm=[d % len(dims) for d in dims])
        return len(dims)

    def _cat(self, step: Step, inputs: list[str], out: str, dim: int) -> int:
        self.node('Concat', inputs, out, axis=dim)
        return self.ranks[step.inputs[0]]

    def _chunk(self, step: Step, inputs: list[str], out: str, chunks: int, dim: int, index: int) -> int:
        parts = [out if i == index else f'{out}_other_{i}' for i in range(chunks)]
        self.nodes.append(self.onnx.helper.make_node('Split', inputs, parts, name=out, axis=dim, num_outputs=chunks))
        return self.ranks[step.inputs[0]]

    def _unbind(self, step: Step, inputs: list[str], out: str, dim: int, index: int) -> int:
        self.node('Gather', [inputs[0], self.constant(f'index_{index}', np.int64(index))], out, axis=dim)
        return self.ranks[step.inputs[0]] - 1

    def _nearest(self, step: Step, inputs: list[str], out: str, size: list[int]) -> int:
        scales = self.constant(f'{out}_factors', np.array([1, 1, *step.factors], np.float32))
        self.node(
            'Resize',
            [inputs[0], '', scales],
            out,
            mode='nearest',
            coordinate_transformation_mode='asymmetric',
            nearest_mode='floor',
        )
        return 4

    def _max_pool(
        self, step: Step, inputs: list[str], out: str, kernel: list[int], stride: list[int], padding: list[int]
    ) -> int:
        self.node('MaxPool', inputs, out, kernel_shape=kernel, strides=stride, pads=padding * 2)
        return 4

    def _relu(self, step: Step, inputs: list[str], out: str) -> int:
        self.node('Relu', inputs, out)
        return self.ranks[step.inputs[0]]


def first_with_keys(key_width: int, value_width: int, tokens: int) -> bool:
    """Return the order of products that torch takes, see :func:`~qsdt_mm.models.layers.attention.keys_first`."""
    return keys_first(torch.empty(key_width, tokens, device='meta'), torch.empty(value_width, tokens, device='meta'))


def _stays_within(step: Convolve) -> bool:
    """Return whether no input reaches the limits of a convolution."""
    reach = step.whole_weight.double().abs().flatten(1).sum(1) * step.most + step.bias.double().abs()
    return bool((reach * step.scale <= step.limits[1]).all())


def _in_bytes(step: Convolve) -> bool:
    """Return whether a layer is written with 8-bit weights and results."""
    return step.to_kind in ('count', 'byte') and step.layer != 'linear'


def shapes_of(plan: Plan) -> dict[str, tuple[int, ...]]:
    """Return the shape of each value, for one image."""
    shapes: dict[str, tuple[int, ...]] = {'pixels': (1, *plan.shape)}
    hooks = [
        step.register_forward_hook(lambda step, inputs, output: shapes.update({step.output: tuple(output.shape)}))
        for step in plan.steps
    ]
    plan(torch.zeros(1, *plan.shape, dtype=torch.uint8))
    for hook in hooks:
        hook.remove()
    return shapes


def output_names(plan: Plan) -> list[str]:
    """Return a name for each output: 'output', or 'output_0' and so on."""
    names = tree_flatten(plan.outputs)[0]
    return ['output'] if len(names) == 1 else [f'output_{i}' for i in range(len(names))]


def to_onnx(plan: Plan, *, weights: str = 'int8', batch: int | None = 1) -> ModelProto:
    """Return a plan as an ONNX model: input 'pixels', uint8, outputs in float32 named by :func:`output_names`.

    Args:
        plan: to be written.
        weights: 'int8', or 'int4' to keep integers of up to four bits as such: a file half as large.
        batch: number of images; None leaves it open.

    Raises:
        ValueError: an argument is out of range.
        InputError: the package onnx is missing.
    """
    require(weights in WEIGHTS, 'weights', weights, ' or '.join(WEIGHTS))
    plan = padded(copy.deepcopy(plan).cpu())
    graph = _Graph(plan, weights)
    helper = graph.onnx.helper
    for step in plan.steps:
        getattr(graph, type(step).__name__.lower())(step)
    names = output_names(plan)
    for inner, outer in zip(tree_flatten(plan.outputs)[0], names):
        graph.node('Identity', [graph.floats(inner)], outer)
    size = BATCH if batch is None else batch
    pixels = helper.make_tensor_value_info('pixels', graph.types.UINT8, [size, *plan.shape])
    ranks = [graph.ranks[inner] for inner in tree_flatten(plan.outputs)[0]]
    outputs = [
        helper.make_tensor_value_info(name, graph.types.FLOAT, [f'{name}_{dim}' for dim in range(rank)])
        for name, rank in zip(names, ranks)
    ]
    content = helper.make_graph(graph.nodes, 'qsdt_mm', [pixels], outputs, list(graph.constants.values()))
    model = helper.make_model(content, opset_imports=[helper.make_opsetid('', OPSET)], ir_version=10)
    model.producer_name, model.producer_version = 'qsdt_mm', __version__
    graph.onnx.checker.check_model(model)
    return model
