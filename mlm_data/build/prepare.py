"""PREPARE: one unit's raw bytes to an Arrow file of cleaned, scored, tokenized documents.

A prepared unit is named by a key over all that its content may depend on. If it is there and whole, the work is not
done again: see `cache`.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import rfc8785
from jaxtyping import Int32

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.curate import Curated, curate, score_fields, versions
from mlm_data.build.records import PreparedUnit
from mlm_data.config import BuildConfig, InputSettings
from mlm_data.duplicates.lines import Cuts
from mlm_data.errors import FormatError
from mlm_data.hashing import ids_from_arrow, ids_to_arrow
from mlm_data.rows.unicode_scripts import text_scripts
from mlm_data.shards.format import token_type
from mlm_data.text import normalize, reading
from mlm_data.text.batches import WORDS
from mlm_data.tokens.engine import ALGORITHM_VERSION as TOKENS_VERSION
from mlm_data.tokens.huggingface import HuggingFaceEngine
from mlm_data.types import Documents, Encoded, FieldCounts, Quarantined, Unit

PREPARED_VERSION = 4  # of this file's layout and of the order of its steps


def prepare_unit(
    unit: Unit, context: Context, cuts: Cuts | None = None, ignored: Int32[np.ndarray, " ignored"] | None = None
) -> PreparedUnit:
    """Make the prepared unit if it is not there or damaged, and return what the next steps need to know of it.

    Args:
        unit: what to read.
        context: the build.
        cuts: lines to cut, as `survey.choose_cuts` gave them for this unit; sorted by (document, line).
        ignored: runs of evaluations not to cut, as `survey.choose_ignored` gave them for this unit; sorted.

    Raises:
        InputError: a file can't be read, or has changed since it was planned.
    """
    parts = key_parts(unit, context)
    if cuts is not None:
        parts["cuts"] = hashlib.sha256(np.ascontiguousarray(cuts).tobytes()).hexdigest()
    if ignored is not None:
        parts["ignored"] = hashlib.sha256(ignored.astype("<i4").tobytes()).hexdigest()
    key = unit_key(parts)
    try:
        facts, is_damaged = cache.check_unit(context.work, key), False
    except FormatError:
        facts, is_damaged = None, True
    is_ours = facts is None or (bool(context.run) and facts.get("run") == context.run)
    if facts is None:
        facts = _write(unit, context, key, parts, cuts, ignored, is_damaged)
    inputs = sorted({piece.input for piece in unit.slices})
    return PreparedUnit(
        unit=unit.index,
        num_bytes=unit.num_bytes,
        key=key,
        content=facts["content"],
        reused=not is_ours,
        remade=is_ours and facts["remade"],
        sources=tuple(facts["sources"]),
        inputs=tuple(inputs[place] for place in facts["inputs"]),
        changes=facts["changes"],
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
        "inputs": [_reading_settings(config.inputs[number]) for number in inputs],
        "columns": {"keep_fields": list(fields), "id_field": has_id_field},  # of all inputs: one schema for all units
        "clean": config.clean.without_thresholds(),
        "scores": [[field.name, str(field.type)] for field in score_fields(config)],
        "assets": [list(pair) for pair in context.assets],
        "near": config.deduplicate.near and {"ngram": config.deduplicate.near.ngram},
        "decontaminate": _evaluations(config),
        "tokenizer": context.tokenizer_sha256,
        "pages": _page_readers(unit, context),
        "versions": {
            "prepare": PREPARED_VERSION,
            "reading": reading.ALGORITHM_VERSION,
            "normalize": normalize.ALGORITHM_VERSION,
            "tokens": TOKENS_VERSION,
            **versions(config),
        },
    }


def unit_key(parts: dict[str, Any]) -> str:
    """The key of a prepared unit in the cache, from `key_parts` and what the survey has found for it."""
    return hashlib.sha256(rfc8785.dumps(parts)).hexdigest()


def _evaluations(config: BuildConfig) -> dict[str, Any] | None:
    """What is found of evaluations, and if it is cut what goes; `find_assets` has the files, and `share` decides."""
    settings = config.decontaminate
    if settings is None:
        return None
    cut = {"action": "cut", "window": settings.window} if config.cuts_evaluations else {}
    return {"ngram": settings.ngram, **cut}


def _page_readers(unit: Unit, context: Context) -> list[str]:
    """What texts of web pages depend on, versions of libraries above all; [] where a unit has none."""
    numbers = sorted({piece.input for piece in unit.slices if piece.format in ("html", "warc")})
    if not numbers:
        return []
    from mlm_data.text import pages

    return [pages.identity(context.config.inputs[number]) for number in numbers]


def _reading_settings(settings: InputSettings) -> dict[str, Any]:
    """What documents and scores of an input depend on; thresholds and weights decide later."""
    values = settings.model_dump(mode="json", exclude={"path", "name", "quality", "weight"})
    return values | ({"quality": settings.quality.score_key()} if settings.quality.presets else {})


def prepared_schema(context: Context) -> pa.Schema:
    """Columns of a prepared unit; `source` is an index into the unit's list of sources.

    Where there is no tokenizer, a document is its `text`.
    """
    keep_fields, has_id_field = kept_fields(context)
    fields = [
        pa.field("id", pa.binary(16), nullable=False),
        pa.field("source", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("num_chars", pa.int32(), nullable=False),
        pa.field("script", pa.uint8(), nullable=False),
    ]
    if context.has_tokens:
        tokens = token_type(context.reference().vocab_size)
        fields += [
            pa.field("num_unknown", pa.int32(), nullable=False),
            pa.field("tokens", pa.large_list(pa.field("item", tokens, nullable=False)), nullable=False),
            pa.field("word_starts", pa.large_list(pa.field("item", pa.bool_(), nullable=False)), nullable=False),
        ]
    else:
        fields.append(pa.field("text", pa.large_string(), nullable=False))
    fields += score_fields(context.config)
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


def _write(
    unit: Unit,
    context: Context,
    key: str,
    parts: dict[str, Any],
    cuts: Cuts | None,
    ignored: Int32[np.ndarray, " ignored"] | None,
    is_damaged: bool,
) -> cache.Facts:
    schema = prepared_schema(context)
    sources = list(dict.fromkeys(piece.source for piece in unit.slices))
    quarantined: list[Quarantined] = []
    counts: Counter[str] = Counter()
    changes: Counter[str] = Counter()
    inputs = sorted({piece.input for piece in unit.slices})
    input_of = {piece.source: inputs.index(piece.input) for piece in unit.slices}
    fields_seen: dict[int, FieldCounts] = {}

    def fill(sink: Any) -> None:
        with pa.ipc.new_file(sink, schema) as file:
            for documents in reading.read_unit(unit, context.config):
                quarantined.extend(documents.quarantined)
                changes.update(documents.counts)
                counts["bytes_read"] += documents.num_bytes_read
                counts["documents_read"] += documents.table.num_rows + len(documents.quarantined)
                if documents.fields.num_objects:
                    place = input_of[documents.source]
                    fields_seen[place] = fields_seen.get(place, FieldCounts()) + documents.fields
                if documents.table.num_rows:
                    number, place = inputs[input_of[documents.source]], sources.index(documents.source)
                    mine = _cuts_of(cuts, counts["documents"], documents)
                    counts["documents"] += documents.table.num_rows
                    batch, curated = prepare_documents(
                        documents, number, context, schema=schema, place=place, cuts=mine, ignored=ignored
                    )
                    changes.update(curated.counts)
                    counts["tokens_tokenized"] += len(batch.column("tokens").values) if context.has_tokens else 0
                    file.write_batch(batch)

    def facts() -> cache.Facts:
        return {
            "parts": parts,
            "run": context.run,  # which build has made it, and whether it was there before, but damaged
            "remade": is_damaged,
            "sources": sources,
            "inputs": [input_of[source] for source in sources],
            "changes": dict(sorted(changes.items())),
            "bytes_read": counts["bytes_read"],
            "documents_read": counts["documents_read"],
            "tokens_tokenized": counts["tokens_tokenized"],
            "quarantined": dict(Counter(item.reason for item in quarantined)),
            "quarantine": [asdict(item) for item in quarantined],
            "fields": [[place, found.to_dict()] for place, found in sorted(fields_seen.items())],
        }

    return cache.write_unit(context.work, key, fill, facts)


def _cuts_of(cuts: Cuts | None, first: int, documents: Documents) -> Cuts | None:
    """The cuts of a batch whose first document is that number of the unit, counted from it."""
    if cuts is None:
        return None
    mine = cuts[slice(*np.searchsorted(cuts["document"], [first, first + documents.table.num_rows]))].copy()
    mine["document"] -= first
    return mine


def prepare_documents(
    documents: Documents,
    number: int,
    context: Context,
    *,
    schema: pa.Schema,
    place: int = 0,
    cuts: Cuts | None = None,
    ignored: Int32[np.ndarray, " ignored"] | None = None,
) -> tuple[pa.RecordBatch, Curated]:
    """(a batch of `prepared_schema`, what it was made of).

    Args:
        documents: a batch of one source, of the input `number`.
        context: the build.
        schema: `prepared_schema` of the build.
        place: of the source in the unit's list of sources.
        cuts: (document of the batch, line) of lines to cut, sorted.
        ignored: runs of evaluations not to cut.
    """
    curated = curate(documents, number, context, cuts, ignored)
    words = documents.table.column(WORDS) if WORDS in documents.table.schema.names else None
    columns = _columns(curated, schema, context, documents.source, words)
    columns["source"] = pa.array(np.full(len(curated.texts), place, np.int32))
    return _batch(columns, documents, schema), curated


def _columns(
    curated: Curated, schema: pa.Schema, context: Context, source: str, words: pa.LargeListArray | None
) -> dict[str, pa.Array]:
    """What is made of the texts, by the name of the column; `words` are the user's, as places in the texts."""
    texts = curated.texts
    columns = {
        "id": ids_to_arrow(curated.ids),
        "num_chars": pc.cast(pc.utf8_length(texts), pa.int32()),
        "script": pa.array(text_scripts(texts)),
        **curated.columns,
    }
    if not context.has_tokens:
        return columns | {"text": texts}
    reference = context.reference()
    if words is None:
        encoded = context.engine().encode(texts)
    else:  # HF says where in a text its tokens lie; our word table does not
        encoded = HuggingFaceEngine(reference).encode_words(texts, words)
    # What no raw text may become: a few ids, each costs 0.1 ns an id.
    for token in np.setdiff1d(reference.special_ids, [reference.roles.unk]):
        if (encoded.ids == token).any():
            raise AssertionError(f"{source}: the engine made a special id of raw text: this is a bug of ours")
    offsets = pa.array(encoded.offsets, pa.int64())
    return columns | {
        "num_unknown": pa.array(count_ids(encoded, reference.roles.unk)),
        "tokens": _lists(schema, "tokens", offsets, pa.array(encoded.ids)),
        "word_starts": _lists(schema, "word_starts", offsets, pa.array(encoded.word_starts)),
    }


def _batch(columns: Mapping[str, pa.Array], documents: Documents, schema: pa.Schema) -> pa.RecordBatch:
    """A batch of the schema: columns that were made, those that were read, and nulls."""
    read = {name: documents.table.column(name) for name in documents.table.schema.names if name != "text"}
    found = {**read, **columns}
    num = documents.table.num_rows
    arrays = [found[field.name] if field.name in found else pa.nulls(num, field.type) for field in schema]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def count_ids(encoded: Encoded, wanted: int) -> Int32[np.ndarray, " documents"]:
    """How often an id stands in each document; -1 stands nowhere."""
    places = np.flatnonzero(encoded.ids == wanted) if wanted >= 0 else np.zeros(0, np.int64)
    documents = np.searchsorted(encoded.offsets, places, side="right") - 1
    return np.bincount(documents, minlength=len(encoded.offsets) - 1).astype(np.int32)


def _lists(schema: pa.Schema, name: str, offsets: pa.Array, values: pa.Array) -> pa.Array:
    return pa.LargeListArray.from_arrays(offsets, values, type=schema.field(name).type)
