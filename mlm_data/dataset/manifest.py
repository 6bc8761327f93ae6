"""Versions: one immutable manifest each, named by a digest of what the dataset says, not of how it is stored.

    digest = SHA-256(RFC 8785({"config": ..., "format_version": 1, "tables": [hash, hash, ...], "tokenizer": sha256}))

`config` is the semantic configuration, `tables` the logical hashes of the shards' tables in the order of the file
table. Codec, writer, host, time and file names are not in it; they are in the side file.

    versions/<digest>.json         the manifest: canonical JSON, never changed
    versions/<digest>.side.json    parent, times, library versions, and the hashes of the two other files
    versions/<digest>.files.arrow  the file table
    tokenizer/<sha256>.json        the tokenizer
    LATEST                         the digest of the current version; written last

Readers trust only what a manifest names, so a crash at any moment leaves the version before in place.

RFC 8785 (JSON Canonicalization Scheme) has no integers above 2^53 - 1; those (a seed may be one) are written as
decimal strings.
"""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import pyarrow as pa

from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.seals import canonical, parse_object, unseal
from mlm_data.dataset.tombstones import check_not_purged
from mlm_data.dataset.unknown import Unknown
from mlm_data.errors import BuildError, FormatError, NewerFormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.records import FileRecord, ShardRecord, SignaturesRecord
from mlm_data.stores.folder import Folder
from mlm_data.types import Roles

