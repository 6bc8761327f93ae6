"""The versions of a dataset and how they follow each other, from their manifests and side files alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from mlm_data.dataset.manifest import latest, load_manifest, load_side
from mlm_data.dataset.names import tags, versions
from mlm_data.dataset.tombstones import epitaph, purged_versions, read_tombstone
from mlm_data.errors import FormatError
from mlm_data.stores.folder import Folder

BUILD = "build"  # what made a version whose side file doesn't say: only builds did, once


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A version, in a line. Of a damaged one only the digest, the tags and the problem are known."""

    digest: str
    is_current: bool
    tags: tuple[str, ...]
    parent: str | None = None  # the version that was current when this one was made
    published: str = ""  # ISO 8601, in UTC
    made_by: str = ""  # build, add, remask, ...
    num_documents: int = 0
    num_tokens: int = 0  # in rows, special tokens included
    num_rows: int = 0
    problem: str = ""
    purged: str = ""  # of a purged version: when, which one takes its place, in a sentence


def history(folder: Folder) -> list[Entry]:
    """All versions, purged ones too, the newest first, a version never below its parent.

    Raises:
        FormatError: if the folder is no dataset, or LATEST is damaged.
    """
    current = latest(folder)
    digests = versions(folder)
    if current is None and not digests:
        load_manifest(folder)  # says what is wrong
    named: dict[str, list[str]] = {}
    for name, digest in tags(folder).items():
        named.setdefault(digest, []).append(name)
    found = {digest: _entry(folder, digest, digest == current, tuple(named.get(digest, ()))) for digest in digests}
    for digest in purged_versions(folder):
        found[digest] = _purged(folder, digest, tuple(named.get(digest, ())))
        digests.append(digest)
    depths = {digest: _depth(digest, found) for digest in digests}
    # Clocks differ and tell seconds only: a child is newer than its parent whatever they say.
    times: dict[str, str] = {}
    for digest in sorted(digests, key=lambda one: depths[one]):
        parent = found[digest].parent
        times[digest] = max(found[digest].published, times.get(parent, "") if parent else "")
    return sorted(found.values(), key=lambda one: (times[one.digest], depths[one.digest], one.digest), reverse=True)


def _entry(folder: Folder, digest: str, is_current: bool, names: tuple[str, ...]) -> Entry:
    try:
        manifest = load_manifest(folder, digest)
        side = load_side(folder, manifest)
    except FormatError as error:
        return Entry(digest=digest, is_current=is_current, tags=names, problem=str(error))

    def total(name: str) -> int:
        return sum(split[name] for split in manifest.splits.values())

    return Entry(
        digest=digest,
        is_current=is_current,
        tags=names,
        parent=side.get("parent"),
        published=side.get("published", ""),
        made_by=side.get("made_by", BUILD),
        num_documents=total("num_documents"),
        num_tokens=total("num_tokens"),
        num_rows=total("num_rows"),
    )


def _purged(folder: Folder, digest: str, names: tuple[str, ...]) -> Entry:
    try:
        stone = read_tombstone(folder, digest)
    except FormatError as error:
        return Entry(digest=digest, is_current=False, tags=names, problem=str(error))
    assert stone is not None, "it was listed"
    return Entry(
        digest=digest,
        is_current=False,
        tags=names,
        parent=stone.parent,
        published=stone.published,
        made_by=stone.made_by,
        purged=epitaph(folder, stone),
    )


def _depth(digest: str, found: Mapping[str, Entry]) -> int:
    """How many ancestors a version has in the folder; a circle, which only a forger makes, ends."""
    seen = {digest}
    parent = found[digest].parent
    while parent is not None and parent in found and parent not in seen:
        seen.add(parent)
        parent = found[parent].parent
    return len(seen) - 1
