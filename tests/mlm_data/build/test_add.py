"""More documents: what a build of all of them would have made, where that can be, without touching what is there."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mlm_data.build import add as adding
from mlm_data.build import assemble, publish
from mlm_data.build.add import Added, add
from mlm_data.build.add_settings import Request
from mlm_data.build.known import KNOWN, Known
from mlm_data.build.plan import make_plan
from mlm_data.config import BuildConfig
from mlm_data.dataset.check import audit_dataset, check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.diff import diff
from mlm_data.dataset.heritage import COUNTS
from mlm_data.dataset.history import history
from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import load_attachment, load_side
from mlm_data.derive.forget import Chosen, forget
from mlm_data.derive.remask import remask
from mlm_data.derive.repack import repack
from mlm_data.duplicates.minhash import band_keys, sketch
from mlm_data.errors import BuildError, ConfigError, InputError, StorageError
from mlm_data.hashing import hash128, ids_to_arrow
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.pipelines import small_corpus
from tests.pipelines.small_corpus import text, write_jsonl

NEAR = {"deduplicate": {"near": True}}


def write(path: Path, texts) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": one, "url": f"{path.stem}{i}"}) + "\n" for i, one in enumerate(texts)))
    return path


def values(folder: Path, tokenizer: dict[str, str], **changes) -> dict[str, object]:
    inputs = [{"path": str(folder / "in/*.jsonl"), "id_field": "url"}]
    return small_corpus.settings(folder, inputs=inputs, tokenizer=tokenizer) | changes


def make(folder: Path, tokenizer: dict[str, str], **changes) -> Dataset:
    build(parse_settings(BuildConfig, values(folder, tokenizer, **changes), where="test"))
    return Dataset.open(folder / "out")


def old(folder: Path, tokenizer: dict[str, str], **changes) -> Dataset:
    """Two files, some units."""
    write_jsonl(folder / "in/a.jsonl", range(60))
    write_jsonl(folder / "in/b.jsonl", [*range(100, 140), *range(15, 20)])
    return make(folder, tokenizer, **changes)


def more(folder: Path, name: str = "m", numbers=(*range(10, 20), *range(200, 260))) -> Path:
    return write_jsonl(folder / f"more/{name}.jsonl", list(numbers))


def request(*paths: Path | str, **others) -> Request:
    return Request(paths=tuple(map(str, paths)), **others)


def stat_of(dataset: Dataset) -> dict[str, tuple[int, int]]:
    paths = {name: os.stat(f"{dataset.folder.location}/{name}") for name in dataset.files["name"].to_pylist()}
    return {name: (found.st_ino, found.st_mtime_ns) for name, found in paths.items()}


def documents(dataset: Dataset, *columns: str) -> Counter:
    shards = [dataset.shard(split, i) for split in ("train", "validation") for i in range(dataset.num_shards(split))]
    lines = (line for shard in shards for line in shard.documents.select(columns).to_pylist())
    return Counter(tuple(line.values()) for line in lines)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("tokenizer")
    write_jsonl(folder / "in/a.jsonl", range(60))
    build(parse_settings(BuildConfig, small_corpus.settings(folder), where="test"))
    path = folder / "tokenizer.json"
    path.write_bytes(Dataset.open(folder / "out").tokenizer())
    return {"path": str(path)}


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"deduplicate": {"exact": False}},
        NEAR,
        {"deduplicate": {"exact": False, "near": True}},
        {"compression": "zstd", "split": {"by": "source", "validation": 0.3}, "seed": 4},
        {"pack": {"sequence_length": 64, "long_documents": "truncate"}},
    ],
    ids=["plain", "copies", "near", "near copies", "zstd", "truncate"],
)
def test_the_version_is_that_of_a_build_of_all(tmp_path, tokenizer, changes):
    parent = old(tmp_path / "parent", tokenizer, **changes)
    whole = tmp_path / "whole"
    shutil.copytree(tmp_path / "parent/in", whole / "in")
    new = more(tmp_path)
    shutil.copy(new, whole / "in")
    wanted = make(whole, tokenizer, **changes).manifest
    before = stat_of(parent)
    shutil.rmtree(tmp_path / "parent/out/work")  # as `premask gc` does
    made = add(parent, request(new), workers=2).manifest
    assert made.digest == wanted.digest
    same = ("splits", "bounds", "packing", "audit", "config", "tokenizer")
    assert [getattr(made, name) for name in same] == [getattr(wanted, name) for name in same]
    assert made.ledger == wanted.ledger
    assert stat_of(parent) == before
    report = check_dataset(str(tmp_path / "parent/out"))
    assert report.ok, report.problems
    counted = audit_dataset(str(tmp_path / "parent/out")).reports
    assert {split: list(report.table) for split, report in counted.items()} == {
        split: facts["table"] for split, facts in made.audit.items()
    }


def test_what_was_there_is_shared_and_what_is_new_comes_behind(tmp_path, tokenizer):
    parent = old(tmp_path, tokenizer)
    before = stat_of(parent)
    added = add(parent, request(more(tmp_path)))
    child = Dataset.open(tmp_path / "out")
    assert stat_of(parent) == before
    assert {name: facts for name, facts in stat_of(child).items() if name in before} == before
    for split in ("train", "validation"):
        shared = [parent.lines(split, i)[0]["name"] for i in range(parent.num_shards(split))]
        assert [child.lines(split, i)[0]["name"] for i in range(child.num_shards(split))][: len(shared)] == shared
    assert added.ledger.documents_kept == 60
    assert added.ledger.documents_dropped == {"exact_duplicate": 10}
    assert not Ledger.from_dict(child.manifest.ledger).problems()
    fates = diff(parent, child).documents
    assert (fates["added"].documents, fates["removed"].documents) == (60, 0)
    newest = history(child.folder)[0]
    assert (newest.made_by, newest.parent, newest.is_current) == ("add", parent.digest, True)
    side = load_side(child.folder, child.manifest)
    assert side["asked"] == {"paths": [str(tmp_path / "more/m.jsonl")], "set": []}


def test_the_order_of_workers_does_not_matter(tmp_path, tokenizer):
    new = more(tmp_path)
    digests = {
        add(old(tmp_path / str(workers), tokenizer, **NEAR), request(new), workers=workers).manifest.digest
        for workers in (1, 3)
    }
    assert len(digests) == 1


def test_a_near_duplicate_of_what_is_there_goes_and_says_of_what(tmp_path, tokenizer):
    parent = old(tmp_path, tokenizer, **NEAR)
    new = write(tmp_path / "more/m.jsonl", [text(3) + " Some more words.", text(900), text(900) + " Yes."])
    made = add(parent, request(new)).manifest
    assert made.ledger["documents"]["dropped"] == {"exact_duplicate": 5, "near_duplicate": 2}
    examples = [json.loads(line) for line in load_attachment(parent.folder, made, "dropped.jsonl").splitlines()]
    kept = {one["head"][:20]: one["kept"] for one in examples if one["reason"] == "near_duplicate"}
    place = next(where for where in documents(parent, "source", "offset", "id_field") if where[2] == "u3")
    assert kept[text(3)[:20]] == f"{place[0]} at {place[1]}"
    assert kept[text(900)[:20]].startswith("m.jsonl at ")  # the longer one stays
    assert check_dataset(str(tmp_path / "out")).ok


def test_what_was_forgotten_stays_away(tmp_path, tokenizer):
    parent = old(tmp_path, tokenizer)
    forget(parent, Chosen(ids=["u1", "u2"]))
    again = write_jsonl(tmp_path / "more/m.jsonl", [1, 2, 300, 301])
    child = add(Dataset.open(tmp_path / "out"), request(again)).manifest
    assert child.ledger["documents"]["dropped"]["forgotten"] == 4  # twice: as forgotten, and when they came again
    assert len(load_attachment(parent.folder, child, "forgotten.jsonl").splitlines()) == 2
    # To a version that is older than the list, too.
    other = write_jsonl(tmp_path / "more/n.jsonl", [1, 400])
    late = add(Dataset.open(parent.folder, parent.digest), request(other))
    assert late.ledger.documents_kept == 1
    assert len(load_attachment(parent.folder, late.manifest, "forgotten.jsonl").splitlines()) == 2


def test_a_version_is_made_of_an_added_one(tmp_path, tokenizer):
    add(old(tmp_path, tokenizer, **NEAR), request(more(tmp_path)), workers=2)
    remask(Dataset.open(tmp_path / "out"), {"rate": 0.2})
    third = add(Dataset.open(tmp_path / "out"), request(more(tmp_path, "n", range(300, 330))))
    assert third.manifest.config["mask"]["rate"] == [0.2, 0.2]
    assert third.ledger.documents_kept == 30
    repack(Dataset.open(tmp_path / "out"), 128)
    forget(Dataset.open(tmp_path / "out"), Chosen(sources=["n*"]))
    last = add(Dataset.open(tmp_path / "out"), request(more(tmp_path, "o", range(310, 340)))).manifest
    assert last.ledger["documents"]["kept"] == 60 + 40 + 60 + 10  # n's texts are forgotten
    assert last.ledger["documents"]["dropped"]["forgotten"] == 30 + 20
    assert check_dataset(str(tmp_path / "out")).ok
    assert [one.made_by for one in history(Dataset.open(tmp_path / "out").folder)] == [
        *("add", "forget", "repack", "add", "remask", "add", "build")
    ]


@pytest.mark.parametrize("numbers", [range(10), []], ids=["copies", "no documents"])
def test_nothing_new_is_no_version(tmp_path, tokenizer, numbers):
    parent = old(tmp_path, tokenizer)
    path = write_jsonl(tmp_path / "more/m.jsonl", list(numbers))
    if not numbers:
        path.write_text("\n")
    added = add(parent, request(path))
    assert added.manifest is None
    assert added.ledger.documents_dropped == ({"exact_duplicate": 10} if numbers else {})
    assert [one.digest for one in history(parent.folder)] == [parent.digest]


def test_files_that_are_there_are_not_read_again(tmp_path, tokenizer):
    parent = old(tmp_path, tokenizer)
    more(tmp_path)
    shutil.copy(tmp_path / "in/a.jsonl", tmp_path / "more/a.jsonl")
    with pytest.raises(
        ConfigError, match=r"has documents of a.jsonl already: name new files alone, or say --skip-known"
    ):
        add(parent, request(tmp_path / "more/*.jsonl"))
    added = add(parent, request(tmp_path / "more/*.jsonl", skip_known=True))
    assert (added.num_files, added.num_skipped, added.ledger.documents_read) == (1, 1, 70)
    none = add(Dataset.open(tmp_path / "out"), request(tmp_path / "more/*.jsonl", skip_known=True))
    assert none == Added(manifest=None, ledger=Ledger(), num_files=0, num_skipped=2, num_bytes=0)
    # The same names in front of which a word stands are others.
    third = add(Dataset.open(tmp_path / "out"), request(tmp_path / "more/*.jsonl", overrides=("name=x",)))
    assert third.manifest is None
    assert third.ledger.documents_dropped == {"exact_duplicate": 130}


def test_two_at_once_one_wins(tmp_path, tokenizer, monkeypatch):
    parent = old(tmp_path, tokenizer)
    assemble_all = adding._assemble

    def interrupted(work):
        monkeypatch.undo()
        add(parent, request(more(tmp_path, "n", range(300, 320))))
        return assemble_all(work)

    monkeypatch.setattr(adding, "_assemble", interrupted)
    with pytest.raises(StorageError, match="was published in the meantime, and nothing is changed"):
        add(parent, request(more(tmp_path)))
    winner = Dataset.open(tmp_path / "out")
    assert winner.manifest.ledger["documents"]["kept"] == 120
    assert add(winner, request(more(tmp_path))).ledger.documents_kept == 60
    assert check_dataset(str(tmp_path / "out")).ok


def test_another_reading_is_another_input(tmp_path, tokenizer):
    parent = old(tmp_path / "parent", tokenizer)
    (tmp_path / "more").mkdir()
    lines = [json.dumps({"body": text(number), "url": f"n{number}"}) + "\n" for number in range(200, 230)]
    (tmp_path / "more/m.jsonl").write_text("".join(lines))
    made = add(parent, request(tmp_path / "more/m.jsonl", overrides=("text_field=body",))).manifest
    shutil.copytree(tmp_path / "parent/in", tmp_path / "whole/in")
    inputs = [
        {"path": str(tmp_path / "whole/in/*.jsonl"), "id_field": "url"},
        {"path": str(tmp_path / "more/m.jsonl"), "id_field": "url", "text_field": "body"},
    ]
    assert make(tmp_path / "whole", tokenizer, inputs=inputs).digest == made.digest
    # Both are there now, so one of them must be named.
    new = more(tmp_path, "n", range(300, 310))
    with pytest.raises(ConfigError, match="has 2 inputs, each with settings of its own: say --input"):
        add(Dataset.open(tmp_path / "parent/out"), request(new))
    made = add(Dataset.open(tmp_path / "parent/out"), request(new, input="0")).manifest
    assert len(made.config["inputs"]) == 2


@pytest.mark.parametrize(
    ("others", "problem"),
    [
        (
            {"overrides": ("mask.rate=0.2",)},
            "mask: would be another for the new documents than for those that are there",
        ),
        ({"overrides": ("keep_fields=[date]",)}, "no document that is there has a field 'date'"),
        ({"overrides": ("path=x",)}, "name the files as arguments"),
        ({"overrides": ("text_feild=x",)}, "unknown field 'text_feild'"),
        ({"overrides": ("text_field=body",)}, "none of 70 documents has the field 'body'"),
        ({"input": "web"}, "has no input 'web'"),
    ],
)
def test_what_can_not_be_right(tmp_path, tokenizer, others, problem):
    parent = old(tmp_path, tokenizer)
    with pytest.raises((ConfigError, BuildError), match=problem):
        add(parent, request(more(tmp_path), **others))
    assert [one.digest for one in history(parent.folder)] == [parent.digest]


def test_no_file(tmp_path, tokenizer):
    with pytest.raises(InputError, match="no file"):
        add(old(tmp_path, tokenizer), request(tmp_path / "more/*.jsonl"))


def test_a_dataset_without_sketches_says_so(tmp_path, tokenizer, monkeypatch):
    whole = assemble.write_signatures
    monkeypatch.setattr(assemble, "write_signatures", lambda *args, sketches, **rest: whole(*args, **rest))
    parent = old(tmp_path, tokenizer, **NEAR)
    monkeypatch.undo()
    assert check_dataset(str(tmp_path / "out")).ok  # it is readable as ever
    with pytest.raises(ConfigError, match=r"was built without sketches .* build it again into the same folder"):
        add(parent, request(more(tmp_path)))
    again = old(tmp_path, tokenizer, **NEAR)
    assert add(again, request(more(tmp_path))).ledger.documents_kept == 60


def test_a_dataset_without_counts_is_counted(tmp_path, tokenizer, monkeypatch):
    with_counts = add(old(tmp_path / "with", tokenizer), request(more(tmp_path))).manifest
    monkeypatch.setattr(publish, "write_counts", lambda audits: b"")
    parent = old(tmp_path / "without", tokenizer)
    monkeypatch.undo()
    made = add(parent, request(more(tmp_path))).manifest
    assert made == with_counts
    assert load_attachment(parent.folder, made, COUNTS)


def test_lines_evaluations_and_mixing_are_of_the_new_documents(tmp_path, tokenizer):
    (tmp_path / "evaluation.txt").write_text(small_corpus.sentence(205_003, 20) + "\n")
    against = str(tmp_path / "evaluation.txt")
    changes = {
        "deduplicate": {"lines": {"max_copies": 2, "min_chars": 20}},
        "decontaminate": {"against": [against], "ngram": 8},
        "mixing": {"by": "source"},
    }
    parent = old(tmp_path, tokenizer, **changes)
    line = "\nA line that is in all of these texts, and in none of the others."
    new = write(tmp_path / "more/m.jsonl", [text(number) + line for number in range(200, 230)])
    with open(new, "a") as file:
        file.write(json.dumps({"text": small_corpus.sentence(205_003, 20) * 3, "url": "leak"}) + "\n")
    with pytest.raises(ConfigError, match=r"--set decontaminate.against=PATH"):
        add(parent, request(new))
    added = add(parent, request(new, overrides=(f"decontaminate.against=[{against}]",)))
    assert len(added.warnings) == 3
    assert added.ledger.documents_dropped == {"contaminated": 1}
    assert added.manifest.ledger["evaluations"][0]["documents"] == 1
    (group,) = added.manifest.ledger["mixing"]
    assert group["tokens"] > parent.manifest.ledger["mixing"][0]["tokens"]
    assert check_dataset(str(tmp_path / "out")).ok
    Path(against).write_text("Something else entirely, of more than eight words in all.\n")
    with pytest.raises(ConfigError, match=r"decontaminate.against: what it names is not what it was"):
        add(Dataset.open(tmp_path / "out"), request(more(tmp_path), overrides=(f"decontaminate.against=[{against}]",)))


# When a build of A and B at once and adding B to A give the same: docs/explanation/versions.md.

PIECES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 3)), min_size=1, max_size=10)


def body(piece: tuple[int, int]) -> str:
    """A text, or one of three that resemble it: one is longer, one shorter, one of other words at the end."""
    number, variant = piece
    words = text(number).split()
    return " ".join([words, [*words, "and", "more."], words[:-4], [*words[:-6], *text(99).split()[:6]]][variant])


def meets_a_later_one(texts_a: set[str], texts_b: set[str], kept: set[str]) -> bool:
    """Whether a document of A shares a band with one of B, and A has dropped it, or it ranks behind that one."""
    texts = sorted(texts_a | texts_b)
    keys = band_keys(sketch(pa.array(texts, pa.large_string()), ngram=5, size=112).values, bands=16)
    pairs = [
        (one, other)
        for i, one in enumerate(texts)
        for j, other in enumerate(texts)
        if one in texts_a and other in texts_b - texts_a and (keys[i] == keys[j]).any()
    ]
    return any(one not in kept or len(one) <= len(other) for one, other in pairs)


@pytest.mark.parametrize("most", [3, pytest.param(150, marks=pytest.mark.slow)])
def test_at_once_and_one_after_the_other(tmp_path_factory, tokenizer, most):
    @settings(max_examples=most, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
    @given(a=PIECES, b=PIECES, is_near=st.booleans(), is_behind=st.booleans())
    def check(a, b, is_near, is_behind):
        holds_at_once(tmp_path_factory.mktemp("property"), tokenizer, a, b, is_near=is_near, is_behind=is_behind)

    check()


def holds_at_once(folder, tokenizer, a, b, *, is_near, is_behind):
    anchor = [text(number) for number in range(50, 60)]  # so that there are training rows
    texts_a, texts_b = [*anchor, *map(body, a)], list(map(body, b))
    changes = {**(NEAR if is_near else {}), "unit_bytes": 1024, "split": {"validation": 0.0}}
    name = "m.jsonl" if is_behind else "0.jsonl"
    for place in ("a", "ab"):
        write(folder / place / "in/a.jsonl", texts_a)
    write(folder / "ab/in" / name, texts_b)
    parent = make(folder / "a", tokenizer, **changes)
    whole = make(folder / "ab", tokenizer, **changes)
    added = add(parent, request(write(folder / "more" / name, texts_b)))
    child = Dataset.open(folder / "a/out")
    assert not documents(parent, "id", "source", "offset") - documents(child, "id", "source", "offset")
    hashes = ids_to_arrow(hash128(pa.array(texts_a, pa.large_string()))).to_pylist()
    there = documents(parent, "id")
    kept = {one for one, id_ in zip(texts_a, hashes, strict=True) if (id_,) in there}
    if is_near and meets_a_later_one(set(texts_a), set(texts_b), kept):
        return
    assert documents(child, "id") == documents(whole, "id")
    if is_behind or not set(texts_a) & set(texts_b):
        assert documents(child, "id", "source", "offset") == documents(whole, "id", "source", "offset")
    units = make_plan(parse_settings(BuildConfig, values(folder / "ab", tokenizer, **changes), where="test")).units
    is_cut_between = all(len({piece.source for piece in unit.slices}) == 1 for unit in units)
    if added.manifest is not None and is_behind and is_cut_between:
        assert child.digest == whole.digest
        mine, theirs = (Ledger.from_dict(one.manifest.ledger) for one in (child, whole))
        # A copy of what A has dropped as a near duplicate is dropped as one, too.
        assert sum(mine.documents_dropped.values()) == sum(theirs.documents_dropped.values())
        assert is_near or child.manifest.ledger == whole.manifest.ledger


def test_known_signatures_are_found_as_a_plain_search_finds_them(tmp_path, tokenizer):
    parent = old(tmp_path, tokenizer, **NEAR)
    known = Known(parent, parse_settings(BuildConfig, values(tmp_path, tokenizer, **NEAR), where="test"))
    lines = [line for line in parent.files.to_pylist() if line["kind"] == "signatures"]
    tables = {line["unit"]: pa.ipc.open_file(f"{tmp_path}/out/{line['name']}").read_all() for line in lines}
    everything = [(unit, row, one) for unit, table in tables.items() for row, one in enumerate(table["id"].to_pylist())]
    wanted = [one for _, _, one in everything[::7]] + [bytes(16), bytes(range(16))]
    flat = np.frombuffer(b"".join(wanted), "<u8").reshape(-1, 2)
    records = known.ids(flat)
    assert {record.tobytes()[:16] for record in records} == {one for _, _, one in everything[::7]}
    assert set(records["unit"].tolist()) <= {KNOWN}
    sketches = {
        unit: np.frombuffer(b"".join(table["sketch"].to_pylist()), np.uint8).reshape(-1, 112)
        for unit, table in tables.items()
    }
    keys = {unit: band_keys(some, bands=16) for unit, some in sketches.items()}
    unit = lines[1]["unit"]
    found = known.bands(keys[unit][:5].reshape(-1))
    plain = {
        (other, row, int(key))
        for other, all_keys in keys.items()
        for row, mine in enumerate(all_keys)
        for key in mine
        if key in keys[unit][:5]
    }
    assert {(int(one["unit"]), int(one["document"]), int(one["key"])) for one in found} == plain
    members = known.members(unit, np.array([2, 0], np.int32))
    assert (members.values == sketches[unit][[2, 0]]).all()
    assert set(known.places({(unit, 1)}).values()) <= {
        f"{source} at {offset}" for source, offset in documents(parent, "source", "offset")
    }
