"""Encodings that pass for another one: what a file's first bytes look like, for a warning. Nothing is read by a guess.

UTF-16 and UTF-32 without a mark have NULs, or are no UTF-8; the right one of the four gives text with spaces, line ends
or East Asian punctuation in it, and hardly a code point that nobody uses. ISO-2022 and UTF-7 are pure ASCII: their
escapes are looked for.
"""

import base64
import re
import unicodedata

SAMPLE_BYTES = 4096
_BREAKS = frozenset(" \n\r\t\u3000\u3001\u3002\uff0c\uff0e")
_ISO_2022 = ((rb"\x1b\$[@B]", "iso2022_jp"), (rb"\x1b\$\)C", "iso2022_kr"), (rb"\x1b\$\)[AG]", "iso2022_cn"))
_UTF7 = re.compile(rb"\+([A-Za-z0-9+/]{2,})-?")


def wide_without_mark(head: bytes) -> str:
    """utf-16-le, utf-16-be, utf-32-le or utf-32-be, if a file that begins so looks like it; else "".

    >>> wide_without_mark("Привет, мир. ".encode("utf-16-be"))
    'utf-16-be'
    """
    sample = head[: min(SAMPLE_BYTES, len(head)) // 4 * 4]
    for codec in ("utf-32-le", "utf-32-be", "utf-16-le", "utf-16-be"):
        try:
            text = sample.decode(codec)
        except UnicodeDecodeError as error:
            if error.end < len(sample):
                continue
            text = sample[: error.start].decode(codec)  # the sample's end may part a pair of surrogates
        breaks = sum(char in _BREAKS for char in text)
        odd = sum(unicodedata.category(char) in ("Cc", "Cn", "Co") and char not in _BREAKS for char in text)
        if breaks * 100 >= len(text) and odd * 100 <= len(text) and text:
            return codec
    return ""


def escaped_encoding(head: bytes) -> str:
    """iso2022_jp, iso2022_kr, iso2022_cn or utf-7, if there are such escapes in these bytes; else "".

    >>> escaped_encoding("日本語".encode("iso2022_jp"))
    'iso2022_jp'
    """
    for pattern, name in _ISO_2022:
        if re.search(pattern, head):
            return name
    found = _UTF7.findall(head)
    # Three different ones, and nine of ten: "+Foo-" stands in program code, too, but is hardly ever UTF-16 of letters.
    good = [run for run in found if _is_utf7(run)] if head.isascii() else []
    return "utf-7" if len(set(good)) >= 3 and len(good) * 10 >= len(found) * 9 else ""


def _is_utf7(run: bytes) -> bool:
    """Whether a run of base64 is UTF-16 of letters as RFC 2152 writes it: the bits that are left over are zeros."""
    spare_bits = 6 * len(run) % 16
    if spare_bits >= 6 or len(run) < 3:
        return False
    data = base64.b64decode(run + b"A" * (-len(run) % 4))  # "A" is six zeros
    size = 6 * len(run) // 16 * 2
    try:
        text = data[:size].decode("utf-16-be")
    except UnicodeDecodeError:
        return False
    is_said = all(unicodedata.category(char)[0] in "LMP" for char in text)  # letters, their marks, punctuation
    return not any(data[size:]) and is_said and any(ord(char) > 127 for char in text)
