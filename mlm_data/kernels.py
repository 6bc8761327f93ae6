"""The one way in which this project compiles a loop, and the machine instructions that numba doesn't offer.

`kernel` is `numba.njit` without the GIL and with its machine code cached beside the source, so that threads scale
and a second process starts warm. Kernels take and return plain numpy arrays; the public function that wraps a
kernel has the docstring, the checks and the shapes. Test every kernel against a plain Python or numpy twin.

Unaligned loads let a scanner look at eight bytes at a time; prefetching and memory fences let threads read a table
while one of them adds to it. None of them checks its arguments: the caller keeps inside the arrays.
"""

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import extending, types
from numba.core import cgutils

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

# To a type checker an intrinsic takes anything: numba's own stub asks callers for the compiler's arguments, too.
intrinsic: Decorator = extending.intrinsic

kernel = numba.njit(cache=True, nogil=True)
# A kernel without reference counts. `_nrt` is numba's own switch for its run time, not in its stub: a kernel compiled
# so can't allocate, and doesn't count references to the arrays that it is given. In a scanner those counts cost six
# times as much as everything else (measured: 28 against 180 MB/s).
lean_kernel: Decorator = numba.njit(cache=True, nogil=True, _nrt=False)  # type: ignore[call-overload]
inlined: Decorator = numba.njit(inline="always", nogil=True, _nrt=False)  # type: ignore[call-overload]  # for the lean


def read_only(array: np.ndarray) -> np.ndarray:
    """A view that can't be written: with it a kernel is compiled once for fresh arrays and for memory-mapped ones."""
    view = array.view()
    view.flags.writeable = False
    return view


@intrinsic
def load_uint64(typingctx, data, place):
    """Eight bytes of a contiguous uint8[...] from `place` on, as a little-endian uint64."""
    if not (isinstance(data, types.Array) and data.dtype == types.uint8 and data.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        word = builder.load(builder.bitcast(pointer, ir.IntType(64).as_pointer()))
        word.align = 1
        return word

    return types.uint64(data, types.int64), generate


@intrinsic
def store_uint64(typingctx, data, place, value):
    """Write a uint64, little-endian, over the eight bytes of a contiguous uint8[...] from `place` on."""
    if not (isinstance(data, types.Array) and data.dtype == types.uint8 and data.layout == "C"):
        return None

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        pointer = builder.gep(array.data, [arguments[1]])
        store = builder.store(arguments[2], builder.bitcast(pointer, ir.IntType(64).as_pointer()))
        store.align = 1
        return context.get_dummy_value()

    return types.void(data, types.int64, types.uint64), generate


@intrinsic
def copy16(typingctx, source, place, target, at):
    """Copy the 16 bytes from source[place] on (uint64) to target[at] on (uint32)."""

    def generate(context, builder, signature, arguments):
        block = ir.VectorType(ir.IntType(32), 4).as_pointer()
        read = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        write = context.make_array(signature.args[2])(context, builder, arguments[2]).data
        word = builder.load(builder.bitcast(builder.gep(read, [arguments[1]]), block))
        word.align = 8
        store = builder.store(word, builder.bitcast(builder.gep(write, [arguments[3]]), block))
        store.align = 4
        return context.get_dummy_value()

    return types.void(source, types.uint64, target, types.uint64), generate


@intrinsic
def trailing_zeros(typingctx, word):
    """Number of zero bits below the lowest one of a uint64; 64 for 0."""

    def generate(context, builder, signature, arguments):
        return builder.cttz(arguments[0], cgutils.false_bit)

    return types.int64(types.uint64), generate


@intrinsic
def leading_zeros(typingctx, word):
    """Number of zero bits above the highest one of a uint64; 64 for 0."""

    def generate(context, builder, signature, arguments):
        return builder.ctlz(arguments[0], cgutils.false_bit)

    return types.int64(types.uint64), generate


@intrinsic
def num_ones(typingctx, word):
    """Number of ones in a uint64."""

    def generate(context, builder, signature, arguments):
        return builder.ctpop(arguments[0])

    return types.uint64(types.uint64), generate


@intrinsic
def folded(typingctx, left, right):
    """The upper half of the 128-bit product of two uint64, xor its lower half."""

    def generate(context, builder, signature, arguments):
        wide, word = ir.IntType(128), ir.IntType(64)
        product = builder.mul(builder.zext(arguments[0], wide), builder.zext(arguments[1], wide))
        upper = builder.trunc(builder.lshr(product, ir.Constant(wide, 64)), word)
        return builder.xor(upper, builder.trunc(product, word))

    return types.uint64(types.uint64, types.uint64), generate


@intrinsic
def prefetch(typingctx, array, place):
    """Begin to load the cache line of array[place], for any place: nothing is read."""

    def generate(context, builder, signature, arguments):
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        byte, number = ir.IntType(8).as_pointer(), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [byte, number, number, number])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        settings = [ir.Constant(number, value) for value in (0, 3, 1)]  # read, keep, data
        builder.call(function, [builder.bitcast(builder.gep(data, [arguments[1]]), byte), *settings])
        return context.get_dummy_value()

    return types.void(array, types.uint64), generate


