"""Kernels compile for GPUs that are not here, and what comes out divides and rounds as written."""

import os
import re
from importlib import import_module

import pytest

tl = pytest.importorskip('triton.language')
TYPES = dict(fp32=tl.float32, fp16=tl.float16, bf16=tl.bfloat16)

NAMES = {
    'neuron._fire': dict(EVEN=False, BIT=0x80, BLOCK=1024),
    'neuron._fire_backward': dict(BIT=0x80, BLOCK=1024),
    'packed._fire_packed': dict(EVEN=False, BIT=0x8, BLOCK=1024),
    'packed._fire_packed half_even': dict(EVEN=True, BIT=0x8, BLOCK=1024),
    'packed._fire_packed_backward': dict(BIT=0x8, BLOCK=1024),
    'packed._restore': dict(BIT=0x8, BLOCK=1024),
    'time_steps._walk': dict(STEPS=3, EVEN=False, BIT=0x80, BLOCK=1024),
    'time_steps._walk_back': dict(STEPS=3, BIT=0x80, BLOCK=1024),
    'neuron._fire half_even': dict(EVEN=True, BIT=0x80, BLOCK=1024),
    'time_steps._walk half_even': dict(STEPS=3, EVEN=True, BIT=0x80, BLOCK=1024),
    'lsq._quantize': dict(BLOCK=1024, BLOCKS=2),
    'lsq._quantize_backward': dict(BLOCK=1024, BLOCKS=2),
    'weight_bank._quantize_many': dict(SOURCE=None, BLOCK=512),
    'weight_bank._quantize_many_backward': dict(GRAD=None, BLOCK=512),
}
NORM = dict(LAST=True, PADDED=True, KEEP=True, ROWS=32, COLUMNS=64)
NORMS = {
    '_normalise': dict(NORM, SHORTCUT=True),
    '_normalise first': dict(NORM, LAST=False, SHORTCUT=True, ROWS=1024, COLUMNS=1),
    '_pass_back': dict(NORM, PADDED=False),
    '_pass_back padded': dict(NORM, KEEP=False),
}
"""Kernels of batch norm, which round as it comes."""
MEASURE = dict(LAST=True, TWO=True, GAIN=True, ROWS=32, COLUMNS=64, SPLITS=64)
SUM = dict(NORM, TWO=True, GAIN=True, SPLITS=64)
DEPTHWISE = dict(LAST=True, TAPS=7, ROWS=16, COLUMNS=64, SPLITS=32)
SUMS = {
    'batch_norm._measure': MEASURE,
    'batch_norm._measure first': dict(MEASURE, LAST=False, ROWS=1024, COLUMNS=1),
    'batch_norm._sum': dict(SUM, PADDED=False),
    'batch_norm._sum padded': dict(SUM, KEEP=False, TWO=False, GAIN=False),
    'depthwise._depthwise_weight_grad': DEPTHWISE,
    'depthwise._depthwise_weight_grad first': dict(DEPTHWISE, LAST=False, TAPS=3, ROWS=1024, COLUMNS=1),
}
"""Kernels whose programs leave sums for the last of them."""
NUMBERS = ('threshold', 'max_spike_count', 'top', 'scale', 'decay', 'low', 'high')
NUMBERS += ('eps', 'eps1', 'eps2', 'momentum1', 'momentum2', 'n')
SIZES = ('size', 'half', 'last', 'width', 'rows', 'stretch', 'splits', 'CHANNELS', 'PLACES', 'HEIGHT', 'WIDTH')
SIZES += ('OUT_HEIGHT', 'OUT_WIDTH', 'STRIDE_Y', 'STRIDE_X', 'PADDING_Y', 'PADDING_X', 'DILATION_Y', 'DILATION_X')
OF_THE_TYPE = ('xs', 'shortcuts', 'keeps', 'grads', 'out')
"""Arguments of the kernels of batch norm and of sums that are not float32 in any case."""
BYTES = {'kept': '*u8', 'packed': '*u8', 'arrivals': '*i32'}
# Of many layers: addresses, places, ranges.
TABLES = {
    **dict.fromkeys(('grads', 'places', 'weights', 'steps', 'channels', 'widths', 'starts'), '*i64'),
    **dict.fromkeys(('lows', 'highs', 'scales'), '*fp32'),
    'layers': '*i32',
    'floor': 'fp32',
}


