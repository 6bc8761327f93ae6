"""What every worker needs to know about a build: small, and the same for all of them."""

import threading
from collections.abc import Hashable, Mapping
from dataclasses import dataclass

import pyarrow as pa

from mlm_data.build.cache import check_still
from mlm_data.config import BuildConfig
from mlm_data.dataset.forgotten import read_list
from mlm_data.dataset.manifest import tokenizer_name
from mlm_data.errors import BuildError
from mlm_data.rows.audit_counts import Vocabulary
from mlm_data.shards.planes import vocabulary_of
from mlm_data.stores.folder import Folder
from mlm_data.tokens.engine import Engine, Reference, from_bytes, make_engine

_engines: dict[Hashable, Engine] = {}
_references: dict[Hashable, Reference] = {}
_vocabularies: dict[Hashable, Vocabulary] = {}
_placeholders: dict[Hashable, Mapping[str, str]] = {}
_forgotten: dict[Hashable, pa.Array] = {}
_lock = threading.Lock()


MAX_UNITS_PER_BLOCK = 64


def units_per_block(num_partitions: int) -> int:
    """How many units send their signatures together: the more partitions, the less a unit has for each.

    At 64 MiB a unit and 2 KB a document, a payload has 190 KiB with 4 partitions, 48 with 64 and 12 with 4096.
    """
    return max(1, min(MAX_UNITS_PER_BLOCK, num_partitions // 16))


@dataclass(frozen=True)
class Tally:
    """Some messages, counted: see `account`."""

    messages: int = 0
    total: int = 0  # of their hashes, modulo 2^64

    def __add__(self, other: "Tally") -> "Tally":
        return Tally(self.messages + other.messages, (self.total + other.total) % 2**64)


@dataclass(frozen=True, kw_only=True)
class Context:
    """A build's configuration and tokenizer. Travels to the workers with each step."""

    config: BuildConfig
    tokenizer_sha256: str  # "": texts are cleaned and kept as texts
    num_partitions: int  # of the signatures
    unit_bytes: int
    group_modulus: int
    versions: tuple[tuple[str, str], ...]  # libraries that the result depends on
    assets: tuple[tuple[str, str], ...] = ()  # of `find_assets`
    forgotten: str = ""  # name of the list of texts that were forgotten; "": none were
    planned: Tally = Tally()  # the plan's units, as they are sent
    listed: Tally = Tally()  # where they are many, the files that list them, as PLAN sends their names
    run: str = ""  # of `cache.begin`: what this build has made itself is not reused, and while it stands it may publish
    current: str = ""  # the version that was the current one when the build began; "": none was

    @property
    def folder(self) -> Folder:
        return Folder(self.config.output)

    @property
    def work(self) -> Folder:
        return Folder(self.config.output).join("work")

    @property
    def growing(self) -> Folder:
        """`folder` for a worker: see `guarded`."""
        return self.guarded(self.folder)

    def guarded(self, folder: Folder) -> Folder:
        """The same folder, in which a worker writes no further file once the build may no longer publish."""
        return folder.guarded(lambda: check_still(self.work, self.run))

    @property
    def units_per_block(self) -> int:
        """How many units send their signatures together."""
        return units_per_block(self.num_partitions)

    @property
    def has_tokens(self) -> bool:
        """Whether documents become tokens, and not cleaned texts."""
        return bool(self.tokenizer_sha256)

    def asset(self, setting: str) -> str:
        """The hash of a file beside the inputs when the build began: what is kept in memory of it is found by that."""
        return dict(self.assets)[setting]

    def forgotten_marks(self) -> pa.Array:
        """Marks of the texts that were forgotten, read once per process."""
        key = (self.config.output, self.forgotten)
        with _lock:
            if key not in _forgotten:
                _forgotten[key] = read_list(self.folder, self.forgotten)
            return _forgotten[key]

    def placeholders(self) -> Mapping[str, str]:
        """What stands for private data: the tokenizer's own tokens, where it has such."""
        if not self.config.clean.privacy or not self.has_tokens:
            return {}
        from mlm_data.curation.privacy import placeholders_of

        reference = self.reference()
        with _lock:
            if self._reading not in _placeholders:
                _placeholders[self._reading] = placeholders_of(frozenset(reference.tokens))
            return _placeholders[self._reading]

    def reference(self) -> Reference:
        """The tokenizer, read once per process."""
        with _lock:
            if self._reading not in _references:
                name = tokenizer_name(self.tokenizer_sha256)
                found = from_bytes(
                    self.folder.read(name),
                    self.config.tokenizer.special,
                    markers=self.config.tokenizer.markers,
                    mask_markers=self.config.mask.markers,
                )
                if found.sha256 != self.tokenizer_sha256:
                    raise BuildError(f"{self.folder.location}/{name}: a byte was changed: start the build again")
                _references[self._reading] = found
            return _references[self._reading]

    def remember(self, reference: Reference) -> None:
        """Spare this process's workers the reading of a tokenizer that it has already read."""
        with _lock:
            _references[self._reading] = reference

    def vocabulary(self) -> Vocabulary:
        """What the audit knows of each id, made once per process."""
        reference = self.reference()
        with _lock:
            if self._reading not in _vocabularies:
                _vocabularies[self._reading] = vocabulary_of(reference)
            return _vocabularies[self._reading]

    def engine(self) -> Engine:
        """The engine, made once per process and shared by its threads: its word table grows for all of them."""
        reference = self.reference()
        key = (*self._reading, self.config.tokenizer.engine)
        with _lock:
            if key not in _engines:
                _engines[key] = make_engine(reference, self.config.tokenizer.engine)
            return _engines[key]

    @property
    def _reading(self) -> tuple[Hashable, ...]:
        """A tokenizer's file, and how it is read."""
        tokenizer = self.config.tokenizer
        return self.tokenizer_sha256, tokenizer.special, tokenizer.markers, self.config.mask.markers
