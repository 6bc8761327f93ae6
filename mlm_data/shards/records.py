"""What a manifest needs to know of a shard: plain facts, for writers to return and for readers to take over."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FileRecord:
    """One file of a shard. Hashes are in hexadecimal."""

    kind: str
    name: str
    num_bytes: int
    sha256: str
    logical_hash: str
    num_rows: int


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """What the manifest needs to know of a shard."""

    split: str
    unit: int
    files: tuple[FileRecord, ...]  # rows, masks, documents
    num_rows: int
    num_tokens: int  # places in segments, special tokens included
    num_segments: int
    num_documents: int
    max_segments: int  # in any row, padding counted as one
    max_targets: Mapping[str, int]  # plane -> most targets in any row

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return asdict(self) | {"files": [asdict(file) for file in self.files], "max_targets": dict(self.max_targets)}

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "ShardRecord":
        return cls(**{**value, "files": tuple(FileRecord(**file) for file in value["files"])})


@dataclass(frozen=True, kw_only=True)
class SignaturesRecord:
    """One signatures file: the sorted ids of what a unit kept."""

    unit: int
    file: FileRecord

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        return asdict(self)

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "SignaturesRecord":
        return cls(unit=value["unit"], file=FileRecord(**value["file"]))
