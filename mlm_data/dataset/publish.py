"""Make a version visible: what it is made of first, then its manifest, then LATEST."""

import contextlib
import fcntl
import hashlib
import os
from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa

from mlm_data.dataset.forgotten import LIST, parse_list, write_list
from mlm_data.dataset.manifest import (
    LATEST,
    Manifest,
    latest,
    load_attachment,
    load_manifest,
    load_side,
    version_names,
)
from mlm_data.dataset.names import TAGS, split_name
from mlm_data.dataset.seals import sealed
from mlm_data.errors import StorageError
from mlm_data.shards import format as fmt
from mlm_data.stores.conditional import Conditional, Seen
from mlm_data.stores.folder import Folder, explain

OURS = frozenset({LATEST, TAGS, "versions", "tokenizer", "work", *fmt.KINDS})  # what a dataset's folder may hold
MADE_OF_OURS = frozenset({"exports", "reports", "report.html"})  # and what people may write there of its documents
ALLOWED = OURS | MADE_OF_OURS | {"README.md"}


def publish(
    folder: Folder,
    manifest: Manifest,
    files: pa.Table,
    *,
    tokenizer: bytes,
    side: Mapping[str, Any],
    attachments: Mapping[str, bytes] | None = None,
    expected: str | None = None,
) -> None:
    """Make a version visible: its files first, then LATEST.

    Publishing a digest that is there already is a success that changes nothing but LATEST. And the list of what was
    forgotten: it only grows, so the new version has the current one's beside its own, whatever it was made from.

    On a local disk only one process at a time is in here. On S3 and in Google's storage LATEST moves from `expected` to
    the new version by one conditional request, where premask[aws] or premask[gcp] is installed. In other buckets the
    last one wins; in all of them both versions stay readable.

    Args:
        folder: the dataset, with every file that `files` names.
        manifest: as `build_manifest` made it.
        files: the file table.
        tokenizer: the tokenizer.json's canonical bytes.
        side: facts that the digest must not depend on: parent, times, versions of premask and libraries, host.
        attachments: further files of this version by the end of their names: `quarantine.jsonl` becomes
            `versions/<digest>.quarantine.jsonl`; the side file vouches for them.
        expected: the version that must still be the current one, because the new one was made from it; None: whichever
            is current, the new one takes its place.

    Raises:
        StorageError: if the folder holds something else, can't be written, has another current version than
            `expected`, or, where none is expected, a current version for which more was forgotten than for the new
            one; nothing is visible then.
    """
    check_output(folder)
    folder.flush()  # the shards, before anything names them
    with _alone(folder):
        guard = Conditional(folder, LATEST) if expected is not None and Conditional.is_possible(folder) else None
        seen = guard.look() if guard is not None else Seen(None, "")
        current = latest(folder) if expected is not None else None
        if current not in {expected, manifest.digest}:
            raise _overtaken(folder, current, "nothing is changed")
        given = attachments or {}
        marked = _with_marks(folder, given)
        if expected is None and marked != given and _marks(folder, marked) != _marks(folder, given):
            raise StorageError(
                f"{folder.location}: documents were forgotten there in the meantime, and nothing is changed: start the "
                "command again, and they stay out"
            )
        _write(folder, manifest, files, tokenizer, side, marked)
        line = f"{manifest.digest}\n".encode()
        if guard is None:
            folder.write(LATEST, line)
        elif not guard.replace(seen, line):
            raise _overtaken(folder, latest(folder), "stays the current version")


def current_version(folder: Folder, expected: str | None) -> str | None:
    """What `publish` is to expect, asked before any work is done; None where there is no version.

    Args:
        folder: the dataset.
        expected: the current version when one was chosen to work from; None: when this is called.

    Raises:
        StorageError: if it is no longer the current one.
    """
    current = latest(folder)
    if expected is not None and current != expected:
        raise _overtaken(folder, current, "nothing is changed")
    return current


def _overtaken(folder: Folder, current: str | None, what: str) -> StorageError:
    return StorageError(
        f"{folder.location}: {current and current[:16]} was published in the meantime, and {what}: start the command "
        "again"
    )


