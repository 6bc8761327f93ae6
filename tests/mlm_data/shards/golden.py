"""The golden dataset: three training rows and one validation row of 16 places, written out by hand.

`python -m tests.mlm_data.shards.golden` writes it anew; only a new format version gives a reason to.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlm_data.dataset.manifest import Manifest, build_manifest
from mlm_data.dataset.publish import publish
from mlm_data.hashing import ids_from_arrow
from mlm_data.shards import format as fmt
from mlm_data.shards.writer import write_shard, write_signatures
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Rows
from tests.synthetic import ROLES, balanced_ledger, make_config, tokenizer_facts

FOLDER = Path(__file__).parent / "golden"
DIGEST = "3c77c9d54e53ec13cf6d14c1e052f44ac8c2786f20e816dbd0f0945235429cf2"
TOKENIZER = b'{"golden":true}'
IDS = [bytes(range(16)), bytes(range(16, 32)), bytes([255] * 16)]


def bits(places: list[int]) -> list[int]:
    """Two bytes, least significant bit first."""
    number = sum(1 << place for place in places)
    return [number & 0xFF, number >> 8]


TRAIN_ROWS = Rows(
    tokens=np.array(
        [
            # [CLS] = 2, [SEP] = 3, [PAD] = 0, [UNK] = 1
            [2, 10, 11, 12, 3, 2, 13, 1, 3, 0, 0, 0, 0, 0, 0, 0],
            [2, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32, 33, 3],
            [2, 65535, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ],
        np.uint16,
    ),
    segment_offsets=np.array([0, 2, 3, 4], np.int32),
    segment_lengths=np.array([5, 4, 16, 3], np.int32),
    segment_documents=np.array([0, 1, 2, 2], np.int32),
    segment_starts=np.array([0, 0, 0, 14], np.int32),
    word_starts=np.array([bits([1, 3, 6, 7]), bits([1, 5, 9, 14]), bits([1])], np.uint8),
)
TRAIN_PLANES = {
    "0": PlaneMasks(
        targets=np.array([bits([2]), bits([1, 5, 8, 14]), bits([])], np.uint8),
        swap_offsets=np.array([0, 0, 2, 2], np.int32),
        swap_places=np.array([5, 14], np.uint16),
        swap_tokens=np.array([40, 33], np.uint16),  # a random token; the token itself
    ),
    "1": PlaneMasks(
        targets=np.array([bits([6]), bits([2, 3, 4, 13]), bits([])], np.uint8),
        swap_offsets=np.array([0, 1, 1, 1], np.int32),
        swap_places=np.array([6], np.uint16),
        swap_tokens=np.array([41], np.uint16),
    ),
}
VALIDATION_ROWS = Rows(
    tokens=np.array([[2, 50, 51, 52, 53, 54, 55, 56, 3, 0, 0, 0, 0, 0, 0, 0]], np.uint16),
    segment_offsets=np.array([0, 1], np.int32),
    segment_lengths=np.array([9], np.int32),
    segment_documents=np.array([0], np.int32),
    segment_starts=np.array([0], np.int32),
    word_starts=np.array([bits([1, 2, 3, 4])], np.uint8),
)
VALIDATION_PLANES = {
    "evaluation": PlaneMasks(
        targets=np.array([bits([7])], np.uint8),
        swap_offsets=np.array([0, 0], np.int32),
        swap_places=np.zeros(0, np.uint16),
        swap_tokens=np.zeros(0, np.uint16),
    )
}


def documents(ids: list[bytes], sources: list[str], tokens: list[int], dates: list[str | None]) -> pa.Table:
    schema = fmt.documents_schema(("date",), has_id_field=True)
    columns = [
        pa.array(ids, pa.binary(16)),
        pa.array([0] * len(ids), pa.int16()),
        pa.array(sources, pa.string()).dictionary_encode(),
        pa.array([100 * i for i in range(len(ids))], pa.int64()),
        pa.array(tokens, pa.int32()),
        pa.array([f"https://example.org/{i}" for i in range(len(ids))]),
        pa.array(dates, pa.string()),
    ]
    return pa.table(columns, schema=schema)


def build(folder: Folder, *, compression: str = "none") -> Manifest:
    """Write and publish the golden dataset."""
    train = documents(IDS, ["a.md", "a.md", "ü/b.jsonl"], [3, 2, 15], ["2024-02-29", None, ""])
    held_out = documents([b"validation......"], ["a.md"], [7], [None])
    shards = [
        write_shard(
            folder,
            split="train",
            unit=0,
            rows=TRAIN_ROWS,
            planes=TRAIN_PLANES,
            documents=train,
            compression=compression,
        ),
        write_shard(
            folder,
            split="validation",
            unit=0,
            rows=VALIDATION_ROWS,
            planes=VALIDATION_PLANES,
            documents=held_out,
            compression=compression,
        ),
    ]
    ids = ids_from_arrow(train["id"].combine_chunks())
    signatures = [write_signatures(folder, unit=0, ids=ids, compression=compression)]
    manifest, files = build_manifest(
        config=make_config(16, (0.3, 0.3), 8, validation=True, seed=2**62),
        tokenizer=tokenizer_facts(TOKENIZER, 65536, ROLES),
        shards=shards,
        signatures=signatures,
        ledger=replace(balanced_ledger(shards, ROLES), bytes_read=1234),
        audit={},
        packing={},
        plan={"unit_bytes": 1048576, "group_modulus": 1},
    )
    publish(folder, manifest, files, tokenizer=TOKENIZER, side={"parent": None})
    return manifest


if __name__ == "__main__":
    build(Folder(FOLDER))
