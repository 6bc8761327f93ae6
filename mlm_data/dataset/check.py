"""The audit of the masks, counted again from the files: alone, and beside the format's own checks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from threading import Lock

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.names import find_version
from mlm_data.dataset.verify import verify
from mlm_data.rows.audit import AuditReport, judge
from mlm_data.rows.audit_counts import AuditCounts, Vocabulary, count_shard
from mlm_data.shards.assemble import groups_of
from mlm_data.shards.format import SPLITS
from mlm_data.shards.planes import planes_in, vocabulary_of
from mlm_data.shards.reader import Shard
from mlm_data.threads import in_threads


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What was looked at, and what is off."""

    digest: str
    num_files: int
    num_bytes: int
    num_checks: int  # lines of the audit's table
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def ok(self) -> bool:
        return not self.problems


def check_dataset(
    path: str, *, audit: bool = True, workers: int = 1, progress: Callable[[int, int], None] | None = None
) -> Checked:
    """Verify a version, and judge its masks.

    Args:
        path: the dataset's folder or URI, with a version's name or without: `books@v1.2`.
        audit: judge the masks, too. They were judged before the version was published, and files whose hashes are
            right hold the masks that were judged then.
        workers: threads, each with a shard at a time.
        progress: called with (bytes done, bytes in all).

    Raises:
        ConfigError: if no version has this name.
        FormatError: if the folder is no dataset, or of a newer format.
    """
    audits: list[_Audit] = []

    def audit_of(dataset: Dataset) -> Callable[[Shard], None]:
        audits.append(_Audit(dataset))
        return audits[0].count

    folder, digest = find_version(path)
    report = verify(folder, digest, workers=workers, progress=progress, on_shard=audit_of if audit else None)
    reports = [item for one in audits for item in one.reports().values()]
    return Checked(
        digest=report.digest,
        num_files=report.num_files,
        num_bytes=report.num_bytes,
        num_checks=sum(len(item.table) for item in reports),
        problems=report.problems + tuple(line for item in reports for line in item.failures),
        warnings=tuple(line for item in reports for line in item.warnings),
    )


@dataclass(frozen=True, kw_only=True)
class Audited:
    """The audit of a version's masks, by split."""

    digest: str
    reports: Mapping[str, AuditReport]

    @property
    def ok(self) -> bool:
        return all(report.ok for report in self.reports.values())


def audit_dataset(path: str, *, workers: int = 1) -> Audited:
    """Count the masks of a version's files and judge them. The files themselves are not checked.

    Args:
        path: the dataset's folder or URI, with a version's name or without.
        workers: threads, each with a shard at a time.

    Raises:
        ConfigError: if no version has this name.
        FormatError: if the folder is no dataset, or a file is damaged.
    """
    dataset = Dataset.open(path)
    return Audited(digest=dataset.digest, reports=_count_all(dataset, workers).reports())


def count_masks(dataset: Dataset, *, workers: int = 1) -> dict[str, AuditCounts]:
    """What the audit counts in a version's files, by split: its cost is to read them all.

    Raises:
        FormatError: if a file is damaged.
    """
    return _count_all(dataset, workers).counts


def _count_all(dataset: Dataset, workers: int) -> "_Audit":
    audit = _Audit(dataset)
    places = [(split, index) for split in SPLITS for index in range(dataset.num_shards(split))]
    for _ in in_threads(lambda place: audit.count(dataset.shard(*place)), places, workers=workers):
        pass
    return audit


class _Audit:
    """Counts of the masks, gathered while threads go from shard to shard: sums of integers, in any order."""

    def __init__(self, dataset: Dataset) -> None:
        self.planes = planes_in(dataset.manifest.config)
        self.counts: dict[str, AuditCounts] = {}
        self._dataset, self._lock = dataset, Lock()

    def reports(self) -> dict[str, AuditReport]:
        """What the counts say, by split."""
        return {split: judge(counts, self.planes[split]) for split, counts in self.counts.items()}

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        return vocabulary_of(self._dataset.reference())

    def count(self, shard: Shard) -> None:
        """Add one shard's counts; what they say is judged at the end."""
        planes = self.planes[shard.split]
        groups = groups_of(shard.documents)
        masks = {name: shard.masks(name) for name in planes}
        total = AuditCounts()
        for number, rows in enumerate(shard.rows):
            total += count_shard(
                rows,
                {name: batches[number] for name, batches in masks.items()},
                planes,
                vocabulary=self._vocabulary,
                sources=groups,
            )
        if shard.rows:
            with self._lock:
                self.counts[shard.split] = self.counts.get(shard.split, AuditCounts()) + total
