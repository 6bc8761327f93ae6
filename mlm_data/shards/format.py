"""Format version 1: the schemas and constants that docs/reference/format.md specifies.

All tables are Arrow IPC files. `L` is the sequence length, `K` the number of training planes.
"""

from typing import Literal

import pyarrow as pa

from mlm_data.types import id_type

FORMAT_VERSION = 1
FILE_MAGIC = b"ARROW1"  # an IPC file begins so; anything else is taken for an IPC stream
BITS: Literal["little"] = "little"  # numpy's name for: bit i of a row is bit i % 8 of byte i // 8

ROWS, MASKS, DOCUMENTS, SIGNATURES = "rows", "masks", "documents", "signatures"
KINDS = (ROWS, MASKS, DOCUMENTS, SIGNATURES)
SKETCH = "sketch"  # the column of signatures that says what near duplicates are compared by
# Rows in every record batch but a file's last. Bounded, so that a compressed file is decoded a piece at a time (4 MiB
# of tokens at L = 512); constant, so that the batch of a row is row // BATCH_ROWS, without a search.
BATCH_ROWS = 4096
TRAIN, VALIDATION = "train", "validation"
SPLITS = (TRAIN, VALIDATION)

# The evaluation plane is the same for every dataset, so that figures can be compared.
EVALUATION_SEED = 0x5052_454D_4153_4B31
EVALUATION_RATE = 0.15


def token_type(vocab_size: int) -> pa.DataType:
    """The type of a column of ids: uint16 or uint32."""
    return pa.from_numpy_dtype(id_type(vocab_size))


def rows_schema(sequence_length: int, tokens: pa.DataType) -> pa.Schema:
    """Packed rows: tokens [L]; segments as parallel lists; one bit per place where a word begins."""
    item = pa.field("item", tokens, nullable=False)
    number = pa.list_(pa.field("item", pa.int32(), nullable=False))
    return pa.schema(
        [
            pa.field("tokens", pa.list_(item, sequence_length), nullable=False),
            pa.field("segment_lengths", number, nullable=False),
            pa.field("segment_documents", number, nullable=False),
            pa.field("segment_starts", number, nullable=False),
            pa.field("word_starts", pa.binary(sequence_length // 8), nullable=False),
        ]
    )


def plane_names(planes: int, *, split: str) -> list[str]:
    """Suffixes of a split's planes: 0 to K - 1 for training, `evaluation` for validation."""
    return [str(plane) for plane in range(planes)] if split == TRAIN else ["evaluation"]


def masks_schema(sequence_length: int, tokens: pa.DataType, planes: list[str]) -> pa.Schema:
    """Three columns for each plane: target bits, and the places and contents of targets that don't hold [MASK]."""
    place = pa.list_(pa.field("item", pa.uint16(), nullable=False))
    token = pa.list_(pa.field("item", tokens, nullable=False))
    fields = []
    for plane in planes:
        fields += [
            pa.field(f"targets_{plane}", pa.binary(sequence_length // 8), nullable=False),
            pa.field(f"swap_places_{plane}", place, nullable=False),
            pa.field(f"swap_tokens_{plane}", token, nullable=False),
        ]
    return pa.schema(fields)


def documents_schema(keep_fields: tuple[str, ...] = (), *, has_id_field: bool = False) -> pa.Schema:
    """Where each document came from, in the order of `segment_documents`."""
    fields = [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("copy", pa.int16(), nullable=False),
        pa.field("source", pa.dictionary(pa.int32(), pa.string()), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("num_tokens", pa.int32(), nullable=False),
    ]
    if has_id_field:
        fields.append(pa.field("id_field", pa.string()))
    fields += [pa.field(f"keep.{field}", pa.string()) for field in sorted(keep_fields)]
    return pa.schema(fields)


def signatures_schema(sketch_bytes: int = 0) -> pa.Schema:
    """Signatures of what was kept, sorted by id: `add` deduplicates against them.

    Where near duplicates are dropped, each document has a sketch of so many bytes; null where it has no words.
    """
    fields = [pa.field("id", pa.binary(16), nullable=False)]
    return pa.schema(fields + ([pa.field(SKETCH, pa.binary(sketch_bytes))] if sketch_bytes else []))


def files_schema() -> pa.Schema:
    """The file table of one version: a line per file, in canonical order (split, shard, kind).

    `logical_hash` covers the column buffers in canonical layout and enters the digest; `name`, `num_bytes` and
    `sha256` describe the bytes of this copy, which depend on codec and writer.
    """
    return pa.schema(
        [
            pa.field("split", pa.string(), nullable=False),  # train | validation | all (signatures)
            pa.field("shard", pa.int32(), nullable=False),  # 0, 1, ... within the split
            pa.field("unit", pa.int32(), nullable=False),
            pa.field("kind", pa.string(), nullable=False),
            pa.field("num_rows", pa.int64(), nullable=False),
            pa.field("num_tokens", pa.int64(), nullable=False),  # places in segments, specials included; rows only
            pa.field("logical_hash", pa.binary(32), nullable=False),
            pa.field("name", pa.string(), nullable=False),
            pa.field("num_bytes", pa.int64(), nullable=False),
            pa.field("sha256", pa.binary(32), nullable=False),
        ]
    )
