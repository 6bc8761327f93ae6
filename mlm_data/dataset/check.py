"""`premask verify`: the format's own checks, and the audit of the masks counted again from the files."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from mlm_data.config import MaskSettings, SpecialTokens
from mlm_data.dataset.manifest import load_manifest, tokenizer_name
from mlm_data.dataset.verify import verify
from mlm_data.rows.audit import judge
from mlm_data.rows.audit_counts import AuditCounts, Vocabulary, count_shard, describe_vocabulary, source_groups
from mlm_data.shards.format import SPLITS
from mlm_data.shards.planes import planes_of
from mlm_data.shards.reader import Shard
from mlm_data.stores.folder import Folder
from mlm_data.tokens.engine import from_bytes


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


def check_dataset(path: str, *, progress: Callable[[int, int], None] | None = None) -> Checked:
    """Verify a dataset's current version and judge its masks.

    Raises:
        FormatError: if the folder is no dataset, or of a newer format.
    """
    folder = Folder(path)
    manifest = load_manifest(folder)
    audit = _Audit(folder)
    report = verify(folder, manifest.digest, progress=progress, on_shard=audit.count)
    reports = [judge(counts, audit.planes[split]) for split, counts in audit.counts.items()]
    return Checked(
        digest=manifest.digest,
        num_files=report.num_files,
        num_bytes=report.num_bytes,
        num_checks=sum(len(item.table) for item in reports),
        problems=report.problems + tuple(line for item in reports for line in item.failures),
        warnings=tuple(line for item in reports for line in item.warnings),
    )


class _Audit:
    """Counts of the masks, gathered while `verify` goes from shard to shard."""

    def __init__(self, folder: Folder) -> None:
        manifest = load_manifest(folder)
        settings = MaskSettings.model_validate(manifest.config["mask"])
        self.planes = {split: planes_of(split, settings, int(manifest.config["seed"])) for split in SPLITS}
        self.counts: dict[str, AuditCounts] = {}
        self._folder, self._sha256 = folder, manifest.tokenizer["sha256"]
        self._special = SpecialTokens.model_validate(manifest.config["tokenizer"]["special"])

    @cached_property
    def _vocabulary(self) -> Vocabulary:
        reference = from_bytes(self._folder.read(tokenizer_name(self._sha256)), self._special)
        return describe_vocabulary(
            reference.tokens,
            roles=reference.roles,
            never_targets=reference.never_targets,
            random_ids=reference.random_ids,
        )

    def count(self, shard: Shard) -> list[str]:
        """Add one shard's counts; what they say is judged at the end."""
        planes = self.planes[shard.split]
        # A source's group may repeat for every document; its name is hashed once.
        names = shard.documents["source"].combine_chunks()
        groups = source_groups(names.dictionary.to_pylist())[names.indices.to_numpy()]
        masks = {name: shard.masks(name) for name in planes}
        for number, rows in enumerate(shard.rows):
            counts = count_shard(
                rows,
                {name: batches[number] for name, batches in masks.items()},
                planes,
                vocabulary=self._vocabulary,
                sources=groups,
            )
            self.counts[shard.split] = self.counts[shard.split] + counts if shard.split in self.counts else counts
        return []
