"""How far a build is, in numbers: of one worker, and of all of them together.

A worker says which units it has done and what came of each. So a unit that two have done, as when the first of them
died before anybody had its result, counts once:

    worker 1, dead     units 0, 1, 2    600 documents
    worker 2           units 2, 3       400 documents, 200 of them of unit 2
    together           units 0, 1, 2, 3: 800 documents
"""

import functools
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from mlm_data.console import size
from mlm_data.dataset.ledger import Ledger

PREPARE, ASSEMBLE = "prepare", "assemble"
WORKING, IDLE, SILENT, GONE = "working", "idle", "silent", "gone"


@dataclass(frozen=True, kw_only=True)
class Stage:
    """What a build does before its workers begin.

    >>> print(Stage(name="training the tokenizer: reading texts", done=3_000_000, total=9_000_000))
    training the tokenizer: reading texts, 3.0 MB of 9.0 MB
    """

    name: str
    done: int = 0  # bytes
    total: int = 0  # 0: nobody knows

    def __str__(self) -> str:
        return self.name + (f", {size(self.done)} of {size(self.total)}" if self.total else "")


@dataclass(frozen=True, kw_only=True)
class Done:
    """How far one step is."""

    units: int = 0
    num_bytes: int = 0  # of input
    first: float = 0.0  # when its first unit was done, in seconds since the epoch, by the worker's clock
    last: float = 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(
            units=self.units + other.units,
            num_bytes=self.num_bytes + other.num_bytes,
            first=min(filter(None, (self.first, other.first)), default=0.0),
            last=max(self.last, other.last),
        )

    def without(self, units: int, num_bytes: int) -> "Done":
        """Less so many units; the times stay."""
        return Done(units=self.units - units, num_bytes=self.num_bytes - num_bytes, first=self.first, last=self.last)


@dataclass(frozen=True, kw_only=True)
class OfUnit:
    """What came of one unit in one step."""

    num_bytes: int  # of input
    documents: Mapping[str, int] = field(default_factory=dict)  # read, kept, reused (units)
    dropped: Mapping[str, int] = field(default_factory=dict)  # documents by reason, quarantined ones too
    tokens: int = 0  # of the documents read


@dataclass(frozen=True, kw_only=True)
class Worker:
    """A process that works for a build. Its sums are of all that it has done; `units` says what of them is whose."""

    host: str
    pid: int
    since: float  # when it began to work, in seconds since the epoch, by its clock
    updated: float  # when it last said so
    state: str = WORKING  # working; idle: it has nothing to do; silent: it works, but says nothing; gone
    silent: float = 0.0  # seconds without a word of one that works, by the clock of the disk or bucket
    steps: Mapping[str, Done] = field(default_factory=dict)
    documents: Mapping[str, int] = field(default_factory=dict)  # as of a unit
    dropped: Mapping[str, int] = field(default_factory=dict)
    tokens: int = 0
    units: Mapping[str, Mapping[int, OfUnit]] = field(default_factory=dict)  # by step and number

    @property
    def is_lost(self) -> bool:
        """Whether nobody knows that it still works."""
        return self.state in (SILENT, GONE)


@dataclass(frozen=True, kw_only=True)
class Totals:
    """All that a build has done, as PUBLISH has added it up."""

    documents: Mapping[str, int]  # as of a worker
    dropped: Mapping[str, int]
    tokens: int

    @classmethod
    def of(cls, ledger: Ledger, reused: int) -> "Totals":
        """The sums of a ledger, and how many units were reused."""
        documents = {"read": ledger.documents_read, "kept": ledger.documents_kept, "reused": reused}
        dropped = {**ledger.documents_dropped, **ledger.documents_quarantined}
        return cls(documents=documents, dropped=dropped, tokens=ledger.tokens_tokenized)


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a build is, its workers together."""

    started: float  # when its workers began, in seconds since the epoch
    units: int  # planned
    num_bytes: int
    workers: tuple[Worker, ...] = ()
    totals: Totals | None = None  # of a build that is done

    def step(self, name: str) -> Done:
        """All workers together; a unit that several have done counts once."""
        return self._sums.steps.get(name, Done())

    @property
    def documents(self) -> dict[str, int]:
        """Documents read and kept, and units reused, so far."""
        return dict(self.totals.documents if self.totals is not None else self._sums.documents)

    @property
    def dropped(self) -> dict[str, int]:
        """Documents dropped so far, by reason, sorted."""
        found = self.totals.dropped if self.totals is not None else self._sums.dropped
        return {reason: count for reason, count in sorted(found.items()) if count}

    @property
    def tokens(self) -> int:
        """Tokens of the documents read so far, before any of them is dropped."""
        return self.totals.tokens if self.totals is not None else self._sums.tokens

    @property
    def lost(self) -> tuple[Worker, ...]:
        """Workers that have died, or say nothing while they should."""
        return tuple(worker for worker in self.workers if worker.is_lost)

    @functools.cached_property
    def _sums(self) -> "_Sums":
        sums = _Sums()
        for worker in self.workers:
            sums.add(worker)
        return sums

    def speed(self, name: str) -> float:
        """Bytes of input a second in a step; 0 where nothing can be said yet.

        PREPARE begins when the workers do, ASSEMBLE when the last unit is prepared.
        """
        done = self.step(name)
        begun = self.started if name == PREPARE else self.step(PREPARE).last
        seconds = done.last - begun
        return done.num_bytes / seconds if done.units and seconds > 0 else 0.0

    def seconds_left(self, name: str) -> float | None:
        """Until a step is done, at its speed so far; None where nothing can be said yet."""
        speed, left = self.speed(name), self.num_bytes - self.step(name).num_bytes
        return left / speed if speed else (0.0 if not left else None)


class _Sums:
    """What workers have done together. Cost: a look at each number of a unit, and more only for what was done again."""

    def __init__(self) -> None:
        self.steps: dict[str, Done] = {}
        self.documents: Counter[str] = Counter()
        self.dropped: Counter[str] = Counter()
        self.tokens = 0
        self._seen: dict[str, set[int]] = {}

    def add(self, worker: Worker) -> None:
        for name, done in worker.steps.items():
            self.steps[name] = self.steps.get(name, Done()) + done
        self.documents.update(worker.documents)
        self.dropped.update(worker.dropped)
        self.tokens += worker.tokens
        for name, units in worker.units.items():
            seen = self._seen.setdefault(name, set())
            for number in seen & units.keys():
                again = units[number]
                self.steps[name] = self.steps[name].without(1, again.num_bytes)
                self.documents.subtract(again.documents)
                self.dropped.subtract(again.dropped)
                self.tokens -= again.tokens
            seen.update(units)
