"""The account of a build: whatever one step sends another is counted on both sides, and balanced before PUBLISH.

A runner may lose what a step has sent, deliver it twice, or in another order. Beam's contract forbids the first, and
not every runner keeps it. So none is believed. What crosses a border is a *message*, which says where it belongs:

    kind (1 byte)  sender  receiver  piece (4 bytes each, little-endian)  payload

A step works in *parts*: one for each unit, block of units or partition, or only one. A part opens what was delivered
to it: equal repeats become one, unequal ones under one name are refused, and the order is that of senders and pieces,
whatever it was. It seals what it sends. At its end it reports to PUBLISH how much it has received and sent of each
kind, as a `Tally`: the number of messages, and the sum of their hashes.

PUBLISH knows from the plan which parts there are. It wants one report of each, and of each border equal tallies:

    PREPARE   sent      64 prepared units, sum a        ASSEMBLE   received  64 prepared units, sum a       balanced
    DEDUPLICATE sent   107 lists of copies, sum b       ASSEMBLE   received  106 lists of copies, sum c     refused

The first border in the order of the flow that doesn't balance is named. Sums of hashes are taken modulo 2^64, so the
order of messages doesn't matter, and a lost, repeated or changed message goes unnoticed once in 2^64 times.

Cost: 13 bytes a message, one hash of it on either side (BLAKE2b, RFC 7693, 8 bytes long), and about 200 bytes for each
part at PUBLISH.
"""

import hashlib
import itertools
import json
import struct
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from operator import itemgetter
from typing import Any

from mlm_data.build import cache
from mlm_data.build.context import Context, Tally
from mlm_data.build.records import to_json
from mlm_data.config import BuildConfig
from mlm_data.errors import BuildError
from mlm_data.stores.places import with_keys, without_keys
from mlm_data.types import Unit

_HEADER = struct.Struct("<Biii")
HEADER_BYTES = _HEADER.size
LIST_BYTES = 2**20  # a plan of at most so much lies in the pipeline's graph, which every worker loads; others in files
REMEDY = "nothing is published: start the build again, or choose another runner"


class Kind(IntEnum):
    """What crosses a border; the number is the first byte of a message."""

    UNIT = 1  # a unit of the plan, as JSON
    LINES = 2  # hashes of lines, by partition
    CUTS = 3  # lines of a unit that are to be cut
    PREPARED = 4  # a prepared unit, as JSON
    SIGNATURES = 5  # of documents that passed, by partition
    COPIES = 6  # documents of a unit that are copies
    BANDS = 7  # of sketches, by partition
    EDGES = 8  # pairs of near duplicates
    NEAR = 9  # documents of a unit that are near duplicates
    MATCHES = 10  # pieces of evaluations that documents hold
    HELD = 11  # documents of a unit that hold items of evaluations
    SIZES = 12  # how much of each group a unit has
    WEIGHTS = 13  # of the groups
    RESULT = 14  # what a unit has become, as JSON
    REPORT = 15  # what a part has received and sent, as JSON
    RUNS = 16  # of evaluations that texts hold
    IGNORED = 17  # runs of evaluations that are too common to be cut from a unit's texts
    LISTED = 18  # the name of a file that lists units of the plan