@intrinsic
def least16(typingctx, numbers, place):
    """The smallest of 16 uint32 from numbers[place] on, without a branch."""

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        number, vector = ir.IntType(32), ir.VectorType(ir.IntType(32), 16)
        block = builder.load(builder.bitcast(builder.gep(array.data, [arguments[1]]), vector.as_pointer()))
        block.align = 4
        kind = ir.FunctionType(number, [vector])
        return builder.call(
            cgutils.get_or_insert_function(builder.module, kind, "llvm.vector.reduce.umin.v16i32"), [block]
        )

    return types.uint32(numbers, types.uint64), generate


@intrinsic
def release(typingctx):
    """What was stored before is seen by whoever sees what is stored after."""

    def generate(context, builder, signature, arguments):
        builder.fence("release")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def acquire(typingctx):
    """What is loaded after is at least as new as what was loaded before."""

    def generate(context, builder, signature, arguments):
        builder.fence("acquire")
        return context.get_dummy_value()

    return types.void(), generate


@intrinsic
def range_mask(typingctx, data, place, flip, low, count):
    """Which of the 64 bytes of uint8[...] from `place` on, after `| flip`, are in [low, low + count): one bit each.

    One comparison of vectors, whatever the processor's vectors are.
    """

    def generate(context, builder, signature, arguments):
        array = context.make_array(signature.args[0])(context, builder, arguments[0])
        vector = ir.VectorType(ir.IntType(8), 64)
        pointer = builder.gep(array.data, [arguments[1]])
        block = builder.load(builder.bitcast(pointer, vector.as_pointer()))
        block.align = 1

        def splat(number):
            one = builder.insert_element(
                ir.Constant(vector, ir.Undefined), builder.trunc(number, ir.IntType(8)), ir.Constant(ir.IntType(32), 0)
            )
            zeros = ir.Constant(ir.VectorType(ir.IntType(32), 64), [0] * 64)
            return builder.shuffle_vector(one, ir.Constant(vector, ir.Undefined), zeros)

        moved = builder.sub(builder.or_(block, splat(arguments[2])), splat(arguments[3]))
        bits = builder.bitcast(builder.icmp_unsigned("<", moved, splat(arguments[4])), ir.IntType(64))
        # No instruction, only a word that LLVM can't look behind. Where comparing gives bytes (AVX2), it would do the
        # caller's operations on bits with vectors of 64 bytes, and put those together byte by byte.
        word = ir.IntType(64)
        return builder.asm(ir.FunctionType(word, [word]), "", "=r,0", [bits], False)

    return types.uint64(data, types.int64, types.int64, types.int64, types.int64), generate


@lean_kernel
def zero_bytes(word):
    """Inside kernels: the high bit of each byte that is zero; above the lowest such byte others may be set, too.

    From Hacker's Delight, 2nd edition, section 6-1. `trailing_zeros(zero_bytes(word)) >> 3` is the first zero byte.
    """
    return (word - np.uint64(0x0101010101010101)) & ~word & np.uint64(0x8080808080808080)


@lean_kernel
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


@kernel
def grown(array, size):
    """A longer copy of a one-dimensional array: its items first, what follows is not set."""
    longer = np.empty(size, array.dtype)
    longer[: len(array)] = array
    return longer