def compiled(name, dtype, capability, warps=4, aligned=False):
    """A kernel, assembled to machine code; aligned: tensors and numbers of channels or places are multiples of 16."""
    from triton import compile
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    constants = NAMES.get(name) or SUMS.get(name) or NORMS[name.partition('.')[2]]
    module, function = name.split()[0].split('.')
    kernel = getattr(import_module(f'qsdt_mm.ops.triton.{module}'), function)
    kinds = {**dict.fromkeys(NUMBERS, 'fp32'), **dict.fromkeys(SIZES, 'i32'), **BYTES}
    if module == 'weight_bank':
        kinds.update(TABLES)
    kinds.update(dict.fromkeys(constants, 'constexpr'))
    constants = {key: TYPES[dtype] if value is None else value for key, value in constants.items()}
    plain = 'fp32' if module in ('batch_norm', 'depthwise') else dtype
    signature = {a: kinds.get(a, f'*{dtype if a in OF_THE_TYPE else plain}') for a in kernel.arg_names}
    known = [i for i, (a, kind) in enumerate(signature.items()) if kind[0] == '*' or a in ('CHANNELS', 'PLACES')]
    found = compile(
        ASTSource(
            fn=kernel,
            signature=signature,
            constexprs=constants,
            **(dict(attrs={(i,): [['tt.divisibility', 16]] for i in known}) if aligned else {}),
        ),
        target=GPUTarget('cuda', capability, 32),
        options=dict(enable_fp_fusion=False, num_warps=warps),
    )
    assert found.asm['cubin']
    return found


def ptx(*arguments, **options):
    """Assembly of a kernel."""
    return compiled(*arguments, **options).asm['ptx']


def check(name, dtype, capability):
    """Divisions are correctly rounded; nothing is fused, approximated, or flushed but what floor reads, never tiny."""
    code = re.findall(r'^\s+(?:@!?%p\d+ )?([a-z]+\.\S*f(?:32|16)\S*) ', ptx(name, dtype, capability), re.MULTILINE)
    divisions = {operation for operation in code if operation.startswith(('div', 'rcp'))}
    assert divisions == (set() if name == 'packed._restore' else {'div.rn.f32'})
    loose = [o for o in code if o.startswith('fma') or '.approx' in o or '.ftz' in o]
    assert set(loose) <= {'cvt.rmi.ftz.f32.f32'}


@pytest.fixture(autouse=True)
def as_compiled(tmp_path, monkeypatch):
    if os.environ.get('TRITON_INTERPRET', '0') not in ('', '0'):
        pytest.skip('TRITON_INTERPRET is set: nothing is compiled')
    try:
        import triton.backends.nvidia  # noqa: F401
    except ImportError:
        pytest.skip('this Triton has no backend for CUDA')
    monkeypatch.setenv('TRITON_CACHE_DIR', str(tmp_path))


@pytest.mark.parametrize('name', NAMES)
def test_float32_for_a_recent_gpu(name):
    check(name, 'fp32', 80)


@pytest.mark.parametrize('name', NORMS)
def test_norms_for_a_recent_gpu(name):
    assert ptx(f'batch_norm.{name}', 'bf16', 80)


@pytest.mark.parametrize('name', SUMS)
def test_sums_over_programs_for_a_recent_gpu(name):
    """The last program to arrive, by a count that orders memory on the whole device, sees what all others have left."""
    code = ptx(name, 'bf16', 80, 8 if name.startswith('batch_norm') else 4)
    count = code.index('atom.global.gpu.acq_rel.add.u32')
    left, found = code.rindex('st.global', 0, count), code.index('ld.global.cg')
    assert left < code.rindex('bar.sync', 0, count) < count < code.index('bar.sync', count) < found


@pytest.mark.parametrize('name, maps', [('batch_norm._measure', 1), ('batch_norm._sum', 2)])
def test_norms_read_many_bytes_at_a_time(name, maps):
    """Each thread has four loads of 16 bytes from each map under way; the parts of the others come in such, too."""
    pytest.importorskip('triton', minversion='3.3')  # that aligned sizes are told in this form
    code = ptx(name, 'bf16', 90, 8, aligned=True)
    assert code.count('ld.global.v4.b32') >= 4 * maps
    assert code.count('ld.global.b16') == (4 if maps == 2 else 0)  # of images' factors alone
    assert code.count('ld.global.cg.v4.b32') == 8 and 'ld.global.cg.b32' not in code


@pytest.mark.slow
@pytest.mark.parametrize('capability', [75, 89, 90, 100])
@pytest.mark.parametrize('dtype', ['fp32', 'fp16', 'bf16'])
@pytest.mark.parametrize('name', NAMES)
def test_every_dtype_for_more_gpus(name, dtype, capability):
    check(name, dtype, capability)