_WORDS = {
    Kind.UNIT: "units",
    Kind.LINES: "hashes of lines",
    Kind.CUTS: "lists of lines to cut",
    Kind.PREPARED: "prepared units",
    Kind.SIGNATURES: "payloads of signatures",
    Kind.COPIES: "lists of copies",
    Kind.BANDS: "payloads of bands",
    Kind.EDGES: "payloads of near duplicates",
    Kind.NEAR: "lists of near duplicates",
    Kind.MATCHES: "payloads of matches",
    Kind.HELD: "lists of contaminated documents",
    Kind.SIZES: "sizes of groups",
    Kind.WEIGHTS: "weights of groups",
    Kind.RESULT: "results of units",
    Kind.REPORT: "reports",
    Kind.RUNS: "runs of evaluations",
    Kind.IGNORED: "lists of runs to leave",
    Kind.LISTED: "lists of units",
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """A step of the flow."""

    name: str
    reads: tuple[Kind, ...]
    sends: tuple[Kind, ...]  # each kind is sent by one step; PLAN sends the units, or lists of them
    parts: Callable[[Context], int]  # how many there are
    takes_part: Callable[[Context], bool] = lambda _: True  # whether the build has this step
    by_block: bool = False  # a part is a block of units, and gets what is addressed to each of them

    def border(self, kind: Kind) -> str:
        """A name for what goes in."""
        return f"{_WORDS[kind]} to {self.name}"


def _units(context: Context) -> int:
    return context.planned.messages


def _blocks(context: Context) -> int:
    return -(-context.planned.messages // context.units_per_block)


def _partitions(context: Context) -> int:
    return context.num_partitions


def _one(context: Context) -> int:
    return 1


def _lists(context: Context) -> int:
    return context.listed.messages


def _is_listed(context: Context) -> bool:
    return context.listed.messages > 0


def _cuts_lines(context: Context) -> bool:
    return context.config.deduplicate.lines is not None


def _surveys(context: Context) -> bool:
    return context.config.is_surveyed


def _cuts_evaluations(context: Context) -> bool:
    return context.config.cuts_evaluations


def _finds_near(context: Context) -> bool:
    return context.config.deduplicate.near is not None


def _drops_evaluations(context: Context) -> bool:
    return context.config.decontaminate is not None and not context.config.cuts_evaluations


def _mixes(context: Context) -> bool:
    return context.config.mixing is not None


_FATES = (Kind.PREPARED, Kind.COPIES, Kind.NEAR)
LIST = Step(name="LIST UNITS", reads=(Kind.LISTED,), sends=(Kind.UNIT,), parts=_lists, takes_part=_is_listed)
SURVEY = Step(name="SURVEY", reads=(Kind.UNIT,), sends=(Kind.LINES, Kind.RUNS), parts=_units, takes_part=_surveys)
CHOOSE_CUTS = Step(
    name="CHOOSE CUTS", reads=(Kind.LINES,), sends=(Kind.CUTS,), parts=_partitions, takes_part=_cuts_lines
)
CHOOSE_RUNS = Step(
    name="CHOOSE RUNS", reads=(Kind.RUNS,), sends=(Kind.IGNORED,), parts=_one, takes_part=_cuts_evaluations
)
PREPARE = Step(name="PREPARE", reads=(Kind.UNIT, Kind.CUTS, Kind.IGNORED), sends=(Kind.PREPARED,), parts=_units)
SELECT = Step(name="SELECT", reads=(Kind.PREPARED,), sends=(Kind.SIGNATURES,), parts=_blocks, by_block=True)
DEDUPLICATE = Step(name="DEDUPLICATE", reads=(Kind.SIGNATURES,), sends=(Kind.COPIES,), parts=_partitions)
SELECT_BANDS = Step(
    name="SELECT BANDS",
    reads=(Kind.PREPARED,),
    sends=(Kind.BANDS,),
    parts=_blocks,
    takes_part=_finds_near,
    by_block=True,
)
FIND_EDGES = Step(
    name="FIND NEAR DUPLICATES", reads=(Kind.BANDS,), sends=(Kind.EDGES,), parts=_partitions, takes_part=_finds_near
)
RESOLVE = Step(
    name="RESOLVE NEAR DUPLICATES", reads=(Kind.EDGES,), sends=(Kind.NEAR,), parts=_one, takes_part=_finds_near
)
MATCH = Step(name="MATCH EVALUATIONS", reads=_FATES, sends=(Kind.MATCHES,), parts=_units, takes_part=_drops_evaluations)
DECIDE = Step(name="DECIDE", reads=(Kind.MATCHES,), sends=(Kind.HELD,), parts=_one, takes_part=_drops_evaluations)
SIZE = Step(name="COUNT GROUPS", reads=(*_FATES, Kind.HELD), sends=(Kind.SIZES,), parts=_units, takes_part=_mixes)
MIX = Step(name="MIX", reads=(Kind.SIZES,), sends=(Kind.WEIGHTS,), parts=_one, takes_part=_mixes)
ASSEMBLE = Step(name="ASSEMBLE", reads=(*_FATES, Kind.HELD, Kind.WEIGHTS), sends=(Kind.RESULT,), parts=_units)
PUBLISH = Step(name="PUBLISH", reads=(Kind.RESULT, Kind.REPORT), sends=(), parts=_one)

FLOW = (
    LIST,
    SURVEY,
    CHOOSE_CUTS,
    CHOOSE_RUNS,
    PREPARE,
    SELECT,
    DEDUPLICATE,
    SELECT_BANDS,
    FIND_EDGES,
    RESOLVE,
    MATCH,
    DECIDE,
    SIZE,
    MIX,
    ASSEMBLE,
)  # in the order in which things go through; PUBLISH comes last and keeps the account


def kind_of(message: bytes) -> int:
    """What a message is."""
    return message[0]


def receiver_of(message: bytes) -> int:
    """Whom a message is for: a unit, a partition, or 0."""
    return _HEADER.unpack_from(message)[2]


def seal(kind: Kind, sender: int, receiver: int, piece: int, payload: bytes) -> bytes:
    """A message."""
    return _HEADER.pack(kind, sender, receiver, piece) + payload


def tally(messages: Iterable[bytes]) -> Tally:
    """How many there are, and the sum of their hashes."""
    count = total = 0
    for message in messages:
        count += 1
        total += int.from_bytes(hashlib.blake2b(message, digest_size=8).digest(), "little")
    return Tally(count, total % 2**64)


def unit_messages(units: Iterable[Unit]) -> Iterator[bytes]:
    """Each unit, to itself: as PLAN sends them, or where lists of them don't go into one as LIST UNITS does."""
    for number, unit, data in _numbered(units):
        yield seal(Kind.UNIT, number, unit.index, 0, data)


def unit_lists(units: Iterable[Unit]) -> Iterator[bytes]:
    """What files hold that list the units of a plan: JSON Lines; nothing where all go into one list.

    URIs are without keys, for others may read the files; see `listed_unit`.
    """
    lists = (
        b"\n".join(_without_keys(data) for *_, data in group)
        for _, group in itertools.groupby(_numbered(units), itemgetter(0))
    )
    first, second = next(lists, b""), next(lists, None)
    if second is not None:
        yield from itertools.chain([first, second], lists)


def listed_unit(line: bytes, config: BuildConfig) -> tuple[int, bytes]:
    """(index, JSON) of a unit that a file of `unit_lists` lists, with the keys that the configuration's inputs have."""
    unit = json.loads(line)
    for piece in unit["slices"]:
        piece["path"] = with_keys(piece["path"], config.inputs[piece["input"]].path)
    return unit["index"], json.dumps(unit).encode()


def _without_keys(data: bytes) -> bytes:
    """A unit's JSON without the keys in its URIs."""
    if b"@" not in data:
        return data
    unit = json.loads(data)
    for piece in unit["slices"]:
        piece["path"] = without_keys(piece["path"])
    return json.dumps(unit).encode()


def list_messages(units: Iterable[Unit]) -> Iterator[bytes]:
    """What PLAN sends instead of many units: the name of each file that lists them."""
    for number, data in enumerate(unit_lists(units)):
        yield list_message(number, cache.payload_name(data))


def list_message(number: int, name: str) -> bytes:
    """The name of a file, to whoever reads that list."""
    return seal(Kind.LISTED, 0, number, 0, name.encode())


def _numbered(units: Iterable[Unit]) -> Iterator[tuple[int, Unit, bytes]]:
    """(number of its list, unit, its JSON): a list has at most LIST_BYTES, or one unit."""
    number = num_bytes = 0
    for unit in units:
        data = json.dumps(unit.to_dict()).encode()
        if num_bytes and num_bytes + len(data) >= LIST_BYTES:
            number, num_bytes = number + 1, 0
        num_bytes += len(data) + 1
        yield number, unit, data


class Part:
    """One part of a step at work: opens what was delivered to it, seals what it sends, and reports on both."""

    def __init__(self, step: Step, number: int, context: Context) -> None:
        self.step, self.number = step, number
        self._per = context.units_per_block if step.by_block else 1
        self._received: dict[Kind, Tally] = {}
        self._sent: dict[Kind, Tally] = {}
        self._pieces: Counter[tuple[Kind, int]] = Counter()
        self.facts: dict[str, Any] = {}  # what PUBLISH is to know: the same whenever this part is done again
        self.notes: dict[str, int] = {}  # what another attempt may see otherwise: the smaller number counts

    def open(self, messages: Iterable[bytes]) -> dict[Kind, list[bytes]]:
        """The payloads of each kind that the step reads, by sender and piece; each once.

        Raises:
            BuildError: two messages of one name differ, or one belongs to another part.
        """
        found: dict[tuple[Any, ...], bytes] = {}
        for message in messages:
            number, sender, receiver, piece = _HEADER.unpack_from(message)
            kind = Kind(number)
            if receiver // self._per != self.number or kind not in self.step.reads:
                raise BuildError(
                    f"{self.step.border(kind)}: one of {receiver} was delivered to {self.number}: {REMEDY}"
                )
            # Reports of one part are compared by `balance`: what they note may differ.
            name = (kind, sender, receiver, piece, *([message] if kind is Kind.REPORT else []))
            if found.setdefault(name, message) != message:
                raise BuildError(f"{self.step.border(kind)}: two different ones of {sender} arrived: {REMEDY}")
        inbox: dict[Kind, list[bytes]] = {kind: [] for kind in self.step.reads}
        for name in sorted(found):
            inbox[name[0]].append(found[name][_HEADER.size :])
        for kind in self.step.reads:
            self._received[kind] = tally(message for name, message in found.items() if name[0] == kind)
        return inbox

    def send(self, kind: Kind, receiver: int, payload: bytes) -> bytes:
        """The payload as a message, counted."""
        assert kind in self.step.sends, f"{self.step.name} sends no {kind.name}"
        piece = self._pieces[kind, receiver]
        self._pieces[kind, receiver] += 1
        message = seal(kind, self.number, receiver, piece, payload)
        self._sent[kind] = self._sent.get(kind, Tally()) + tally([message])
        return message

    def report(self) -> bytes:
        """What PUBLISH wants to know of this part: its last message."""
        value = {
            "step": self.step.name,
            "number": self.number,
            "received": {kind.name: [counted.messages, counted.total] for kind, counted in self._received.items()},
            "sent": {kind.name: [counted.messages, counted.total] for kind, counted in self._sent.items()},
            "facts": self.facts,
            "notes": self.notes,
        }
        return seal(Kind.REPORT, self.number, 0, 0, to_json(value))

    def received(self, kind: Kind) -> Tally:
        """What was opened of a kind."""
        return self._received.get(kind, Tally())


@dataclass(frozen=True, kw_only=True)
class Account:
    """A build whose borders balance."""

    facts: Mapping[str, Sequence[Mapping[str, Any]]] = field(default_factory=dict)  # by step, in order of its parts
    notes: Mapping[str, int] = field(default_factory=dict)  # added up over all parts

    def add_up(self, step: Step, name: str) -> int:
        """The sum of a fact over the parts of a step."""
        return sum(facts[name] for facts in self.facts.get(step.name, ()))


def balance(reports: Iterable[bytes], results: Tally, context: Context) -> Account:
    """Make sure that nothing was lost, and nothing counted twice.

    Args:
        reports: of all parts of all steps, as `Part.report` made them; repeats are no harm.
        results: what PUBLISH has received of the units' results.
        context: the build, which knows how many parts each step has.

    Raises:
        BuildError: names the first border that doesn't balance.
    """
    found = _by_part(reports)
    steps = [step for step in FLOW if step.takes_part(context)]
    sent: dict[Kind, Tally] = {Kind.LISTED: context.listed} if _is_listed(context) else {Kind.UNIT: context.planned}
    received: dict[tuple[str, Kind], Tally] = {(PUBLISH.name, Kind.RESULT): results}
    for report in found.values():
        for name, counted in report["sent"].items():
            sent[Kind[name]] = sent.get(Kind[name], Tally()) + Tally(*counted)
        for name, counted in report["received"].items():
            key = report["step"], Kind[name]
            received[key] = received.get(key, Tally()) + Tally(*counted)

    def outgoing(kind: Kind) -> Tally:
        return sent.get(kind, Tally())

    def arrived(step: Step, kind: Kind) -> Tally:
        return received.get((step.name, kind), Tally())

    def only_report_lost(step: Step) -> bool:
        """Whether more has come from a step than its reports say: then it is a report that is missing."""
        readers = [other for other in (*steps, PUBLISH) if set(other.reads) & set(step.sends)]
        return any(
            arrived(reader, kind).messages > outgoing(kind).messages
            for reader in readers
            for kind in step.sends
            if kind in reader.reads
        )

    for step in steps:
        missing = [number for number in range(step.parts(context)) if (step.name, number) not in found]
        if missing and only_report_lost(step):
            raise BuildError(_missing(step, missing))
        for kind in step.reads:
            # Of a part that sends nothing, nobody can tell whether it was lost on the way in or on the way out.
            border = f"{step.border(kind)}, or its {PUBLISH.border(Kind.REPORT)}" if missing else step.border(kind)
            _compare(border, outgoing(kind), arrived(step, kind))
        if missing:
            raise BuildError(_missing(step, missing))
        if step is LIST:
            _compare(f"units of {step.name}", context.planned, outgoing(Kind.UNIT))
    _compare(PUBLISH.border(Kind.RESULT), outgoing(Kind.RESULT), results)
    if strange := sorted(set(found) - {(step.name, number) for step in steps for number in range(step.parts(context))}):
        raise BuildError(f"{PUBLISH.border(Kind.REPORT)}: {strange[0][0]} has no part {strange[0][1]}: {REMEDY}")
    notes: Counter[str] = Counter()
    for report in found.values():
        notes.update(report["notes"])
    facts = {step.name: [found[step.name, number]["facts"] for number in range(step.parts(context))] for step in steps}
    return Account(facts=facts, notes=notes)


def _by_part(reports: Iterable[bytes]) -> dict[tuple[str, int], dict[str, Any]]:
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for data in reports:
        report = json.loads(data)
        notes = report.pop("notes")
        part = report["step"], report["number"]
        known = found.setdefault(part, report | {"notes": notes})
        if {name: value for name, value in known.items() if name != "notes"} != report:
            raise BuildError(
                f"{PUBLISH.border(Kind.REPORT)}: part {part[1]} of {part[0]} was done twice, with different messages: "
                f"{REMEDY}"
            )
        known["notes"] = {name: min(value, notes.get(name, 0)) for name, value in known["notes"].items()}
    return found


def _missing(step: Step, missing: Sequence[int]) -> str:
    return (
        f"{PUBLISH.border(Kind.REPORT)}: {step.name} has not reported on {len(missing)} of its parts, the first is "
        f"{missing[0]}: {REMEDY}"
    )


def _compare(border: str, sent: Tally, arrived: Tally) -> None:
    if sent.messages != arrived.messages:
        raise BuildError(f"{border}: {sent.messages} were sent, {arrived.messages} have arrived: {REMEDY}")
    if sent.total != arrived.total:
        raise BuildError(f"{border}: others were sent than have arrived: {REMEDY}")
