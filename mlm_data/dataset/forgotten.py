"""The list of texts that a dataset has forgotten: an attachment, `versions/<digest>.forgotten.jsonl`.

A line `{"id": hexadecimal}` for each. `premask forget` adds to it, versions made from versions take it over, and a
build into the same folder drops what stands in the list of the version that is the current one when it begins.
"""

import json
from collections.abc import Iterable

import pyarrow as pa

from mlm_data.dataset.manifest import latest, load_attachment, load_manifest
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

LIST = "forgotten.jsonl"


def parse_list(data: bytes, *, where: str) -> set[bytes]:
    """The ids in a list.

    Raises:
        FormatError: if it is damaged.
    """
    try:
        return {bytes.fromhex(json.loads(line)["id"]) for line in data.splitlines()}
    except (ValueError, KeyError, TypeError) as error:
        raise FormatError(f"{where}: a line is no document's id: run premask verify") from error


def write_list(ids: Iterable[bytes]) -> bytes:
    """The inverse of `parse_list`."""
    return "".join(json.dumps({"id": one.hex()}) + "\n" for one in sorted(ids)).encode()


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
    """The ids in a list, binary(16), ascending; none for the name ""."""
    ids = parse_list(folder.read(name), where=f"{folder.location}/{name}") if name else set()
    return pa.array(sorted(ids), pa.binary(16))
