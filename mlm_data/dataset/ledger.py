"""The account of every document and token of a build.

    documents:  read + repeated      = kept + dropped (by reason) + quarantined (by reason)
    tokens:     tokenized + repeated = in rows + truncated + dropped (by reason)

Documents are repeated where a weight says so, and each copy is kept. Each side is counted where it happens, not derived
from the other: `read` where files are read, `kept` where shards are written. Ledgers add up, so that every unit keeps
its own and the whole is their sum in any order.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Counts of one unit, or of many. Tokens are content tokens: [CLS], [SEP] and padding are not among them."""

    bytes_read: int = 0
    documents_read: int = 0
    documents_kept: int = 0
    documents_dropped: Mapping[str, int] = field(default_factory=dict)
    documents_quarantined: Mapping[str, int] = field(default_factory=dict)
    tokens_tokenized: int = 0
    tokens_in_rows: int = 0
    tokens_truncated: int = 0
    tokens_dropped: Mapping[str, int] = field(default_factory=dict)
    documents_repeated: int = 0
    tokens_repeated: int = 0

    def __add__(self, other: "Ledger") -> "Ledger":
        def add(name: str) -> Any:
            mine, theirs = getattr(self, name), getattr(other, name)
            if isinstance(mine, int):
                return mine + theirs
            return dict(sorted((Counter(mine) + Counter(theirs)).items()))

        return Ledger(**{name: add(name) for name in self.__dataclass_fields__})

    @property
    def num_quarantined(self) -> int:
        return sum(self.documents_quarantined.values())

    def problems(self) -> list[str]:
        """One line for each side that does not balance; [] if all is well."""
        documents = self.documents_kept + sum(self.documents_dropped.values()) + self.num_quarantined
        tokens = self.tokens_in_rows + self.tokens_truncated + sum(self.tokens_dropped.values())
        dropped, tokens_dropped = sum(self.documents_dropped.values()), sum(self.tokens_dropped.values())
        found = []
        if documents != self.documents_read + self.documents_repeated:
            found.append(
                f"documents: read {self.documents_read} + repeated {self.documents_repeated} is not kept "
                f"{self.documents_kept} + dropped {dropped} + quarantined {self.num_quarantined} = {documents}"
            )
        if tokens != self.tokens_tokenized + self.tokens_repeated:
            found.append(
                f"tokens: tokenized {self.tokens_tokenized} + repeated {self.tokens_repeated} is not in rows "
                f"{self.tokens_in_rows} + truncated {self.tokens_truncated} + dropped {tokens_dropped} = {tokens}"
            )
        return found

    def to_dict(self) -> dict[str, Any]:
        """Plain types for JSON; `from_dict` is its inverse."""
        value: dict[str, Any] = {
            "bytes": {"read": self.bytes_read},
            "documents": {
                "read": self.documents_read,
                "kept": self.documents_kept,
                "dropped": dict(self.documents_dropped),
                "quarantined": dict(self.documents_quarantined),
            },
            "tokens": {
                "tokenized": self.tokens_tokenized,
                "in_rows": self.tokens_in_rows,
                "truncated": self.tokens_truncated,
                "dropped": dict(self.tokens_dropped),
            },
        }
        if self.documents_repeated:
            value["documents"]["repeated"] = self.documents_repeated
            value["tokens"]["repeated"] = self.tokens_repeated
        return value

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> "Ledger":
        documents, tokens = value["documents"], value["tokens"]
        return cls(
            bytes_read=value["bytes"]["read"],
            documents_read=documents["read"],
            documents_kept=documents["kept"],
            documents_dropped=documents["dropped"],
            documents_quarantined=documents["quarantined"],
            tokens_tokenized=tokens["tokenized"],
            tokens_in_rows=tokens["in_rows"],
            tokens_truncated=tokens["truncated"],
            tokens_dropped=tokens["dropped"],
            documents_repeated=documents.get("repeated", 0),
            tokens_repeated=tokens.get("repeated", 0),
        )
