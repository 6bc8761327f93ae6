"""The script of a token or a text, coarsely: enough to see whether masks treat all scripts alike, and what is unknown.

A token belongs to the script of its first letter, a text to that of most letters in its first bytes; without a letter
they are digits or symbols. The table below names
blocks of code points (Unicode 15.1, Blocks.txt and Scripts.txt, joined where neighbours are of one kind), so that the
answer does not change with Python's own Unicode version. Tokens of byte-level tokenizers are decoded first; one that
holds only a part of a character is `bytes`.
"""

from bisect import bisect_right
from collections.abc import Sequence
from functools import cache

import numpy as np
import pyarrow as pa
from jaxtyping import UInt8

from mlm_data.characters import byte_characters, code_point
from mlm_data.hashing import string_buffers
from mlm_data.kernels import kernel, load_uint64, read_only

SCRIPTS = (
    "symbols",
    "digits",
    "bytes",
    "Latin",
    "Greek",
    "Cyrillic",
    "Hebrew",
    "Arabic",
    "Indic",
    "Southeast Asian",
    "Han",
    "Kana",
    "Hangul",
    "other",
)
_CODE = {name: code for code, name in enumerate(SCRIPTS)}
_LETTERS = _CODE["Latin"]  # codes from here on are scripts

# From this code point to the next entry's.
_BLOCKS = (
    *((0x0000, "symbols"), (0x0030, "digits"), (0x003A, "symbols"), (0x0041, "Latin"), (0x005B, "symbols")),
    *((0x0061, "Latin"), (0x007B, "symbols"), (0x00AA, "Latin"), (0x00AB, "symbols"), (0x00BA, "Latin")),
    *((0x00BB, "symbols"), (0x00C0, "Latin"), (0x00D7, "symbols"), (0x00D8, "Latin"), (0x00F7, "symbols")),
    *((0x00F8, "Latin"), (0x02B9, "symbols"), (0x0370, "Greek"), (0x0400, "Cyrillic"), (0x0530, "other")),
    *((0x0590, "Hebrew"), (0x0600, "Arabic"), (0x0700, "other"), (0x0750, "Arabic"), (0x0780, "other")),
    *((0x0870, "Arabic"), (0x0900, "Indic"), (0x0E00, "Southeast Asian"), (0x0F00, "other")),
    *((0x1000, "Southeast Asian"), (0x10A0, "other"), (0x1100, "Hangul"), (0x1200, "other")),
    *((0x1780, "Southeast Asian"), (0x1800, "other"), (0x1C80, "Cyrillic"), (0x1C90, "other"), (0x1D00, "Latin")),
    *((0x1DC0, "symbols"), (0x1E00, "Latin"), (0x1F00, "Greek"), (0x2000, "symbols"), (0x2C00, "other")),
    *((0x2C60, "Latin"), (0x2C80, "other"), (0x2DE0, "Cyrillic"), (0x2E00, "symbols"), (0x2E80, "Han")),
    *((0x3000, "symbols"), (0x3005, "Han"), (0x3008, "symbols"), (0x3041, "Kana"), (0x3100, "other")),
    *((0x3130, "Hangul"), (0x3190, "symbols"), (0x31A0, "other"), (0x31C0, "symbols"), (0x31F0, "Kana")),
    *((0x3200, "symbols"), (0x3400, "Han"), (0x4DC0, "symbols"), (0x4E00, "Han"), (0xA000, "other")),
    *((0xA640, "Cyrillic"), (0xA6A0, "other"), (0xA700, "symbols"), (0xA722, "Latin"), (0xA800, "other")),
    *((0xA8E0, "Indic"), (0xA900, "other"), (0xA960, "Hangul"), (0xA980, "other"), (0xA9E0, "Southeast Asian")),
    *((0xAA00, "other"), (0xAA60, "Southeast Asian"), (0xAA80, "other"), (0xAB30, "Latin"), (0xAB70, "other")),
    *((0xAC00, "Hangul"), (0xD800, "bytes"), (0xE000, "symbols"), (0xF900, "Han"), (0xFB00, "Latin")),
    *((0xFB13, "other"), (0xFB1D, "Hebrew"), (0xFB50, "Arabic"), (0xFE00, "symbols"), (0xFE70, "Arabic")),
    *((0xFEFF, "symbols"), (0xFF10, "digits"), (0xFF1A, "symbols"), (0xFF21, "Latin"), (0xFF3B, "symbols")),
    *((0xFF41, "Latin"), (0xFF5B, "symbols"), (0xFF66, "Kana"), (0xFFA0, "Hangul"), (0xFFDD, "symbols")),
    *((0x10000, "other"), (0x1B000, "Kana"), (0x1B170, "other"), (0x1BCA0, "symbols"), (0x1DF00, "Latin")),
    *((0x1E000, "other"), (0x1EE00, "Arabic"), (0x1F000, "symbols"), (0x20000, "Han"), (0xE0000, "symbols")),
)
_STARTS = [start for start, _ in _BLOCKS]
_CODES = [_CODE[name] for _, name in _BLOCKS]


