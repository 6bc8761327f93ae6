"""The one way in which this project compiles a loop.

`kernel` is `numba.njit` without the GIL and with its machine code cached beside the source, so that threads scale
and a second process starts warm. Kernels take and return plain numpy arrays; the public function that wraps a
kernel has the docstring, the checks and the shapes. Test every kernel against a plain Python or numpy twin.
"""

import llvmlite.ir
import numba
from numba.core import cgutils, types
from numba.extending import intrinsic

kernel = numba.njit(cache=True, nogil=True)


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
