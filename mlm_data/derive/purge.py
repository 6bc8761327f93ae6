"""`premask forget --purge`: no byte of some documents stays in any version of a dataset.

A text that is chosen goes with every copy of it, from every version, however it was chosen. The steps, in this order:

    1. find      the texts that ids and patterns mean, in all versions and in the cache; the versions that hold one
    2. forget    if the current version holds one: a version without them, published as any other
    3. clean     examples and other attachments of the versions that stay; marks on the list of the current one
    4. cache     prepared units that hold one, and whatever else in `work/` was made from all documents
    5. tombstone for each version that holds one: its tombstone is written, then its manifest deleted
    6. collect   every file that no version needs now: shards, file tables, attachments, what crashes have left; and
                 exports and reports in the folder

A crash before 5 leaves all versions readable, and the chosen texts can still be found: starting again does the rest.
After the last tombstone there is nothing to find any more, and starting again, or `premask gc`, does step 6. The new
version is whole before any old one is touched. Tags stay: who opens one is told.

What is left of a text is its mark (see `dataset.forgotten`). What lies outside of the folder is not touched: input
files, other exports and reports, other copies, models. The tokenizer stays: it may have learned from the texts.

Memory: the ids of one documents file at a time.
"""

import contextlib
import datetime
import fcntl
import fnmatch
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import pyarrow as pa

from mlm_data.dataset.collect import WORK, check_quiet, collect, find_garbage
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.documents import OWN_ID, DocumentsFile, documents_files, place_of
from mlm_data.dataset.forgotten import LIST, mark, parse_list, write_list
from mlm_data.dataset.manifest import latest, load_files, load_manifest, load_side
from mlm_data.dataset.names import tags, versions
from mlm_data.dataset.publish import MADE_OF_OURS, replace_attachments
from mlm_data.dataset.seals import unseal
from mlm_data.dataset.tombstones import Tombstone, purged_versions, write_tombstone
from mlm_data.derive.forget import NAMED, Chosen, Forgotten, as_id, forget, shows
from mlm_data.errors import ConfigError, FormatError, StorageError
from mlm_data.shards import format as fmt
from mlm_data.shards.reader import read_batches
from mlm_data.stores.folder import TEMPORARY, Folder, explain

MARKER = f"{TEMPORARY}purging"  # there as long as a purge is at work, and after a crash until it was started again
PREPARED, TOKENIZERS = f"{WORK}/prepared/", f"{WORK}/tokenizers/"


@dataclass(frozen=True, kw_only=True)
class Purged:
    """What a purge has done."""

    digest: str  # the version that takes the place of those that were purged
    forgotten: Forgotten | None  # None: the current version held none of the texts
    num_texts: int
    versions: tuple[str, ...]  # that were purged, by digest
    tags: Mapping[str, str]  # of purged versions -> their digests
    num_files: int  # that were deleted
    num_bytes: int
    num_missing: int  # ids and patterns that nothing has
    missing: tuple[str, ...]  # the first of them
    inputs: tuple[str, ...]  # paths that purged versions were built from: they still hold the texts
    unknown: tuple[str, ...]  # files in the folder that are no part of a dataset


