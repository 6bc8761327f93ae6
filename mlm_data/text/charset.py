r"""Which encoding a page or a file of text is in, where nobody says it, or who says it may be wrong.

In this order; the first that holds is taken:

1. a byte order mark
2. escapes of ISO-2022-JP and the like, in bytes that are all ASCII; the zeros of UTF-16 and UTF-32
3. UTF-8, if all bytes are UTF-8: other encodings hardly ever are by chance
4. what the HTTP header says, then what the page's own `<meta charset>` says, under the names that browsers know
   (WHATWG Encoding Standard), if it decodes every byte and isn't refuted (below)
5. UTF-8, if it was declared, or is, but for one in `BAD_ONE_IN` of its characters: a page that was cut, a stray byte
6. windows-1252, where less than `FEW` bytes aren't ASCII, each alone between ASCII ones: they tell nothing
7. a detector (chardet), on the text around the first bytes that aren't ASCII; what it finds must decode every byte
8. what was declared, or windows-1252, with U+FFFD for what it doesn't allow, as the WHATWG standard decodes

A declaration is refuted if header and page contradict each other; or if it is a Western one, the default of many
servers, and more than `FOREIGN_SHARE` of the letters are not ASCII: Western languages have a tenth of such letters,
Russian or Greek under a wrong name have nearly only them.

    b"caf\xe9"                              windows-1252, as nobody knows
    b"\xcf\xf0\xe8\xe2\xe5\xf2 ..."         windows-1251, by the detector, though a header says iso-8859-1

The answer is a function of the bytes and of chardet's version, which `identity` names.
"""

import codecs
import importlib.metadata
import re
from dataclasses import dataclass, replace
from types import ModuleType

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.errors import ConfigError
from mlm_data.text.encodings import find_encoding
from mlm_data.text.guess_encoding import escaped_encoding, wide_without_mark
from mlm_data.text.markup import strip_tags
from mlm_data.text.streams import ByteStream
from mlm_data.text.utf8 import TEXT, check_texts
from mlm_data.types import Slice

ALGORITHM_VERSION = 1

HEAD_BYTES = 1 << 20  # of a file of text
META_BYTES = 4096  # browsers look at 1024; pages with long heads declare it behind them
SAMPLE_BYTES = 8 << 10  # for the detector, which reads 2 MB/s
BAD_ONE_IN = 50
FEW = 5
FOREIGN_SHARE = 0.3

_HIGH = re.compile(rb"[\x80-\xff]+")
_META = re.compile(rb"<meta[^>]{0,512}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_XML = re.compile(rb"\s*<\?xml[^>]{0,256}?encoding\s*=\s*[\"']([A-Za-z0-9_:.-]{2,40})")
_HEADER = re.compile(r"charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE)
_WESTERN = frozenset({"cp1252", "iso8859-15", "mac-roman"})

# Labels that browsers take for a larger encoding of the same family (WHATWG Encoding Standard, section 4.2), as Python
# names it. What isn't here is as Python has it.
_BROWSERS = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "iso8859-11": "cp874",
    "tis-620": "cp874",
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "euc_kr": "cp949",
    "shift_jis": "cp932",
    "big5": "big5hkscs",
    "utf-16": "utf-8",  # a page that could be read so far is none
    "utf-16-le": "utf-8",
    "utf-16-be": "utf-8",
    "utf-32": "utf-8",
    "utf-7": "",
}
_LABELS = {
    "x-sjis": "cp932",
    "windows-31j": "cp932",
    "x-gbk": "gb18030",
    "x-x-big5": "big5hkscs",
    "ks_c_5601-1987": "cp949",
    "windows-949": "cp949",
    "x-euc-jp": "euc_jp",
    "x-cp1250": "cp1250",
    "x-cp1251": "cp1251",
    "x-mac-cyrillic": "mac-cyrillic",
    "iso-8859-8-i": "iso8859-8",
    "dos-874": "cp874",
    "windows-874": "cp874",
    "koi8-ru": "koi8-u",
    "unicode-1-1-utf-8": "utf-8",
    "x-user-defined": "",
}


@dataclass(frozen=True)
class Charset:
    """An encoding, as Python names it, and how it was found."""

    codec: str
    how: str  # mark, escapes, zeros, utf-8, declared, detector, default


def identity() -> str:
    """What the answers depend on beside the bytes: enters cache keys."""
    return f"{ALGORITHM_VERSION}, chardet {importlib.metadata.version('chardet')}"


def check_installed() -> None:
    """Raise the error that says what to install, before anything is read.

    Raises:
        ConfigError: chardet is not installed.
    """
    _detector()


def find_charset(data: bytes, *, header: str = "", is_html: bool = False) -> Charset:
    """The encoding of a page or text, by the rules above.

    Args:
        data: all of its bytes.
        header: the value of its field Content-Type, if it has one.
        is_html: whether a `<meta charset>` counts, and tags are no text.

    Raises:
        ConfigError: chardet is needed, and not installed.
    """
    units, codec = find_encoding(data[:4], "utf-8")
    if units.mark:
        return Charset(codec, "mark")
    if data.isascii() and b"\x1b" in data and (escapes := escaped_encoding(data)):
        return Charset(escapes, "escapes")
    if b"\0" in data[:META_BYTES] and (wide := wide_without_mark(data[:META_BYTES])):
        return Charset(wide, "zeros")
    if _is_utf8(data):
        return Charset("utf-8", "utf-8")
    declared = _declared(data, header, is_html)
    if len(declared) == 1 and declared != ["utf-8"] and _decodes(data, declared[0]):
        is_refuted = declared[0] in _WESTERN and _foreign_share(data, is_html) > FOREIGN_SHARE
        if not is_refuted:
            return Charset(declared[0], "declared")
    if _is_nearly_utf8(data):
        return Charset("utf-8", "utf-8")
    high = _HIGH.findall(data)
    if len(high) < FEW and max(map(len, high)) == 1 and not declared and _decodes(data, "cp1252"):
        return Charset("cp1252", "default")
    found = detect(data, is_html=is_html)
    if found:
        return Charset(found, "detector")
    fallback = next((name for name in declared if name != "utf-8"), "cp1252")
    return Charset(fallback, "default")


def decode(data: bytes, charset: Charset) -> bytes:
    """The bytes as UTF-8, without a mark; what the encoding doesn't allow becomes U+FFFD."""
    if charset.codec == "utf-8":
        data = data.removeprefix(codecs.BOM_UTF8)
        if charset.how != "mark" and _is_utf8(data):
            return data
    text = data.decode(charset.codec, "replace").removeprefix("\ufeff")
    return text.encode(errors="replace")


def detect(data: bytes, *, is_html: bool = False) -> str:
    """What chardet finds, as Python names it, if it decodes every byte; else "".

    Raises:
        ConfigError: chardet is not installed.
    """
    chardet = _detector()
    found = chardet.detect(_sample(data, is_html), compat_names=False)["encoding"]
    codec = _python_name(found) if found else ""
    if codec and _decodes(data, codec):
        return codec
    return ""


def _detector() -> ModuleType:
    try:
        import chardet
    except ImportError:
        raise ConfigError("finding encodings needs the package chardet: pip install 'premask[web]'") from None
    return chardet


def _is_utf8(data: bytes) -> bool:
    place = np.zeros(1, np.int64)
    return bool(check_texts(np.frombuffer(data, np.uint8), place, place + len(data))[0] == TEXT) or _decodes(
        data, "utf-8"
    )


def _is_nearly_utf8(data: bytes) -> bool:
    text = data.decode("utf-8", "replace")
    num_bad = text.count("\ufffd")
    num_good = sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text)))
    return num_good > 0 and num_bad * BAD_ONE_IN <= num_good + BAD_ONE_IN - 1 and num_bad < num_good