LATEST = "LATEST"
ALL = "all"  # the "split" of signatures in the file table


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """One version of a dataset."""

    digest: str
    format_version: int
    config: Mapping[str, Any]  # the semantic configuration
    tokenizer: Mapping[str, Any]  # sha256, vocab_size, roles: {cls, sep, pad, mask, unk}
    splits: Mapping[str, Mapping[str, int]]  # split -> num_shards, num_rows, num_tokens, num_segments, num_documents
    bounds: Mapping[str, Any]  # max_segments, max_targets: one for each plane, max_targets_evaluation
    packing: Mapping[str, Any]
    ledger: Mapping[str, Any]
    audit: Mapping[str, Any]
    plan: Mapping[str, Any]  # unit_bytes, group_modulus: what later versions must go on with

    @property
    def sequence_length(self) -> int:
        return self.config["pack"]["sequence_length"]

    @property
    def num_planes(self) -> int:
        return self.config["mask"]["planes"]

    @property
    def vocab_size(self) -> int:
        return self.tokenizer["vocab_size"]

    @property
    def roles(self) -> Roles:
        return Roles(**self.tokenizer["roles"])

    @property
    def unknown(self) -> Unknown:
        """What the tokenizer could not say; empty for a dataset that doesn't tell."""
        return Unknown.from_dict(self.ledger["unknown"]) if "unknown" in self.ledger else Unknown()

    @property
    def funnel(self) -> Funnel:
        """What became of the documents; empty for a dataset that doesn't tell."""
        return Funnel.from_dict(self.ledger["funnel"]) if "funnel" in self.ledger else Funnel()

    @property
    def max_segments(self) -> int:
        """Most segments in any row, padding at its end counted as one."""
        return self.bounds["max_segments"]

    def max_targets(self, plane: str) -> int:
        """Most targets that any row has in a plane: `"0"`, `"1"`, ... or `"evaluation"`."""
        return (
            self.bounds["max_targets_evaluation"] if plane == "evaluation" else self.bounds["max_targets"][int(plane)]
        )

    def to_bytes(self) -> bytes:
        """Canonical JSON (RFC 8785)."""
        return canonical({field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def from_bytes(cls, data: bytes, *, where: str) -> "Manifest":
        """Read a manifest.

        Raises:
            FormatError: if it is damaged, or of a newer format version.
        """
        value = parse_object(data, where)
        version = value.get("format_version")
        if isinstance(version, int) and version > fmt.FORMAT_VERSION:
            raise NewerFormatError(
                f"{where}: format version {version} is newer than {fmt.FORMAT_VERSION}, which this premask reads: "
                "install a newer premask"
            )
        wanted = {field.name for field in fields(cls)}
        if version != fmt.FORMAT_VERSION or set(value) != wanted:
            odd = sorted(set(value) ^ wanted)
            raise FormatError(f"{where}: not a manifest of format version {fmt.FORMAT_VERSION}: {odd or version}")
        manifest = cls(**value)
        try:
            manifest.check()
        except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
            raise FormatError(f"{where}: damaged: {type(error).__name__}: {error}") from error
        return manifest

    def check(self) -> None:
        """Make sure that everything that readers ask for is there; raises what goes wrong."""
        Ledger.from_dict(self.ledger)
        counts = [value for split in fmt.SPLITS for value in self.splits[split].values()]
        bounds = [self.max_segments, self.max_targets("evaluation"), *self.bounds["max_targets"]]
        numbers = [self.sequence_length, self.vocab_size, self.num_planes, self.roles.num_specials, *counts, *bounds]
        if not all(isinstance(number, int) and number >= 0 for number in numbers):
            raise ValueError("a count is not a non-negative integer")
        if len(self.bounds["max_targets"]) != self.num_planes or len(self.config["mask"]["rate"]) != self.num_planes:
            raise ValueError(f"not one bound and one rate for each of {self.num_planes} planes")


def compute_digest(config: Mapping[str, Any], tokenizer_sha256: str, tables: Sequence[str]) -> str:
    """The name of a version: see the module's docstring."""
    content = {
        "format_version": fmt.FORMAT_VERSION,
        "config": config,
        "tokenizer": tokenizer_sha256,
        "tables": list(tables),
    }
    return hashlib.sha256(canonical(content)).hexdigest()


def build_manifest(
    *,
    config: Mapping[str, Any],
    tokenizer: Mapping[str, Any],
    shards: Iterable[ShardRecord],
    signatures: Iterable[SignaturesRecord] = (),
    ledger: Ledger,
    audit: Mapping[str, Any],
    packing: Mapping[str, Any],
    plan: Mapping[str, Any],
    unknown: Unknown | None = None,
    funnel: Funnel | None = None,
    reports: Mapping[str, Sequence[Mapping[str, Any]]] = {},
) -> tuple[Manifest, pa.Table]:
    """Make the manifest and the file table of a version from what its shards say of themselves.

    Args:
        config: `config.semantic(...)`.
        tokenizer: sha256 of its canonical bytes, vocab_size, and roles (cls, sep, pad, mask, unk).
        shards: records in any order; only those of one unit and split keep the order that they have here.
        signatures: records in any order.
        ledger: the sum of all units' ledgers.
        audit: the mask audit's counts and verdict, as plain types.
        packing: packing statistics, as plain types.
        plan: unit_bytes and group_modulus, fixed in a dataset's first manifest.
        unknown: [UNK] by script and source, which stand in the ledger.
        funnel: what became of the documents by input, language and reason, which stands there, too.
        reports: lines of what was found by looking at all documents: `evaluations` (one for each file of them) and
            `mixing` (one for each group), which stand there, too.

    Raises:
        BuildError: if the ledger doesn't balance or disagrees with the shards, if there are no training rows, or if a
            validation split was asked for and is empty, or if a plane has no target.
    """
    ordered = sorted(shards, key=lambda shard: (fmt.SPLITS.index(shard.split), shard.unit))
    splits = {split: _count_split([shard for shard in ordered if shard.split == split]) for split in fmt.SPLITS}
    _check_counts(config, splits, ledger, Roles(**tokenizer["roles"]))
    bounds = _bounds(ordered, config)
    if problems := bounds_problems(bounds, splits):
        raise BuildError(f"nothing is published: {'; '.join(problems)}")
    files = file_table(ordered, signatures)
    tables = [value.hex() for value in files["logical_hash"].to_pylist()]
    manifest = Manifest(
        digest=compute_digest(config, tokenizer["sha256"], tables),
        format_version=fmt.FORMAT_VERSION,
        config=config,
        tokenizer=tokenizer,
        splits=splits,
        bounds=bounds,
        packing=packing,
        ledger=ledger.to_dict()
        | ({"unknown": unknown.to_dict()} if unknown else {})
        | ({"funnel": funnel.to_dict()} if funnel else {})
        | {name: [dict(line) for line in lines] for name, lines in reports.items()},
        audit=audit,
        plan=plan,
    )
    return Manifest.from_bytes(manifest.to_bytes(), where="manifest"), files


def file_table(shards: Sequence[ShardRecord], signatures: Iterable[SignaturesRecord]) -> pa.Table:
    """One line per file: train shards, validation shards, signatures; each in the order of their units."""
    lines: list[tuple[str, int, int, FileRecord, int]] = []
    counts = dict.fromkeys(fmt.SPLITS, 0)
    for shard in shards:
        tokens = {fmt.ROWS: shard.num_tokens}
        lines += [
            (shard.split, counts[shard.split], shard.unit, file, tokens.get(file.kind, 0)) for file in shard.files
        ]
        counts[shard.split] += 1
    ordered = sorted(signatures, key=lambda record: record.unit)
    lines += [(ALL, index, record.unit, record.file, 0) for index, record in enumerate(ordered)]
    columns = {
        "split": [line[0] for line in lines],
        "shard": [line[1] for line in lines],
        "unit": [line[2] for line in lines],
        "kind": [line[3].kind for line in lines],
        "num_rows": [line[3].num_rows for line in lines],
        "num_tokens": [line[4] for line in lines],
        "logical_hash": [bytes.fromhex(line[3].logical_hash) for line in lines],
        "name": [line[3].name for line in lines],
        "num_bytes": [line[3].num_bytes for line in lines],
        "sha256": [bytes.fromhex(line[3].sha256) for line in lines],
    }
    return pa.table(columns, schema=fmt.files_schema())


def version_names(manifest: Manifest) -> dict[str, str]:
    """Names of the files that make up a version, beside its shards."""
    stem = f"versions/{manifest.digest}"
    return {
        "manifest": f"{stem}.json",
        "side": f"{stem}.side.json",
        "files": f"{stem}.files.arrow",
        "tokenizer": tokenizer_name(manifest.tokenizer["sha256"]),
    }


def tokenizer_name(sha256: str) -> str:
    """Where a dataset keeps a tokenizer."""
    return f"tokenizer/{sha256}.json"


def latest(folder: Folder) -> str | None:
    """The digest of the current version; None where nothing is published.

    Raises:
        FormatError: if LATEST holds something else.
    """
    if not folder.exists(LATEST):
        return None
    return read_digest(folder, LATEST, remedy="restore it from the names in versions/")


def read_digest(folder: Folder, name: str, *, remedy: str) -> str:
    """The digest that a file of one line holds: LATEST, or a tag.

    Raises:
        FormatError: if it holds something else; `remedy` says what to do then.
    """
    digest = folder.read(name).decode("ascii", "replace").removesuffix("\n")
    if len(digest) != 64 or not set(digest) <= set("0123456789abcdef"):
        raise FormatError(f"{folder.location}/{name}: not a digest: {remedy}")
    return digest


def load_manifest(folder: Folder, digest: str | None = None) -> Manifest:
    """Read the current version's manifest, or another's.

    Raises:
        FormatError: if there is none, it is damaged, or its format is newer than this premask.
        PurgedError: if it was purged; says when, and which version takes its place.
    """
    digest = digest or latest(folder)
    if digest is None:
        raise FormatError(f"{folder.location}: no {LATEST} there: not a Premask dataset, or its build never ended")
    name = f"versions/{digest}.json"
    if not folder.exists(name):
        check_not_purged(folder, digest)
        raise FormatError(
            f"{folder.location}/{name}: missing: no such version in this dataset{_remedy(folder, digest)}"
        )
    manifest = Manifest.from_bytes(folder.read(name), where=f"{folder.location}/{name}")
    if manifest.digest != digest:
        raise FormatError(f"{folder.location}/{name}: holds the manifest of {manifest.digest}")
    return manifest


def _remedy(folder: Folder, digest: str) -> str:
    """What to do where LATEST itself names a version that is not there."""
    if latest(folder) != digest:
        return ""
    there = [name.removesuffix(".json") for name in folder.names("versions") if _IS_MANIFEST.fullmatch(name)]
    remedy = f"write one that is there into it, such as {there[0]}" if there else "delete it and build again"
    return f", though {LATEST} names it: {remedy}"


_IS_MANIFEST = re.compile(r"[0-9a-f]{64}\.json")


def load_files(folder: Folder, manifest: Manifest) -> pa.Table:
    """Read a version's file table.

    Raises:
        FormatError: if it is missing or damaged.
    """
    name = version_names(manifest)["files"]
    if not folder.exists(name):
        raise FormatError(f"{folder.location}/{name}: missing")
    try:
        with folder.open(name, whole=True) as stream:
            table = pa.ipc.open_file(stream).read_all()
            table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise FormatError(f"{folder.location}/{name}: damaged: {str(error).splitlines()[0]}") from error
    if table.schema != fmt.files_schema():
        raise FormatError(f"{folder.location}/{name}: its columns are not those of a file table")
    return table


def load_side(folder: Folder, manifest: Manifest) -> dict[str, Any]:
    """Read a version's side file.

    Raises:
        FormatError: if it is missing or a byte of it changed.
    """
    name = version_names(manifest)["side"]
    where = f"{folder.location}/{name}"
    if not folder.exists(name):
        raise FormatError(f"{where}: missing")
    return unseal(folder.read(name), where)


def load_attachment(folder: Folder, manifest: Manifest, name: str) -> bytes:
    """Read a further file of a version, such as `dropped.jsonl`; empty where the version has none.

    Raises:
        FormatError: if it is missing or a byte of it changed.
    """
    sha = load_side(folder, manifest).get("attachments", {}).get(name)
    if sha is None:
        return b""
    path = f"versions/{manifest.digest}.{name}"
    if not folder.exists(path):
        raise FormatError(f"{folder.location}/{path}: missing: run premask verify")
    data = folder.read(path)
    if hashlib.sha256(data).hexdigest() != sha:
        raise FormatError(f"{folder.location}/{path}: a byte was changed: its SHA-256 is another: run premask verify")
    return data


def _count_split(shards: Sequence[ShardRecord]) -> dict[str, int]:
    totals = {
        name: sum(getattr(shard, name) for shard in shards)
        for name in ("num_rows", "num_tokens", "num_segments", "num_documents")
    }
    return {"num_shards": len(shards), **totals}


def _bounds(shards: Sequence[ShardRecord], config: Mapping[str, Any]) -> dict[str, Any]:
    """Planes of one rate share a bound, so that they share one compiled step."""
    rates = config["mask"]["rate"]
    most = [max((s.max_targets.get(str(plane), 0) for s in shards), default=0) for plane in range(len(rates))]
    by_rate: dict[float, int] = {}
    for rate, count in zip(rates, most, strict=True):
        by_rate[rate] = max(by_rate.get(rate, 0), count)
    return {
        "max_segments": max((shard.max_segments for shard in shards), default=0),
        "max_targets": [by_rate[rate] for rate in rates],
        "max_targets_evaluation": max((s.max_targets.get("evaluation", 0) for s in shards), default=0),
    }


MOST_REASONS = 5  # of dropped documents, where nothing is left


def _check_counts(
    config: Mapping[str, Any], splits: Mapping[str, Mapping[str, int]], ledger: Ledger, roles: Roles
) -> None:
    problems = count_problems(splits, ledger, roles)
    if problems:
        raise BuildError(f"the ledger does not balance, nothing is published: {'; '.join(problems)}")
    if splits[fmt.TRAIN]["num_rows"] == 0:
        gone = [*ledger.documents_dropped.items(), *ledger.documents_quarantined.items()]
        most = sorted(gone, key=lambda item: (-item[1], item[0]))[:MOST_REASONS]
        said = "".join(f", {reason} {count}" for reason, count in most)
        raise BuildError(
            f"no training rows are left of {ledger.documents_read} documents{said}: give more text, or drop less of it"
        )
    if config["split"]["validation"] > 0 and splits[fmt.VALIDATION]["num_rows"] == 0:
        raise BuildError(
            f"the validation split is empty: raise split.validation ({config['split']['validation']:g}), "
            "set it to 0, or give more documents"
        )


def bounds_problems(bounds: Mapping[str, Any], splits: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines for planes that hide nothing: nobody can train on them, or be judged by them."""
    targets = {f"plane {plane}": count for plane, count in enumerate(bounds["max_targets"])}
    if splits[fmt.VALIDATION]["num_rows"]:
        targets["the evaluation plane"] = bounds["max_targets_evaluation"]
    return [
        f"{name} has no target in any row: all tokens are special or unknown, or the rate is too low for so short rows"
        for name, count in targets.items()
        if not count
    ]


def count_problems(splits: Mapping[str, Mapping[str, int]], ledger: Ledger, roles: Roles) -> list[str]:
    """Lines for a ledger that doesn't balance, or doesn't agree with the shards."""
    problems = ledger.problems()
    documents = sum(split["num_documents"] for split in splits.values())
    tokens = sum(split["num_tokens"] - roles.num_specials * split["num_segments"] for split in splits.values())
    if documents != ledger.documents_kept:
        problems.append(f"documents: kept {ledger.documents_kept} is not the {documents} in shards")
    if tokens != ledger.tokens_in_rows:
        problems.append(f"tokens: in rows {ledger.tokens_in_rows} is not the {tokens} in shards")
    return problems
