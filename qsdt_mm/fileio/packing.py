"""Integers of few bits as bytes, and tensors in the fewest bytes that give them back to the last bit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qsdt_mm.errors import InputError, require

BITS = (2, 3, 4, 8)
WIDTHS = (torch.int8, torch.int16, torch.int32, torch.int64)
FORMS = ('packed', 'integers', 'three_bytes', 'exponents')


def pack_integers(integers: Tensor, bits: int) -> Tensor:
    """Return rows of integers as rows of bytes, the first in the lowest bits; a row ends with its last byte.

    Args:
        integers: ``(rows, columns)``, each from ``-2^(bits-1)`` to ``2^(bits-1) - 1``, kept in two's complement.
        bits: 2, 3, 4 or 8.

    Returns:
        uint8, ``(rows, ceil(columns * bits / 8))``.

    Raises:
        ValueError: an integer needs more bits.

    >>> pack_integers(torch.tensor([[1, -2, 7]]), bits=4).tolist()  # 0xE1, 0x07
    [[225, 7]]
    """
    require(bits in BITS, 'bits', bits, ', '.join(map(str, BITS)))
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    if integers.numel():
        lowest, highest = (int(value) for value in integers.aminmax())
        require(low <= lowest and highest <= high, 'integers', (lowest, highest), f'{low} to {high}, {bits} bits')
    values = integers.to(torch.int8).cpu().numpy().view(np.uint8)
    fields = (values[..., None] >> np.arange(bits, dtype=np.uint8)) & 1
    return torch.from_numpy(np.packbits(fields.reshape(len(values), -1), axis=1, bitorder='little'))


def unpack_integers(packed: Tensor, columns: int, bits: int) -> Tensor:
    """Return what :func:`pack_integers` was given, as int8.

    Raises:
        ValueError: rows have another length than ``columns`` need.

    >>> unpack_integers(torch.tensor([[225, 7]], dtype=torch.uint8), columns=3, bits=4).tolist()
    [[1, -2, 7]]
    """
    require(bits in BITS, 'bits', bits, ', '.join(map(str, BITS)))
    wanted = packed_columns(columns, bits)
    require(
        packed.dim() == 2 and packed.dtype == torch.uint8 and packed.shape[1] == wanted,
        'packed',
        f'{tuple(packed.shape)} {packed.dtype}',
        f'rows of {wanted} bytes',
    )
    fields = np.unpackbits(packed.cpu().numpy(), axis=1, count=columns * bits, bitorder='little')
    fields = fields.reshape(len(packed), columns, bits)
    values = np.zeros(fields.shape[:2], np.uint8)
    for i in range(bits):
        values |= fields[..., i] << i
    unused = 8 - bits  # shifted out and back in with the sign
    return torch.from_numpy((values << unused).view(np.int8) >> unused)


def packed_columns(columns: int, bits: int) -> int:
    """Return the bytes of a row."""
    return -(-columns * bits // 8)


def shrink(
    tensors: Mapping[str, Tensor], bits: Mapping[str, tuple[int, int]]
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return tensors in the fewest bytes that hold them exactly, and by name how to get them back.

    Args:
        tensors: by name.
        bits: of tensors whose integers are to be packed by output channel: their width, and the channels' dimension.
    """
    stored, forms = {}, {}
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        kind = str(tensor.dtype).removeprefix('torch.')
        if name in bits:
            width, dim = bits[name]
            rows = tensor.transpose(0, dim).flatten(1) if tensor.dim() > 1 else tensor[:, None]
            stored[name] = pack_integers(rows, width)
            forms[name] = dict(form='packed', bits=width, shape=list(tensor.shape), channels=dim, dtype=kind)
        elif (
            tensor.dtype in WIDTHS[2:]
            and tensor.dim() == 1
            and _narrowest(tensor) == torch.int32
            and _fit_three(tensor)
        ):
            stored[name], forms[name] = _three_bytes(tensor), dict(form='three_bytes', dtype=kind)
        elif tensor.dtype in WIDTHS[1:] and (narrow := _narrowest(tensor)) != tensor.dtype:
            stored[name], forms[name] = tensor.to(narrow), dict(form='integers', dtype=kind)
        elif tensor.dtype == torch.float32 and _are_powers_of_two(tensor):
            stored[name], forms[name] = _exponents(tensor), dict(form='exponents')
        else:
            stored[name] = tensor
    return stored, forms


