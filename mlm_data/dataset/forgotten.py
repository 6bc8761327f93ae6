"""The list of texts that a dataset has forgotten: an attachment, `versions/<digest>.forgotten.jsonl`.

A line `{"mark": hexadecimal}` for each. `premask forget` adds to it, versions made from versions take it over, and a
build into the same folder drops what stands in the list of the version that is the current one when it begins. The list
only grows: whatever is published has the marks of the version that was the current one, too (see `publish`).

A mark is the first 16 bytes of SHA-256("premask.forgotten.1" and the document's id). Not the id itself: an id is a
MurmurHash3, and that can be turned round, so the id of a text of 15 bytes or fewer is as good as the text. What a mark
gives away is less, and can't be less if a build is to know the text again: whoever has a text can ask whether it is on
the list, and a short text can be found by trying all.

Lists of older datasets have lines `{"id": hexadecimal}`; they are read as marks.
"""

import hashlib
import json
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
from jaxtyping import Bool

from mlm_data.dataset.manifest import latest, load_attachment, load_manifest
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

LIST = "forgotten.jsonl"
MARK_BYTES = 16
_DOMAIN = hashlib.sha256(b"premask.forgotten.1")


def mark(document: bytes) -> bytes:
    """What a list keeps of a document's id.

    >>> mark(bytes(16)).hex()
    'db4bd9ed92e7efff7a01ee93938dff44'
    """
    hasher = _DOMAIN.copy()
    hasher.update(document)
    return hasher.digest()[:MARK_BYTES]


def marks_of(ids: Iterable[bytes]) -> pa.Array:
    """The marks of some ids, in their order.

    Cost: one to two microseconds each, paid only where something was forgotten.
    """
    return pa.array([mark(one) for one in ids], pa.binary(MARK_BYTES))


def are_listed(ids: pa.Array | pa.ChunkedArray, marks: pa.Array) -> Bool[np.ndarray, " ids"]:
    """Whether the mark of each id is among those of a list (`read_list`)."""
    if not len(marks):
        return np.zeros(len(ids), np.bool_)
    return np.asarray(pa.compute.is_in(marks_of(ids.to_pylist()), value_set=marks), bool)


def parse_list(data: bytes, *, where: str) -> set[bytes]:
    """The marks in a list.

    Raises:
        FormatError: if it is damaged.
    """
    try:
        return {_parse_line(json.loads(line)) for line in data.splitlines()}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{where}: a line is no mark of a document: run premask verify") from error


def _parse_line(line: dict[str, str]) -> bytes:
    found = bytes.fromhex(line["mark"]) if "mark" in line else mark(bytes.fromhex(line["id"]))
    if len(found) != MARK_BYTES:
        raise ValueError("of another length")
    return found


def write_list(marks: Iterable[bytes]) -> bytes:
    """The inverse of `parse_list`."""
    return "".join(json.dumps({"mark": one.hex()}) + "\n" for one in sorted(marks)).encode()


def current_list(folder: Folder) -> str:
    """Name of the current version's list; "" where there is none.

    Raises:
        FormatError: if a byte of it was changed: a build must not bring back what was forgotten.
    """
    digest = latest(folder)
    if digest is None or not load_attachment(folder, load_manifest(folder, digest), LIST):
        return ""
    return f"versions/{digest}.{LIST}"


def read_list(folder: Folder, name: str) -> pa.Array:
    """The marks in a list, binary(16), ascending; none for the name ""."""
    marks = parse_list(folder.read(name), where=f"{folder.location}/{name}") if name else set()
    return pa.array(sorted(marks), pa.binary(MARK_BYTES))
