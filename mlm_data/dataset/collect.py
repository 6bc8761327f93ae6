"""What no version of a dataset needs, and how to be rid of it.

    kept      LATEST, tags/, every version's manifest, side file, file table and attachments
              what a file table names: rows, masks, documents, signatures
              the tokenizers that manifests name
    garbage   files in rows/, masks/, documents/, signatures/ that no file table names: of builds that never ended
              tokenizers that no manifest names
              temporary files
              files in versions/ of a version without a manifest: its publication never ended
              work/: prepared units and what else is a cache; the next build makes it again

If one version can't be read, nobody knows what it needs, and nothing is garbage. A build that runs meanwhile has files
that no version names yet. So a file counts as garbage only if it has not been touched for an hour, unless one asks for
less; the build itself looks again at what it reuses.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass

from mlm_data.dataset.manifest import LATEST, load_files, load_manifest, load_side, version_names
from mlm_data.dataset.names import versions
from mlm_data.errors import FormatError
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import TEMPORARY, Folder, explain

WORK, TEMPORARY_FILES, SHARDS, TOKENIZERS, VERSIONS = "work", "temporary files", "shards", "tokenizers", "versions"
SAFE_SECONDS = 3600  # a build writes its shards and names them within this, or begins anew


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that no version needs."""

    name: str  # relative to the dataset
    kind: str  # work, temporary files, shards, tokenizers or versions
    num_bytes: int


def find_garbage(folder: Folder, *, min_age: float = SAFE_SECONDS, now: float | None = None) -> list[Garbage]:
    """All files that no version needs, by name.

    Args:
        folder: the dataset.
        min_age: seconds since a file was last changed, below which it is left alone: a build may be about to name it.
        now: seconds since the epoch; the clock's by default.

    Raises:
        FormatError: if the folder is no dataset, or one of its versions can't be read.
    """
    needed = needed_files(folder)
    latest = (time.time() if now is None else now) - min_age
    found = []
    for name, info in folder.walk():
        kind = _kind(name, needed)
        if kind is not None and (info.mtime_ns or 0) / 1e9 <= latest:
            found.append(Garbage(name=name, kind=kind, num_bytes=info.size))
    return found


def needed_files(folder: Folder) -> set[str]:
    """Names of all files that the versions need; tags and LATEST are not among them.

    Raises:
        FormatError: if the folder is no dataset, or one of its versions can't be read.
    """
    digests = versions(folder)
    if not digests:
        load_manifest(folder)  # says what is wrong
        raise FormatError(f"{folder.location}: holds no version")
    needed: set[str] = set()
    for digest in digests:
        manifest = load_manifest(folder, digest)
        needed.update(version_names(manifest).values())
        needed.update(load_files(folder, manifest)["name"].to_pylist())
        needed.update(f"versions/{digest}.{name}" for name in load_side(folder, manifest).get("attachments", {}))
    return needed


def collect(folder: Folder, garbage: list[Garbage]) -> None:
    """Delete what `find_garbage` has found.

    Raises:
        StorageError: if a file can't be deleted.
    """
    for one in garbage:
        try:
            folder.delete(one.name)
        except OSError as error:
            raise explain(error, f"{folder.location}/{one.name}", "delete") from error


def _kind(name: str, needed: set[str]) -> str | None:
    """What kind of garbage a file is; None if it is none, or nothing that we know."""
    if name in needed or name == LATEST:
        return None
    top, _, rest = name.partition("/")
    if name.rpartition("/")[2].startswith(TEMPORARY):
        return TEMPORARY_FILES
    if top == WORK:
        return WORK
    if top in fmt.KINDS and rest.endswith(".arrow"):
        return SHARDS
    if top == "tokenizer" and rest.endswith(".json"):
        return TOKENIZERS
    if top == "versions" and f"versions/{rest.partition('.')[0]}.json" not in needed:
        return VERSIONS
    return None


def by_kind(garbage: list[Garbage]) -> Iterator[tuple[str, int, int]]:
    """Kind, files and bytes, for each kind that there is."""
    for kind in (WORK, TEMPORARY_FILES, SHARDS, TOKENIZERS, VERSIONS):
        mine = [one.num_bytes for one in garbage if one.kind == kind]
        if mine:
            yield kind, len(mine), sum(mine)
