"""What a build of any size needs: elements, bytes that are shuffled, files, requests, memory, hours and money.

Pure arithmetic on a `Load`, which says what there is to read and what is expected of it. The sizes of messages are
those of `account`; a test counts what really crosses each border of small builds, and compares.

    header of a message          13 bytes
    signature of a document      17 bytes                         to DEDUPLICATE
    band of a sketch             9 bytes, as many as `bands`      to FIND NEAR DUPLICATES
    hash of a line               10 bytes                         to CHOOSE CUTS
    a unit in a payload of them  8 bytes, and 8 for each payload

Every border is a shuffle: the step that reads groups by its parts. A prepared unit crosses as often as steps read it.
Payloads of records go inline, but on a local disk into files, and their names cross.

How many receivers get anything, of things that fall where they want: n things into c cells reach about c (1 - e^(-n/c))
of them. Copies of one text fall together, so this is an upper bound for lists of copies.

Money is prices times quantities. The prices are inputs; the defaults are assumptions, see `Prices`.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any

from mlm_data.build.account import (
    ASSEMBLE,
    CHOOSE_CUTS,
    CHOOSE_RUNS,
    DECIDE,
    DEDUPLICATE,
    FIND_EDGES,
    FLOW,
    HEADER_BYTES,
    LIST,
    LIST_BYTES,
    MATCH,
    MIX,
    PUBLISH,
    RESOLVE,
    SELECT,
    SELECT_BANDS,
    SIZE,
    SURVEY,
    Kind,
    Step,
)
from mlm_data.build.assemble import MAX_SHARD_TOKENS
from mlm_data.build.context import units_per_block
from mlm_data.build.plan import partitions_for
from mlm_data.build.select import COPIES, INLINE_BYTES, MAX_PAYLOAD_BYTES
from mlm_data.duplicates import clusters, exact, lines
from mlm_data.errors import ConfigError

SIGNATURE_BYTES, BAND_BYTES, LINE_BYTES = 17, 9, 10  # packed: see `mlm_data.duplicates.records`
PACKED_BYTES, RUN_BYTES = 8, 8  # of a packed payload, and of each unit in it
FILE_NAME_BYTES = 80  # of a payload in a file: a mark, `signatures/`, 64 digits, `.bin`
UNIT_BYTES, SLICE_BYTES = 35, 157  # of the JSON of a unit of the plan, without its paths
PREPARED_BYTES = 410  # of the JSON of a prepared unit, without its sources
HEAD_BYTES = 116  # of the name of a prepared unit among bands
RESULT_BYTES, PLANE_BYTES = 5_100, 1_600  # of the JSON of an assembled unit: counts, most of them of each plane's audit
EXAMPLES_BYTES = 1_400  # of documents that curation has dropped
SHARD_BYTES = 1_000  # of a further shard of a unit: its record and those of its files
REPORT_BYTES = 190  # of the JSON of a report
SIZES_BYTES, WEIGHTS_BYTES = 20, 19  # of the JSON for one group

PREPARED_FILES = 2
SHARD_FILES = 3  # rows, masks, documents
REQUESTS_A_READ, REQUESTS_A_WRITE = 3, 4  # of a file in a bucket, at most
SURVEYED = 1.4  # how much longer a build takes that reads texts twice
SKETCHED = 1.2  # and one with sketches (docs/benchmarks.md: 0.80 to 0.88 of the speed)
WORK_FACTOR = 0.93  # bytes of prepared units for a byte of text
OBJECT_FACTOR = 5  # a JSON of counts as Python objects, against its bytes
PLAN_BYTES_A_FILE = 1_000  # of memory while a build is planned, at most: see docs/explanation/scale.md
FILE_RECORD_BYTES = 150  # of a file in a version's file table
MANIFEST_BYTES_A_SHARD = 600  # of a shard in the manifest


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a build has to do."""

    num_bytes: int  # of the inputs, as stored
    num_files: int
    num_slices: int  # pieces of files that units are made of
    num_units: int
    num_documents: int  # that pass the thresholds
    num_tokens: int
    path_bytes: int = 90  # of a file's path and its source together, on average
    source_bytes: int = 30  # of its source alone
    copies: float = 0.1  # share of the documents that are copies
    near: float = 0.1  # share that are near duplicates: edges, and documents dropped
    lines_a_document: float = 20.0  # whose hashes are looked at
    cut_lines: float = 0.05  # share of them that are cut
    bands: int = 0  # 0: near duplicates are not looked for
    has_lines: bool = False  # lines that many documents share are cut
    drops_evaluations: bool = False
    groups: int = 0  # that are mixed; 0: none
    splits: int = 2
    id_bytes: int = 2
    planes: int = 4
    is_local: bool = False  # the output is on a local disk

    @property
    def num_partitions(self) -> int:
        return partitions_for(self.num_bytes)

    @property
    def num_blocks(self) -> int:
        """Blocks of units that send their signatures together."""
        return -(-self.num_units // units_per_block(self.num_partitions))

    @property
    def units_a_block(self) -> float:
        return self.num_units / self.num_blocks

    @property
    def num_copies(self) -> float:
        return self.copies * self.num_documents

    @property
    def num_near(self) -> float:
        return self.near * self.num_documents if self.bands else 0.0

    @property
    def num_lines(self) -> float:
        return self.lines_a_document * self.num_documents if self.has_lines else 0.0

    @property
    def plan_bytes(self) -> int:
        """Of all units, as JSON."""
        return self.num_units * UNIT_BYTES + self.num_slices * (SLICE_BYTES + self.path_bytes)

    @property
    def num_lists(self) -> int:
        """Files that list the units; 0 where they lie in the pipeline's graph."""
        return math.ceil(self.plan_bytes / LIST_BYTES) if self.plan_bytes > LIST_BYTES else 0

    @property
    def num_shards(self) -> int:
        """Of each unit one for each split, or several of MAX_SHARD_TOKENS."""
        return self.num_units * (self.splits - 1 + math.ceil(self.num_tokens / self.num_units / MAX_SHARD_TOKENS))

    @property
    def num_files_written(self) -> int:
        """Lists of units, prepared units, shards, signatures and what each unit has become."""
        return self.num_lists + self.num_units * (PREPARED_FILES + 2) + SHARD_FILES * self.num_shards

    @property
    def disk_bytes(self) -> float:
        """Of a version: tokens and word starts once, and each plane with its targets and swapped tokens."""
        return self.num_tokens * (self.id_bytes + 1 / 8 + self.planes * (1 / 8 + 0.06 * (2 + self.id_bytes)))

    def takes_part(self, step: Step) -> bool:
        """Whether the build has this step."""
        asked: Mapping[str, bool] = {
            LIST.name: self.num_lists > 0,
            SURVEY.name: self.has_lines,
            CHOOSE_CUTS.name: self.has_lines,
            CHOOSE_RUNS.name: False,
            SELECT_BANDS.name: bool(self.bands),
            FIND_EDGES.name: bool(self.bands),
            RESOLVE.name: bool(self.bands),
            MATCH.name: self.drops_evaluations,
            DECIDE.name: self.drops_evaluations,
            SIZE.name: bool(self.groups),
            MIX.name: bool(self.groups),
        }
        return asked.get(step.name, True)

    def parts(self, step: Step) -> int:
        """How many parts it has."""
        if step.by_block:
            return self.num_blocks
        if step.name == LIST.name:
            return self.num_lists
        if step.name in (CHOOSE_CUTS.name, DEDUPLICATE.name, FIND_EDGES.name):
            return self.num_partitions
        if step.name in (CHOOSE_RUNS.name, RESOLVE.name, DECIDE.name, MIX.name, PUBLISH.name):
            return 1
        return self.num_units


@dataclass(frozen=True, kw_only=True)
class Crossing:
    """What goes over one border."""

    kind: Kind
    to: str  # the step that reads it
    elements: int
    num_bytes: int  # headers included, keys of the runner not


def crossings(load: Load) -> tuple[Crossing, ...]:
    """What crosses each border of a build, in the order of the flow."""
    sizes = _sizes(load)
    steps = [step for step in FLOW if load.takes_part(step)]
    found = []
    for step in (*steps, PUBLISH):
        for kind in step.reads:
            if kind in sizes:
                elements, payload = sizes[kind]
                found.append(
                    Crossing(
                        kind=kind,
                        to=step.name,
                        elements=round(elements),
                        num_bytes=round(elements * HEADER_BYTES + payload),
                    )
                )
    return tuple(found)


def _sizes(load: Load) -> dict[Kind, tuple[float, float]]:
    """By kind: messages, and bytes of all their payloads."""
    units, partitions, blocks = load.num_units, load.num_partitions, load.num_blocks
    steps = [step for step in FLOW if load.takes_part(step)]
    reports = sum(load.parts(step) for step in steps)
    is_curated = load.bands or load.has_lines or load.groups
    result: float = RESULT_BYTES + PLANE_BYTES * load.planes + (EXAMPLES_BYTES if is_curated else 0)
    result += SHARD_BYTES * (load.num_shards / units - load.splits)  # the first of each split is in RESULT_BYTES
    found = {
        Kind.LISTED: (load.num_lists, load.num_lists * (FILE_NAME_BYTES - 1)),
        Kind.UNIT: (units, load.plan_bytes),
        Kind.PREPARED: (units, units * PREPARED_BYTES + load.num_slices * (load.source_bytes + 4)),
        Kind.SIGNATURES: _stored(load, blocks * partitions, load.num_documents * SIGNATURE_BYTES, load.units_a_block),
        Kind.COPIES: _lists(units * partitions, load.num_copies, COPIES.itemsize),
        Kind.RESULT: (units, units * result),
        Kind.REPORT: (reports, reports * REPORT_BYTES),
    }
    if load.has_lines:
        found[Kind.LINES] = _stored(load, units * partitions, load.num_lines * LINE_BYTES, 1)
        found[Kind.CUTS] = _lists(units * partitions, load.cut_lines * load.num_lines, lines.CUT.itemsize)
    if load.bands:
        records = load.num_documents * load.bands * BAND_BYTES
        messages, payload = _stored(load, blocks * partitions, records, load.units_a_block)
        found[Kind.BANDS] = messages, payload + units * partitions * HEAD_BYTES
        found[Kind.EDGES] = _stored(load, partitions, load.num_near * clusters.EDGE.itemsize)
        found[Kind.NEAR] = _lists(units, load.num_near, clusters.EDGE.itemsize)
    if load.drops_evaluations:
        found[Kind.MATCHES] = units, float(units)
    if load.groups:
        found[Kind.SIZES] = units, units * load.groups * SIZES_BYTES
        found[Kind.WEIGHTS] = units, units * load.groups * WEIGHTS_BYTES
    return found


def _stored(load: Load, messages: int, num_bytes: float, units: float = 0.0) -> tuple[float, float]:
    """Records that are spread evenly over so many messages, in pieces where they are large; see `select.store`.

    With `units` they are packed, and each message has those of so many units.
    """
    num_bytes += messages * (PACKED_BYTES + units * RUN_BYTES) if units else 0
    each = num_bytes / messages
    pieces = messages * max(1, math.ceil(each / MAX_PAYLOAD_BYTES))
    if load.is_local and each > INLINE_BYTES:
        return pieces, pieces * FILE_NAME_BYTES
    return pieces, pieces + num_bytes


def _lists(cells: int, things: float, size: int) -> tuple[float, float]:
    """Lists, one for each cell that any of the things falls into."""
    return cells * -math.expm1(-things / cells), things * size


@dataclass(frozen=True, kw_only=True)
class Prices:
    """What things cost, in US dollars: list prices of Google's region us-central1, without any discount, as their pages
    gave them in 2024 (cloud.google.com/dataflow/pricing, batch; cloud.google.com/storage/pricing, standard storage).

    They are assumptions, and change: look yours up.
    """

    vcpu_hour: float = 0.056
    memory_gb_hour: float = 0.003557
    disk_gb_hour: float = 0.000054
    shuffle_gb: float = 0.011  # that Dataflow Shuffle has dealt with
    write_requests_1000: float = 0.005  # class A: puts and lists
    read_requests_1000: float = 0.0004  # class B: gets
    storage_gb_month: float = 0.020

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str) -> "Prices":
        """Prices by name; those that are not given stay as they are.

        Raises:
            ConfigError: an unknown name, or what is no price.
        """
        return _parse(cls, values, where)


