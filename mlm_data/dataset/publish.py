"""Make a version visible: what it is made of first, then its manifest, then LATEST."""

import hashlib
from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from mlm_data.dataset.manifest import LATEST, Manifest, sealed, version_names
from mlm_data.errors import StorageError
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder

OURS = frozenset({LATEST, "versions", "tokenizer", "work", *fmt.KINDS})  # what a dataset's folder may hold


def publish(
    folder: Folder,
    manifest: Manifest,
    files: pa.Table,
    *,
    tokenizer: bytes,
    side: Mapping[str, Any],
    attachments: Mapping[str, bytes] | None = None,
) -> None:
    """Make a version visible: its files first, then LATEST.

    Publishing a digest that is there already is a success that changes nothing but LATEST.

    Args:
        folder: the dataset, with every file that `files` names.
        manifest: as `build_manifest` made it.
        files: the file table.
        tokenizer: the tokenizer.json's canonical bytes.
        side: facts that the digest must not depend on: parent, times, versions of premask and libraries, host.
        attachments: further files of this version by the end of their names: `quarantine.jsonl` becomes
            `versions/<digest>.quarantine.jsonl`; the side file vouches for them.

    Raises:
        StorageError: if the folder holds something else, or can't be written.
    """
    check_output(folder)
    folder.flush()  # the shards, before anything names them
    names = version_names(manifest)
    if not folder.exists(names["manifest"]):
        sha = hashlib.sha256(tokenizer).hexdigest()
        if sha != manifest.tokenizer["sha256"]:
            raise ValueError(f"the tokenizer's bytes hash to {sha}, the manifest says {manifest.tokenizer['sha256']}")
        folder.write(names["tokenizer"], tokenizer)
        sink = pa.BufferOutputStream()
        with pa.ipc.new_file(sink, files.schema) as writer:
            writer.write_table(files)
        table, text = sink.getvalue().to_pybytes(), manifest.to_bytes()
        folder.write(names["files"], table)
        for name, data in (attachments or {}).items():
            folder.write(f"versions/{manifest.digest}.{name}", data)
        vouched = {
            "files_sha256": hashlib.sha256(table).hexdigest(),
            "manifest_sha256": hashlib.sha256(text).hexdigest(),
            "attachments": {name: hashlib.sha256(data).hexdigest() for name, data in (attachments or {}).items()},
        }
        folder.write(names["side"], sealed({**side, **vouched}))
        folder.write(names["manifest"], text)  # last of the four: where it is, the others are
    folder.write(LATEST, f"{manifest.digest}\n".encode())


def check_output(folder: Folder) -> None:
    """Make sure that a build may write here: a new or empty folder, or a Premask dataset.

    Raises:
        StorageError: if the folder holds something else, or is a file.
    """
    strange = [name for name in folder.names() if name not in OURS and not name.startswith(".")]
    if strange:
        raise StorageError(
            f"{folder.location}: holds {strange[0]!r}, which is no part of a Premask dataset: choose another folder"
        )
