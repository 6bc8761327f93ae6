"""What crosses the borders between the steps of a build: two typed records, JSON on the way.

A prepared unit is named by its key; an assembled unit says what it wrote. Neither holds texts or
tokens, but for the beginnings of a few documents that were dropped.

A part that is done again sends the same bytes again, though what it had just counted is now read back from a file.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from mlm_data.dataset.funnel import Example, Funnel
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.unknown import Unknown
from mlm_data.rows.audit_counts import AuditCounts
from mlm_data.rows.packing import PackingStatistics
from mlm_data.shards.records import FileRecord, ShardRecord, SignaturesRecord
from mlm_data.types import FieldCounts


def to_json(value: Any) -> bytes:
    """JSON that doesn't depend on the order in which a mapping was filled."""
    return json.dumps(value, sort_keys=True).encode()


@dataclass(frozen=True, kw_only=True)
class PreparedUnit:
    """A unit whose documents lie cleaned and tokenized in the cache."""

    unit: int
    num_bytes: int  # of its slices, as stored
    key: str
    content: str  # hash of the prepared file's bytes, checked before they are used
    reused: bool  # it was there already
    remade: bool  # it was there, but damaged
    sources: tuple[str, ...]
    inputs: tuple[int, ...]  # of each source, the number of the input
    changes: Mapping[str, int]  # what cleaning has changed, by step
    bytes_read: int
    documents_read: int  # quarantined ones included
    quarantined: Mapping[str, int]  # by reason
    tokens_tokenized: int
    fields: tuple[tuple[int, FieldCounts], ...]  # with the number of the input

    @classmethod
    def reference(cls, unit: int, key: str, content: str, inputs: tuple[int, ...]) -> "PreparedUnit":
        """A unit of which only that is known: enough to open its documents."""
        nothing: dict[str, Any] = {"num_bytes": 0, "bytes_read": 0, "documents_read": 0, "tokens_tokenized": 0}
        nothing |= {"reused": False, "remade": False, "sources": (), "changes": {}, "quarantined": {}, "fields": ()}
        return cls(unit=unit, key=key, content=content, inputs=inputs, **nothing)

    def to_bytes(self) -> bytes:
        """JSON; `from_bytes` is its inverse, but for `reused` and `remade`: another attempt may find them otherwise."""
        return to_json(asdict(self) | {"fields": fields_to_lists(self.fields), "reused": False, "remade": False})

    @classmethod
    def from_bytes(cls, data: bytes) -> "PreparedUnit":
        value = json.loads(data)
        return cls(
            **{
                **value,
                "sources": tuple(value["sources"]),
                "inputs": tuple(value["inputs"]),
                "fields": fields_from_lists(value["fields"]),
            }
        )


@dataclass(frozen=True, kw_only=True)
class AssembledUnit:
    """What a unit has become: its shards, and its part of all that is added up before a version is published."""

    unit: int
    key: str  # of the prepared unit
    fields: tuple[tuple[int, FieldCounts], ...]
    ledger: Ledger
    shards: tuple[ShardRecord, ...]
    signatures: SignaturesRecord | None
    audit: Mapping[str, AuditCounts]  # by split
    packing: Mapping[str, PackingStatistics]  # by split
    unknown: Unknown  # of the documents that are kept
    funnel: Funnel

    @property
    def files(self) -> tuple[FileRecord, ...]:
        """All that was written."""
        shards = tuple(file for shard in self.shards for file in shard.files)
        return (*shards, self.signatures.file) if self.signatures else shards

    def to_bytes(self) -> bytes:
        """JSON; `from_bytes` is its inverse."""
        value: dict[str, Any] = {
            "unit": self.unit,
            "key": self.key,
            "fields": fields_to_lists(self.fields),
            "ledger": self.ledger.to_dict(),
            "shards": [shard.to_dict() for shard in self.shards],
            "signatures": self.signatures and self.signatures.to_dict(),
            "audit": {split: counts.to_dict() for split, counts in self.audit.items()},
            "packing": {split: packing.to_dict() for split, packing in self.packing.items()},
            "unknown": self.unknown.to_dict(),
            "funnel": funnel_to_dict(self.funnel),
        }
        return to_json(value)

    @classmethod
    def from_bytes(cls, data: bytes) -> "AssembledUnit":
        value = json.loads(data)
        return cls(
            unit=value["unit"],
            key=value["key"],
            fields=fields_from_lists(value["fields"]),
            ledger=Ledger.from_dict(value["ledger"]),
            shards=tuple(ShardRecord.from_dict(shard) for shard in value["shards"]),
            signatures=value["signatures"] and SignaturesRecord.from_dict(value["signatures"]),
            audit={split: AuditCounts.from_dict(counts) for split, counts in value["audit"].items()},
            packing={split: PackingStatistics.from_dict(counts) for split, counts in value["packing"].items()},
            unknown=Unknown.from_dict(value["unknown"]),
            funnel=funnel_from_dict(value["funnel"]),
        )


def funnel_to_dict(funnel: Funnel) -> dict[str, Any]:
    """A funnel with its examples, as plain types; `funnel_from_dict` is the inverse."""
    return funnel.to_dict() | {"examples": [asdict(example) for example in funnel.examples]}


def funnel_from_dict(value: Mapping[str, Any]) -> Funnel:
    """The inverse of `funnel_to_dict`."""
    return replace(Funnel.from_dict(value), examples=tuple(Example(**one) for one in value["examples"]))


def fields_to_lists(fields: tuple[tuple[int, FieldCounts], ...]) -> list[list[Any]]:
    """Counts of fields, with the number of the input, as plain types; `fields_from_lists` is the inverse."""
    return [[number, counts.to_dict()] for number, counts in fields]


def fields_from_lists(value: list[list[Any]]) -> tuple[tuple[int, FieldCounts], ...]:
    """The inverse of `fields_to_lists`."""
    return tuple((number, FieldCounts.from_dict(counts)) for number, counts in value)
