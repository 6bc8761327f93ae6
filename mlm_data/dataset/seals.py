"""Canonical JSON (RFC 8785), and JSON that vouches for itself: manifests, side files, tombstones.

RFC 8785 has no integers above 2^53 - 1; those (a seed may be one) are written as decimal strings.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import rfc8785

from mlm_data.errors import FormatError

MAX_SAFE_INTEGER = 2**53 - 1


def canonical(value: Any) -> bytes:
    """RFC 8785 bytes of plain JSON types; integers that it can't hold become decimal strings.

    >>> canonical({"b": 2**60, "a": 0.30})
    b'{"a":0.3,"b":"1152921504606846976"}'
    """
    return rfc8785.dumps(_plain(value))


def parse_object(data: bytes, where: str) -> dict[str, Any]:
    """A JSON object.

    Raises:
        FormatError: if it is none; `where` is for the message.
    """
    try:
        value = json.loads(data)
    except ValueError as error:
        raise FormatError(f"{where}: damaged: {error}") from error
    if not isinstance(value, dict):
        raise FormatError(f"{where}: damaged: not a JSON object")
    return value


def sealed(value: Mapping[str, Any]) -> bytes:
    """Canonical JSON with a checksum of itself in it."""
    checksum = hashlib.sha256(canonical(value)).hexdigest()
    return canonical({**value, "checksum": checksum})


def unseal(data: bytes, where: str) -> dict[str, Any]:
    """The inverse of `sealed`.

    Raises:
        FormatError: if a byte was changed.
    """
    value = parse_object(data, where)
    value.pop("checksum", None)
    if sealed(value) != data:
        raise FormatError(f"{where}: its checksum is wrong: a byte was changed")
    return value


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) > MAX_SAFE_INTEGER:
        return str(value)
    return value
