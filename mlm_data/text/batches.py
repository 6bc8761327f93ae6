"""What all readers end with: one `Documents` of one source."""

from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.config import InputSettings
from mlm_data.types import Documents, FieldCounts, Quarantined, Slice

WORDS = "words"  # the column of `word_field`


def other_fields(settings: InputSettings) -> tuple[str, ...]:
    """The fields to read beside the text: the user's id first, then `keep_fields`, then the words."""
    own_id = [settings.id_field] if settings.id_field is not None else []
    words = [settings.word_field] if settings.word_field is not None else []
    return (*own_id, *settings.keep_fields, *words)


def other_columns(settings: InputSettings) -> tuple[str, ...]:
    """The names of their columns in a batch."""
    names = [f"keep.{field}" for field in settings.keep_fields]
    words = [WORDS] if settings.word_field is not None else []
    return (*(["id_field"] if settings.id_field is not None else []), *names, *words)


def batch(
    piece: Slice,
    settings: InputSettings,
    bad: tuple[Quarantined, ...],
    num_bytes: int,
    text: pa.LargeStringArray | None = None,
    offsets: Int64[np.ndarray, " documents"] | None = None,
    others: Sequence[pa.Array] | None = None,
    fields: FieldCounts = FieldCounts(),
    counts: Mapping[str, int] | None = None,
) -> Documents:
    """A batch of documents; without `text`, of none; without `others`, with nulls in all other fields."""
    text = pa.array([], pa.large_string()) if text is None else text
    columns = {"text": text, "offset": pa.array([] if offsets is None else offsets, pa.int64())}
    names = other_columns(settings)
    others = [pa.nulls(len(text), pa.string())] * len(names) if others is None else others
    columns |= {name: values.cast(pa.string()) for name, values in zip(names, others, strict=True)}
    table = pa.RecordBatch.from_pydict(columns)
    return Documents(
        source=piece.source,
        table=table,
        quarantined=bad,
        num_bytes_read=num_bytes,
        fields=fields,
        counts=dict(counts or {}),
    )


def quarantined(piece: Slice, offset: int, reason: str, detail: str, num_bytes: int = 0) -> Quarantined:
    """A document of `num_bytes` that can't be read; the detail is cut to 200 characters, control characters escaped."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in detail)
    return Quarantined(source=piece.source, offset=offset, reason=reason, detail=shown[:200], num_bytes=num_bytes)