def char_script(char: str) -> int:
    """Index in SCRIPTS of one character.

    >>> [SCRIPTS[char_script(char)] for char in "Aж7!"]
    ['Latin', 'Cyrillic', 'digits', 'symbols']
    """
    return _CODES[bisect_right(_STARTS, ord(char)) - 1]


@cache
def script_table() -> UInt8[np.ndarray, " code_points"]:
    """Index in SCRIPTS of every code point; read-only."""
    sizes = np.diff([*_STARTS, 0x110000])
    return read_only(np.repeat(np.array(_CODES, np.uint8), sizes))


def text_scripts(texts: pa.LargeStringArray, *, first_bytes: int = 64) -> UInt8[np.ndarray, " texts"]:
    """Index in SCRIPTS of what most letters among each text's first bytes are; without letters, digits or symbols.

    Cost: about 10 ns for a text that begins in ASCII, which is looked at eight bytes at a time.
    """
    data, offsets = string_buffers(texts)
    out = np.zeros(len(texts), np.uint8)
    _text_scripts(data, offsets, script_table(), first_bytes, _LETTERS, len(SCRIPTS), out)
    return out


@kernel
def _text_scripts(data, offsets, table, first_bytes, first_letter, num_scripts, out):
    counts = np.zeros(num_scripts, np.int64)
    for i in range(offsets.size - 1):
        start = offsets[i]
        end = min(offsets[i + 1], start + first_bytes)
        bits = np.uint64(0)
        place = start
        while place + 8 <= end:
            bits |= load_uint64(data, place)
            place += 8
        while place < end:
            bits |= np.uint64(data[place])
            place += 1
        place = start
        if bits & np.uint64(0x8080808080808080) == 0:
            while place < end and out[i] < first_letter:  # 0 at first
                out[i] = max(out[i], table[data[place]])
                place += 1
            continue
        counts[:] = 0
        while place < end:
            first = np.int64(data[place])
            length = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
            if place + length > end:  # cut by `first_bytes`
                break
            point, _ = code_point(data, place)
            counts[table[point]] += 1
            place += length
        best = 0
        for script in range(first_letter, num_scripts):
            if counts[script] > counts[best] or (best < first_letter and counts[script] > 0):
                best = script
        if best == 0 and counts[1] > 0:
            best = 1
        out[i] = best


def token_scripts(tokens: Sequence[str]) -> UInt8[np.ndarray, " vocabulary"]:
    """Index in SCRIPTS of every token of a vocabulary; "" is `symbols`."""
    decode = _byte_level(tokens)
    return np.array([_of_text(_decode(token, decode) if decode else token) for token in tokens], np.uint8)


def _of_text(text: str) -> int:
    codes = [char_script(char) for char in text.removeprefix("##")]
    letters = [code for code in codes if code >= _LETTERS]
    return letters[0] if letters else max(codes, default=0)


def _byte_level(tokens: Sequence[str]) -> dict[str, int]:
    """Character -> byte if every byte has a token of its own in the byte-level alphabet, else nothing."""
    names = {character: byte for byte, character in enumerate(byte_characters())}
    return names if names.keys() <= set(tokens) else {}


def _decode(token: str, names: dict[str, int]) -> str:
    if not all(char in names for char in token):
        return token  # an added token, written as it is
    # A byte that is no part of a whole character becomes a lone surrogate, which the table calls `bytes`.
    return bytes(names[char] for char in token).decode("utf-8", "surrogateescape")
