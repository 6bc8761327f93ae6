r"""Mojibake: UTF-8 that was once read as another encoding, and saved as that. ftfy mends it, line by line.

    "caf\u00c3\u00a9"      ->      "caf\u00e9"

ftfy's `fix_encoding` (Speer 2019; version 6.3) knows what no text has on purpose, and decodes as often as that helps.
It reads 5 MB/s of French. So a kernel looks first: only a line with a sequence of characters as mojibake has them goes
to ftfy, all others stay as they are, untouched. Such a sequence is

    what the bytes of one character in UTF-8 look like in one of ftfy's encodings: for each byte of `_ENCODINGS`,
    a lead (C2 to F4) and one, two or three behind it (80 to BF)
    E2 80, which begins quotes and dashes, whatever is left of the third byte
    C3 and a space, or a C2 to F4 and U+FFFD: a byte was lost
    a C1 control but U+0085, which is a line end

In Mac Roman, leads that are quotes and dots (C7 to CA, D2 to D5) don't count: French has them before accents. Whether a
line is mended, ftfy decides. All this comes before `normalize`, which removes the C1 controls that are the evidence.

By line, because good text may stand beside bad in one document, and so that the cost of a bad line doesn't depend on
its document. A line ends at a line feed. Longer ones than `LONGEST_LINE` stay as they are: bounded time for hostile
text.

Cost: 8 bytes at a time on ASCII, one step a character elsewhere.
"""

import importlib.metadata
from functools import lru_cache
from types import ModuleType

import numpy as np
import pyarrow as pa
from jaxtyping import Int32, UInt16

from mlm_data.characters import code_point
from mlm_data.errors import ConfigError
from mlm_data.hashing import large_strings, string_buffers
from mlm_data.kernels import kernel, load_uint64, read_only

ALGORITHM_VERSION = 1  # enters cache keys: count up when any text comes out differently
LONGEST_LINE = 256 << 10

# Bits: an encoding each. Latin-1 is what windows-1252 lacks: its C1 controls have a rule of their own.
_ENCODINGS = ("cp1252", "cp1251", "cp1250", "cp1253", "cp1254", "cp1257", "iso8859-2", "mac-roman", "cp437", "latin-1")
_MAC_QUOTES = (*range(0xC7, 0xCB), *range(0xD2, 0xD6))

_HIGHS = np.uint64(0x8080808080808080)
_REPLACEMENT = 0xFFFD


def identity() -> str:
    """What the results depend on beside the texts: enters cache keys."""
    return f"{ALGORITHM_VERSION}, ftfy {importlib.metadata.version('ftfy')}"


def fix_mojibake(texts: pa.LargeStringArray) -> tuple[pa.LargeStringArray, Int32[np.ndarray, " documents"]]:
    """The texts with their mojibake mended, as many, in the same order; and how many lines of each were mended.

    The array itself, if nothing was.

    Raises:
        ConfigError: ftfy is not installed.
    """
    ftfy = _ftfy()
    num_fixed = np.zeros(len(texts), np.int32)
    data, offsets = string_buffers(texts)
    nothing = np.empty((0, 3), np.int64)
    size = _find_lines(data, offsets, *_tables(), nothing)
    if not size:
        return texts, num_fixed
    lines = np.empty((size, 3), np.int64)
    _find_lines(data, offsets, *_tables(), lines)
    growth = np.zeros(len(texts), np.int64)
    parts: list[bytes | memoryview] = []
    view, done = data.data, int(offsets[0])
    for document, start, end in lines.tolist():
        if end - start > LONGEST_LINE:
            continue
        line = bytes(view[start:end]).decode()
        fixed = ftfy.fix_encoding(line)
        if fixed == line:
            continue
        new = fixed.encode(errors="replace")
        parts += [view[done:start], new]
        done = end
        growth[document] += len(new) - (end - start)
        num_fixed[document] += 1
    if not parts:
        return texts, num_fixed
    parts.append(view[done : int(offsets[-1])])
    new_offsets = np.zeros(len(texts) + 1, np.int64)
    np.cumsum(np.diff(offsets) + growth, out=new_offsets[1:])
    return large_strings(b"".join(parts), new_offsets), num_fixed


