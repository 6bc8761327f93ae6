"""What the quality rules know of a character: one byte of bits for each code point.

Letters and digits come from Arrow (utf8proc), not from Python, whose Unicode version changes with Python's own. White
space is Unicode's White_Space, line breaks are those of Python's `str.splitlines`, marks that end a sentence are
Unicode's Sentence_Terminal (PropList.txt).

PUNCTUATION is what datatrove 0.10 takes for it: ASCII punctuation, controls, the punctuation of CCNet's normalizer
(Wenzek et al. 2020) and Sentence_Terminal. Many symbols (`•`, `§`, `°`) are not among it. Theirs has a full-width
digit one, too, which ours leaves out.
"""

import string
from functools import cache

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import UInt8

from mlm_data.kernels import read_only

SPACE, LETTER, PUNCTUATION, TERMINAL, CLOSER, BREAK, DIGIT, UPPER = (1 << bit for bit in range(8))

WHITE_SPACE = (*range(9, 14), 0x20, 0x85, 0xA0, 0x1680, *range(0x2000, 0x200B), 0x2028, 0x2029, 0x202F, 0x205F, 0x3000)
LINE_BREAKS = (*range(0x0A, 0x0E), 0x1C, 0x1D, 0x1E, 0x85, 0x2028, 0x2029)
CLOSERS = "\"')]}’”»›"  # may stand between the end of a sentence and the white space behind it

_CONTROLS = (*range(0x09), *range(0x0B, 0x20), *range(0x7F, 0xA0))
_MARKS = "—–’“”„«»…´∶━►、。〈〉《》「」【】！％（），．：；？～"

# First and last code point of each run with the property Sentence_Terminal.
_TERMINAL = (
    *((0x21, 0x21), (0x2E, 0x2E), (0x3F, 0x3F), (0x589, 0x589), (0x61D, 0x61F), (0x6D4, 0x6D4), (0x700, 0x702)),
    *((0x7F9, 0x7F9), (0x837, 0x837), (0x839, 0x839), (0x83D, 0x83E), (0x964, 0x965), (0x104A, 0x104B)),
    *((0x1362, 0x1362), (0x1367, 0x1368), (0x166E, 0x166E), (0x1735, 0x1736), (0x17D4, 0x17D6), (0x17D9, 0x17DA)),
    *((0x1803, 0x1803), (0x1809, 0x1809), (0x1944, 0x1945), (0x1AA8, 0x1AAB), (0x1B5A, 0x1B5B), (0x1B5E, 0x1B5F)),
    *((0x1B7D, 0x1B7E), (0x1C3B, 0x1C3C), (0x1C7E, 0x1C7F), (0x203C, 0x203D), (0x2047, 0x2049), (0x2E2E, 0x2E2E)),
    *((0x2E3C, 0x2E3C), (0x2E53, 0x2E54), (0x3002, 0x3002), (0xA4FF, 0xA4FF), (0xA60E, 0xA60F), (0xA6F3, 0xA6F3)),
    *((0xA6F7, 0xA6F7), (0xA876, 0xA877), (0xA8CE, 0xA8CF), (0xA92F, 0xA92F), (0xA9C8, 0xA9C9), (0xAA5D, 0xAA5F)),
    *((0xAAF0, 0xAAF1), (0xABEB, 0xABEB), (0xFE52, 0xFE52), (0xFE56, 0xFE57), (0xFF01, 0xFF01), (0xFF0E, 0xFF0E)),
    *((0xFF1F, 0xFF1F), (0xFF61, 0xFF61), (0x10A56, 0x10A57), (0x10F55, 0x10F59), (0x10F86, 0x10F89)),
    *((0x11047, 0x11048), (0x110BE, 0x110C1), (0x11141, 0x11143), (0x111C5, 0x111C6), (0x111CD, 0x111CD)),
    *((0x111DE, 0x111DF), (0x11238, 0x11239), (0x1123B, 0x1123C), (0x112A9, 0x112A9), (0x1144B, 0x1144C)),
    *((0x115C2, 0x115C3), (0x115C9, 0x115D7), (0x11641, 0x11642), (0x1173C, 0x1173E), (0x11944, 0x11944)),
    *((0x11946, 0x11946), (0x11A42, 0x11A43), (0x11A9B, 0x11A9C), (0x11C41, 0x11C42), (0x11EF7, 0x11EF8)),
    *((0x11F43, 0x11F44), (0x16A6E, 0x16A6F), (0x16AF5, 0x16AF5), (0x16B37, 0x16B38), (0x16B44, 0x16B44)),
    *((0x16E98, 0x16E98), (0x1BC9F, 0x1BC9F), (0x1DA88, 0x1DA88)),
)


@cache
def character_classes() -> UInt8[np.ndarray, " code_points"]:
    """The bits above of every code point; read-only."""
    points = np.setdiff1d(np.arange(0x110000), np.arange(0xD800, 0xE000))
    text = points.astype("<u4").tobytes().decode("utf-32-le").encode()
    widths = 1 + (points >= 0x80) + (points >= 0x800) + (points >= 0x10000)
    offsets = np.concatenate([[0], np.cumsum(widths)])
    characters = pa.LargeStringArray.from_buffers(len(points), pa.py_buffer(offsets), pa.py_buffer(text))
    table = np.zeros(0x110000, np.uint8)
    for bit, is_one in ((LETTER, pc.utf8_is_alpha), (DIGIT, pc.utf8_is_decimal), (UPPER, pc.utf8_is_upper)):
        table[points[is_one(characters).to_numpy(zero_copy_only=False)]] |= bit
    table[list(WHITE_SPACE)] |= SPACE
    table[list(LINE_BREAKS)] |= BREAK
    table[[ord(mark) for mark in CLOSERS]] |= CLOSER
    for first, last in _TERMINAL:
        table[first : last + 1] |= TERMINAL | PUNCTUATION
    table[[*_CONTROLS, *map(ord, string.punctuation), *map(ord, _MARKS)]] |= PUNCTUATION
    return read_only(table)
