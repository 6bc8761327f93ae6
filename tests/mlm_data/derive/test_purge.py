"""No byte of what is purged stays, whenever the purge was interrupted; and who opens a purged version is told."""

import contextlib
import gzip
import json
import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import BuildConfig
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.collect import collect, find_garbage
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.history import history
from mlm_data.dataset.manifest import latest, load_attachment, load_manifest
from mlm_data.dataset.names import set_tag, versions
from mlm_data.dataset.publish import replace_attachments
from mlm_data.dataset.tombstones import purged_versions, read_tombstone
from mlm_data.dataset.verify import verify
from mlm_data.derive.forget import Chosen, forget, whole_documents
from mlm_data.derive.purge import MARKER, purge
from mlm_data.derive.remask import remask
from mlm_data.derive.version import shards_of
from mlm_data.errors import ConfigError, FormatError, PurgedError, StorageError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines.build import build
from tests.pipelines.small_corpus import sentence, settings

GONE = (3, 17)
NEAR = 900  # in a file of its own: document 3 and two words; it is kept, and 3 dropped
RUN = 8  # consecutive ids that show a text


def text(number: int) -> str:
    return " ".join(sentence(number * 1000 + i) for i in range(4 + number % 7))


def configuration(folder: Path, **changes) -> BuildConfig:
    values = settings(
        folder,
        inputs=[{"path": str(folder / "in/*.jsonl"), "id_field": "url", "keep_fields": ["note"]}],
        deduplicate={"near": {}},
        pack={"sequence_length": 64},
    )
    return parse_settings(BuildConfig, values | changes, where="test")


