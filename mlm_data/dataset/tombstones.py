"""Tombstones: what stays of a version that `premask forget --purge` took away.

    versions/<digest>.purged.json    sealed canonical JSON, instead of the version's manifest

A tombstone says when the version was purged and which one takes its place, and what `premask log` shows of it: parent,
time, command. It holds no text, no tokens, and no ids or hashes of documents. The version's own digest is a
hash over all of its tables: nothing of one document follows from it.

A manifest beside a tombstone wins: the purge that wrote it has not come further, or the version was made again.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from mlm_data.dataset.seals import sealed, unseal
from mlm_data.errors import FormatError, PurgedError
from mlm_data.stores.folder import Folder

_NAME = re.compile(r"([0-9a-f]{64})\.purged\.json")


@dataclass(frozen=True, kw_only=True)
class Tombstone:
    """What is known of a purged version."""

    digest: str
    purged: str  # when: ISO 8601, in UTC
    replaced_by: str  # digest
    parent: str | None  # as the version's side file had it, like the two below
    published: str
    made_by: str


def tombstone_name(digest: str) -> str:
    """Where a version's tombstone is."""
    return f"versions/{digest}.purged.json"


def is_tombstone(name: str) -> bool:
    """Whether a file of a dataset is a tombstone, by its name."""
    return _NAME.fullmatch(name.removeprefix("versions/")) is not None and name.startswith("versions/")


def write_tombstone(folder: Folder, stone: Tombstone) -> None:
    """Say that a version was purged; from then on nobody opens it whose manifest is gone."""
    folder.write(tombstone_name(stone.digest), sealed(asdict(stone)))


def read_tombstone(folder: Folder, digest: str) -> Tombstone | None:
    """The tombstone of a version; None where it has none.

    Raises:
        FormatError: if it is damaged.
    """
    name = tombstone_name(digest)
    if not folder.exists(name):
        return None
    where = f"{folder.location}/{name}"
    value: Mapping[str, Any] = unseal(folder.read(name), where)
    try:
        stone = Tombstone(**value)
    except TypeError as error:
        raise FormatError(f"{where}: damaged: not what a tombstone holds") from error
    if stone.digest != digest:
        raise FormatError(f"{where}: holds the tombstone of {stone.digest}")
    return stone


def purged_versions(folder: Folder) -> list[str]:
    """The digests of all purged versions, ascending: those with a tombstone and without a manifest."""
    names = folder.names("versions")
    there = {name for name in names if name.endswith(".json")}
    return [found[1] for name in names if (found := _NAME.fullmatch(name)) and f"{found[1]}.json" not in there]


def heir(folder: Folder, stone: Tombstone) -> str:
    """The digest of the version that takes a purged one's place today: it may have been purged itself since."""
    digest, seen = stone.replaced_by, {stone.digest}
    while digest not in seen and not folder.exists(f"versions/{digest}.json"):
        seen.add(digest)
        after = read_tombstone(folder, digest)
        if after is None:
            break
        digest = after.replaced_by
    return digest


def epitaph(folder: Folder, stone: Tombstone) -> str:
    """A line for people: that a version was purged, when, and which one takes its place."""
    when = stone.purged.replace("T", " ").removesuffix("+00:00")
    return (
        f"{folder.location}@{stone.digest[:16]}: was purged on {when} UTC, with documents that were to be forgotten: "
        f"{folder.location}@{heir(folder, stone)[:16]} takes its place"
    )


def check_not_purged(folder: Folder, digest: str) -> None:
    """Say so if a version whose manifest is missing was purged.

    Raises:
        PurgedError: if it was.
        FormatError: if its tombstone is damaged.
    """
    stone = read_tombstone(folder, digest)
    if stone is not None:
        raise PurgedError(epitaph(folder, stone))