@dataclass(frozen=True, kw_only=True)
class Machine:
    """A worker's machine, and how fast a core of it is."""

    cores: int = 8
    memory_gb: float = 32.0
    disk_gb: float = 50.0
    bytes_a_second: float = 9e6  # of raw text for each core: a build of prose on two cores, docs/benchmarks.md

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, where: str) -> "Machine":
        """As for `Prices`."""
        return _parse(cls, values, where)


def _parse(kind: type, values: Mapping[str, Any], where: str) -> Any:
    known = [field.name for field in fields(kind)]
    for name, value in values.items():
        if name not in known:
            raise ConfigError(f"{where}: {name}: no such value: there are {', '.join(known)}")
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
            raise ConfigError(f"{where}: {name}: must be a number from 0 on, got {value!r}")
    return kind(**values)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a build needs, and what that costs."""

    elements: int
    shuffle_bytes: int
    files_written: int
    read_requests: int
    write_requests: int
    core_hours: float
    disk_bytes: int  # of the version
    work_bytes: int  # of prepared units, which may be deleted afterwards
    money: Mapping[str, float]  # US dollars by what they are for

    @property
    def total(self) -> float:
        return sum(self.money.values())


def cost(load: Load, prices: Prices = Prices(), machine: Machine = Machine()) -> Cost:
    """What a build on Dataflow needs. Starting, idling and repeating come on top."""
    crossed = crossings(load)
    shuffled = sum(one.num_bytes for one in crossed)
    reads, writes = requests(load)
    slower = (SURVEYED if load.has_lines else 1.0) * (SKETCHED if load.bands else 1.0)
    seconds = slower * load.num_bytes / max(1.0, machine.bytes_a_second)
    hours = seconds / 3600
    machines = hours / max(1, machine.cores)
    work = WORK_FACTOR * load.num_bytes
    money = {
        "cores": hours * prices.vcpu_hour,
        "memory": machines * machine.memory_gb * prices.memory_gb_hour,
        "disks": machines * machine.disk_gb * prices.disk_gb_hour,
        "shuffle": shuffled / 1e9 * prices.shuffle_gb,
        "requests": reads / 1e3 * prices.read_requests_1000 + writes / 1e3 * prices.write_requests_1000,
        "storing the version and work/ for a month": (load.disk_bytes + work) / 1e9 * prices.storage_gb_month,
    }
    return Cost(
        elements=sum(one.elements for one in crossed),
        shuffle_bytes=shuffled,
        files_written=load.num_files_written,
        read_requests=reads,
        write_requests=writes,
        core_hours=hours,
        disk_bytes=round(load.disk_bytes),
        work_bytes=round(work),
        money=money,
    )


def requests(load: Load) -> tuple[int, int]:
    """Requests to read and to write a bucket, at most.

    A prepared unit is read by each step that opens its documents; by FIND NEAR DUPLICATES once in each partition that
    has a pair of its documents.
    """
    readers = [SELECT, SELECT_BANDS, MATCH, SIZE, ASSEMBLE]
    opened = sum(load.takes_part(step) for step in readers) * load.num_units
    if load.bands:
        opened += round(_opened_for_pairs(load))
    files = load.num_lists + load.num_slices * (2 if load.has_lines else 1) + opened
    return REQUESTS_A_READ * files, REQUESTS_A_WRITE * load.num_files_written


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Something that ends at some size."""

    name: str
    value: float
    limit: float
    unit: str
    remedy: str

    @property
    def share(self) -> float:
        """Of the limit that is used; above 1 the build won't end well."""
        return self.value / self.limit


