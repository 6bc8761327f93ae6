"""What every version goes through before it is published, whoever makes it."""

import datetime
import importlib.metadata as metadata
import os
import platform
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any

from mlm_data.config import MaskSettings
from mlm_data.dataset.manifest import latest
from mlm_data.errors import BuildError, FormatError
from mlm_data.rows.audit import judge
from mlm_data.rows.audit_counts import AuditCounts
from mlm_data.rows.packing import PackingStatistics
from mlm_data.shards.format import SPLITS
from mlm_data.shards.planes import planes_of
from mlm_data.stores.folder import Folder
from mlm_data.tokens.reference import ROLES, Reference


def judge_masks(
    audits: Iterable[Mapping[str, AuditCounts]], settings: MaskSettings, *, seed: int, where: str
) -> dict[str, Any]:
    """Judge the masks of each split by the sum of its counts; returns what the manifest says of them.

    Args:
        audits: of units or shards: counts by split.
        settings: what the masks ought to be.
        seed: the build's.
        where: the dataset, for messages.

    Raises:
        BuildError: if the audit fails: nothing may be published.
    """
    totals = add_audits(audits)
    outcome: dict[str, Any] = {}
    for split in filter(totals.__contains__, SPLITS):
        report = judge(totals[split], planes_of(split, settings, seed))
        if report.failures:
            raise BuildError(f"{where}: the audit of the masks failed ({split}): {report.failures[0]}")
        outcome[split] = {"warnings": list(report.warnings), "table": list(report.table)}
    return outcome


def add_audits(audits: Iterable[Mapping[str, AuditCounts]]) -> dict[str, AuditCounts]:
    """The counts of units or shards, added up by split."""
    totals: dict[str, AuditCounts] = {}
    for audit in audits:
        for split, counts in audit.items():
            totals[split] = totals[split] + counts if split in totals else counts
    return totals


def add_packings(packings: Iterable[Mapping[str, PackingStatistics]]) -> dict[str, Any]:
    """The statistics of units or shards, added up by split, as the manifest has them."""
    totals: dict[str, PackingStatistics] = {}
    for packing in packings:
        for split, part in packing.items():
            totals[split] = totals[split] + part if split in totals else part
    return {
        split: totals[split].to_dict() | {"fullness": round(totals[split].fullness, 6)}
        for split in filter(totals.__contains__, SPLITS)
    }


def tokenizer_facts(reference: Reference) -> dict[str, Any]:
    """What a manifest says of its tokenizer."""
    return {
        "sha256": reference.sha256,
        "vocab_size": reference.vocab_size,
        "roles": {role: getattr(reference.roles, role) for role in ROLES},
    }


def side_facts(
    folder: Folder, digest: str, *, made_by: str, parent: str | None = None, versions: Mapping[str, str] = {}
) -> dict[str, Any]:
    """What is true of this copy of a version, and enters no digest: parent, time, host, libraries.

    Args:
        folder: the dataset.
        digest: of the new version.
        made_by: the command: `build`, `remask`, ...
        parent: digest of the version that it was made from; None: the current one.
        versions: of libraries, by name.
    """
    if parent is None:
        with suppress(FormatError):
            parent = latest(folder)
    return {
        "parent": parent if parent != digest else None,
        "made_by": made_by,
        "published": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "process": os.getpid(),
        "python": platform.python_version(),
        "versions": dict(versions),
    }


def library_versions() -> tuple[tuple[str, str], ...]:
    """Versions of what a dataset's bytes depend on, and of Beam where it is installed."""
    found = []
    for name in ("premask", "pyarrow", "numpy", "numba", "tokenizers", "apache-beam"):
        with suppress(metadata.PackageNotFoundError):
            found.append((name, metadata.version(name)))
    return tuple(found)
