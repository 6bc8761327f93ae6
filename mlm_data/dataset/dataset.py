"""Open a version of a dataset, and ask it what is in a row, and where that came from."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.dataset.manifest import Manifest, load_files, load_manifest, version_names
from mlm_data.dataset.names import find_version
from mlm_data.errors import ConfigError, FormatError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import Shard, ShardFiles
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Rows

if TYPE_CHECKING:
    from mlm_data.tokens.reference import Reference


@dataclass(frozen=True, kw_only=True)
class Segment:
    """A piece of one document in a row."""

    place: int  # first place in the row
    length: int  # places, special tokens included
    document: int  # row in the shard's documents file
    start: int  # first content token's place in its document
    id: str  # the document's id, in hexadecimal
    source: str
    offset: int  # of the document in its source: bytes for text and jsonl, rows otherwise


@dataclass(frozen=True, kw_only=True)
class PlaneRow:
    """What one plane does to one row."""

    targets: Int64[np.ndarray, " targets"]  # places
    swaps: dict[int, int]  # place -> id that stands there instead of [MASK]


@dataclass(frozen=True, kw_only=True)
class RowView:
    """One row, for people."""

    split: str
    row: int
    shard: int
    tokens: np.ndarray  # [L]
    word_starts: np.ndarray  # [L] bool
    segments: tuple[Segment, ...]
    planes: dict[str, PlaneRow]


class Dataset:
    """One version of a dataset, open for reading."""

    def __init__(self, folder: Folder, manifest: Manifest, files: pa.Table) -> None:
        self.folder, self.manifest, self.files = folder, manifest, files
        self._shards = {split: self._shard_lines(split) for split in fmt.SPLITS}

    @classmethod
    def open(cls, path: str | Path | Folder, digest: str | None = None) -> "Dataset":
        """Open a version.

        Args:
            path: the dataset's folder or URI, alone for the current version, or with a version's name: `books@v1.2`,
                `books@3f9a1c` (see `names`).
            digest: of the version; then `path` is a folder, whatever it looks like.

        Raises:
            ConfigError: if no version has this name.
            FormatError: if there is none, it is damaged, or its format is newer than this premask.
        """
        if isinstance(path, Folder):
            folder = path
        elif digest is not None:
            folder = Folder(path)
        else:
            folder, digest = find_version(path)
        manifest = load_manifest(folder, digest)
        return cls(folder, manifest, load_files(folder, manifest))

    def read_by(self, folder: Folder) -> "Dataset":
        """The same version, read by another `Folder` of the same place, as one that keeps local copies."""
        return self if folder is self.folder else Dataset(folder, self.manifest, self.files)

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def tokenizer(self) -> bytes:
        """The tokenizer.json's bytes."""
        return self.folder.read(version_names(self.manifest)["tokenizer"])

    def reference(self) -> "Reference":
        """The tokenizer as the build understood it, with the roles that its tokens had there.

        Raises:
            FormatError: if its file is missing or was changed.
            TokenizerError: if the file is no tokenizer.
        """
        from mlm_data.tokens.reference import ROLES, from_roles

        name = version_names(self.manifest)["tokenizer"]
        if not self.folder.exists(name):
            raise FormatError(f"{self.folder.location}/{name}: missing: run premask verify")
        config = self.manifest.config
        reference = from_roles(
            self.tokenizer(),
            {role: getattr(self.manifest.roles, role) for role in ROLES},
            markers=config.get("tokenizer", {}).get("markers", ()),
            mask_markers=config["mask"].get("markers", False),
            where=f"{self.folder.location}/{name}",
        )
        if reference.sha256 != self.manifest.tokenizer["sha256"]:
            raise FormatError(f"{self.folder.location}/{name}: a byte was changed: run premask verify")
        return reference

    def never_targets(self) -> Int64[np.ndarray, " ids"]:
        """Ids that no plane may hide, ascending: those of roles, and markers unless they may be hidden."""
        roles, config = self.manifest.roles, self.manifest.config
        ids = {number for number in (roles.cls, roles.sep, roles.pad, roles.mask, roles.unk) if number >= 0}
        if config.get("tokenizer", {}).get("markers") and not config["mask"].get("markers"):
            ids.update(self.reference().marker_ids.tolist())
        return np.array(sorted(ids), np.int64)

    def num_shards(self, split: str) -> int:
        return len(self._of(split)[0])

    def shard_rows(self, split: str) -> Int64[np.ndarray, " shards"]:
        """Rows of each shard."""
        return self._of(split)[1]

    def _of(self, split: str) -> tuple[Int64[np.ndarray, " shards"], Int64[np.ndarray, " shards"]]:
        """Where each shard's lines begin in the file table, and its rows.

        Raises:
            ConfigError: if there is no such split.
        """
        if split not in fmt.SPLITS:
            raise ConfigError(f"split must be {' or '.join(fmt.SPLITS)}, got {split!r}")
        return self._shards[split]

    def num_rows(self, split: str) -> int:
        return int(self.shard_rows(split).sum())

    def shard(self, split: str, index: int) -> Shard:
        """A shard by its number in the split."""
        lines = self.lines(split, index)
        files = {line["kind"]: ShardFiles(line["name"], line["num_bytes"], line["num_rows"]) for line in lines}
        return Shard(
            self.folder,
            split,
            index,
            lines[0]["unit"],
            files,
            vocab_size=self.manifest.vocab_size,
            sequence_length=self.manifest.sequence_length,
        )

    def lines(self, split: str, index: int) -> list[dict[str, Any]]:
        """What the file table says of a shard's rows, masks and documents."""
        return self.files.slice(int(self._of(split)[0][index]), 3).to_pylist()

    def planes(self, split: str) -> list[str]:
        """Names of a split's planes."""
        return fmt.plane_names(self.manifest.num_planes, split=split)

    def locate(self, split: str, row: int) -> tuple[int, int]:
        """Shard and row in the shard of a row counted through the split.

        Raises:
            ConfigError: if there is no such row.
        """
        ends = np.cumsum(self.shard_rows(split))
        if not 0 <= row < self.num_rows(split):
            raise ConfigError(f"row {row}: the {split} split has rows 0 to {self.num_rows(split) - 1}")
        shard = int(np.searchsorted(ends, row, side="right"))
        return shard, row - int(ends[shard] - self.shard_rows(split)[shard])

    def where(self, split: str, row: int) -> tuple[Segment, ...]:
        """Which documents a row holds, and where they came from."""
        return self.row(split, row, planes=()).segments

    def row(self, split: str, row: int, planes: Sequence[str] | None = None) -> RowView:
        """One row with its segments and what each plane does to it."""
        index, local = self.locate(split, row)
        shard = self.shard(split, index)
        batch, r = divmod(local, fmt.BATCH_ROWS)
        rows = shard.rows[batch]
        wanted = self.planes(split) if planes is None else planes
        return RowView(
            split=split,
            row=row,
            shard=index,
            tokens=rows.tokens[r],
            word_starts=np.unpackbits(rows.word_starts[r], bitorder=fmt.BITS).astype(bool),
            segments=_segments(shard, rows, r),
            planes={plane: _plane_row(shard.masks(plane)[batch], r) for plane in wanted},
        )

    def _shard_lines(self, split: str) -> tuple[Int64[np.ndarray, " shards"], Int64[np.ndarray, " shards"]]:
        """Line of each shard's first file in the file table, and its rows."""
        lines = np.flatnonzero([one == split for one in self.files["split"].to_pylist()])
        every = self.files["kind"].to_pylist()
        kinds = [every[line] for line in lines.tolist()]
        if kinds != [fmt.ROWS, fmt.MASKS, fmt.DOCUMENTS] * (len(lines) // 3):
            raise FormatError(f"{self.folder.location}: the file table of {self.digest} is out of order")
        first = lines[::3]
        return first, self.files["num_rows"].to_numpy()[first]


def _segments(shard: Shard, rows: Rows, r: int) -> tuple[Segment, ...]:
    begin, end = int(rows.segment_offsets[r]), int(rows.segment_offsets[r + 1])
    documents = shard.documents.take(pa.array(rows.segment_documents[begin:end])).to_pylist()
    places = np.cumsum(rows.segment_lengths[begin:end]) - rows.segment_lengths[begin:end]
    return tuple(
        Segment(
            place=int(place),
            length=int(rows.segment_lengths[s]),
            document=int(rows.segment_documents[s]),
            start=int(rows.segment_starts[s]),
            id=document["id"].hex(),
            source=document["source"],
            offset=document["offset"],
        )
        for s, place, document in zip(range(begin, end), places, documents, strict=True)
    )


def _plane_row(masks: PlaneMasks, r: int) -> PlaneRow:
    begin, end = int(masks.swap_offsets[r]), int(masks.swap_offsets[r + 1])
    swaps = zip(masks.swap_places[begin:end].tolist(), masks.swap_tokens[begin:end].tolist(), strict=True)
    return PlaneRow(
        targets=np.flatnonzero(np.unpackbits(masks.targets[r], bitorder=fmt.BITS)),
        swaps=dict(swaps),
    )
