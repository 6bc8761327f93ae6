"""The cleaned documents as files to read, instead of shards: what `premask clean` writes.

    OUT/documents/00000.jsonl.zst    of unit 0: id, text, source, offset, language, language_score, scores, own fields
    OUT/cleaned.json                 written last: the files, the ledger, the funnel
    DROPPED/documents/00000.jsonl.zst    the others, each with its reason

The steps are those of a build up to the decision who stays; there is no tokenizer, so a document is its text. Repeated
documents stand there as often as their weight says, with the number of the copy.
"""

import io
import itertools
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import zstandard

from mlm_data.build import cache
from mlm_data.build.account import Account
from mlm_data.build.assemble import Found, Selection, count_funnel, select_documents
from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.prepare import open_prepared
from mlm_data.build.progress import Totals
from mlm_data.build.publish import add_up, with_places
from mlm_data.build.records import (
    PreparedUnit,
    fields_from_lists,
    fields_to_lists,
    funnel_from_dict,
    funnel_to_dict,
    to_json,
)
from mlm_data.config import BuildConfig
from mlm_data.curation.thresholds import KEPT, SCORE_UNIT
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.seals import sealed
from mlm_data.errors import ConfigError, StorageError
from mlm_data.stores.folder import Folder
from mlm_data.types import FieldCounts

CLEANED = "cleaned.json"
OURS = frozenset({CLEANED, "documents", "work"})
BATCH_DOCUMENTS = 1024
HIDDEN = frozenset({"num_chars", "script", "head", "sketch", "num_shingles", "matched_grams", "matched_starts"})


@dataclass(frozen=True, kw_only=True)
class Output:
    """Where cleaned documents go, and how."""

    format: Literal["jsonl", "parquet"] = "jsonl"
    dropped: str | None = None  # a folder for those that don't stay


@dataclass(frozen=True, kw_only=True)
class CleanedUnit:
    """What a unit has become: its files, and its part of all that is added up."""

    unit: int
    key: str
    files: tuple[tuple[str, int, int], ...]  # name, documents, bytes
    fields: tuple[tuple[int, FieldCounts], ...]
    ledger: Ledger
    funnel: Funnel

    def to_bytes(self) -> bytes:
        """JSON; `from_bytes` is its inverse."""
        plain: dict[str, Any] = {"fields": fields_to_lists(self.fields)}
        plain |= {"ledger": self.ledger.to_dict(), "funnel": funnel_to_dict(self.funnel)}
        same = {name: getattr(self, name) for name in ("unit", "key", "files")}
        return to_json(same | plain)

    @classmethod
    def from_bytes(cls, data: bytes) -> "CleanedUnit":
        value = json.loads(data)
        value["files"] = tuple((name, documents, size) for name, documents, size in value["files"])
        value["fields"] = fields_from_lists(value["fields"])
        value["ledger"] = Ledger.from_dict(value["ledger"])
        value["funnel"] = funnel_from_dict(value["funnel"])
        return cls(**value)


def check_folders(output: str, dropped: str | None) -> None:
    """`check_folder` for both; neither may lie in the other, since their files have the same names.

    Raises:
        ConfigError: they do.
        StorageError: one of them holds something else.
    """
    if dropped is not None and (
        f"{dropped.rstrip('/')}/".startswith(f"{output.rstrip('/')}/")
        or f"{output.rstrip('/')}/".startswith(f"{dropped.rstrip('/')}/")
    ):
        raise ConfigError(f"--dropped {dropped} and --out {output} lie in each other: choose two folders side by side")
    for location in filter(None, (output, dropped)):
        check_folder(location)


def check_folder(location: str) -> None:
    """Make sure that cleaned documents may be written here: a new or empty folder, or one of an earlier run.

    Raises:
        StorageError: it holds something else.
    """
    folder = Folder(location)
    strange = [name for name in folder.names() if name not in OURS and not name.startswith(".")]
    if strange:
        raise StorageError(f"{location}: holds {strange[0]!r}, which no `premask clean` wrote: choose another folder")


def write_texts(
    prepared: PreparedUnit,
    found: Found,
    context: Context,
    output: Output,
    *,
    weights: Mapping[str, float] | None = None,
) -> CleanedUnit:
    """Write the documents of one unit that stay, and if asked for the others.

    Args:
        prepared: what `prepare_unit` returned.
        found: which of its documents are copies of others.
        context: the build, without a tokenizer.
        output: how to write them.
        weights: of languages or inputs, where `mixing` evens them out.
    """
    table = open_prepared(prepared, context)
    selection = select_documents(table, prepared, found, context, weights or {})
    writing = table, selection, prepared, context, output
    files = [_write(context.folder, selection.kept, *writing, is_dropped=False)]
    if output.dropped is not None:
        dropped = np.flatnonzero(selection.fates != KEPT)
        _write(Folder(output.dropped), dropped, *writing, is_dropped=True)
    documents_dropped, _ = selection.dropped(np.zeros(table.num_rows, np.int64))
    ledger = Ledger(
        bytes_read=prepared.bytes_read,
        documents_read=prepared.documents_read,
        documents_kept=files[0][1],
        documents_dropped=documents_dropped,
        documents_quarantined=prepared.quarantined,
        documents_repeated=selection.num_repeated,
    )
    return CleanedUnit(
        unit=prepared.unit,
        key=prepared.key,
        files=tuple(files),
        fields=prepared.fields,
        ledger=ledger,
        funnel=count_funnel(table, selection, prepared, found, context),
    )


