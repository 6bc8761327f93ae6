"""Characters and the bytes that stand for them: reading UTF-8 in kernels, and the alphabet of byte-level tokenizers."""

import numpy as np

from mlm_data.kernels import lean_kernel


@lean_kernel
def code_point(data, i):
    """For kernels: (code point, its bytes) of the well-formed UTF-8 at i."""
    c = np.int64(data[i])
    if c < 0x80:
        return c, 1
    if c < 0xE0:
        return ((c & 0x1F) << 6) | (np.int64(data[i + 1]) & 0x3F), 2
    if c < 0xF0:
        return ((c & 0x0F) << 12) | ((np.int64(data[i + 1]) & 0x3F) << 6) | (np.int64(data[i + 2]) & 0x3F), 3
    high = ((c & 0x07) << 18) | ((np.int64(data[i + 1]) & 0x3F) << 12)
    return high | ((np.int64(data[i + 2]) & 0x3F) << 6) | (np.int64(data[i + 3]) & 0x3F), 4


def byte_characters() -> str:
    """The character that byte-level tokenizers write for each of the 256 bytes (Radford et al. 2019).

    Visible Latin-1 characters stand for themselves, the others for U+0100 and on, in order.

    >>> byte_characters()[ord("a")], byte_characters()[ord(" ")]
    ('a', 'Ġ')
    """
    visible = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return "".join(chr(byte) if byte in visible else chr(next(others)) for byte in range(256))
