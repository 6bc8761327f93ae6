"""Which encoding a file is in, and its bytes as text."""

import codecs

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.errors import ConfigError
from mlm_data.hashing import large_strings
from mlm_data.text.borders import CodeUnits, Places, gather
from mlm_data.text.utf8 import GARBAGE, TEXT, check_texts, is_no_text

BAD_UTF8, NOT_TEXT = "bad_utf8", "not_text"
NOT_TEXT_DETAIL = "NULs, and control characters for more than a tenth: UTF-16 or UTF-32 without a mark, or no text"

# Longest first: the mark of UTF-32 LE begins with that of UTF-16 LE.
_MARKS = (
    CodeUnits(4, False, codecs.BOM_UTF32_LE),
    CodeUnits(4, True, codecs.BOM_UTF32_BE),
    CodeUnits(1, False, codecs.BOM_UTF8),
    CodeUnits(2, False, codecs.BOM_UTF16_LE),
    CodeUnits(2, True, codecs.BOM_UTF16_BE),
)
_WIDE = {"utf-16": (2, False), "utf-16-le": (2, False), "utf-16-be": (2, True)}
_WIDE |= {"utf-32": (4, False), "utf-32-le": (4, False), "utf-32-be": (4, True)}
_ASCII = bytes([9, 10, 13, *range(32, 127)])


def find_encoding(head: bytes, encoding: str) -> tuple[CodeUnits, str]:
    """Code units and codec of a file that begins with `head` (4 bytes); a byte order mark wins over `encoding`.

    Raises:
        ConfigError: for an unknown encoding, or one in which ASCII bytes are not ASCII characters.
    """
    for units in _MARKS:
        if head.startswith(units.mark):
            return units, units.codec
    codec = check_encoding(encoding)
    if codec in _WIDE:
        units = CodeUnits(*_WIDE[codec])
        return units, units.codec
    return CodeUnits(), codec


def check_encoding(encoding: str) -> str:
    """The codec's own name ("utf-8" for utf_8_sig too).

    Raises:
        ConfigError: see `find_encoding`.
    """
    try:
        name = codecs.lookup(encoding).name.replace("utf-8-sig", "utf-8")
        if name in _WIDE or _ASCII.decode(name) == _ASCII.decode("ascii"):
            return name
    except (LookupError, UnicodeError):
        raise ConfigError(f"encoding {encoding!r} is unknown: utf-8, utf-16, latin-1 and cp1252 are usual") from None
    raise ConfigError(f"encoding {encoding!r} can't be cut into lines: convert the files to UTF-8")


def decode(
    data: bytes, starts: Places, ends: Places, codec: str, replace: bool
) -> tuple[pa.LargeStringArray, Int64[np.ndarray, " kept"], list[tuple[int, str, str]]]:
    """(texts, which pieces they are, (piece, reason, detail) of those that can't be decoded, or are no text)."""
    if codec == "utf-8":
        view = np.frombuffer(data, np.uint8)
        kinds = check_texts(view, starts, ends)
        fast = np.flatnonzero(kinds == TEXT)
        if len(starts) == 1 and len(fast) == 1:
            values, offsets = pa.py_buffer(data), np.array([starts[0], ends[0]])
        else:
            values, offsets = gather(view, starts[fast], ends[fast])
        texts = large_strings(values, offsets)
    else:
        kinds = np.full(len(starts), TEXT, np.int8)
        fast, texts = np.empty(0, np.int64), large_strings(b"", np.zeros(1, np.int64))
    if len(fast) == len(starts):
        return texts, fast, []
    # Rare on UTF-8, and the plain way for all other encodings.
    slow, slow_texts, problems = [], [], []
    for i in np.setdiff1d(np.arange(len(starts)), fast).tolist():
        if kinds[i] == GARBAGE:
            problems.append((i, NOT_TEXT, NOT_TEXT_DETAIL))
            continue
        try:
            text = data[starts[i] : ends[i]].decode(codec, "replace" if replace else "strict")
        except UnicodeDecodeError as error:
            problems.append((i, BAD_UTF8, f"{error.reason} at byte {error.start} of the document"))
            continue
        if "\0" in text and is_no_text(text.encode(errors="replace")):
            problems.append((i, NOT_TEXT, NOT_TEXT_DETAIL))
            continue
        slow_texts.append(text)
        slow.append(i)
    places = np.concatenate([fast, np.array(slow, np.int64)])
    order = np.argsort(places)
    texts = pa.concat_arrays([texts, pa.array(slow_texts, pa.large_string())])
    return texts.take(order) if len(fast) else texts, places[order], problems