def purge(
    folder: Folder,
    chosen: Chosen,
    *,
    workers: int = 1,
    force: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> Purged:
    """Take texts out of all versions of a dataset, and delete what held them.

    Args:
        folder: the dataset.
        chosen: which.
        workers: threads.
        force: although something seems to be written here.
        progress: told (shards done, all shards) of the new version.

    Raises:
        ConfigError: if nothing has these ids or sources, or a split would become empty; nothing is changed.
        BuildError: if the new version fails the gates; nothing is changed.
        FormatError: if a version can't be read: nobody knows what it holds.
        StorageError: if another command is at work here, or a version was published in the meantime.
    """
    load_manifest(folder)
    with _alone(folder):
        folder.clear()
        was_interrupted = folder.exists(MARKER)
        if not force:  # what an interrupted purge has left is no sign that something is at work
            garbage = find_garbage(folder)
            check_quiet(folder, [one for one in garbage if one.kind == WORK] if was_interrupted else garbage)
        texts = _Texts.find(folder, chosen)
        if not texts.ids and not was_interrupted and not purged_versions(folder):
            named = ", ".join(repr(name) for name in texts.missing[:NAMED])
            raise ConfigError(
                f"{folder.location}: no document of any version is chosen ({named or 'nothing was named'}): give ids "
                "as the input names them, 32 hexadecimal digits of documents' ids, or patterns of sources"
            )
        folder.write(MARKER, b"")
        made = None
        if texts.is_in(current := Dataset.open(folder)):
            asked = Chosen(ids=sorted(texts.hexadecimal))
            try:
                made = forget(current, asked, current=current.digest, workers=workers, progress=progress)
            except ConfigError:  # before anything was written
                if not was_interrupted:
                    _delete(folder, MARKER)
                raise
        heir = latest(folder)
        assert heir is not None, "a version was opened"
        holders = [digest for digest in versions(folder) if texts.is_in(Dataset.open(folder, digest))]
        if heir in holders:
            raise StorageError(
                f"{folder.location}: {heir[:16]} was published in the meantime, with a document that is to go: no old "
                "version is touched: start the command again"
            )
        tagged = {name: digest for name, digest in tags(folder).items() if digest in holders}
        inputs = _inputs(folder, holders)
        _clean_attachments(folder, texts, [one for one in versions(folder) if one not in holders], heir)
        num_files, num_bytes = _clean_cache(folder, texts)
        for digest in holders:
            _bury(folder, digest, heir)
        garbage = [one for one in find_garbage(folder) if one.kind != WORK and one.name != MARKER]
        collect(folder, garbage)
        cleared, unknown = _clear_others(folder)
        _delete(folder, MARKER)
    return Purged(
        digest=heir,
        forgotten=made,
        num_texts=len(texts.ids),
        versions=tuple(holders),
        tags=tagged,
        num_files=num_files + len(garbage) + len(cleared),
        num_bytes=num_bytes + sum(one.num_bytes for one in garbage) + sum(cleared.values()),
        num_missing=len(texts.missing),
        missing=tuple(texts.missing[:NAMED]),
        inputs=inputs,
        unknown=unknown,
    )


@dataclass(frozen=True, kw_only=True)
class _Texts:
    """The texts that are to go: by their documents' ids, and by where they are."""

    ids: frozenset[bytes]
    sources: Sequence[str]  # patterns
    places: frozenset[str]  # `source at offset` of documents with these ids
    missing: list[str]
    seen: dict[str, bool] = field(default_factory=dict)  # file -> whether it holds one: versions share files

    @classmethod
    def find(cls, folder: Folder, chosen: Chosen) -> "_Texts":
        """Two passes over the documents of all versions, each file once, and over prepared units.

        An id that nothing has is no text; where nothing is found at all, there are none.
        """
        files = {file.name: file for digest in versions(folder) for file in _documents(folder, digest)}
        unseen = dict.fromkeys([*chosen.ids, *chosen.sources])
        own = pa.array(sorted(set(chosen.ids)), pa.string())
        ids = {found for name in chosen.ids if (found := as_id(name)) is not None}
        for file in files.values():
            _gather(*_with_sources(file), own, chosen.sources, ids, unseen)
        for _, table, sources in _prepared(folder):
            _gather(table, sources, own, chosen.sources, ids, unseen)
        wanted = pa.array(sorted(ids), pa.binary(16))
        places: set[str] = set()
        present: set[bytes] = set()
        for file in files.values():
            lines = file.read("id", "source", "offset")
            mine = lines.filter(pa.compute.is_in(lines["id"], value_set=wanted)).to_pylist()
            places.update(place_of(line["source"], line["offset"]) for line in mine)
            present.update(line["id"] for line in mine)
        for _, table, _ in _prepared(folder):
            present.update(table["id"].filter(pa.compute.is_in(table["id"], value_set=wanted)).to_pylist())
        examples = [folder.read(f"versions/{one}") for one in folder.names("versions") if one.endswith(".jsonl")]
        present.update(one for one in ids - present if any(one.hex().encode() in data for data in examples))
        return cls(
            ids=frozenset(present),
            sources=chosen.sources,
            places=frozenset(places),
            missing=[name for name in unseen if as_id(name) not in present],
        )

    @cached_property
    def _wanted(self) -> pa.Array:
        return pa.array(sorted(self.ids), pa.binary(16))

    @cached_property
    def hexadecimal(self) -> frozenset[str]:
        return frozenset(one.hex() for one in self.ids)

    def is_in(self, dataset: Dataset) -> bool:
        """Whether any table of a version that has ids of documents has one of these."""
        lines = dataset.files.select(["name", "kind"]).to_pylist()
        return any(self._is_in_file(dataset.folder, one["name"]) for one in lines if not _is_tokens(one["kind"]))

    def _is_in_file(self, folder: Folder, name: str) -> bool:
        if name not in self.seen:
            batches = read_batches(folder, name, columns=["id"], optional=["id"])
            self.seen[name] = any(self.are_in(batch.column(0)).any() for batch in batches)
        return self.seen[name]

    def are_in(self, ids: pa.Array | pa.ChunkedArray) -> np.ndarray:
        """Bool [documents]: which of some ids are chosen."""
        return np.asarray(pa.compute.is_in(ids.cast(pa.binary(16)), value_set=self._wanted), bool)

    def is_source(self, name: object) -> bool:
        return isinstance(name, str) and any(fnmatch.fnmatchcase(name, pattern) for pattern in self.sources)

    def shows(self, line: object) -> bool:
        """Whether a line of an attachment shows a chosen text, or something of a chosen source."""
        if not isinstance(line, dict):
            return False
        place = place_of(line.get("source"), line.get("offset"))
        return shows(line, self.hexadecimal, self.places) or place in self.places or self.is_source(line.get("source"))


def _is_tokens(kind: str) -> bool:
    """Tables of rows and masks name documents by place alone: their shard's documents file knows the ids."""
    return kind in (fmt.ROWS, fmt.MASKS)


def _documents(folder: Folder, digest: str) -> list[DocumentsFile]:
    return documents_files(Dataset.open(folder, digest))


def _with_sources(file: DocumentsFile) -> tuple[pa.Table, Sequence[str]]:
    """A documents file as a prepared unit is: `source` a number, and the names beside it."""
    table = file.read("id", OWN_ID, "source")
    source = table["source"].unify_dictionaries().combine_chunks()
    return table.set_column(2, "source", source.indices), source.dictionary.to_pylist()


def _gather(
    table: pa.Table,
    sources: Sequence[str],
    own: pa.Array,
    patterns: Sequence[str],
    ids: set[bytes],
    unseen: dict[str, None],
) -> None:
    """Add the ids of what own ids and patterns mean in one table; what was seen is no more in `unseen`."""
    found = np.zeros(table.num_rows, np.bool_)
    if OWN_ID in table.schema.names:
        names = table[OWN_ID].cast(pa.string())
        found |= np.asarray(pa.compute.is_in(names, value_set=own), bool)
        for name in names.filter(pa.array(found)).to_pylist():
            unseen.pop(name, None)
    numbers = table["source"].to_numpy()
    for pattern in patterns:
        mine = [number for number, name in enumerate(sources) if fnmatch.fnmatchcase(name, pattern)]
        if mine and (here := np.isin(numbers, mine)).any():
            unseen.pop(pattern, None)
            found |= here
    ids.update(table["id"].filter(pa.array(found)).to_pylist())


def _prepared(folder: Folder) -> Iterator[tuple[str, pa.Table, Sequence[str]]]:
    """The cache's prepared units, as far as they can be read: name without its ending, documents, sources."""
    for name in folder.names(PREPARED.rstrip("/")):
        if not name.endswith(".arrow"):
            continue
        stem = PREPARED + name.removesuffix(".arrow")
        with contextlib.suppress(FormatError, StorageError, KeyError):
            facts = unseal(folder.read(f"{stem}.json"), stem)
            wanted = ("id", "source", OWN_ID)
            batches = read_batches(folder, f"{stem}.arrow", columns=wanted, optional=wanted)
            if batches:
                yield stem, pa.Table.from_batches(batches), facts["sources"]


def _clean_attachments(folder: Folder, texts: _Texts, digests: Iterable[str], heir: str) -> None:
    """Take what shows the texts out of the attachments of versions that stay; put their marks on the current list.

    Files are read from the folder, whether the side file vouches for them or not: an earlier purge may have been
    interrupted between the two.
    """
    for digest in digests:
        changes = {}
        manifest = load_manifest(folder, digest)
        vouched = load_side(folder, manifest).get("attachments", {})
        for name in _attachments(folder, digest):
            data = folder.read(f"versions/{digest}.{name}")
            cleaned = data if name == LIST else _without(data, texts)
            if name == LIST and digest == heir:
                continue
            if cleaned != data or name not in vouched:
                changes[name] = cleaned
        if digest == heir:
            name = f"versions/{digest}.{LIST}"
            before = folder.read(name) if folder.exists(name) else b""
            marks = parse_list(before, where=f"{folder.location}/{name}") | {mark(one) for one in texts.ids}
            listed = write_list(marks)
            if marks and (listed != before or LIST not in vouched):
                changes[LIST] = listed
        if changes:
            replace_attachments(folder, digest, changes)


def _attachments(folder: Folder, digest: str) -> list[str]:
    """The ends of the names of a version's further files, those that nobody vouches for included."""
    own = {"json", "side.json", "files.arrow", "purged.json"}
    ends = (name.removeprefix(f"{digest}.") for name in folder.names("versions") if name.startswith(f"{digest}."))
    return [end for end in ends if end not in own]


def _without(data: bytes, texts: _Texts) -> bytes:
    """JSON Lines without those that show a text; other data as it is, or nothing if an id stands in it."""
    lines = data.splitlines(keepends=True)
    try:
        return b"".join(line for line in lines if not texts.shows(json.loads(line)))
    except ValueError:
        return b"" if any(one.encode() in data for one in texts.hexadecimal) else data


def _clean_cache(folder: Folder, texts: _Texts) -> tuple[int, int]:
    """Delete what holds a text from `work/`; returns files and bytes.

    A prepared unit stays if it is whole and holds no chosen text or source. Trained tokenizers stay, as the datasets'
    do. All the rest was made from all documents at once, and the next build makes it again.
    """
    stays = {
        stem
        for stem, table, sources in _prepared(folder)
        if not texts.are_in(table["id"]).any() and not any(map(texts.is_source, sources))
    }
    num_files = num_bytes = 0
    for name, info in folder.walk():
        if not name.startswith(f"{WORK}/") or name.startswith(TOKENIZERS) or name.rpartition(".")[0] in stays:
            continue
        _delete(folder, name)
        num_files, num_bytes = num_files + 1, num_bytes + info.size
    return num_files, num_bytes


def _bury(folder: Folder, digest: str, heir: str) -> None:
    """Tombstone first, then away with the manifest: whoever opens the version meanwhile has it whole, or is told."""
    side = load_side(folder, load_manifest(folder, digest))
    write_tombstone(
        folder,
        Tombstone(
            digest=digest,
            purged=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            replaced_by=heir,
            parent=side.get("parent"),
            published=side.get("published", ""),
            made_by=side.get("made_by", "build"),
        ),
    )
    _delete(folder, f"versions/{digest}.json")


def _clear_others(folder: Folder) -> tuple[dict[str, int], tuple[str, ...]]:
    """Delete exports and reports in the folder; returns their names and sizes, and names of files that are not ours."""
    needed: set[str] = set()
    for digest in versions(folder):
        manifest = load_manifest(folder, digest)
        needed.update(load_files(folder, manifest)["name"].to_pylist())
        needed.add(f"tokenizer/{manifest.tokenizer['sha256']}.json")
    cleared, unknown = {}, []
    for name, info in folder.walk():
        top = name.partition("/")[0]
        if top in ("LATEST", "tags", "versions", WORK) or name in needed or name == MARKER:
            continue
        if top in MADE_OF_OURS:
            _delete(folder, name)
            cleared[name] = info.size
        else:
            unknown.append(name)
    return cleared, tuple(unknown)


def _inputs(folder: Folder, digests: Iterable[str]) -> tuple[str, ...]:
    """What versions were built from, as their side files say."""
    sides = (load_side(folder, load_manifest(folder, digest)) for digest in digests)
    return tuple(sorted({str(path) for side in sides for path in side.get("inputs", ())}))


def _delete(folder: Folder, name: str) -> None:
    try:
        folder.delete(name)
    except OSError as error:
        raise explain(error, f"{folder.location}/{name}", "delete") from error


@contextlib.contextmanager
def _alone(folder: Folder) -> Iterator[None]:
    """Only one purge at a time, on a local disk. The lock ends with the process that holds it."""
    if not folder.is_local:
        yield
        return
    descriptor = os.open(folder.path("versions"), os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise StorageError(f"{folder.location}: another purge is at work here: wait until it has ended") from error
    except OSError:  # file systems without locks
        pass
    try:
        yield
    finally:
        os.close(descriptor)
