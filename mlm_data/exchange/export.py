"""A split under one plane's masks as a folder of files that other trainers read: a copy, in the order on disk.

Rows are read, laid out and written some at a time, so memory does not depend on the dataset. Files are written into a
temporary folder beside `out`, which gets its name when all is there and on the disk: nobody sees half an export. What a
killed one has left is cleared by the next one there, and by `gc` in the dataset's own folder.

Every export has a small manifest, `_premask-export.json` (readers of folders pass over names that begin so): which
version and plane its rows are of, and the size and SHA-256 of each file.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from mlm_data import ending
from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.exchange.fields import TYPES, Fields, read_fields
from mlm_data.exchange.targets import TARGETS, Shape, Texts
from mlm_data.shards import format as fmt
from mlm_data.stores.folder import Folder, explain
from mlm_data.tokens.reference import Reference

MANIFEST = "_premask-export.json"
EXPORT_VERSION = 1
TEXT_COLUMNS = ("text", "masked_text")  # pieces of documents: as they were, and as the plane shows them


def export(
    dataset: Dataset,
    out: str | os.PathLike[str] | None = None,
    *,
    to: str,
    split: str = fmt.TRAIN,
    plane: int | str | None = None,
    detokenize: bool = False,
) -> tuple[Path, dict[str, Any]]:
    """Write a split's rows into a new folder; returns it and its manifest.

    Args:
        dataset: an open version.
        out: the folder; it must not be there, or be empty. None: `exports/<digest>-<split>-<plane>-<kind>` in the
            dataset's own folder, where `forget --purge` finds it.
        to: one of `TARGETS`.
        split: whose rows.
        plane: whose masks; None: plane 0, or the evaluation plane of the validation split.
        detokenize: add `text` and `masked_text`, for readers: lists of the pieces of documents that a row holds.

    Raises:
        ConfigError: for what can't be right: an unknown kind or plane, an empty split, a folder that holds something.
        FormatError: if a file of the dataset is damaged.
        StorageError: if the folder can't be written; no trace is left.
    """
    if to not in TARGETS:
        raise ConfigError(f"--to {to}: must be one of {', '.join(TARGETS)}")
    if detokenize and to == "numpy":
        raise ConfigError("--detokenize: numpy files hold no texts: use --to jsonl, parquet, hf or mds")
    if not dataset.num_rows(split):
        raise ConfigError(f"the {split} split has no rows")
    known = dataset.planes(split)
    name = known[0] if plane is None else str(plane)
    if name not in known:
        raise ConfigError(f"plane {name}: the {split} split has {', '.join(known)}")
    folder = _out(dataset, out, f"{dataset.digest[:16]}-{split}-{name}-{to}{'-text' if detokenize else ''}")
    reference = dataset.reference() if detokenize else None
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        ending.clear(os.fspath(folder.parent))
        temporary = folder.parent / ending.temporary_name()
        temporary.mkdir()
        try:
            _write(dataset, temporary, to, split, name, reference)
            manifest = _describe(dataset, temporary, to, split, name, detokenize=detokenize)
            (temporary / MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n", encoding="utf-8")
            Folder(temporary).flush()
            os.replace(temporary, folder)
        finally:
            with suppress(FileNotFoundError):
                shutil.rmtree(temporary)
    except OSError as error:
        raise explain(error, str(folder), "write") from error
    return folder, manifest


def _out(dataset: Dataset, out: str | os.PathLike[str] | None, name: str) -> Path:
    """The folder to be made, if it may be."""
    if out is None:
        if not dataset.folder.is_local:
            raise ConfigError(f"{dataset.folder.location}: give --out, a folder on a local disk")
        out = Path(dataset.folder.path("exports")) / name
    if "://" in os.fspath(out):
        raise ConfigError(f"--out {os.fspath(out)}: must be a folder on a local disk: copy it from there")
    folder = Path(os.path.abspath(out))
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{out}: holds something already: give a new folder with --out")
    return folder


def _write(dataset: Dataset, folder: Path, to: str, split: str, plane: str, reference: Reference | None) -> None:
    manifest = dataset.manifest
    shape = Shape(
        split=split,
        num_rows=dataset.num_rows(split),
        length=manifest.sequence_length,
        text_columns=TEXT_COLUMNS if reference else (),
        fingerprint=f"{dataset.digest[:16]}-{split}-{plane}",
    )
    texts = _Texts(reference) if reference else None
    target = TARGETS[to](folder, shape)
    try:
        for fields in read_fields(dataset, split, plane):
            target.write(fields, texts.of(fields) if texts else {})
    finally:
        target.close()


class _Texts:
    """Pieces of rows as a person reads them."""

    def __init__(self, reference: Reference) -> None:
        self._tokenizer = Tokenizer.from_str(reference.json_bytes.decode())
        self._around = [role for role in (reference.roles.cls, reference.roles.sep) if role >= 0]

    def of(self, fields: Fields) -> Texts:
        originals = fields.originals()
        is_piece = fields.attention_mask.astype(bool)
        bounds = [
            np.append(np.flatnonzero((positions == 0) & inside), inside.sum()).tolist()
            for positions, inside in zip(fields.position_ids, is_piece, strict=True)
        ]
        return {
            name: self._decode(ids, originals, bounds)
            for name, ids in zip(TEXT_COLUMNS, (originals, fields.input_ids), strict=True)
        }

    def _decode(self, ids: np.ndarray, originals: np.ndarray, bounds: list[list[int]]) -> list[list[str]]:
        """Texts of the ids; [CLS] and [SEP] of the originals are left out, [MASK] is shown."""
        is_content = ~np.isin(originals, self._around)
        pieces = [
            ids[row, first:end][is_content[row, first:end]].tolist()
            for row, borders in enumerate(bounds)
            for first, end in pairwise(borders)
        ]
        texts = iter(self._tokenizer.decode_batch(pieces, skip_special_tokens=False))
        return [[next(texts) for _ in borders[1:]] for borders in bounds]


def _describe(dataset: Dataset, folder: Path, to: str, split: str, plane: str, *, detokenize: bool) -> dict[str, Any]:
    """What an export says of itself: a function of the version and of what was asked for."""
    manifest = dataset.manifest
    fields: Mapping[str, str] = {name: np.dtype(kind).name for name, kind in TYPES.items()}
    return {
        "premask_export": EXPORT_VERSION,
        "kind": to,
        "digest": dataset.digest,
        "split": split,
        "plane": plane,
        "tokenizer_sha256": manifest.tokenizer["sha256"],
        "vocab_size": manifest.vocab_size,
        "roles": dict(manifest.tokenizer["roles"]),
        "num_rows": dataset.num_rows(split),
        "sequence_length": manifest.sequence_length,
        "fields": {**fields, **dict.fromkeys(TEXT_COLUMNS if detokenize else (), "list of strings")},
        "files": [
            {"name": path.name, "bytes": path.stat().st_size, "sha256": _sha256(path)}
            for path in sorted(folder.iterdir())
        ],
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
