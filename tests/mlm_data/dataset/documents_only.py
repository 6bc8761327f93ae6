"""Versions that have documents and nothing else: for what reads documents files alone."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import build_manifest
from mlm_data.dataset.publish import publish
from mlm_data.shards import format as fmt
from mlm_data.shards.records import FileRecord, ShardRecord
from mlm_data.shards.writer import write_table
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, TOKENIZER, balanced_ledger, make_config, tokenizer_facts


def documents_table(
    ids: pa.Array, sources: Sequence[str], own: Sequence[str | None] | None = None, tokens: Sequence[int] | None = None
) -> pa.Table:
    """A documents table: ids of 16 bytes, a source and perhaps an own id for each."""
    num = len(ids)
    columns: dict[str, Any] = {
        "id": ids,
        "copy": pa.array([0] * num, pa.int16()),
        "source": pa.array(sources, pa.string()).dictionary_encode(),
        "offset": pa.array(range(0, 10 * num, 10), pa.int64()),
        "num_tokens": pa.array(tokens or [3] * num, pa.int32()),
    }
    if own is not None:
        columns["id_field"] = pa.array(own, pa.string())
    return pa.table(columns, schema=fmt.documents_schema(has_id_field=own is not None))


def publish_documents(place: Path, shards: Sequence[pa.Table], *, validation: int = 0, **config: Any) -> Dataset:
    """Publish a version of these documents and open it; the last `validation` shards are held out."""
    folder, records = Folder(place), []
    for unit, table in enumerate(shards):
        split = fmt.VALIDATION if unit >= len(shards) - validation else fmt.TRAIN
        written = write_table(folder, fmt.DOCUMENTS, table)
        files = [absent(kind, written.sha256) for kind in (fmt.ROWS, fmt.MASKS)]
        records.append(
            ShardRecord(
                split=split,
                unit=unit,
                files=(*files, written),
                num_rows=1,
                num_tokens=pa.compute.sum(table["num_tokens"]).as_py() or 0,
                num_segments=0,
                num_documents=table.num_rows,
                max_segments=1,
                max_targets={"0": 1, "evaluation": 1},
            )
        )
    values = make_config(64, (0.3,), 8, validation=bool(validation), seed=0) | config
    manifest, files_table = build_manifest(
        config=values,
        tokenizer=tokenizer_facts(TOKENIZER, 512, ROLES),
        shards=records,
        ledger=balanced_ledger(records, ROLES),
        audit={},
        packing={},
        plan={},
    )
    publish(folder, manifest, files_table, tokenizer=TOKENIZER, side={"parent": None})
    return Dataset.open(folder, manifest.digest)


def absent(kind: str, salt: str) -> FileRecord:
    """The record of a file that nobody wrote."""
    sha = hashlib.sha256(f"{kind} {salt}".encode()).hexdigest()
    return FileRecord(kind=kind, name=f"{kind}/{sha}.arrow", num_bytes=1, sha256=sha, logical_hash=sha, num_rows=1)
