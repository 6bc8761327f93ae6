"""PREPARE: one unit's raw bytes to an Arrow file of cleaned, scored, tokenized documents.

A prepared unit is named by a key over all that its content may depend on. If it is there and whole, the work is not
done again: see `cache`.
"""

import hashlib
from collections import Counter
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785
from jaxtyping import Int32

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.records import PreparedUnit
from mlm_data.errors import FormatError
from mlm_data.hashing import hash128, ids_from_arrow, ids_to_arrow
from mlm_data.rows.unicode_scripts import text_scripts
from mlm_data.shards.format import token_type
from mlm_data.text import normalize, reading
from mlm_data.tokens.engine import ALGORITHM_VERSION as TOKENS_VERSION
from mlm_data.types import Documents, Encoded, FieldCounts, Quarantined, Unit

PREPARED_VERSION = 3  # of this file's layout and of the order of its steps


def prepare_unit(unit: Unit, context: Context) -> PreparedUnit:
    """Make the prepared unit if it is not there or damaged, and return what the next steps need to know of it.

    Raises:
        InputError: a file can't be read, or has changed since it was planned.
    """
    parts = key_parts(unit, context)
    key = hashlib.sha256(rfc8785.dumps(parts)).hexdigest()
    try:
        facts, is_damaged = cache.check_unit(context.work, key), False
    except FormatError:
        facts, is_damaged = None, True
    is_reused = facts is not None
    if facts is None:
        facts = _write(unit, context, key, parts)
    inputs = sorted({piece.input for piece in unit.slices})
    return PreparedUnit(
        unit=unit.index,
        num_bytes=unit.num_bytes,
        key=key,
        content=facts["content"],
        reused=is_reused,
        remade=is_damaged,
        sources=tuple(facts["sources"]),
        bytes_read=facts["bytes_read"],
        documents_read=facts["documents_read"],
        quarantined=facts["quarantined"],
        tokens_tokenized=facts["tokens_tokenized"],
        fields=tuple((inputs[place], FieldCounts.from_dict(counts)) for place, counts in facts["fields"]),
    )


def key_parts(unit: Unit, context: Context) -> dict[str, Any]:
    """All that a prepared unit's content may depend on, by name: `plan --explain` compares them."""
    config = context.config
    inputs = sorted({piece.input for piece in unit.slices})
    fields, has_id_field = kept_fields(context)
    return {
        "slices": [
            {
                "input": inputs.index(piece.input),
                "source": piece.source,
                "range": [piece.start, piece.end],
                "identity": piece.identity,
            }
            for piece in unit.slices
        ],
        "inputs": [config.inputs[number].model_dump(mode="json", exclude={"path", "name"}) for number in inputs],
        "columns": {"keep_fields": list(fields), "id_field": has_id_field},  # of all inputs: one schema for all units
        "clean": config.clean.without_thresholds(),
        "tokenizer": context.tokenizer_sha256,
        "versions": {
            "prepare": PREPARED_VERSION,
            "reading": reading.ALGORITHM_VERSION,
            "normalize": normalize.ALGORITHM_VERSION,
            "tokens": TOKENS_VERSION,
        },
    }