def limits(load: Load, machine: Machine = Machine(), *, launcher_gb: float = 16.0) -> tuple[Limit, ...]:
    """What may break, the first to do so first."""
    memory = machine.memory_gb * 1e9
    core = memory / machine.cores
    sizes = _sizes(load)
    found = [
        Limit(
            name="the plan, in the process that starts the build",
            value=float(load.num_files * PLAN_BYTES_A_FILE),
            limit=launcher_gb * 1e9,
            unit="bytes",
            remedy="pack small files into archives of lines, or start from a larger machine",
        ),
        Limit(
            name="results of all units, at PUBLISH",
            value=(sizes[Kind.RESULT][1] + sizes[Kind.REPORT][1]) * OBJECT_FACTOR,
            limit=memory,
            unit="bytes",
            remedy="larger units: unit_bytes; or a machine type with more memory",
        ),
        Limit(
            name="signatures of a partition, at DEDUPLICATE",
            value=3 * load.num_documents * exact.RECORD.itemsize / load.num_partitions,
            limit=core,
            unit="bytes",
            remedy="a machine type with more memory for each core",
        ),
        Limit(
            name="the version's file table and manifest",
            value=float(load.num_shards * (SHARD_FILES * FILE_RECORD_BYTES + MANIFEST_BYTES_A_SHARD)),
            limit=2e9,
            unit="bytes",
            remedy="larger units: unit_bytes; every reader of the dataset opens them",
        ),
        Limit(
            name="document numbers of a unit",
            value=load.num_documents / max(1, load.num_units),
            limit=2.0**31,
            unit="documents",
            remedy="smaller units: unit_bytes",
        ),
    ]
    if load.bands:
        found += [
            Limit(
                name="pairs of near duplicates, at RESOLVE NEAR DUPLICATES",
                value=100 * load.num_near,
                limit=memory,
                unit="bytes",
                remedy="a machine type with more memory, or near duplicates in each part of the corpus alone",
            ),
            Limit(
                name="prepared units that FIND NEAR DUPLICATES reads again",
                value=_opened_for_pairs(load) * WORK_FACTOR * load.num_bytes / load.num_units,
                limit=10.0 * load.num_bytes,
                unit="bytes",
                remedy="near duplicates in each part of the corpus alone; each partition opens each unit that it needs",
            ),
        ]
    return tuple(sorted(found, key=lambda one: -one.share))