def finish(results: Sequence[CleanedUnit], context: Context, output: Output, account: Account) -> None:
    """Check the sum of all units, take away files of an earlier run, and write what there is.

    Args:
        results: of each unit of the plan, once.
        context: the build, without a tokenizer.
        output: where the texts are.
        account: what the steps have sent each other, balanced.

    Raises:
        BuildError: a field that no document has, too much that can't be read, or a ledger that doesn't balance.
    """
    results = sorted(results, key=lambda item: item.unit)
    ledger, _ = add_up(results, context, account)
    cache.check_sign(context.work, context.run)
    funnel = with_places(sum((item.funnel for item in results), Funnel()), results, context)
    files = [file for item in results for file in item.files]
    for folder in filter(None, (context.config.output, output.dropped)):
        wanted = {name for name, _, _ in files}
        for name in Folder(folder).names("documents"):
            if f"documents/{name}" not in wanted:
                Folder(folder).delete(f"documents/{name}")
    facts = {
        "files": [{"name": name, "documents": count, "bytes": size} for name, count, size in files],
        "ledger": ledger.to_dict(),
        "funnel": funnel.to_dict(),
        "examples": [asdict(example) for example in funnel.examples],
        "units": len(results),
        "reused": account.notes["reused"],
        "remade": account.notes["remade"],
    }
    context.folder.write(CLEANED, sealed(facts))
    totals = vars(Totals.of(ledger, account.notes["reused"]))
    cache.note(context.work, context.run, {"units": len(results), "totals": totals})


def _write(
    folder: Folder,
    rows: np.ndarray,
    table: pa.Table,
    selection: Selection,
    prepared: PreparedUnit,
    context: Context,
    output: Output,
    *,
    is_dropped: bool,
) -> tuple[str, int, int]:
    """(name, documents, bytes) of the file that holds these rows."""
    batches = _batches(table, rows, selection, prepared, context, is_dropped=is_dropped)
    ending = "jsonl.zst" if output.format == "jsonl" else "parquet"
    name = f"documents/{prepared.unit:05}.{ending}"

    def fill(sink: Any) -> None:
        if output.format == "parquet":
            _fill_parquet(sink, batches)
            return
        with zstandard.ZstdCompressor(level=3).stream_writer(sink, closefd=False) as writer:
            for batch in batches:
                lines = [json.dumps(_without_nulls(row), ensure_ascii=False) + "\n" for row in batch.to_pylist()]
                writer.write("".join(lines).encode())

    written = context.guarded(folder).create(fill, lambda _: name, hashed=False)
    return name, len(rows), written.num_bytes


def _fill_parquet(sink: Any, batches: Iterator[pa.RecordBatch]) -> None:
    first = next(batches)
    data = io.BytesIO()
    with pq.ParquetWriter(data, first.schema, compression="zstd") as writer:
        for batch in itertools.chain([first], batches):
            writer.write_batch(batch)
    sink.write(data.getbuffer())


def _has_copies(config: BuildConfig) -> bool:
    """Whether a text may be there several times, so that copies are numbered."""
    return not config.deduplicate.exact or config.mixing is not None or any(item.weight != 1 for item in config.inputs)


def _batches(
    table: pa.Table,
    rows: np.ndarray,
    selection: Selection,
    prepared: PreparedUnit,
    context: Context,
    *,
    is_dropped: bool,
) -> Iterator[pa.RecordBatch]:
    """Rows as they are written; at least one batch, so that every file has all columns."""
    languages = languages_of(context.config)
    scores = [
        field.name
        for field in table.schema
        if field.name not in HIDDEN | {"id", "source", "offset", "text", "language", "language_score", "id_field"}
        and not field.name.startswith("keep.")
    ]
    has_copies = _has_copies(context.config)
    for start in range(0, max(1, len(rows)), BATCH_DOCUMENTS):
        some = rows[start : start + BATCH_DOCUMENTS]
        part = table.take(pa.array(some))
        columns: dict[str, Any] = {
            "id": pa.array([value.hex() for value in part.column("id").to_pylist()], pa.string()),
            "text": part.column("text").combine_chunks(),
            "source": pa.array(prepared.sources, pa.string()).take(part.column("source").combine_chunks()),
            "offset": part.column("offset").combine_chunks(),
        }
        if is_dropped:
            columns["reason"] = pa.array(selection.names, pa.string()).take(pa.array(selection.fates[some]))
        elif has_copies:
            columns["copy"] = selection.copy[start : start + BATCH_DOCUMENTS]
        if languages:
            columns["language"] = pa.array(languages, pa.string()).take(part.column("language").combine_chunks())
            columns["language_score"] = part.column("language_score").to_numpy() / SCORE_UNIT
        if scores:
            arrays = [_score(part, name) for name in scores]
            columns["scores"] = pa.StructArray.from_arrays(arrays, scores)
        own = [name for name in part.schema.names if name == "id_field" or name.startswith("keep.")]
        columns |= {
            name if name.removeprefix("keep.") in columns else name.removeprefix("keep."): part.column(
                name
            ).combine_chunks()
            for name in own
        }
        yield pa.RecordBatch.from_pydict(columns)


def _score(part: pa.Table, name: str) -> pa.Array:
    """A score as people read it: that of a classifier is a probability."""
    column = part.column(name).combine_chunks()
    return pc.divide(column.cast(pa.float64()), float(SCORE_UNIT)) if name == "classifier" else column


def _without_nulls(row: dict[str, Any]) -> dict[str, Any]:
    """A row as JSON shows it: a score that its input doesn't have is not there."""
    if row.get("scores"):
        row["scores"] = {name: value for name, value in row["scores"].items() if value is not None}
    return {name: value for name, value in row.items() if value is not None}