def _decodes(data: bytes, codec: str) -> bool:
    try:
        data.decode(codec)
    except (UnicodeDecodeError, LookupError):
        return False
    return True


def _declared(data: bytes, header: str, is_html: bool) -> list[str]:
    """The encodings that are declared, each once; of none is known that it is true."""
    labels = [found[1] for found in [_HEADER.search(header)] if found]
    if is_html:
        head = data[:META_BYTES]
        labels += [found[1].decode("ascii") for found in [_META.search(head) or _XML.match(head)] if found]
    names = [_python_name(label) for label in labels]
    return list(dict.fromkeys(name for name in names if name))


def _python_name(label: str) -> str:
    """The codec for a label as browsers understand it; "" if there is none for text."""
    label = label.strip().lower()
    if label in _LABELS:
        return _LABELS[label]
    try:
        info = codecs.lookup(label)
        bytes(range(32, 64)).decode(info.name)
    except (LookupError, UnicodeError, ValueError, AttributeError, TypeError):
        return ""
    return _BROWSERS.get(info.name, info.name)


def _foreign_share(data: bytes, is_html: bool) -> float:
    """The share of bytes above 127 among them and the ASCII letters."""
    values = np.frombuffer(strip_tags(data) if is_html else data, np.uint8)
    num_high = int(np.count_nonzero(values >= 0x80))
    lower = values | 32
    num_letters = int(np.count_nonzero((lower >= 97) & (lower <= 122) & (values < 0x80)))
    return num_high / max(1, num_high + num_letters)


def _sample(data: bytes, is_html: bool) -> bytes:
    """`SAMPLE_BYTES` of text from the line on that has the first byte above 127."""
    text = strip_tags(data) if is_html else data
    high = np.frombuffer(text, np.uint8) >= 0x80
    if not high.any():
        text, high = data, np.frombuffer(data, np.uint8) >= 0x80
    first = int(high.argmax())
    start = max(text.rfind(b"\n", 0, first) + 1, first - SAMPLE_BYTES // 2)
    return text[start : start + SAMPLE_BYTES]


def with_found_encoding(piece: Slice, settings: InputSettings) -> InputSettings:
    """The settings with the encoding of a file of text that declares none: what `clean.fix_encoding` does.

    It is looked for in the first `HEAD_BYTES` of the file, in whole lines: so all slices of a file agree. Where these
    are UTF-8, or `encoding` is set, the settings come back as they are.

    Raises:
        ConfigError: chardet is needed, and not installed.
        InputError: the file can't be read.
    """
    if "encoding" in settings.model_fields_set:
        return settings
    with ByteStream(replace(piece, start=0)) as stream:
        head = stream.peek(HEAD_BYTES)
    found = find_charset(head[: head.rfind(b"\n") + 1] or head)
    if found.how in ("mark", "utf-8", "zeros", "default"):
        return settings
    return settings.model_copy(update={"encoding": found.codec})
