"""Integers of few bits as bytes, and tensors that come back to the last bit."""

import pytest
import torch

from qsdt_mm.errors import InputError
from qsdt_mm.fileio.packing import BITS, pack_integers, restore, shrink, unpack_integers


@pytest.mark.parametrize('bits', BITS)
@pytest.mark.parametrize('columns', [1, 7, 8, 49])
def test_integers_come_back(bits, columns):
    torch.manual_seed(bits)
    integers = torch.randint(-(2 ** (bits - 1)), 2 ** (bits - 1), (5, columns), dtype=torch.int8)
    integers[0] = -(2 ** (bits - 1))
    packed = pack_integers(integers, bits)
    assert packed.shape == (5, -(-columns * bits // 8))
    assert torch.equal(unpack_integers(packed, columns, bits), integers)


@pytest.mark.parametrize(
    'bits, integers, expected',
    [
        (2, [1, -1, 0, -2], [0b10_00_11_01]),
        (3, [1, 2, 3], [0b11_010_001, 0b0]),
        (4, [1, -1, 2], [0xF1, 0x02]),
        (8, [-1, 5], [255, 5]),
    ],
)
def test_the_first_integer_is_in_the_lowest_bits(bits, integers, expected):
    assert pack_integers(torch.tensor([integers]), bits).tolist() == [expected]


def test_integers_of_more_bits_are_refused():
    with pytest.raises(ValueError, match='integers='):
        pack_integers(torch.tensor([[8]]), 4)
    with pytest.raises(ValueError, match='packed='):
        unpack_integers(torch.zeros(1, 3, dtype=torch.uint8), columns=3, bits=4)


TENSORS = dict(
    weight=torch.tensor([[1, -8, 7], [0, 3, -1]], dtype=torch.int8),
    transposed=torch.arange(-6, 6).view(2, 3, 1, 2).to(torch.int8),
    small=torch.tensor([-16, 1], dtype=torch.int32),
    large=torch.tensor([2**24, -5], dtype=torch.int32),
    biases=torch.tensor([2**23 - 1, -(2**23), 0, -1, 40_000], dtype=torch.int32),
    counter=torch.tensor(300),
    longer=torch.tensor(2**20),
    exponents=torch.tensor([2.0**-12, 1.0, 4.0]),
    real=torch.tensor([0.3, float('inf'), -0.0]),
    negative=torch.tensor([-0.5, 0.5]),
    half=torch.tensor([0.5]).half(),
    mask=torch.tensor([True, False]),
)


def test_tensors_come_back_in_fewer_bytes():
    stored, forms = shrink(TENSORS, dict(weight=(4, 0), transposed=(4, 1)))
    found = restore(stored, forms)
    for name, tensor in TENSORS.items():
        assert found[name].dtype == tensor.dtype and torch.equal(found[name], tensor), name
        assert torch.equal(found[name].double().signbit(), tensor.double().signbit())
    assert {name: stored[name].dtype for name in ('weight', 'small', 'counter', 'exponents')} == dict(
        weight=torch.uint8, small=torch.int8, counter=torch.int16, exponents=torch.int8
    )
    assert stored['transposed'].shape == (3, 2)  # a row for each output channel
    assert stored['biases'].dtype == torch.uint8 and stored['biases'][-1].tolist() == [0x40, 0x9C, 0]


@pytest.mark.parametrize(
    'name, form',
    [
        ('weight', dict(form='zip')),
        ('weight', [1]),
        ('weight', dict(form='packed', bits=5, shape=[2, 3], channels=0, dtype='int8')),
        ('weight', dict(form='packed', bits=4, shape=[2, 5], channels=0, dtype='int8')),
        ('weight', dict(form='packed', bits=4, shape=[2**30, 2**30], channels=0, dtype='int8')),
        ('weight', dict(form='packed', bits=4, shape=[2, 3], channels=2, dtype='int8')),
        ('weight', dict(form='packed', bits=True, shape=[2, 3], channels=0, dtype='int8')),
        ('weight', dict(form='packed', bits=4, shape=[], channels=0, dtype='int8')),
        ('weight', dict(form='packed', bits=4, shape=[2, 3], channels=0, dtype='save')),
        ('real', dict(form='integers', dtype='int8')),
        ('real', dict(form='exponents')),
        ('real', dict(form='three_bytes', dtype='int32')),
        ('weight', dict(form='three_bytes', dtype='int32')),
        ('absent', dict(form='exponents')),
    ],
)
def test_forms_that_lie_are_refused(name, form):
    stored, forms = shrink(dict(weight=TENSORS['weight'], real=TENSORS['real']), dict(weight=(4, 0)))
    with pytest.raises(InputError) as caught:
        restore(stored, {**forms, name: form})
    assert name in str(caught.value) and '\n' not in str(caught.value)
