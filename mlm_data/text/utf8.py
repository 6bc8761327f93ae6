"""UTF-8 for kernels: is it well-formed (Unicode Standard, table 3-7), which code point is this, write that one."""

import numpy as np
from jaxtyping import Bool, Int64, UInt8

from mlm_data.kernels import kernel, load_uint64


def are_utf8(
    data: UInt8[np.ndarray, " bytes"], starts: Int64[np.ndarray, " pieces"], ends: Int64[np.ndarray, " pieces"]
) -> Bool[np.ndarray, " pieces"]:
    """Whether data[start:end] is well-formed UTF-8, for each piece. ASCII goes eight bytes at a time."""
    out = np.empty(len(starts), np.bool_)
    _are_utf8(data, starts, ends, out)
    return out


@kernel
def _is_continuation(byte):
    return (byte & 0xC0) == 0x80


@kernel
def is_utf8(data, i, end):
    """For kernels: whether data[i:end] is well-formed."""
    while i < end:
        if i + 8 <= end and load_uint64(data, i) & np.uint64(0x8080808080808080) == np.uint64(0):
            i += 8
            continue
        first = data[i]
        if first < 0x80:
            i += 1
        elif first < 0xE0:
            if first < 0xC2 or i + 2 > end or not _is_continuation(data[i + 1]):
                return False
            i += 2
        elif first < 0xF0:
            if i + 3 > end or not (_is_continuation(data[i + 1]) and _is_continuation(data[i + 2])):
                return False
            second = data[i + 1]
            if (first == 0xE0 and second < 0xA0) or (first == 0xED and second >= 0xA0):
                return False
            i += 3
        else:
            if first > 0xF4 or i + 4 > end:
                return False
            second = data[i + 1]
            if not (_is_continuation(second) and _is_continuation(data[i + 2]) and _is_continuation(data[i + 3])):
                return False
            if (first == 0xF0 and second < 0x90) or (first == 0xF4 and second >= 0x90):
                return False
            i += 4
    return True


@kernel
def _are_utf8(data, starts, ends, out):
    for i in range(len(starts)):
        out[i] = is_utf8(data, starts[i], ends[i])


@kernel
def put_code_point(code, out, at):
    """For kernels: write a code point at out[at]; return the place behind it."""
    if code < 0x80:
        out[at] = code
        return at + 1
    if code < 0x800:
        out[at] = 0xC0 | (code >> 6)
        out[at + 1] = 0x80 | (code & 0x3F)
        return at + 2
    if code < 0x10000:
        out[at] = 0xE0 | (code >> 12)
        out[at + 1] = 0x80 | ((code >> 6) & 0x3F)
        out[at + 2] = 0x80 | (code & 0x3F)
        return at + 3
    out[at] = 0xF0 | (code >> 18)
    out[at + 1] = 0x80 | ((code >> 12) & 0x3F)
    out[at + 2] = 0x80 | ((code >> 6) & 0x3F)
    out[at + 3] = 0x80 | (code & 0x3F)
    return at + 4
