"""Names of versions: `dataset` is the current one, `dataset@v1.2` a tag, `dataset@3f9a1c` the beginning of a digest.

    books            the version that LATEST names when it is opened
    books@v1.2       the version that the file tags/v1.2 names
    books@3f9a1c     the one version whose digest begins so: at least 6 digits
    odd@name         a folder of this name, if there is one: a path that exists as it is written wins

Only an `@` in the last part of a path begins a version's name, so `s3://user@bucket/books` is a path as before. A tag
is a file of one line, `tags/<name>`, that holds a digest; it can be moved to another version, a digest can't. No tag
looks like the beginning of a digest, so a name means one thing.

Cost: one listing of `versions/` for the beginning of a digest; one small file for a tag.
"""

import difflib
import os
import re
from collections.abc import Iterable

from mlm_data.dataset.manifest import Manifest, load_manifest, read_digest
from mlm_data.dataset.tombstones import purged_versions, read_tombstone
from mlm_data.errors import ConfigError, FormatError, StorageError
from mlm_data.stores.folder import Folder

TAGS = "tags"
MIN_PREFIX = 6  # digits of a digest: 16 million beginnings, so versions of one dataset hardly ever share one
MAX_TAG = 100  # characters: file systems take 255 bytes

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_DIGITS = re.compile(r"[0-9a-fA-F]+")


def split_name(location: str) -> tuple[str, str]:
    """The folder and the version's name in it; "" for the current version.

    >>> split_name("no/such/books@v1.2"), split_name("s3://user@bucket/books"), split_name("gs://bucket/books@3f9a1c")
    (('no/such/books', 'v1.2'), ('s3://user@bucket/books', ''), ('gs://bucket/books', '3f9a1c'))
    """
    folder, at, name = location.rpartition("@")
    is_uri = "://" in location
    if not at or "/" in name or (is_uri and "/" not in folder.partition("://")[2]):
        return location, ""
    if not is_uri and os.path.exists(location):
        return location, ""
    return folder, name


def find_version(location: str | os.PathLike[str]) -> tuple[Folder, str | None]:
    """The dataset's folder and the digest of the version that a location names; None for the current one.

    Raises:
        ConfigError: if no version has this name, or several begin so.
        FormatError: if a tag is damaged, or its version is gone.
    """
    path, name = split_name(os.fspath(location))
    folder = Folder(path)
    if not name and path == os.fspath(location):
        return folder, None
    return folder, digest_of(folder, name)


def open_version(location: str | os.PathLike[str]) -> tuple[Folder, Manifest]:
    """The folder and the manifest of the version that a location names.

    Raises:
        ConfigError, FormatError: as `find_version` and `load_manifest`.
    """
    folder, digest = find_version(location)
    return folder, load_manifest(folder, digest)


def versions(folder: Folder) -> list[str]:
    """The digests of all versions in a dataset, ascending."""
    stems = (name.removesuffix(".json") for name in folder.names("versions") if name.endswith(".json"))
    return [stem for stem in stems if len(stem) == 64 and _DIGITS.fullmatch(stem)]


def digest_of(folder: Folder, name: str) -> str:
    """The digest that a tag or the beginning of a digest names.

    Raises:
        ConfigError: if none has this name, or several begin so. A whole digest is taken as it is.
        FormatError: if the tag is damaged, or its version is gone; a purged one is found.
    """
    if len(name) == 64 and looks_like_digest(name):
        return name.lower()  # whether it is there, whoever opens it will see
    if looks_like_digest(name):
        known = {*versions(folder), *purged_versions(folder)}
        found = sorted(digest for digest in known if digest.startswith(name.lower()))
        if len(found) == 1:
            return found[0]
        if found:
            listed = ", ".join(digest[: len(name) + 6] for digest in found[:4])
            raise ConfigError(f"{folder.location}@{name}: {len(found)} versions begin so ({listed}): write more digits")
    elif _TAG.fullmatch(name) and folder.exists(f"{TAGS}/{name}"):
        digest = read_digest(
            folder, f"{TAGS}/{name}", remedy=f"set it again: premask tag {folder.location} {name} --force"
        )
        if not folder.exists(f"versions/{digest}.json") and read_tombstone(folder, digest) is None:
            raise FormatError(
                f"{folder.location}/{TAGS}/{name}: names version {digest[:16]}, which is not there any more: "
                f"premask log {folder.location} shows which are"
            )
        return digest
    raise ConfigError(_unknown(folder, name))