def _opened_for_pairs(load: Load) -> float:
    """How many prepared units FIND NEAR DUPLICATES opens, all partitions together."""
    opened, _ = _lists(load.num_units * load.num_partitions, 2 * (load.num_near + load.num_copies), 1)
    return opened


def whole_corpus(num_bytes: int, *, document_bytes: int = 2_000, file_bytes: int = 10**9, **changes: Any) -> Load:
    """The load of a corpus of large files that can be cut, by its size alone: units of 64 MiB, 4.4 bytes a token."""
    unit = min(64 << 20, max(1 << 20, num_bytes // 64))
    units = max(1, round(num_bytes / unit))
    values: dict[str, Any] = {
        "num_bytes": num_bytes,
        "num_files": max(1, num_bytes // file_bytes),
        "num_slices": units,
        "num_units": units,
        "num_documents": num_bytes // document_bytes,
        "num_tokens": round(num_bytes / 4.4),
    }
    return Load(**{**values, **changes})


def lines_of(load: Load, found: Cost) -> Iterator[tuple[str, str]]:
    """What a cost says, for people."""
    from mlm_data.console import size

    yield "units", f"{load.num_units:,}, in {load.num_partitions:,} partitions of signatures"
    yield "elements", f"{found.elements:,}"
    yield "shuffled", size(found.shuffle_bytes)
    yield "files written", f"{found.files_written:,}"
    yield "requests", f"{found.read_requests:,} to read and {found.write_requests:,} to write, at most"
    yield "core hours", f"{found.core_hours:,.1f}"
    yield "disk", f"{size(found.disk_bytes)} of the version, {size(found.work_bytes)} of work/"
