"""Read a dataset with pyarrow and numpy alone, from what docs/reference/format.md says: give DATASET or DATASET@TAG."""

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa


def read_table(path: Path) -> pa.Table:
    """An Arrow IPC file, or a stream, memory-mapped."""
    source = pa.memory_map(str(path))
    is_file = source.read(6) == b"ARROW1"
    source.seek(0)
    return (pa.ipc.open_file if is_file else pa.ipc.open_stream)(source).read_all().combine_chunks()


def open_version(folder: Path, tag: str = "") -> tuple[dict, pa.Table]:
    """Manifest and file table of the version with a tag, or of the current one."""
    digest = (folder / (f"tags/{tag}" if tag else "LATEST")).read_text().removesuffix("\n")
    if not (folder / f"versions/{digest}.json").exists():
        stone = json.loads((folder / f"versions/{digest}.purged.json").read_bytes())
        raise ValueError(f"{digest} was purged on {stone['purged']}: {stone['replaced_by']} takes its place")
    manifest = json.loads((folder / f"versions/{digest}.json").read_bytes())
    if manifest["format_version"] != 1:
        raise ValueError(f"format version {manifest['format_version']}: this reads version 1")
    return manifest, read_table(folder / f"versions/{digest}.files.arrow")


def rows(folder: Path, split: str, tag: str = "") -> Iterator[tuple[np.ndarray, list, list, dict]]:
    """Each row: tokens, segments, ids of their documents; for each plane what a model reads, and where it predicts."""
    manifest, files = open_version(folder, tag)
    mask_id, lines = manifest["tokenizer"]["roles"]["mask"], files.to_pylist()
    mine = [line for line in lines if line["split"] == split]
    for shard in sorted({line["shard"] for line in mine}):
        table = {line["kind"]: read_table(folder / line["name"]) for line in mine if line["shard"] == shard}
        planes = [name.removeprefix("targets_") for name in table["masks"].column_names if name.startswith("targets_")]
        ids = [one.hex() for one in table["documents"]["id"].to_pylist()]
        for row, masks in zip(table["rows"].to_pylist(), table["masks"].to_pylist(), strict=True):
            tokens, shown = np.array(row["tokens"]), {}
            segments = np.split(tokens, np.cumsum(row["segment_lengths"]))[:-1]  # what is left is padding
            for plane in planes:
                bits = np.frombuffer(masks[f"targets_{plane}"], np.uint8)
                targets = np.flatnonzero(np.unpackbits(bits, bitorder="little"))
                read = tokens.copy()
                read[targets] = mask_id
                read[masks[f"swap_places_{plane}"]] = masks[f"swap_tokens_{plane}"]
                shown[plane] = (read, targets)
            yield tokens, segments, [ids[document] for document in row["segment_documents"]], shown


if __name__ == "__main__":
    path, _, tag = sys.argv[1].partition("@")
    for row, segments, ids, shown in rows(Path(path), "train", tag):
        sys.stdout.write(f"{len(segments)} segments, {row.tolist()} of {ids}: planes {', '.join(shown)}\n")