def check_installed() -> None:
    """Raise the error that says what to install, before anything is read.

    Raises:
        ConfigError: ftfy is not installed.
    """
    _ftfy()


def _ftfy() -> ModuleType:
    try:
        import ftfy
    except ImportError:
        raise ConfigError("clean.fix_encoding needs the package ftfy: pip install 'premask[web]'") from None
    return ftfy


@lru_cache(maxsize=1)
def _tables() -> tuple[UInt16[np.ndarray, "kinds code_points"], UInt16[np.ndarray, " code_points"]]:
    """Bits of `_ENCODINGS` for each code point below U+10000.

    The first table has a row for C2 to DF, E0 to EF and F0 to F4, for E2, for 80, and for C3; the second for 80 to BF.
    """
    leads, followers = np.zeros((6, 1 << 16), np.uint16), np.zeros(1 << 16, np.uint16)
    for bit, encoding in enumerate(_ENCODINGS):
        for byte in range(0x80, 0xF5):
            character = bytes([byte]).decode(encoding, "ignore")
            if not character:
                continue
            code, flag = ord(character), np.uint16(1 << bit)
            if byte < 0xC0:
                followers[code] |= flag
                leads[4, code] |= flag * (byte == 0x80)
            elif byte >= 0xC2 and not (encoding == "mac-roman" and byte in _MAC_QUOTES):
                leads[0 if byte < 0xE0 else 1 if byte < 0xF0 else 2, code] |= flag
                leads[3, code] |= flag * (byte == 0xE2)
                leads[5, code] |= flag * (byte == 0xC3 and encoding == "cp1252")
    return read_only(leads), read_only(followers)


@kernel
def _code(data, i, end):
    """(code point below U+10000 at i, or 0; where the next one begins)."""
    if i >= end:
        return 0, i
    code, width = code_point(data, i)
    return (code if code < 0x10000 else 0), i + width


@kernel
def _is_mojibake(data, i, end, leads, followers):
    """Whether a sequence of mojibake begins at i, which is no ASCII."""
    a, i = _code(data, i, end)
    if 0x80 <= a < 0xA0 and a != 0x85:
        return True
    two, three, four = leads[0, a], leads[1, a], leads[2, a]
    if (two | three | four) == 0:
        return False
    b, i = _code(data, i, end)
    if b == _REPLACEMENT or (b == 32 and leads[5, a] != 0):
        return True
    behind = followers[b]
    if (two & behind) != 0 or (leads[3, a] & leads[4, b]) != 0:
        return True
    three &= behind
    four &= behind
    if (three | four) == 0:
        return False
    c, i = _code(data, i, end)
    if (three & followers[c]) != 0:
        return True
    four &= followers[c]
    if four == 0:
        return False
    d, i = _code(data, i, end)
    return (four & followers[d]) != 0


@kernel
def _find_lines(data, offsets, leads, followers, lines):
    """Write (document, start, end) of each line that may hold mojibake, as far as there is room; their number."""
    count = 0
    for document in range(len(offsets) - 1):
        i, end = offsets[document], offsets[document + 1]
        start = i
        while i < end:
            if data[i] < 0x80:
                if i + 8 <= end and load_uint64(data, i) & _HIGHS == np.uint64(0):
                    i += 8
                else:
                    i += 1
                continue
            if _is_mojibake(data, i, end, leads, followers):
                first = i
                while first > start and data[first - 1] != 10:
                    first -= 1
                while i < end and data[i] != 10:
                    i += 1
                if count < len(lines):
                    lines[count, 0] = document
                    lines[count, 1] = first
                    lines[count, 2] = i
                count += 1
                start = i
            else:
                i += 1
                while i < end and (data[i] & 0xC0) == 0x80:
                    i += 1
    return count