def looks_like_digest(name: str) -> bool:
    """Whether a name is taken for the beginning of a digest.

    >>> looks_like_digest("3f9a1c"), looks_like_digest("v1.2"), looks_like_digest("bad")
    (True, False, False)
    """
    return MIN_PREFIX <= len(name) <= 64 and _DIGITS.fullmatch(name) is not None


def tags(folder: Folder) -> dict[str, str]:
    """Tag -> what it names, by rising tag: a digest, or "" where the tag's file is damaged."""
    found = {}
    for name in folder.names(TAGS):
        if not name.startswith("."):
            try:
                found[name] = read_digest(folder, f"{TAGS}/{name}", remedy="")
            except FormatError:
                found[name] = ""
    return found


def check_tag(name: str) -> str:
    """A name that a tag may have.

    Raises:
        ConfigError: for other characters, too many, or a name that means something else: a digest, the current version.
    """
    if not _TAG.fullmatch(name) or len(name) > MAX_TAG:
        raise ConfigError(
            f"tag {name!r}: must be 1 to {MAX_TAG} letters, digits, dots, dashes and underscores of ASCII, the first a "
            "letter, a digit or an underscore"
        )
    if looks_like_digest(name):
        raise ConfigError(f"tag {name!r}: could be the beginning of a digest: call it v{name}")
    if name.lower() == "latest":
        raise ConfigError(f"tag {name!r}: the path alone means the current version: choose another name")
    return name


def set_tag(folder: Folder, name: str, digest: str, *, force: bool = False) -> str | None:
    """Let a tag name a version; returns what it named before.

    Args:
        digest: of a version that is there, whole.
        force: move a tag that names another version.

    Raises:
        ConfigError: if the name can't be one, or the tag names another version.
        FormatError: if there is no such version.
    """
    check_tag(name)
    load_manifest(folder, digest)
    before = tags(folder).get(name)
    if before is not None and before != digest and not force:
        names = before[:16] or "nothing that can be read"
        raise ConfigError(f"tag {name!r}: names {names} already: choose another name, or move it with --force")
    if before != digest:
        folder.write(f"{TAGS}/{name}", f"{digest}\n".encode())
    return before


def delete_tag(folder: Folder, name: str) -> str:
    """Take a tag away; its version stays. Returns what it named.

    Raises:
        ConfigError: if there is no such tag.
        StorageError: if it can't be removed.
    """
    found = tags(folder)
    if name not in found:
        raise ConfigError(f"{folder.location}: no tag {name!r}{_nearest(name, found)}")
    try:
        folder.delete(f"{TAGS}/{name}")
    except OSError as error:
        raise StorageError(f"{folder.location}/{TAGS}/{name}: can't be removed: {error.strerror}") from error
    return found[name]


def _unknown(folder: Folder, name: str) -> str:
    where = f"{folder.location}@{name}"
    if not folder.exists("versions"):
        return f"{where}: {folder.location} is no dataset: check the path"
    if name and len(name) < MIN_PREFIX and _DIGITS.fullmatch(name):
        return f"{where}: no such tag, and a digest needs at least {MIN_PREFIX} digits"
    return f"{where}: no version has this name{_nearest(name, [*tags(folder), *(d[:16] for d in versions(folder))])}"


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name, list(known), n=3, cutoff=0.5)
    listed = ", ".join(close) if close else ""
    return f": did you mean {listed}?" if listed else ": premask log shows all"
