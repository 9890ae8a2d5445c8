"""Arithmetic in the dtype of a tensor, inside of kernels: float32, rounded where torch rounds after an operation.

bfloat16 is converted by its bits, which means the same on a GPU and in Triton's interpreter.
"""

import triton
import triton.language as tl


@triton.jit
def widened(x):
    """Widen loaded values to float32."""
    if x.dtype == tl.bfloat16:
        y = (x.to(tl.uint16, bitcast=True).to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        y = x.to(tl.float32)
    return y


@triton.jit
def rounded(x, dtype: tl.constexpr):
    """Round float32 values to ``dtype``, half to even, still as float32."""
    if dtype == tl.bfloat16:
        bits = x.to(tl.uint32, bitcast=True)
        bits = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16) << 16
        # The carry would turn some that are not a number into zeros.
        y = tl.where(x == x, bits.to(tl.float32, bitcast=True), x)
    elif dtype == tl.float16:
        y = x.to(tl.float16).to(tl.float32)
    else:
        y = x
    return y


@triton.jit
def narrowed(x, dtype: tl.constexpr):
    """Narrow float32 values that ``dtype`` holds to that dtype."""
    if dtype == tl.bfloat16:
        y = (x.to(tl.uint32, bitcast=True) >> 16).to(tl.uint16).to(tl.bfloat16, bitcast=True)
    else:
        y = x.to(dtype)
    return y


@triton.jit
def divided(x, y, dtype: tl.constexpr):
    """Divide ``x / y``, correctly rounded; Triton's own ``/`` is not."""
    return rounded(tl.math.div_rn(x, y), dtype)


@triton.jit
def added(a, b):
    """Add two values, for ``tl.reduce``: the interpreter does not run Triton's own sums."""
    return a + b


@triton.jit
def clipped(x, low, high):
    """Clip ``x`` to ``low..high``; not-a-number stays, which minimum and maximum would lose."""
    return tl.where(x < low, low, tl.where(x > high, high, x))


@triton.jit
def rint(x):
    """Round to the nearest integer, half to even, ``|x| <= 2^22``."""
    # Beside 1.5 * 2^23 float32 has no fractions, so that the sum itself rounds.
    y = (x + 12582912.0) - 12582912.0
    return tl.where(y == 0, x * 0.0, y)  # the sign of zero


@triton.jit
def block(BLOCK: tl.constexpr):
    """Compute offsets of this program's elements, in 64 bits."""
    return tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
