r"""Private data in texts, replaced by placeholders: addresses of email, IP addresses, telephone numbers, IBANs.

Precision comes first: what is replaced by mistake is lost in every copy. Section numbers, versions, OIDs, decorators
and file names stay. Replaced is:

`email`  local part, `@`, domain (RFC 5321, what occurs of it).
         Local: up to 64 bytes of letters, digits and `. _ % + -`, an apostrophe between letters; it begins with a
         letter, digit or `_` and has no two dots. Domain: two or more labels of letters, digits and `-`; the last has
         letters only, at least 2, or is xn--. Letters are ASCII and U+00C0 to U+027F.
         Not where `//` or `@` stands before it, or `@`, `_` or `(` behind it, and not where the last label is a kind
         of file or unit (`logo@2x.png`, `getty@tty1.service`), and not git@.
`ip`     a public address: IPv4 as four numbers to 255 without leading zeros; IPv6 as 8 groups, or with `::`, in
         2000::/3. Blocks for private use, documentation, loopback and the like (RFC 6890) name nobody and stay.
         Not where the word before says that a section, a version or an OID comes ("sections 1.2.3.4 and 99.98.97.96"),
         not behind a `/` in a path or user agent (`Chrome/99.98.97.96`). Four numbers look like a section or a
         version where all are below 32, or the first below 16, the second below 64 and the third below 16: then only in
         a URL, before a port or a prefix length, or behind "IP", "address", "host", "server" or "DNS".
`phone`  international: `+`, a country code in use, 9 to 15 digits in all (E.164), in groups with single spaces,
         `- . /` and one pair of brackets between; a single group of 10 or more, not at the beginning of a line (a
         patch); dots only with 3 or more groups. Of North America also without the `+`: (415) 555-2671, 415-555-2671,
         415.555.2671, 1-415-555-2671; area and exchange begin with 2 to 9, the area doesn't end in 11.
`iban`   two capitals, two digits, the length of its country, in one piece or in groups of four; 1 modulo 97 (ISO
         13616).

Beside all but email no letter, digit or underscore may stand, and no `-` or, behind, `.` that joins it to one; no dot
before it.

Emails are found first, everything else from left to right; what is replaced already counts as a mark for what stands
beside it. So replacing twice changes nothing. Placeholders do not rotate: a text's result depends on nothing else.

Cost: one comparison of 64 bytes at a time looks for `@` and for digits; only texts with private data are copied.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple, get_args

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int16, Int32, Int64, UInt8, UInt64

from mlm_data.curation.privacy_kernels import EMAIL, IBAN, IP, PHONE, find, rewrite
from mlm_data.errors import ConfigError
from mlm_data.hashing import string_buffers
from mlm_data.kernels import read_only

ALGORITHM_VERSION = 1  # enters cache keys: count up when any text comes out differently

Kind = Literal["email", "ip", "phone", "iban"]
KINDS: tuple[Kind, ...] = get_args(Kind)
PLACEHOLDERS: Mapping[str, str] = {"email": "<EMAIL>", "ip": "<IP>", "phone": "<PHONE>", "iban": "<IBAN>"}
# Tokens that tokenizers have for this: ModernBERT's and OLMo's; others' in one style each.
_TOKENS: Mapping[str, Sequence[str]] = {
    "email": ("|||EMAIL_ADDRESS|||", "<EMAIL>", "[EMAIL]", "<|EMAIL|>"),
    "ip": ("|||IP_ADDRESS|||", "<IP>", "[IP]", "<|IP|>", "<IP_ADDRESS>"),
    "phone": ("|||PHONE_NUMBER|||", "<PHONE>", "[PHONE]", "<|PHONE|>", "<PHONE_NUMBER>"),
    "iban": ("<IBAN>", "[IBAN]", "<|IBAN|>"),
}

# Endings of files and of systemd's units, of up to 8 letters, that stand behind an @ and a name.
NO_DOMAINS = (
    *("png", "jpg", "jpeg", "gif", "svg", "webp", "css", "html", "htm", "json", "php", "txt", "xml", "pdf", "tgz"),
    *("service", "socket", "timer", "target", "mount", "device", "slice", "scope"),
)
# Words before four numbers that are no address, cut to 8 letters; links of a list of numbers; words between.
COUNTED = (
    *("version", "versions", "ver", "v", "release", "releases", "rev", "revision", "build", "firmware", "driver"),
    *("section", "sections", "subsecti", "sec", "secs", "sect", "chapter", "chapters", "clause", "clauses"),
    *("paragrap", "para", "appendix", "annex", "oid", "oids"),
)
LINKS = ("and", "or", "to", "through")
FILLERS = ("is", "no", "number", "numbers", "nr")
ADDRESS_WORDS = ("ip", "ips", "ipv", "address", "addresse", "host", "server", "dns")

# Country codes in use (ITU-T E.164), by their number of digits; 1 and 7 are whole zones.
_ZONES = (1, 7)
_TWO_DIGITS = (
    *(20, 27, 30, 31, 32, 33, 34, 36, 39, 40, 41, 43, 44, 45, 46, 47, 48, 49, 51, 52, 53, 54, 55, 56, 57, 58),
    *(60, 61, 62, 63, 64, 65, 66, 81, 82, 84, 86, 90, 91, 92, 93, 94, 95, 98),
)
_THREE_DIGITS = (
    *(211, 212, 213, 216, 218, *range(220, 259), *range(260, 270), 290, 291, 297, 298, 299, *range(350, 360)),
    *(*range(370, 379), 380, 381, 382, 383, 385, 386, 387, 389, 420, 421, 423, *range(500, 510), *range(590, 600)),
    *(670, *range(672, 684), *range(685, 693), 800, 808, 850, 852, 853, 855, 856, 870, 878, 880, 881, 882, 883),
    *(886, 888, *range(960, 969), *range(970, 978), 979, 992, 993, 994, 995, 996, 998),
)
# Characters of an IBAN (SWIFT, IBAN Registry, release 99).
_IBAN_LENGTHS = """
AD24 AE23 AL28 AT20 AZ28 BA20 BE16 BG22 BH22 BI27 BR29 BY28 CH21 CR22 CY28 CZ24 DE22 DJ27 DK18 DO28 EE20 EG29 ES24
FI18 FK18 FO18 FR27 GB22 GE22 GI23 GL18 GR27 GT28 HN28 HR21 HU28 IE22 IL23 IQ23 IS26 IT27 JO30 KW30 KZ20 LB28 LC32
LI21 LT20 LU20 LV21 LY25 MC27 MD24 ME22 MK19 MN20 MR27 MT31 MU30 NI20 NL18 NO15 OM23 PK24 PL28 PS29 PT25 QA29 RO24
RS22 RU33 SA24 SC31 SD18 SE24 SI19 SK24 SM27 SO23 ST25 SV28 TL23 TN24 TR26 UA29 VA22 VG24 XK20 YE30
"""
IBAN_LENGTHS: Mapping[str, int] = {entry[:2]: int(entry[2:]) for entry in _IBAN_LENGTHS.split()}


@dataclass(frozen=True, kw_only=True)
class Found:
    """Where private data is: the bytes [start, end) of the buffer of all texts, in order, and which of KINDS."""

    starts: Int64[np.ndarray, " found"]
    ends: Int64[np.ndarray, " found"]
    kinds: UInt8[np.ndarray, " found"]
    counts: Int32[np.ndarray, "documents all_kinds"]


@dataclass(frozen=True, kw_only=True)
class Replaced:
    """Texts without private data. Column k of the counts is for the k-th of the kinds that were asked for."""

    texts: pa.LargeStringArray
    counts: Int32[np.ndarray, "documents kinds"]


def find_private(texts: pa.LargeStringArray, kinds: Sequence[Kind]) -> Found:
    """All private data of some kinds in the texts; see the rules above. Nulls are not allowed."""
    data, offsets = string_buffers(texts)
    wanted = np.array([kind in kinds for kind in KINDS])
    counts = np.empty((len(texts), len(KINDS)), np.int32)
    room = 64
    while True:
        starts, ends, which = np.empty(room, np.int64), np.empty(room, np.int64), np.empty(room, np.uint8)
        found = find(data, offsets, wanted, _no_domains(), _tables(), starts, ends, which, counts)
        if found <= room:
            return Found(starts=starts[:found], ends=ends[:found], kinds=which[:found], counts=counts)
        room = max(found, 2 * room)


def replace_private(
    texts: pa.LargeStringArray, kinds: Sequence[Kind], placeholders: Mapping[str, str] = PLACEHOLDERS
) -> Replaced:
    """The texts with a placeholder for each piece of private data, and how many there were; see the rules above.

    The array itself is returned where there is nothing to replace. Nulls are not allowed.

    Raises:
        ConfigError: a kind that there isn't, or a placeholder that can't be told from the text beside it.

    >>> texts = pa.array(["Ask ann@example.org, or call (415) 555-2671."], pa.large_string())
    >>> replaced = replace_private(texts, ("email", "phone"))
    >>> replaced.texts.to_pylist(), replaced.counts.tolist()
    (['Ask <EMAIL>, or call <PHONE>.'], [[1, 1]])
    """
    check_placeholders(kinds, placeholders)
    counts = np.zeros((len(texts), len(kinds)), np.int32)
    # What stood beside a replaced piece may become private data by that: again, until nothing is found. A round takes
    # digits or an @ away, so there is an end; the second finds nothing in texts that people write.
    while len((found := find_private(texts, kinds)).starts):
        counts += found.counts[:, [KINDS.index(kind) for kind in kinds]]
        texts = _replace(texts, found, placeholders)
    return Replaced(texts=texts, counts=counts)


def _replace(texts: pa.LargeStringArray, found: Found, placeholders: Mapping[str, str]) -> pa.LargeStringArray:
    data, offsets = string_buffers(texts)
    marks = [placeholders.get(kind, "").encode() for kind in KINDS]
    lengths = np.array([len(mark) for mark in marks])
    size = int(offsets[-1] - offsets[0]) + int((lengths[found.kinds] - (found.ends - found.starts)).sum())
    out, places = np.empty(size, np.uint8), np.empty(len(texts) + 1, np.int64)
    mark_bytes, mark_offsets = np.frombuffer(b"".join(marks), np.uint8), np.concatenate([[0], np.cumsum(lengths)])
    rewrite(data, offsets, found.starts, found.ends, found.kinds, mark_bytes, mark_offsets, out, places)
    buffers = [None, pa.py_buffer(places), pa.py_buffer(out)]
    return pa.Array.from_buffers(pa.large_string(), len(texts), buffers)


def placeholders_of(tokens: Collection[str]) -> Mapping[str, str]:
    """The placeholder for each kind: a token of the tokenizer where it has one for this, else such as `<EMAIL>`.

    >>> placeholders_of({"[MASK]", "|||EMAIL_ADDRESS|||"})
    {'email': '|||EMAIL_ADDRESS|||', 'ip': '<IP>', 'phone': '<PHONE>', 'iban': '<IBAN>'}
    """
    return {kind: next((name for name in _TOKENS[kind] if name in tokens), PLACEHOLDERS[kind]) for kind in KINDS}


def check_placeholders(kinds: Sequence[str], placeholders: Mapping[str, str]) -> None:
    """Refuse kinds that there aren't, and placeholders that would be taken for text or for private data.

    Raises:
        ConfigError: names the kind and the placeholder.
    """
    for kind in kinds:
        if kind not in KINDS:
            raise ConfigError(f"privacy: there is no kind {kind!r}: take some of {', '.join(KINDS)}")
        mark = placeholders.get(kind, "")
        if not (mark.isascii() and mark and all(edge in "<>[](){}|" for edge in (mark[0], mark[-1]))):
            raise ConfigError(f"privacy: the placeholder {mark!r} for {kind} must be ASCII between brackets: <EMAIL>")
        if "@" in mark or any(char.isdigit() for char in mark):
            raise ConfigError(f"privacy: the placeholder {mark!r} for {kind} must have no @ and no digit: <EMAIL>")


def _number(name: str) -> int:
    """Up to 8 letters as a number: how kernels compare words."""
    return int.from_bytes(name.encode(), "big")


def _numbers(names: Sequence[str]) -> UInt64[np.ndarray, " names"]:
    return np.array([_number(name) for name in names], np.uint64)


@lru_cache(maxsize=1)
def _no_domains() -> UInt64[np.ndarray, " names"]:
    return read_only(_numbers(NO_DOMAINS))


class _Tables(NamedTuple):
    prefixes: Bool[np.ndarray, " prefixes"]  # three digits that an international number may begin with
    lengths: Int16[np.ndarray, " countries"]  # of IBANs, by two letters; 0: no such country
    counted: UInt64[np.ndarray, " counted"]
    links: UInt64[np.ndarray, " links"]
    fillers: UInt64[np.ndarray, " fillers"]
    address_words: UInt64[np.ndarray, " address_words"]


@lru_cache(maxsize=1)
def _tables() -> _Tables:
    prefixes = np.zeros(1000, np.bool_)
    for code in _ZONES:
        prefixes[100 * code : 100 * code + 100] = True
    for code in _TWO_DIGITS:
        prefixes[10 * code : 10 * code + 10] = True
    prefixes[list(_THREE_DIGITS)] = True
    lengths = np.zeros(26 * 26, np.int16)
    for country, length in IBAN_LENGTHS.items():
        lengths[(ord(country[0]) - 65) * 26 + ord(country[1]) - 65] = length
    words = [_numbers(names) for names in (COUNTED, LINKS, FILLERS, ADDRESS_WORDS)]
    return _Tables(*map(read_only, (prefixes, lengths, *words)))


assert tuple(range(len(KINDS))) == (EMAIL, IP, PHONE, IBAN), "the kernels count kinds in the same order"