def _with_marks(folder: Folder, attachments: Mapping[str, bytes]) -> dict[str, bytes]:
    """The attachments, with the marks of the version that is the current one."""
    current = latest(folder)
    if current is None or not folder.exists(f"versions/{current}.json"):
        return {**attachments}  # there is none, or nothing is left of it
    before = load_attachment(folder, load_manifest(folder, current), LIST)
    return {**attachments, LIST: _joined(folder, attachments.get(LIST, b""), before)} if before else {**attachments}


def _joined(folder: Folder, *lists: bytes) -> bytes:
    return write_list(set[bytes]().union(*(_marks(folder, {LIST: data}) for data in lists)))


def _marks(folder: Folder, attachments: Mapping[str, bytes]) -> set[bytes]:
    return parse_list(attachments.get(LIST, b""), where=f"{folder.location}: {LIST}")


def _write(
    folder: Folder,
    manifest: Manifest,
    files: pa.Table,
    tokenizer: bytes,
    side: Mapping[str, Any],
    attachments: Mapping[str, bytes],
) -> None:
    names = version_names(manifest)
    if folder.exists(names["manifest"]):
        if listed := attachments.get(LIST):
            mine = load_attachment(folder, manifest, LIST)
            if (joined := _joined(folder, mine, listed)) != mine:
                replace_attachments(folder, manifest.digest, {LIST: joined})
    else:
        sha = hashlib.sha256(tokenizer).hexdigest()
        if sha != manifest.tokenizer["sha256"]:
            raise ValueError(f"the tokenizer's bytes hash to {sha}, the manifest says {manifest.tokenizer['sha256']}")
        folder.write(names["tokenizer"], tokenizer)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, files.schema) as writer:
            writer.write_table(files)
        table, text = sink.getvalue().to_pybytes(), manifest.to_bytes()
        folder.write(names["files"], table)
        for name, data in attachments.items():
            folder.write(f"versions/{manifest.digest}.{name}", data)
        vouched = {
            "files_sha256": hashlib.sha256(table).hexdigest(),
            "manifest_sha256": hashlib.sha256(text).hexdigest(),
            "attachments": {name: hashlib.sha256(data).hexdigest() for name, data in attachments.items()},
        }
        folder.write(names["side"], sealed({**side, **vouched}))
        folder.write(names["manifest"], text)  # last of the four: where it is, the others are


def replace_attachments(folder: Folder, digest: str, changes: Mapping[str, bytes]) -> None:
    """Change further files of a version that is there; empty ones are taken away. The rest of the version stays.

    The side file first ceases to vouch for them, then they change, then it vouches again: at any moment the
    version is sound, and after a crash it lacks them at worst.

    Raises:
        FormatError: if the version is damaged.
        StorageError: if the folder can't be written.
    """
    manifest = load_manifest(folder, digest)
    side = load_side(folder, manifest)
    name, vouched = version_names(manifest)["side"], dict(side.get("attachments", {}))
    left = {one: sha for one, sha in vouched.items() if one not in changes}
    folder.write(name, sealed({**side, "attachments": left}))
    for one, data in changes.items():
        path = f"versions/{digest}.{one}"
        if data:
            folder.write(path, data)
            left[one] = hashlib.sha256(data).hexdigest()
        else:
            folder.delete(path)
    folder.write(name, sealed({**side, "attachments": left}))


@contextlib.contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Wait until no other process publishes here; local disks only. The lock ends with the process that holds it."""
    if not folder.is_local:
        yield
        return
    try:
        os.makedirs(folder.path(), exist_ok=True)
        descriptor = os.open(folder.path(), os.O_RDONLY)
    except OSError as error:
        raise explain(error, folder.location, "write") from error
    try:
        with contextlib.suppress(OSError):  # file systems without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def check_output(folder: Folder) -> None:
    """Make sure that a build may write here: a new or empty folder, or a Premask dataset.

    Raises:
        StorageError: if the folder holds something else, is a file, or is called as a version of a dataset is.
    """
    dataset, name = split_name(folder.location)
    if name and Folder(dataset).exists("versions"):
        raise StorageError(
            f"{folder.location}: would name a version of {dataset}: a new version goes into {dataset}, and premask tag "
            "gives it a name"
        )
    strange = [name for name in folder.names() if name not in ALLOWED and not name.startswith(".")]
    if strange:
        raise StorageError(
            f"{folder.location}: holds {strange[0]!r}, which is no part of a Premask dataset: choose another folder"
        )