def restore(stored: Mapping[str, Tensor], forms: Mapping[str, Any]) -> dict[str, Tensor]:
    """Return the tensors that :func:`shrink` was given.

    Raises:
        InputError: a form is unknown, or does not fit its tensor.
    """
    unknown = sorted(set(forms) - set(stored))
    require(not unknown, 'tensors', unknown[:3], 'those in the file', InputError)
    return {name: _restored(name, tensor, forms.get(name)) for name, tensor in stored.items()}


def _restored(name: str, tensor: Tensor, form: Any) -> Tensor:
    if form is None:
        return tensor

    def check(condition: Any, key: str, allowed: str) -> None:
        given = form.get(key) if isinstance(form, dict) else form
        require(bool(condition), f'{name}.{key}', given, allowed, InputError)

    check(isinstance(form, dict) and form.get('form') in FORMS, 'form', 'a known one')
    if form['form'] == 'exponents':
        check(tensor.dtype == torch.int8, 'form', 'exponents in int8')
        return torch.ldexp(torch.ones(tensor.shape), tensor.int())
    dtype = getattr(torch, str(form.get('dtype')), None)
    check(dtype in WIDTHS, 'dtype', 'a type of integers')
    if form['form'] == 'three_bytes':
        check(tensor.dtype == torch.uint8 and tensor.dim() == 2 and tensor.shape[1] == 3, 'form', 'rows of three bytes')
        low, middle, high = tensor.int().unbind(1)
        values = low | middle << 8 | high << 16
        return (values - ((high >> 7) << 24)).to(dtype)
    if form['form'] == 'integers':
        check(tensor.dtype in WIDTHS, 'form', 'integers')
        return tensor.to(dtype)
    shape, bits, dim = form.get('shape'), form.get('bits'), form.get('channels')
    check(type(bits) is int and bits in BITS, 'bits', ', '.join(map(str, BITS)))
    sizes = isinstance(shape, list) and 1 <= len(shape) <= 8 and all(type(n) is int and 0 < n < 2**31 for n in shape)
    check(sizes, 'shape', 'up to eight sizes')
    check(type(dim) is int and 0 <= dim < len(shape), 'channels', 'a dimension of the shape')
    shape = list(shape)
    shape[0], shape[dim] = shape[dim], shape[0]
    columns = math.prod(shape[1:])
    fits = tensor.dtype == torch.uint8 and tuple(tensor.shape) == (shape[0], packed_columns(columns, bits))
    check(fits, 'shape', f'what {tuple(tensor.shape)} bytes hold at {bits} bits')
    values = unpack_integers(tensor, columns, bits).view(shape).transpose(0, dim)
    return values.contiguous().to(dtype)


def _narrowest(tensor: Tensor) -> torch.dtype:
    if not tensor.numel():
        return tensor.dtype
    low, high = (int(value) for value in tensor.aminmax())
    return next(t for t in WIDTHS if torch.iinfo(t).min <= low and high <= torch.iinfo(t).max)


def _fit_three(tensor: Tensor) -> bool:
    low, high = (int(value) for value in tensor.aminmax())
    return low >= -(2**23) and high < 2**23


def _three_bytes(tensor: Tensor) -> Tensor:
    """Return integers of 24 bits as rows of bytes, the lowest first."""
    return torch.stack([tensor >> shift & 255 for shift in (0, 8, 16)], 1).to(torch.uint8)


def _are_powers_of_two(tensor: Tensor) -> bool:
    mantissa, exponent = torch.frexp(tensor)
    return bool(tensor.numel()) and bool(((mantissa == 0.5) & (exponent > -120) & (exponent < 120)).all())


def _exponents(tensor: Tensor) -> Tensor:
    return (torch.frexp(tensor)[1] - 1).to(torch.int8)
