"""Write a golden dataset of today's format, and what readers must find in it: see README.md.

python -m tests.golden.make NAME            a new dataset and its expectations
python -m tests.golden.make NAME --look     the expectations alone, of a dataset that is there
"""

import json
import sys
from pathlib import Path
from typing import Any

import pyarrow as pa

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.forgotten import LIST, mark, write_list
from mlm_data.dataset.manifest import latest, load_attachment, load_side
from mlm_data.dataset.names import set_tag, tags, versions
from mlm_data.dataset.publish import replace_attachments
from mlm_data.dataset.tombstones import Tombstone, purged_versions, read_tombstone, write_tombstone
from mlm_data.stores.folder import Folder
from tests.synthetic import make_dataset

HERE = Path(__file__).parent
BY_HAND = "1-by-hand"


def place_of(name: str) -> Path:
    """The dataset of this name."""
    return HERE.parent / "mlm_data/shards/golden" if name == BY_HAND else HERE / name


def write(name: str) -> None:
    """Two versions of which one is compressed, tags, a purged version, and attachments."""
    shape = {"num_rows": 3, "validation_rows": 2, "sequence_length": 64, "shard_rows": 2, "max_segments": 3}
    folder = Folder(place_of(name))
    make_dataset(folder.location, **shape, seed=1)
    gone = latest(folder)
    make_dataset(folder.location, **shape, seed=2, vocab_size=70_000, rate=(0.5, 0.3))
    set_tag(folder, "v1.2", latest(folder))
    make_dataset(folder.location, **shape, seed=3, compression="zstd")
    current = latest(folder)
    stone = {"purged": "2026-11-26T12:00:00+00:00", "published": "2026-11-25T12:00:00+00:00", "made_by": "build"}
    dead = Dataset.open(folder, gone)
    set_tag(folder, "v1.1", gone)
    write_tombstone(folder, Tombstone(digest=gone, replaced_by=current, parent=None, **stone))
    for file in (*dead.files["name"].to_pylist(), *(f"versions/{gone}{end}" for end in (".json", ".side.json"))):
        folder.delete(file)
    folder.delete(f"versions/{gone}.files.arrow")
    example = {"input": "a", "reason": "exact_duplicate", "source": "a.txt", "offset": 7, "id": "ab" * 16, "head": "x"}
    lost = {"source": "ü.txt", "offset": 0, "reason": "bad_utf8", "detail": "", "num_bytes": 3, "lost_bytes": 0}
    replace_attachments(
        folder,
        current,
        {
            "dropped.jsonl": json.dumps(example | {"kept": "", "kept_head": ""}).encode() + b"\n",
            "quarantine.jsonl": json.dumps(lost).encode() + b"\n",
            LIST: write_list([mark(bytes(range(16)))]),
        },
    )


def look(folder: Folder) -> dict[str, Any]:
    """All that a reader finds in a dataset, as JSON."""
    purged = [read_tombstone(folder, digest) for digest in purged_versions(folder)]
    return {
        "latest": latest(folder),
        "tags": tags(folder),
        "purged": {one.digest: [one.purged, one.replaced_by, one.made_by] for one in purged if one is not None},
        "versions": {digest: look_at(Dataset.open(folder, digest)) for digest in versions(folder)},
    }


def look_at(dataset: Dataset) -> dict[str, Any]:
    """All that a reader finds in one version."""
    names = load_side(dataset.folder, dataset.manifest).get("attachments", {})
    return {
        "splits": dataset.manifest.splits,
        "bounds": dataset.manifest.bounds,
        "rows": {split: [look_at_row(dataset, split, row) for row in range(dataset.num_rows(split))] for split in
                 ("train", "validation")},
        "documents": [plain(dataset.shard(split, index).documents) for split in ("train", "validation") for index in
                      range(dataset.num_shards(split))],
        "attachments": {name: load_attachment(dataset.folder, dataset.manifest, name).decode() for name in names},
    }  # fmt: skip


def look_at_row(dataset: Dataset, split: str, row: int) -> dict[str, Any]:
    """One row: tokens, segments as [place, length, document, start], places of word starts, planes."""
    view = dataset.row(split, row)
    return {
        "tokens": view.tokens.tolist(),
        "segments": [[one.place, one.length, one.document, one.start] for one in view.segments],
        "word_starts": view.word_starts.nonzero()[0].tolist(),
        "planes": {
            name: [plane.targets.tolist(), [list(pair) for pair in plane.swaps.items()]]
            for name, plane in view.planes.items()
        },
    }


def plain(table: pa.Table) -> list[dict[str, Any]]:
    """Lines of a documents table, ids in hexadecimal."""
    return [line | {"id": line["id"].hex()} for line in table.to_pylist()]


if __name__ == "__main__":
    wanted = sys.argv[1]
    if "--look" not in sys.argv:
        write(wanted)
    text = json.dumps(look(Folder(place_of(wanted))), indent=1, ensure_ascii=False)
    (HERE / f"{wanted}.json").write_text(text + "\n", encoding="utf-8")
