"""Small datasets of random tokens, for tests of everything that reads datasets.

    path = make_dataset(tmp_path / "data", num_rows=64, sequence_length=64, planes=2)

Rows hold random segments between [CLS] and [SEP]; each plane hides exactly floor(rate * maskable) places of a row.
Everything follows from the arguments: two calls make the same digest.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa

from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import build_manifest
from mlm_data.dataset.publish import publish
from mlm_data.hashing import ids_to_arrow
from mlm_data.shards import format as fmt
from mlm_data.shards.records import ShardRecord
from mlm_data.shards.writer import write_shard, write_signatures
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Roles, Rows

ROLES = Roles(cls=2, sep=3, pad=0, mask=4, unk=1)
FIRST_ID = 5  # ids below are special
TOKENIZER = b'{"model":{},"version":"1.0"}'


def make_dataset(
    folder: str | Path,
    *,
    num_rows: int = 64,
    validation_rows: int = 16,
    sequence_length: int = 64,
    vocab_size: int = 512,
    planes: int = 2,
    rate: float | tuple[float, ...] = 0.30,
    shard_rows: int = 24,
    max_segments: int = 8,
    seed: int = 0,
    compression: str = "none",
    tokenizer: bytes = TOKENIZER,
    roles: Roles = ROLES,
    markers: tuple[str, ...] = (),
    change: Callable[[str, dict], None] | None = None,
) -> Path:
    """Write and publish a dataset; return its folder.

    `shard_rows` rows go into each shard, the rest into the last. Give a real `tokenizer` with its `roles` where the
    test decodes tokens; ids from `FIRST_ID` up to `vocab_size` are drawn uniformly. `change(split, shard)` may change
    what is written: `shard` has `rows`, `planes` and `documents`.
    """
    place = Folder(folder)
    rates = rate if isinstance(rate, tuple) else (rate,) * planes
    config = make_config(sequence_length, rates, max_segments, validation=validation_rows > 0, seed=seed)
    config |= {"tokenizer": {"markers": list(markers)}} if markers else {}
    records, signatures = [], []
    for split, total in ((fmt.TRAIN, num_rows), (fmt.VALIDATION, validation_rows)):
        for unit, first in enumerate(range(0, total, shard_rows)):
            rng = np.random.default_rng([seed, fmt.SPLITS.index(split), unit])
            rows, documents = make_rows(
                rng, min(shard_rows, total - first), sequence_length, vocab_size, max_segments, roles, f"{split}/{unit}"
            )
            names = fmt.plane_names(planes, split=split)
            wanted = rates if split == fmt.TRAIN else (fmt.EVALUATION_RATE,)
            shares = (0.8, 0.1) if split == fmt.TRAIN else (1.0, 0.0)
            masks = {
                name: make_masks(rng, rows, r, vocab_size, roles, shares) for name, r in zip(names, wanted, strict=True)
            }
            shard = {"rows": rows, "planes": masks, "documents": documents}
            if change:
                change(split, shard)
            records.append(write_shard(place, split=split, unit=unit, compression=compression, **shard))
            if split == fmt.TRAIN:
                ids = np.frombuffer(b"".join(documents["id"].to_pylist()), "<u8").reshape(-1, 2)
                signatures.append(write_signatures(place, unit=unit, ids=ids, compression=compression))
    manifest, files = build_manifest(
        config=config,
        tokenizer=tokenizer_facts(tokenizer, vocab_size, roles),
        shards=records,
        signatures=signatures,
        ledger=balanced_ledger(records, roles),
        audit={"failures": [], "warnings": []},
        packing={},
        plan={"unit_bytes": 2**20, "group_modulus": 8},
    )
    publish(place, manifest, files, tokenizer=tokenizer, side={"parent": None})
    return Path(folder)


def make_config(
    sequence_length: int, rates: tuple[float, ...], max_segments: int, *, validation: bool, seed: int
) -> dict:
    """A semantic configuration as a build of this shape would have it."""
    return {
        "pack": {"sequence_length": sequence_length, "max_segments": max_segments, "long_documents": "split"},
        "mask": {
            "planes": len(rates),
            "kind": "token",
            "rate": list(rates),
            "mask_share": 0.8,
            "random_share": 0.1,
            "keep_share": 0.1,
        },
        "split": {"validation": 0.2 if validation else 0, "by": "document"},
        "seed": seed,
    }


def make_rows(
    rng: np.random.Generator,
    num_rows: int,
    length: int,
    vocab_size: int,
    max_segments: int,
    roles: Roles,
    source: str,
) -> tuple[Rows, pa.Table]:
    """Random rows, and a documents table with one document for each segment."""
    dtype = np.dtype(str(fmt.token_type(vocab_size)))
    tokens = np.full((num_rows, length), roles.pad, dtype)
    bits = np.zeros((num_rows, length), bool)
    lengths, offsets = [], [0]
    for r in range(num_rows):
        at = 0
        for _ in range(max_segments - 1):  # one segment is left for the padding
            size = int(rng.integers(3, max(4, length // 2)))
            if at + size > length:
                break
            tokens[r, at + 1 : at + size - 1] = rng.integers(FIRST_ID, vocab_size, size - 2)
            tokens[r, at], tokens[r, at + size - 1] = roles.cls, roles.sep
            bits[r, at + 1 : at + size - 1] = rng.random(size - 2) < 0.7
            bits[r, at + 1] = True
            lengths.append(size)
            at += size
        offsets.append(len(lengths))
    sizes = np.array(lengths, np.int32)
    rows = Rows(
        tokens=tokens,
        segment_offsets=np.array(offsets, np.int32),
        segment_lengths=sizes,
        segment_documents=np.arange(sizes.size, dtype=np.int32),
        segment_starts=np.zeros(sizes.size, np.int32),
        word_starts=np.packbits(bits, axis=1, bitorder="little"),
    )
    ids = rng.integers(0, 2**64, (sizes.size, 2), dtype=np.uint64)
    columns = [
        ids_to_arrow(ids),
        pa.array(np.zeros(sizes.size, np.int16)),
        pa.DictionaryArray.from_arrays(pa.array(np.zeros(sizes.size, np.int32)), pa.array([f"{source}.txt"])),
        pa.array(np.arange(sizes.size, dtype=np.int64) * 100),
        pa.array(sizes - np.int32(roles.num_specials)),
    ]
    return rows, pa.table(columns, schema=fmt.documents_schema())


def make_masks(
    rng: np.random.Generator,
    rows: Rows,
    rate: float,
    vocab_size: int,
    roles: Roles,
    shares: tuple[float, float] = (0.8, 0.1),
) -> PlaneMasks:
    """A random plane: exact counts, and swaps where a target isn't [MASK]."""
    special = np.isin(rows.tokens, [roles.cls, roles.sep, roles.pad, roles.unk])
    targets = np.zeros(rows.tokens.shape, bool)
    places, tokens, offsets = [], [], [0]
    for r in range(len(rows)):
        maskable = np.flatnonzero(~special[r])
        count = maskable.size * round(rate * 1_000_000) // 1_000_000
        for place in np.sort(rng.permutation(maskable)[:count]).tolist():
            targets[r, place] = True
            draw = rng.random()
            if draw >= shares[0]:
                is_random = draw < sum(shares)
                places.append(place)
                tokens.append(int(rng.integers(FIRST_ID, vocab_size)) if is_random else int(rows.tokens[r, place]))
        offsets.append(len(places))
    return PlaneMasks(
        targets=np.packbits(targets, axis=1, bitorder="little"),
        swap_offsets=np.array(offsets, np.int32),
        swap_places=np.array(places, np.uint16),
        swap_tokens=np.array(tokens, rows.tokens.dtype),
    )


def tokenizer_facts(tokenizer: bytes, vocab_size: int, roles: Roles) -> dict:
    """What a manifest says of its tokenizer."""
    names = ("cls", "sep", "pad", "mask", "unk")
    return {
        "sha256": hashlib.sha256(tokenizer).hexdigest(),
        "vocab_size": vocab_size,
        "roles": {name: getattr(roles, name) for name in names},
    }


def balanced_ledger(records: list[ShardRecord], roles: Roles) -> Ledger:
    """A ledger of a build that kept everything."""
    documents = sum(record.num_documents for record in records)
    tokens = sum(record.num_tokens - roles.num_specials * record.num_segments for record in records)
    return Ledger(documents_read=documents, documents_kept=documents, tokens_tokenized=tokens, tokens_in_rows=tokens)
