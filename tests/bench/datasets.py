"""What the datasets of benchmarks have in common: a table of documents of one source, and their publication."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from mlm_data.dataset.manifest import build_manifest
from mlm_data.dataset.publish import publish
from mlm_data.hashing import ids_to_arrow
from mlm_data.shards import format as fmt
from mlm_data.shards.records import ShardRecord
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, balanced_ledger, make_config, tokenizer_facts

VOCAB = 30_000


def documents_table(ids: np.ndarray, sizes: np.ndarray) -> pa.Table:
    """Documents with these ids, [documents, 2], and content tokens, one after another in one file."""
    columns = [
        ids_to_arrow(ids),
        pa.array(np.zeros(len(ids), np.int16)),
        pa.array(["text.txt"] * len(ids)).dictionary_encode(),
        pa.array(np.arange(len(ids), dtype=np.int64)),
        pa.array(sizes.astype(np.int32)),
    ]
    return pa.table(columns, schema=fmt.documents_schema())


def publish_shards(
    folder: Folder,
    shards: Sequence[ShardRecord],
    *,
    length: int,
    rates: tuple[float, ...],
    max_segments: int,
    tokenizer: bytes,
) -> None:
    """Make a version of them, with a vocabulary of `VOCAB` ids and nothing for validation."""
    manifest, files = build_manifest(
        config=make_config(length, rates, max_segments, validation=False, seed=0),
        tokenizer=tokenizer_facts(tokenizer, VOCAB, ROLES),
        shards=shards,
        ledger=balanced_ledger(list(shards), ROLES),
        audit={},
        packing={},
        plan={},
    )
    publish(folder, manifest, files, tokenizer=tokenizer, side={})
