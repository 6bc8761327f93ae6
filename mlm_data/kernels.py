"""The one way in which this project compiles a loop.

`kernel` is `numba.njit` without the GIL and with its machine code cached beside the source, so that threads scale
and a second process starts warm. Kernels take and return plain numpy arrays; the public function that wraps a
kernel has the docstring, the checks and the shapes. Test every kernel against a plain Python or numpy twin.
"""

import llvmlite.ir
import numba
import numpy as np
from numba.core import cgutils, types
from numba.extending import intrinsic

kernel = numba.njit(cache=True, nogil=True)


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that can't be written: with it a kernel is compiled once for fresh arrays and for memory-mapped ones."""
    view = array.view()
    view.flags.writeable = False
    return view


@intrinsic
def load_uint64(typing, data, index):
    """Inside kernels: the 8 bytes of a contiguous uint8 array from `index` on, as a uint64 (little-endian)."""
    if not (isinstance(data, types.Array) and data.dtype == types.uint8 and data.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], signature.args[1], types.intp)
        pointer = cgutils.gep_inbounds(builder, array.data, place)
        word = llvmlite.ir.IntType(64)
        return builder.load(builder.bitcast(pointer, word.as_pointer()), align=1)

    return types.uint64(data, index), generate


@intrinsic
def store_uint64(typing, data, index, value):
    """Inside kernels: write a uint64 (little-endian) over the 8 bytes of a contiguous uint8 array from `index` on."""
    if not (isinstance(data, types.Array) and data.dtype == types.uint8 and data.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        place = context.cast(builder, arguments[1], signature.args[1], types.intp)
        word = context.cast(builder, arguments[2], signature.args[2], types.uint64)
        pointer = cgutils.gep_inbounds(builder, array.data, place)
        builder.store(word, builder.bitcast(pointer, word.type.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(data, index, value), generate


@intrinsic
def trailing_zeros(typing, word):
    """Inside kernels: the number of zero bits below the lowest one of a uint64 that is not 0."""
    if word != types.uint64:
        return None

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], llvmlite.ir.Constant(llvmlite.ir.IntType(1), 1))

    return types.int64(word), generate


@kernel
def zero_bytes(word):
    """Inside kernels: the high bit of each byte that is zero; above the lowest such byte others may be set, too.

    From Hacker's Delight, 2nd edition, section 6-1. `trailing_zeros(zero_bytes(word)) >> 3` is the first zero byte.
    """
    return (word - np.uint64(0x0101010101010101)) & ~word & np.uint64(0x8080808080808080)


@kernel
def copy_bytes(data, start, end, out, at):
    """Inside kernels: write data[start:end] to out[at:]; return the place behind it.

    Eight bytes at a time: up to 7 bytes behind the copy are overwritten where `out` has them.
    """
    behind = at + (end - start)
    last = min(len(data) - (start - at), len(out)) - 8
    while at < behind and at <= last:
        store_uint64(out, at, load_uint64(data, start))
        start += 8
        at += 8
    while at < behind:
        out[at] = data[start]
        start += 1
        at += 1
    return behind
