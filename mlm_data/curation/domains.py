"""Documents from hosts that a user doesn't want: a blocklist against the hosts of a column of URLs.

A host blocks itself and its subdomains: `example.org` blocks `www.example.org`, not `myexample.org`. Hosts are
compared in small letters, without user, port and dots at the end; names in other scripts as Punycode (Python's `idna`
codec: IDNA 2003), so `bücher.example` in the list blocks `xn--bcher-kva.example`, and the other way round.

The list is a text file in UTF-8: a host a line; `#` begins a comment; blank lines are skipped.
"""

import re
from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Bool

from mlm_data.errors import ConfigError

ALGORITHM_VERSION = 1  # enters cache keys: count up when any host comes out differently

# RFC 3986, appendix B, where a scheme may be left out: RE2's, so time is linear. Browsers take \\ for /.
_AUTHORITY = r"^\s*(?:[A-Za-z][A-Za-z0-9+.-]*:)?(?://|\\\\)?(?P<authority>[^/?#\\\s]*)"
_USER = r"^.*@"
_HOST = r"^(?P<host>\[[0-9A-Fa-f:.]*\]|[^:]*)"
_NAME = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?(\.[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?)*|\[[0-9a-f:.]+\]")
_MAX_HOST = 253  # characters (RFC 1035, section 2.3.4, without the root)


def hosts(urls: pa.StringArray | pa.LargeStringArray) -> pa.Array:
    """The host of each URL, in small letters; null where there is none.

    >>> hosts(pa.array(["https://me@WWW.Example.org.:8080/a", "example.org/b", "bücher.example", "/a"])).to_pylist()
    ['www.example.org', 'example.org', 'xn--bcher-kva.example', None]
    """
    authority = pc.struct_field(pc.extract_regex(urls, _AUTHORITY), "authority")
    host = pc.extract_regex(pc.replace_substring_regex(authority, _USER, ""), _HOST)
    found = pc.struct_field(host, "host")
    found = pc.utf8_rtrim(pc.ascii_lower(found), ".")
    foreign = pc.fill_null(pc.invert(pc.string_is_ascii(found)), False)
    if pc.any(foreign).as_py():
        names = pc.unique(found.filter(foreign))
        table = {name: _punycode(name) for name in names.to_pylist()}
        replaced = pa.array([table[name] for name in found.filter(foreign).to_pylist()], found.type)
        found = pc.replace_with_mask(found, foreign, replaced)
    is_host = pc.and_(pc.greater(pc.binary_length(found), 0), pc.less_equal(pc.binary_length(found), _MAX_HOST))
    return pc.if_else(is_host, found, pa.scalar(None, found.type))


def blocked(urls: pa.StringArray | pa.LargeStringArray, blocklist: Collection[str]) -> Bool[np.ndarray, " documents"]:
    """Which URLs have a host of the list, or a subdomain of one. What has no host is not blocked.

    Args:
        urls: nulls are allowed.
        blocklist: as `read_blocklist` gives it.
    """
    encoded = pc.dictionary_encode(hosts(urls))
    if isinstance(encoded, pa.ChunkedArray):
        encoded = encoded.combine_chunks()
    unwanted = frozenset(blocklist)
    fate = np.array([_is_blocked(host, unwanted) for host in encoded.dictionary.to_pylist()] + [False])
    return fate[pc.fill_null(encoded.indices, len(fate) - 1).to_numpy(zero_copy_only=False)]


def read_blocklist(data: bytes, path: str) -> frozenset[str]:
    """The hosts of a list, in small letters, in Punycode; `path` is where its bytes come from.

    Raises:
        ConfigError: it is no text, or a line is no host: with its number.
    """
    try:
        lines = data.decode("utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ConfigError(f"domains: {path} is no text in UTF-8: one host a line is expected") from error
    found = set()
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip().lower().rstrip(".")
        if not name:
            continue
        name = _punycode(name)
        if len(name) > _MAX_HOST or not _NAME.fullmatch(name):
            raise ConfigError(f"domains: {path}, line {number}: {line.strip()[:60]!r} is no host: write example.org")
        found.add(name)
    return frozenset(found)


def _is_blocked(host: str, unwanted: frozenset[str]) -> bool:
    while host not in unwanted:
        _, dot, host = host.partition(".")
        if not dot:
            return False
    return True


def _punycode(name: str) -> str:
    """A host in ASCII; the name itself if it can't be written so."""
    if name.isascii():
        return name
    try:
        return name.encode("idna").decode("ascii").lower().rstrip(".")
    except UnicodeError:
        return name
