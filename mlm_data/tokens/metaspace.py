"""WhitespaceSplit and Metaspace over bytes: the words of a normalized text, each with the mark of its start.

The rule of HF `tokenizers`: words are what stands between white space (Rust's `char::is_whitespace`, which is Unicode's
White_Space); each gets the mark U+2581 in front unless it begins with one; a mark inside a word begins another word.

    "low er▁▁x"   ->   ▁low | ▁er | ▁ | ▁x

Cost: two passes, the first counts.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.kernels import inlined, lean_kernel
from mlm_data.tokens.emit import any_code_point

MARK = 0x2581


def marked_words(
    text: UInt8[np.ndarray, " bytes"],
) -> tuple[UInt8[np.ndarray, " marked"], Int64[np.ndarray, " words+1"]]:
    """The words' bytes with their marks, and their bounds in them.

    >>> data, bounds = marked_words(np.frombuffer("low er▁▁x".encode(), np.uint8))
    >>> [bytes(data[a:b]).decode() for a, b in zip(bounds, bounds[1:])]
    ['▁low', '▁er', '▁', '▁x']
    """
    sizes = np.zeros(2, np.int64)
    mark_words(text, np.empty(0, np.uint8), np.empty(0, np.int64), sizes)
    data, bounds = np.empty(int(sizes[1]), np.uint8), np.zeros(int(sizes[0]) + 1, np.int64)
    mark_words(text, data, bounds, sizes)
    return data, bounds


@inlined
def is_space(point):
    """Unicode's White_Space."""
    return (
        point == 0x20
        or 0x09 <= point <= 0x0D
        or point in (0x85, 0xA0, 0x1680, 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
        or 0x2000 <= point <= 0x200A
    )


@lean_kernel
def mark_words(text, out, bounds, sizes):
    """Fill out and bounds where they have room, and sizes: the number of words and of bytes."""
    words = 0
    used = 0
    place = 0
    between = True
    while place < text.size:
        point, length = any_code_point(text, place, text.size)
        if is_space(point):
            between = True
        else:
            if between or point == MARK:
                if words < bounds.size:
                    bounds[words] = used
                words += 1
                if used + 3 <= out.size:
                    out[used] = 0xE2
                    out[used + 1] = 0x96
                    out[used + 2] = 0x81
                used += 3
            between = False
            if point != MARK:
                for j in range(length):
                    if used + j < out.size:
                        out[used + j] = text[place + j]
                used += length
        place += length
    if words < bounds.size:
        bounds[words] = used
    sizes[0] = words
    sizes[1] = used
