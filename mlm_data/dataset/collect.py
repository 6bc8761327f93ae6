"""What no version of a dataset needs, and how to be rid of it.

    kept      LATEST, tags/, every version's manifest, side file, file table and attachments, every tombstone
              what a file table names: rows, masks, documents, signatures
              the tokenizers that manifests name
    garbage   what purged versions alone needed, where a purge was interrupted
              files in rows/, masks/, documents/, signatures/ that no file table names: of builds that never ended
              tokenizers that no manifest names
              temporary files, and whatever lies in a temporary folder, such as half of an export
              files in versions/ of a version without a manifest: its publication never ended
              work/: prepared units and what else is a cache; the next build makes it again

If one version can't be read, nobody knows what it needs, and nothing is deleted.

A command that runs meanwhile has written files that no version names yet. It goes on writing, so if any garbage is
younger than an hour, something may be at work here, and nothing should be deleted. The cache that the last build has
left is no such sign: it is older than LATEST. Temporary files, and signs of builds (work/runs/), name their process:
where that is known to be gone they are no such sign either, and where it runs, nothing should be deleted.
"""

import contextlib
import re
import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import pyarrow as pa

from mlm_data import ending
from mlm_data.dataset.manifest import LATEST, load_files, load_manifest, load_side, version_names
from mlm_data.dataset.names import versions
from mlm_data.dataset.tombstones import is_tombstone, purged_versions
from mlm_data.errors import FormatError, StorageError
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import TEMPORARY, Folder, explain

WORK, TEMPORARY_FILES, PURGED, SHARDS = "work", "temporary files", "purged", "shards"
TOKENIZERS, VERSIONS = "tokenizers", "versions"
ALL_KINDS = (WORK, TEMPORARY_FILES, PURGED, SHARDS, TOKENIZERS, VERSIONS)
SIGN = re.compile(r"work/runs/[0-9a-f]{32}")  # of a build that may publish; its second line names the process
WRITTEN_LAST = re.compile(r"work/(status|runs)/[^/]+\.json")  # by builds that have published; others have runs/<run>
QUIET_SECONDS = 3600  # whoever makes a version writes something more often than that


@dataclass(frozen=True, kw_only=True)
class Garbage:
    """A file that no version needs."""

    name: str  # relative to the dataset
    kind: str  # one of ALL_KINDS
    num_bytes: int
    changed: float  # seconds since the epoch


def find_garbage(folder: Folder) -> list[Garbage]:
    """All files that no version needs, by name.

    Raises:
        FormatError: if the folder is no dataset, or one of its versions can't be read.
    """
    needed, purged = needed_files(folder), _purged_files(folder)
    return [
        Garbage(name=name, kind=kind, num_bytes=info.size, changed=(info.mtime_ns or 0) / 1e9)
        for name, info in folder.walk()
        if (kind := _kind(name, needed, purged)) is not None
    ]


def check_quiet(folder: Folder, garbage: Sequence[Garbage], *, now: float | None = None) -> None:
    """Make sure that no other command seems to be making a version.

    Args:
        folder: the dataset.
        garbage: what `find_garbage` has found in it.
        now: seconds since the epoch; the clock's by default.

    Raises:
        StorageError: if a file that no version needs belongs to a process that runs, is younger than an hour, or than
            LATEST if it is a cache's.
    """
    now = time.time() if now is None else now
    published = folder.changed(LATEST)
    for one in garbage:
        alive = ending.is_alive(_owner(folder, one.name))
        if alive:
            raise StorageError(
                f"{folder.location}/{one.name}: a command that runs now has written it: wait until it has ended, or "
                "say --force"
            )
        if alive is not None:
            continue
        is_left_over = one.kind == WORK and (one.changed <= published or WRITTEN_LAST.fullmatch(one.name))
        if not is_left_over and one.kind != PURGED and now - one.changed < QUIET_SECONDS:
            minutes = max(0, int((now - one.changed) // 60))
            raise StorageError(
                f"{folder.location}/{one.name}: was written {minutes} minutes ago and belongs to no version: a build "
                "may be running: wait until it has ended, or say --force if none is"
            )


def _owner(folder: Folder, name: str) -> str:
    """The process that a file belongs to, as `ending.owner` names it; "" where nothing says so."""
    if SIGN.fullmatch(name):
        with contextlib.suppress(StorageError):  # taken away at this moment
            return ending.signed_by(folder.read(name))
    return next(filter(None, map(ending.owner_of, name.split("/"))), "")


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


def collect(folder: Folder, garbage: Sequence[Garbage]) -> None:
    """Delete what `find_garbage` has found.

    Raises:
        StorageError: if a file can't be deleted.
    """
    for one in garbage:
        try:
            folder.delete(one.name)
            if (above := _temporary_folder(one.name)) and folder.is_local:
                shutil.rmtree(folder.path(above), ignore_errors=True)
        except OSError as error:
            raise explain(error, f"{folder.location}/{one.name}", "delete") from error


def _temporary_folder(name: str) -> str:
    """The temporary folder that a file lies in; "" if it lies in none.

    >>> _temporary_folder("exports/.tmp-1/a/b"), _temporary_folder("exports/.tmp-1")
    ('exports/.tmp-1', '')
    """
    parts = name.split("/")[:-1]
    first = next((place for place, part in enumerate(parts) if part.startswith(TEMPORARY)), None)
    return "" if first is None else "/".join(parts[: first + 1])


def _purged_files(folder: Folder) -> set[str]:
    """Names of what purged versions were made of, as far as their file tables are still there."""
    found: set[str] = set()
    for digest in purged_versions(folder):
        table = f"versions/{digest}.files.arrow"
        found |= {name for name in folder.names("versions") if name.startswith(f"{digest}.")}
        with contextlib.suppress(pa.ArrowException, OSError, StorageError, KeyError):
            found.update(pa.ipc.open_file(folder.read(table)).read_all()["name"].to_pylist())
    return {name if "/" in name else f"versions/{name}" for name in found}


def _kind(name: str, needed: set[str], purged: set[str]) -> str | None:
    """What kind of garbage a file is; None if it is none, or nothing that we know."""
    if name in needed or name == LATEST or is_tombstone(name):
        return None
    if name in purged:
        return PURGED
    top, _, rest = name.partition("/")
    if any(part.startswith(TEMPORARY) for part in name.split("/")):
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


def by_kind(garbage: Sequence[Garbage]) -> Iterator[tuple[str, int, int]]:
    """Kind, files and bytes, for each kind that there is."""
    for kind in ALL_KINDS:
        mine = [one.num_bytes for one in garbage if one.kind == kind]
        if mine:
            yield kind, len(mine), sum(mine)
