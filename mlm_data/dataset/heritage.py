"""What a version takes over from the one that it is made from: files by name, reports, counts.

Nothing here opens a shard's rows or masks.
"""

import json
from collections.abc import Mapping
from typing import Any

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import ALL, load_attachment, load_manifest, load_side
from mlm_data.errors import FormatError
from mlm_data.rows.audit_counts import AuditCounts
from mlm_data.shards import format as fmt
from mlm_data.shards.records import FileRecord, ShardRecord, SignaturesRecord

COUNTS = "audit.json"  # an attachment: what the audit has counted, by split; it adds up, the manifest's table doesn't


def file_record(line: Mapping[str, Any]) -> FileRecord:
    """A line of the file table as a writer would have returned it."""
    return FileRecord(
        kind=line["kind"],
        name=line["name"],
        num_bytes=line["num_bytes"],
        sha256=line["sha256"].hex(),
        logical_hash=line["logical_hash"].hex(),
        num_rows=line["num_rows"],
    )


def signatures_of(dataset: Dataset) -> list[SignaturesRecord]:
    """The signatures files of a version."""
    lines = dataset.files.to_pylist() if dataset.files.num_rows else []
    return [SignaturesRecord(unit=line["unit"], file=file_record(line)) for line in lines if line["split"] == ALL]


def attachments_of(dataset: Dataset) -> dict[str, bytes]:
    """The further files of a version, such as `dropped.jsonl`, by name."""
    names = load_side(dataset.folder, dataset.manifest).get("attachments", {})
    return {name: load_attachment(dataset.folder, dataset.manifest, name) for name in sorted(names)}


def told_of(dataset: Dataset, key: str) -> dict[str, Any]:
    """The side file that says something: the version's own, or that of the nearest one it was made from; {}: none does.

    Raises:
        FormatError: if a side file is damaged.
    """
    folder, manifest, seen = dataset.folder, dataset.manifest, set[str]()
    while manifest.digest not in seen:
        seen.add(manifest.digest)
        side = load_side(folder, manifest)
        if side.get(key):
            return side
        parent = side.get("parent")
        if parent is None or not folder.exists(f"versions/{parent}.json"):
            break
        manifest = load_manifest(folder, parent)
    return {}


def compression_of(dataset: Dataset) -> str:
    """`none` or `zstd`: how a version's files are stored, judged by the size of its first rows.

    Files compressed with lz4 count as zstd: what is new beside them is compressed, too, and the digest knows no codec.
    """
    width = fmt.token_type(dataset.manifest.vocab_size).bit_width // 8
    for split in fmt.SPLITS:
        for index in range(dataset.num_shards(split)):
            rows = dataset.lines(split, index)[0]
            if rows["num_rows"]:
                whole = rows["num_rows"] * dataset.manifest.sequence_length * width
                return "zstd" if rows["num_bytes"] < whole else "none"
    return "none"


def shard_records(dataset: Dataset) -> list[ShardRecord]:
    """Records of all shards of a version, for a manifest of more shards: no shard is opened.

    What the file table doesn't say of each shard is the manifest's of all: the largest numbers stand with every shard,
    a split's sum of segments stands with its first.
    """
    manifest, records = dataset.manifest, []
    for split in fmt.SPLITS:
        num_segments = manifest.splits[split]["num_segments"]
        for index in range(dataset.num_shards(split)):
            lines = dataset.lines(split, index)
            record = ShardRecord(
                split=split,
                unit=lines[0]["unit"],
                files=tuple(file_record(line) for line in lines),
                num_rows=lines[0]["num_rows"],
                num_tokens=lines[0]["num_tokens"],
                num_segments=0 if index else num_segments,
                num_documents=lines[2]["num_rows"],
                max_segments=manifest.max_segments,
                max_targets={plane: manifest.max_targets(plane) for plane in dataset.planes(split)},
            )
            records.append(record)
    return records


def write_counts(audits: Mapping[str, AuditCounts]) -> bytes:
    """The attachment COUNTS; `read_counts` is its inverse."""
    return json.dumps({split: counts.to_dict() for split, counts in audits.items()}, sort_keys=True).encode()


def read_counts(dataset: Dataset) -> dict[str, AuditCounts] | None:
    """What the audit has counted, by split; None for a version that doesn't tell.

    Raises:
        FormatError: if the attachment is damaged.
    """
    data = load_attachment(dataset.folder, dataset.manifest, COUNTS)
    if not data:
        return None
    try:
        return {split: AuditCounts.from_dict(counts) for split, counts in json.loads(data).items()}
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise FormatError(
            f"{dataset.folder.location}: {COUNTS} of {dataset.digest[:16]} is damaged: run premask verify"
        ) from error
