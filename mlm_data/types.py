"""What the steps hand to each other. Plain, frozen, without behaviour beyond their own checks."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Bool, Int32, Int64, UInt8, UInt16, UInt32

TokenIds = UInt16[np.ndarray, " tokens"] | UInt32[np.ndarray, " tokens"]


IGNORED = -100  # the label of a place that is no target: what torch's cross_entropy passes over


def id_type(vocab_size: int) -> type[np.uint16] | type[np.uint32]:
    """The narrowest type that holds every id: uint16 up to 65,536 ids, else uint32."""
    return np.uint16 if vocab_size <= 65536 else np.uint32


@dataclass(frozen=True, kw_only=True, slots=True)
class Slice:
    """A part of one input file that can be read alone.

    `start` and `end` count bytes, or parts of a format that has parts (row groups of Parquet, record batches of an
    Arrow file). A line belongs to the slice that holds its first byte. A compressed file is one slice, 0 to its size.
    """

    input: int  # which of the configuration's inputs
    source: str  # relative path: the file's name in the dataset, the same on every machine
    path: str  # where the file is on this machine, or its URI
    format: str  # a key of `mlm_data.text.formats.FORMATS`
    compression: str  # a key of `mlm_data.text.compression.CODECS`, or ""
    start: int
    end: int
    num_bytes: int  # of this slice, as stored
    identity: str  # etag, or size and mtime, or the content's hash: changes when the file changes


@dataclass(frozen=True, kw_only=True)
class Unit:
    """An ordered list of slices: what one worker handles at a time."""

    index: int
    slices: tuple[Slice, ...]

    @property
    def num_bytes(self) -> int:
        return sum(piece.num_bytes for piece in self.slices)

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        pieces = [{name: getattr(piece, name) for name in Slice.__slots__} for piece in self.slices]
        return {"index": self.index, "slices": pieces}

    @classmethod
    def from_dict(cls, value: dict[str, Any]) -> "Unit":
        return cls(index=value["index"], slices=tuple(Slice(**piece) for piece in value["slices"]))


@dataclass(frozen=True, kw_only=True)
class Quarantined:
    """A document that can't be read: where it is and why. Counted, never silently lost."""

    source: str
    offset: int  # byte offset or row number in the file
    reason: str  # a stable name: bad_utf8, bad_json, no_text_field, text_not_a_string, truncated, ...
    detail: str = ""  # for people; at most 200 characters, control characters escaped
    num_bytes: int = 0  # that were read of it
    lost_bytes: int | None = 0  # that could not be read, behind the break of a stream: an estimate; None: nobody knows


@dataclass(frozen=True, kw_only=True)
class FieldCounts:
    """In how many of the objects or rows that were read each wanted field is there, null or not. Counts add up."""

    num_objects: int = 0
    present: Mapping[str, int] = field(default_factory=dict)
    seen: tuple[str, ...] = ()  # names of fields, where a wanted one is in no object: what else it could be
    as_hex: tuple[str, ...] = ()  # columns of bytes that are written as hexadecimal digits

    def __add__(self, other: "FieldCounts") -> "FieldCounts":
        names = dict.fromkeys([*self.present, *other.present])
        return FieldCounts(
            num_objects=self.num_objects + other.num_objects,
            present={name: self.present.get(name, 0) + other.present.get(name, 0) for name in names},
            seen=tuple(dict.fromkeys(self.seen + other.seen)),
            as_hex=tuple(dict.fromkeys(self.as_hex + other.as_hex)),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return {name: list(value) if isinstance(value, tuple) else value for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "FieldCounts":
        lists = {name: tuple(value[name]) for name in ("seen", "as_hex")}
        return cls(num_objects=value["num_objects"], present=value["present"], **lists)


@dataclass(frozen=True, kw_only=True)
class Documents:
    """A batch of documents in reading order.

    `table` has `text` large_string (no nulls), `offset` int64 and, where configured, `id_field` string and one
    string column per keep_field, named `keep.<field>`.
    """

    source: str
    table: pa.RecordBatch
    quarantined: tuple[Quarantined, ...] = ()
    num_bytes_read: int = 0  # raw bytes behind this batch
    fields: FieldCounts = FieldCounts()  # of formats whose documents have fields
    # What else was there, by name: records of a web archive that are no documents (`skipped.image/png`), pages whose
    # text was not found in the usual way (`stripped.too_deep`). Counts add up.
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Encoded:
    """Token ids of a batch of texts: document d owns ids[offsets[d]:offsets[d + 1]]. No special tokens are added."""

    ids: TokenIds
    offsets: Int64[np.ndarray, " documents+1"]
    word_starts: Bool[np.ndarray, " tokens"]  # True where a token begins a word (a piece of the pre-tokenizer)


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Packed rows, as the `rows` table stores them. Row r owns segments segment_offsets[r]:segment_offsets[r + 1]."""

    tokens: UInt16[np.ndarray, "rows length"] | UInt32[np.ndarray, "rows length"]
    segment_offsets: Int32[np.ndarray, " rows+1"]
    segment_lengths: Int32[np.ndarray, " segments"]  # [CLS] and [SEP] included
    segment_documents: Int32[np.ndarray, " segments"]  # row in the documents file
    segment_starts: Int32[np.ndarray, " segments"]  # place of the first content token in its document
    word_starts: UInt8[np.ndarray, "rows length//8"]  # bits, least significant first: a word begins here

    def __len__(self) -> int:
        return self.tokens.shape[0]

    @property
    def sequence_length(self) -> int:
        return self.tokens.shape[1]

    def used(self) -> Int32[np.ndarray, " rows"]:
        """Places in segments of each row; the rest of the row is padding."""
        total = np.zeros(self.segment_lengths.size + 1, np.int64)
        np.cumsum(self.segment_lengths, out=total[1:])
        return np.diff(total[self.segment_offsets]).astype(np.int32)

    def segments(self) -> Int32[np.ndarray, " rows"]:
        """Segments of each row as a batch sees them: padding at a row's end is one of its own."""
        return np.diff(self.segment_offsets) + (self.used() < self.sequence_length)


@dataclass(frozen=True, kw_only=True)
class PlaneMasks:
    """One plane's masks, row by row. Row r owns swaps swap_offsets[r]:swap_offsets[r + 1], by rising place."""

    targets: UInt8[np.ndarray, "rows length//8"]  # bit i, least significant first: place i is a target
    swap_offsets: Int32[np.ndarray, " rows+1"]
    swap_places: UInt16[np.ndarray, " swaps"]  # targets that don't hold [MASK]
    swap_tokens: UInt16[np.ndarray, " swaps"] | UInt32[np.ndarray, " swaps"]  # what they hold instead

    def num_targets(self) -> Int32[np.ndarray, " rows"]:
        """Targets of each row."""
        return np.bitwise_count(self.targets).sum(axis=1, dtype=np.int32)

    @property
    def max_targets(self) -> int:
        """The most targets in any row: this shard's part of the plane's shape bound."""
        return int(self.num_targets().max(initial=0))


@dataclass(frozen=True, kw_only=True)
class Roles:
    """Which ids play a part. `cls`, `sep` and `unk` are -1 where the tokenizer has none."""

    cls: int
    sep: int
    pad: int
    mask: int
    unk: int
    how: str = field(default="", compare=False)  # how they were found, for the plan

    @property
    def num_specials(self) -> int:
        """Special tokens around the content of one segment: 0, 1 or 2."""
        return (self.cls >= 0) + (self.sep >= 0)