def write_input(folder: Path) -> None:
    """A first file, one with copies of some of it, one with a near duplicate, one with a document that breaks off."""
    (folder / "in").mkdir(parents=True)
    for name, numbers in {"a": range(60), "b": [*range(100, 140), *range(15, 20)], "c": range(200, 240)}.items():
        lines = [{"text": text(n), "url": f"u{n}", "note": f"(note of {n})"} for n in numbers]
        (folder / f"in/{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (folder / "in/d.jsonl").write_text(json.dumps({"text": text(3) + " Again.", "url": f"u{NEAR}"}) + "\n")


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    """A dataset of three versions that hold the documents, one that doesn't, tags, and a cache."""
    folder = tmp_path_factory.mktemp("purge")
    write_input(folder)
    build(configuration(folder, mask={"planes": 1}))
    dataset = Dataset.open(folder / "out")
    set_tag(dataset.folder, "v1", dataset.digest)
    remask(dataset, {"planes": 2})
    set_tag(dataset.folder, "v2", latest(dataset.folder))
    forget(Dataset.open(folder / "out"), Chosen(ids=[f"u{number}" for number in (*GONE, NEAR)]))
    set_tag(dataset.folder, "clean", latest(dataset.folder))
    return folder


@pytest.fixture
def folder(template, tmp_path) -> Path:
    """A copy of it, where a version with the documents is the current one again."""
    out = shutil.copytree(template / "out", tmp_path / "out", copy_function=shutil.copy2)
    shutil.copy2(out / "tags/v2", out / "LATEST")
    return out


def decompressed(path: Path) -> tuple[bytes, list[np.ndarray]]:
    """The bytes of a file, decompressed if they are; and all integers in it, column by column."""
    data = path.read_bytes()
    if data[:2] == b"\x1f\x8b":
        data = gzip.decompress(data)
    if not data.startswith(b"ARROW1"):
        return data, []
    table = pa.ipc.open_file(pa.py_buffer(data)).read_all()
    plain, integers = [data], []
    for column in table.columns:
        for chunk in column.chunks:
            values = chunk.dictionary if isinstance(chunk, pa.DictionaryArray) else chunk
            if hasattr(values, "flatten"):
                values = values.flatten()
            if pa.types.is_integer(values.type):
                integers.append(values.to_numpy(zero_copy_only=False).astype(np.int64))
            else:
                plain.append("\n".join(map(str, values.to_pylist())).encode())
                plain += [one for one in values.to_pylist() if isinstance(one, bytes)]
    return b"\0".join(plain), integers


def runs(ids: np.ndarray) -> set[bytes]:
    """All runs of RUN consecutive ids."""
    return {window.tobytes() for window in np.lib.stride_tricks.sliding_window_view(ids.astype(np.int64), RUN)}


def traces(out: Path, texts: dict[int, str], ids: dict[int, np.ndarray], names: set[bytes]) -> set[str]:
    """Files that hold a text, a part of one as examples do, a document's own id, or RUN ids in a row."""
    wanted = [part.encode() for one in texts.values() for part in (one, one[:60])]
    wanted += sorted(names)
    known = set().union(*map(runs, ids.values()))
    found = set()
    for path in sorted(path for path in out.rglob("*") if path.is_file()):
        data, integers = decompressed(path)
        if any(one in data for one in wanted) or any(known & runs(values) for values in integers if values.size >= RUN):
            found.add(str(path.relative_to(out)))
    return found


@pytest.fixture(scope="module")
def sought(template) -> dict:
    """What must not be found any more: texts, their ids of tokens, and names of documents."""
    dataset = Dataset.open(f"{template}/out@v1")
    texts = {number: text(number) for number in GONE}
    ids, names = {}, {f"(note of {number})".encode() for number in GONE}
    for shard in shards_of(dataset):
        tokens, offsets, *_ = whole_documents(shard, dataset.reference())
        for place, line in enumerate(shard.documents.select(["id", "id_field"]).to_pylist()):
            if line["id_field"] in CHOSEN.ids:
                ids[int(line["id_field"][1:])] = tokens[offsets[place] : offsets[place + 1]]
                names |= {line["id"], line["id"].hex().encode()}
    assert len(ids) == 2, "17, and 3 or what is nearly the same"
    return {"texts": texts, "ids": ids, "names": names}


CHOSEN = Chosen(ids=[f"u{number}" for number in (*GONE, NEAR)])


def check_purged(out: Path, sought: dict, before: set[str]) -> None:
    """Nothing of the texts is there, and all that is there is sound."""
    folder = Folder(out)
    assert traces(out, **sought) == set()
    stones = [one for one in before if one in purged_versions(folder)]
    assert len(stones) == 2
    for digest in versions(folder):
        assert verify(folder, digest).ok
    report = check_dataset(str(out))
    assert report.ok, report.problems
    assert [one for one in find_garbage(folder) if one.kind not in ("work",)] == []


def test_nothing_is_found_afterwards(folder, sought):
    before = traces(folder, **sought)
    kinds = {name.split("/")[0] for name in before}
    assert {"rows", "documents", "signatures", "work", "versions"} <= kinds, before
    assert any(name.endswith(".dropped.jsonl") for name in before)
    assert any(name.startswith("work/prepared") and name.endswith(".arrow") for name in before)
    digests, place = set(versions(Folder(folder))), Folder(folder)
    done = purge(place, CHOSEN)
    check_purged(folder, sought, digests)
    assert done.digest == latest(place)
    assert (done.num_texts, done.missing) == (3, ())  # one of them is in the cache and in an example alone
    assert set(done.tags) == {"v1", "v2"}
    assert set(done.versions) == set(purged_versions(place))
    assert done.inputs
    assert done.unknown == ()
    listed = load_attachment(place, load_manifest(place), "forgotten.jsonl").splitlines()
    assert len(listed) == 3
    assert all(set(json.loads(line)) == {"mark"} for line in listed)
    left = sorted(path.suffix for path in (folder / "work/prepared").glob("*"))
    assert left.count(".arrow") == left.count(".json") > 0, "units without the texts stay"


def test_who_opens_a_purged_version_is_told(folder):
    place = Folder(folder)
    done = purge(place, CHOSEN)
    line = rf"was purged on 20\d\d-\d\d-\d\d \d\d:\d\d:\d\d UTC.*{done.digest[:16]} takes its place"
    for name in ("v1", "v2", done.versions[0][:8], done.versions[0]):
        with pytest.raises(PurgedError, match=line):
            Dataset.open(f"{folder}@{name}")
        with pytest.raises(PurgedError, match=line):
            check_dataset(f"{folder}@{name}")
    entries = {entry.digest: entry for entry in history(place)}
    assert {digest for digest, entry in entries.items() if entry.purged} == set(done.versions)
    assert entries[done.versions[0]].made_by in {"build", "remask"}
    again = purge(place, CHOSEN)
    assert (again.versions, again.forgotten, again.num_texts, again.digest) == ((), None, 0, done.digest)
    second = purge(place, Chosen(ids=["u5"]))
    with pytest.raises(PurgedError, match=f"{second.digest[:16]} takes its place"):
        Dataset.open(f"{folder}@v1")  # what took its place was purged, too
    set_tag(place, "v1", second.digest, force=True)
    assert Dataset.open(f"{folder}@v1").digest == second.digest
    stone = folder / f"versions/{done.versions[0]}.purged.json"
    stone.write_bytes(stone.read_bytes().replace(b"build", b"BUILD").replace(b"remask", b"REMASK"))
    with pytest.raises(FormatError, match=r"purged\.json: its checksum is wrong"):
        Dataset.open(f"{folder}@{done.versions[0]}")
    assert any("checksum" in entry.problem for entry in history(place))


class Crash(BaseException):
    """The process is gone."""


@contextlib.contextmanager
def crash_after(number: int, monkeypatch):
    """Let the process end before the write, rename or deletion of this number; yields a list that counts them."""
    count = [0]

    def counted(function):
        def wrapper(*arguments, **named):
            count[0] += 1
            if count[0] > number:
                raise Crash
            return function(*arguments, **named)

        return wrapper

    with monkeypatch.context() as patch:
        for name in ("_move", "delete"):
            patch.setattr(Folder, name, counted(getattr(Folder, name)))
        yield count


@pytest.mark.parametrize("parts", [8, pytest.param(10**9, marks=pytest.mark.slow)], ids=["some", "all"])
def test_a_crash_anywhere_is_finished_by_starting_again(folder, sought, tmp_path, monkeypatch, parts):
    digests = set(versions(Folder(folder)))
    with crash_after(10**9, monkeypatch) as count:
        purge(Folder(shutil.copytree(folder, tmp_path / "whole", copy_function=shutil.copy2)), CHOSEN)
    total = count[0]
    assert total > 30
    steps = sorted({*range(0, total, max(1, total // parts)), total - 1})
    for number in steps:
        out = shutil.copytree(folder, tmp_path / f"at{number}", copy_function=shutil.copy2)
        place = Folder(out)
        with crash_after(number, monkeypatch), contextlib.suppress(Crash):
            purge(place, CHOSEN)
        assert verify(place).ok, number  # the current version, old or new, is whole
        for digest in digests:
            try:
                problems = verify(place, digest).problems
            except PurgedError:
                continue
            assert not problems, (number, problems)
        purge(place, CHOSEN)
        check_purged(out, sought, digests)
        assert latest(place) == latest(Folder(tmp_path / "whole"))
        assert not place.exists(MARKER)
        shutil.rmtree(out)


def test_gc_finishes_what_is_only_to_be_deleted(folder, monkeypatch, sought):
    def crash(*arguments):
        raise Crash

    place = Folder(folder)
    with monkeypatch.context() as patch, contextlib.suppress(Crash):
        patch.setattr("mlm_data.derive.purge.collect", crash)
        purge(place, CHOSEN)
    garbage = find_garbage(place)
    assert {one.kind for one in garbage} >= {"purged", "temporary files"}
    assert any(one.name.startswith("rows/") and one.kind == "purged" for one in garbage)
    collect(place, garbage)
    assert traces(folder, **sought) == set()
    assert read_tombstone(place, purged_versions(place)[0]) is not None


def test_by_source_and_what_only_a_version_of_long_ago_holds(folder, sought):
    """Copies in other sources go, too; quarantined lines of the source; and the current version may hold none."""
    place = Folder(folder)
    shutil.copy2(folder / "tags/clean", folder / "LATEST")
    current = latest(place)
    quarantine = b'{"source": "a.jsonl", "offset": 1, "detail": "x"}\n{"source": "c.jsonl", "offset": 1}\n'
    replace_attachments(place, current, {"quarantine.jsonl": quarantine})
    done = purge(place, CHOSEN)
    assert (done.digest, done.forgotten, len(done.versions)) == (current, None, 2)
    assert traces(folder, **sought) == set()
    done = purge(place, Chosen(sources=["a.*"]))
    assert done.num_texts >= 58
    left = load_attachment(place, load_manifest(place), "quarantine.jsonl").splitlines()
    assert [json.loads(line)["source"] for line in left] == ["c.jsonl"]
    assert not any("a.jsonl" in one.documents["source"].to_pylist() for one in shards_of(Dataset.open(folder)))


def test_a_build_does_not_bring_it_back(tmp_path, sought):
    write_input(tmp_path)
    build(configuration(tmp_path))
    purge(Folder(tmp_path / "out"), CHOSEN)
    again = Folder(build(configuration(tmp_path, mask={"planes": 1})).output)
    assert load_manifest(again).ledger["documents"]["dropped"]["forgotten"] >= len(GONE)
    assert {name.split("/")[0] for name in traces(tmp_path / "out", **sought)} <= {"work"}, "read from the input again"


def test_what_is_refused(folder, tmp_path):
    place = Folder(folder)
    with pytest.raises(ConfigError, match="no document of any version is chosen"):
        purge(place, Chosen(ids=["nobody"], sources=["z*"]))
    (folder / "rows" / f"{'1' * 64}.arrow").write_bytes(b"of a build that runs")
    with pytest.raises(StorageError, match=r"was written 0 minutes ago.*--force"):
        purge(place, CHOSEN)
    (folder / "exports").mkdir()
    (folder / "exports/part.parquet").write_bytes(b"PAR1")
    (folder / ".notes").write_bytes(b"mine")
    done = purge(place, CHOSEN, force=True)
    assert done.unknown == (".notes",)
    assert not (folder / "exports/part.parquet").exists()
    with pytest.raises(ConfigError, match="would be forgotten"):
        purge(place, Chosen(sources=["*"]))
    assert not place.exists(MARKER)
    assert verify(place).ok