def prepared_schema(tokens: pa.DataType, keep_fields: tuple[str, ...], *, has_id_field: bool) -> pa.Schema:
    """Columns of a prepared unit; `source` is an index into the unit's list of sources."""
    fields = [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("source", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("num_chars", pa.int32(), nullable=False),
        pa.field("num_unknown", pa.int32(), nullable=False),
        pa.field("script", pa.uint8(), nullable=False),
        pa.field("tokens", pa.large_list(pa.field("item", tokens, nullable=False)), nullable=False),
        pa.field("word_starts", pa.large_list(pa.field("item", pa.bool_(), nullable=False)), nullable=False),
    ]
    if has_id_field:
        fields.append(pa.field("id_field", pa.string()))
    return pa.schema(fields + [pa.field(f"keep.{name}", pa.string()) for name in sorted(keep_fields)])


def kept_fields(context: Context) -> tuple[tuple[str, ...], bool]:
    """The union of all inputs' keep_fields, and whether any input has an id_field: one schema for all units."""
    inputs = context.config.inputs
    names = {name for item in inputs for name in item.keep_fields}
    return tuple(sorted(names)), any(item.id_field is not None for item in inputs)


def open_prepared(prepared: PreparedUnit, context: Context) -> pa.Table:
    """A prepared unit's documents: see `cache.open_unit`."""
    return cache.open_unit(context.work, prepared.key, prepared.content)


def document_ids(table: pa.Table) -> np.ndarray:
    """The documents' 128-bit ids of a prepared unit, uint64 [documents, 2]."""
    return ids_from_arrow(only_chunk(table.column("id")))


def only_chunk(column: pa.ChunkedArray) -> pa.Array:
    """A column as one array; without a copy where it already is."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _write(unit: Unit, context: Context, key: str, parts: dict[str, Any]) -> cache.Facts:
    fields, has_id_field = kept_fields(context)
    schema = prepared_schema(token_type(context.reference().vocab_size), fields, has_id_field=has_id_field)
    reference = context.reference()
    forbidden = np.setdiff1d(reference.special_ids, [reference.roles.unk])  # what no raw text may become
    sources = list(dict.fromkeys(piece.source for piece in unit.slices))
    quarantined: list[Quarantined] = []
    counts: Counter[str] = Counter()
    inputs = sorted({piece.input for piece in unit.slices})
    input_of = {piece.source: inputs.index(piece.input) for piece in unit.slices}
    fields_seen: dict[int, FieldCounts] = {}

    def fill(sink: Any) -> None:
        with pa.ipc.new_file(sink, schema) as file:
            for documents in reading.read_unit(unit, context.config):
                quarantined.extend(documents.quarantined)
                counts["bytes_read"] += documents.num_bytes_read
                counts["documents_read"] += documents.table.num_rows + len(documents.quarantined)
                if documents.fields.num_objects:
                    place = input_of[documents.source]
                    fields_seen[place] = fields_seen.get(place, FieldCounts()) + documents.fields
                if documents.table.num_rows:
                    batch = _prepare_batch(documents, sources.index(documents.source), schema, context, forbidden)
                    counts["tokens_tokenized"] += len(batch.column("tokens").values)
                    file.write_batch(batch)

    def facts() -> cache.Facts:
        return {
            "parts": parts,
            "sources": sources,
            "bytes_read": counts["bytes_read"],
            "documents_read": counts["documents_read"],
            "tokens_tokenized": counts["tokens_tokenized"],
            "quarantined": dict(Counter(item.reason for item in quarantined)),
            "quarantine": [asdict(item) for item in quarantined],
            "fields": [[place, found.to_dict()] for place, found in sorted(fields_seen.items())],
        }

    return cache.write_unit(context.work, key, fill, facts)


def _prepare_batch(
    documents: Documents, source: int, schema: pa.Schema, context: Context, forbidden: np.ndarray
) -> pa.RecordBatch:
    texts = normalize.normalize(documents.table.column("text"), context.config.clean)
    encoded = context.engine().encode(texts)
    if any((encoded.ids == token).any() for token in forbidden):  # a few: each costs 0.1 ns an id
        raise AssertionError(f"{documents.source}: the engine made a special id of raw text: this is a bug of ours")
    offsets = pa.array(encoded.offsets, pa.int64())
    columns = {
        "id": ids_to_arrow(hash128(texts)),
        "source": pa.array(np.full(len(texts), source, np.int32)),
        "offset": documents.table.column("offset"),
        "num_chars": pc.cast(pc.utf8_length(texts), pa.int32()),
        "num_unknown": pa.array(count_ids(encoded, context.reference().roles.unk)),
        "script": pa.array(text_scripts(texts)),
        "tokens": _lists(schema, "tokens", offsets, pa.array(encoded.ids)),
        "word_starts": _lists(schema, "word_starts", offsets, pa.array(encoded.word_starts)),
    }
    given = documents.table.schema.names
    for field in schema:
        if field.name not in columns:
            has = field.name in given
            columns[field.name] = documents.table.column(field.name) if has else pa.nulls(len(texts), field.type)
    return pa.RecordBatch.from_arrays([columns[name] for name in schema.names], schema=schema)


def count_ids(encoded: Encoded, wanted: int) -> Int32[np.ndarray, " documents"]:
    """How often an id stands in each document; -1 stands nowhere."""
    places = np.flatnonzero(encoded.ids == wanted) if wanted >= 0 else np.zeros(0, np.int64)
    documents = np.searchsorted(encoded.offsets, places, side="right") - 1
    return np.bincount(documents, minlength=len(encoded.offsets) - 1).astype(np.int32)


def _lists(schema: pa.Schema, name: str, offsets: pa.Array, values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(offsets, values, type=schema.field(name).type)
