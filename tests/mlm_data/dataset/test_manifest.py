import hashlib
import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlm_data.dataset.ledger import Ledger
from mlm_data.dataset.manifest import (
    Manifest,
    build_manifest,
    compute_digest,
    latest,
    load_files,
    load_manifest,
    load_side,
    version_names,
)
from mlm_data.dataset.publish import check_output, publish
from mlm_data.dataset.seals import canonical
from mlm_data.errors import BuildError, FormatError, NewerFormatError, StorageError
from mlm_data.shards.records import FileRecord, ShardRecord, SignaturesRecord
from mlm_data.stores.folder import Folder
from tests.synthetic import ROLES, TOKENIZER, make_config, make_dataset, tokenizer_facts


def record(split: str, unit: int, **changes) -> ShardRecord:
    """A shard of 10 rows with 100 content tokens in 20 segments of 15 documents."""
    name = f"{split}{unit}"
    files = tuple(
        FileRecord(
            kind=kind,
            name=f"{kind}/{name}.arrow",
            num_bytes=1000,
            sha256=hashlib.sha256(f"{kind}{name}".encode()).hexdigest(),
            logical_hash=hashlib.sha256(f"logical {kind}{name}".encode()).hexdigest(),
            num_rows=10,
        )
        for kind in ("rows", "masks", "documents")
    )
    planes = {"0": 5 + unit, "1": 7, "2": 9} if split == "train" else {"evaluation": 4}
    values = {"num_rows": 10, "num_tokens": 140, "num_segments": 20, "num_documents": 15, "max_segments": 3 + unit}
    return ShardRecord(split=split, unit=unit, files=files, max_targets=planes, **{**values, **changes})


def signature(unit: int) -> SignaturesRecord:
    return SignaturesRecord(unit=unit, file=replace(record("all", unit).files[0], kind="signatures"))


SHARDS = [record("validation", 1), record("train", 2), record("train", 0)]
LEDGER = Ledger(
    documents_read=50, documents_kept=45, documents_dropped={"short": 5}, tokens_tokenized=300, tokens_in_rows=300
)


def build(**changes):
    settings = {
        "config": make_config(64, (0.3, 0.15, 0.3), 8, validation=True, seed=2**60 + 1),
        "tokenizer": tokenizer_facts(TOKENIZER, 512, ROLES),
        "shards": SHARDS,
        "signatures": [signature(2), signature(0)],
        "ledger": LEDGER,
        "audit": {"train": {"warnings": []}},
        "packing": {"train": {"num_rows": 20}},
        "plan": {"unit_bytes": 2**20, "group_modulus": 4},
    }
    return build_manifest(**{**settings, **changes})


def test_canonical_json_is_rfc_8785():
    value = {"€": 1, "a": [True, None, 1e21, 0.1, "\u2028\n"], "\r": 0.0, "b": {"z": 333333333.33333329}}
    # Appendix-style check by hand: keys in UTF-16 order, shortest floats, only needed escapes.
    assert canonical(value) == (
        '{"\\r":0,"a":[true,null,1e+21,0.1,"\u2028\\n"],"b":{"z":333333333.3333333},"€":1}'.encode()
    )


@pytest.mark.parametrize("number", [2**53, -(2**53), 2**63 - 1])
def test_large_integers_are_decimal_strings(number):
    assert canonical({"seed": number}) == f'{{"seed":"{number}"}}'.encode()
    assert canonical({"seed": 2**53 - 1}) == b'{"seed":9007199254740991}'


def test_the_digest_is_what_the_specification_says():
    text = '{"config":{"seed":1},"format_version":1,"tables":["aa","bb"],"tokenizer":"cc"}'
    assert compute_digest({"seed": 1}, "cc", ["aa", "bb"]) == hashlib.sha256(text.encode()).hexdigest()


def test_the_order_of_records_does_not_matter():
    manifest, files = build()
    again, files_again = build(shards=SHARDS[::-1], signatures=[signature(0), signature(2)])
    assert again == manifest
    assert files_again.equals(files)
    lines = [(line["split"], line["shard"], line["unit"], line["kind"]) for line in files.to_pylist()]
    kinds = ("rows", "masks", "documents")
    assert lines == [
        *[("train", 0, 0, kind) for kind in kinds],
        *[("train", 1, 2, kind) for kind in kinds],
        *[("validation", 0, 1, kind) for kind in kinds],
        ("all", 0, 0, "signatures"),
        ("all", 1, 2, "signatures"),
    ]


def changed_file(**changes):
    shard = SHARDS[0]
    return [replace(shard, files=(replace(shard.files[0], **changes), *shard.files[1:])), *SHARDS[1:]]


def test_the_digest_covers_meaning_only():
    digest = build()[0].digest
    same = [
        build(shards=changed_file(name="rows/other.arrow", num_bytes=1, sha256="00" * 32)),
        build(audit={}, packing={}, plan={"unit_bytes": 1, "group_modulus": 1}),
    ]
    assert {manifest.digest for manifest, _ in same} == {digest}
    other = [
        build(shards=changed_file(logical_hash="00" * 32)),
        build(config=make_config(64, (0.3, 0.15, 0.3), 8, validation=True, seed=0)),
        build(tokenizer=tokenizer_facts(b"{}", 512, ROLES)),
        build(signatures=[signature(0)]),
    ]
    assert len({digest, *(manifest.digest for manifest, _ in other)}) == 5


def test_bounds_and_counts_are_those_of_all_shards():
    manifest, files = build()
    assert manifest.max_segments == 5
    assert manifest.bounds["max_targets"] == [9, 7, 9]  # planes 0 and 2 have one rate, so one bound
    assert [manifest.max_targets(plane) for plane in ("0", "1", "evaluation")] == [9, 7, 4]
    assert manifest.splits == {
        "train": {"num_shards": 2, "num_rows": 20, "num_tokens": 280, "num_segments": 40, "num_documents": 30},
        "validation": {"num_shards": 1, "num_rows": 10, "num_tokens": 140, "num_segments": 20, "num_documents": 15},
    }
    assert sum(files["num_tokens"].to_pylist()) == 420
    assert (manifest.sequence_length, manifest.num_planes, manifest.vocab_size, manifest.roles) == (64, 3, 512, ROLES)


def test_manifests_survive_their_bytes():
    manifest, _ = build()
    assert Manifest.from_bytes(manifest.to_bytes(), where="x") == manifest
    assert manifest.config["seed"] == str(2**60 + 1)
    assert canonical(json.loads(manifest.to_bytes())) == manifest.to_bytes()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"ledger": replace(LEDGER, documents_read=51)}, "does not balance.*documents: read 51"),
        ({"ledger": replace(LEDGER, tokens_truncated=1)}, "does not balance.*tokens: tokenized 300"),
        ({"ledger": replace(LEDGER, documents_kept=44, documents_read=49)}, "kept 44 is not the 45 in shards"),
        ({"ledger": replace(LEDGER, tokens_in_rows=299, tokens_tokenized=299)}, "in rows 299 is not the 300 in shards"),
        (
            {
                "shards": [record("train", 0, num_documents=45, num_tokens=340)],
            },
            r"the validation split is empty: raise split.validation \(0.2\)",
        ),
        (
            {"shards": [record("validation", 0, num_documents=45, num_tokens=340)]},
            "no training rows are left",
        ),
    ],
)
def test_what_does_not_add_up_is_not_published(changes, message):
    with pytest.raises(BuildError, match=message):
        build(**changes)


def test_no_validation_split_may_be_wanted():
    config = make_config(64, (0.3, 0.15, 0.3), 8, validation=False, seed=0)
    manifest, _ = build(config=config, shards=[record("train", 0, num_documents=45, num_tokens=340)])
    assert manifest.splits["validation"]["num_rows"] == 0


@pytest.fixture
def published(tmp_path):
    folder = Folder(tmp_path)
    manifest, files = build()
    publish(folder, manifest, files, tokenizer=TOKENIZER, side={"parent": None}, attachments={"notes.txt": b"hello"})
    return folder, manifest, files


def test_what_is_published_can_be_loaded(published):
    folder, manifest, files = published
    assert latest(folder) == manifest.digest
    assert load_manifest(folder) == load_manifest(folder, manifest.digest) == manifest
    assert load_files(folder, manifest).equals(files)
    assert load_side(folder, manifest)["parent"] is None
    assert folder.read(f"versions/{manifest.digest}.notes.txt") == b"hello"
    assert folder.read(f"tokenizer/{manifest.tokenizer['sha256']}.json") == TOKENIZER
    assert folder.read("LATEST") == f"{manifest.digest}\n".encode()


def contents(folder: Folder) -> dict[str, bytes]:
    root = Path(folder.location)
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


def test_publishing_again_moves_latest_and_nothing_else(published):
    folder, manifest, files = published
    other, other_files = build(signatures=[])
    publish(folder, other, other_files, tokenizer=TOKENIZER, side={"parent": manifest.digest})
    before = contents(folder)
    publish(folder, replace(manifest, audit={"x": 1}), files, tokenizer=TOKENIZER, side={"parent": "else"})
    after = contents(folder)
    assert after.pop("LATEST").decode().strip() == manifest.digest
    assert before.pop("LATEST").decode().strip() == other.digest
    assert after == before


@pytest.mark.parametrize("last", ["files", "side", "tokenizer", "manifest", "LATEST"])
def test_a_crash_while_publishing_leaves_the_version_before(published, monkeypatch, last):
    folder, manifest, _ = published
    other, other_files = build(signatures=[], tokenizer=tokenizer_facts(b"{}", 512, ROLES))
    stop = {**version_names(other), "LATEST": "LATEST"}[last]
    write = Folder.write

    def crash(self, name, data):
        if name == stop:
            raise KeyboardInterrupt
        return write(self, name, data)

    monkeypatch.setattr(Folder, "write", crash)
    with pytest.raises(KeyboardInterrupt):
        publish(folder, other, other_files, tokenizer=b"{}", side={})
    assert load_manifest(folder) == manifest
    monkeypatch.undo()
    publish(folder, other, other_files, tokenizer=b"{}", side={})
    assert load_manifest(folder) == other
    assert load_side(folder, other)["attachments"] == {}


def test_another_tokenizer_than_the_manifest_says_is_a_bug(tmp_path):
    manifest, files = build()
    with pytest.raises(ValueError, match="the tokenizer's bytes hash to"):
        publish(Folder(tmp_path), manifest, files, tokenizer=b"other", side={})


def test_output_folders_that_may_be_built_into(tmp_path):
    check_output(Folder(tmp_path / "new"))
    check_output(Folder(tmp_path))
    (tmp_path / ".DS_Store").touch()
    (tmp_path / "work").mkdir()
    check_output(Folder(tmp_path))
    check_output(Folder(make_dataset(tmp_path, num_rows=4)))


def test_output_folders_that_hold_something_else(tmp_path):
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(
        StorageError, match=r"holds 'thesis.tex', which is no part of a Premask dataset: choose another"
    ):
        check_output(Folder(tmp_path))
    with pytest.raises(StorageError, match="choose another"):
        publish(Folder(tmp_path), *build(), tokenizer=TOKENIZER, side={})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]
    with pytest.raises(StorageError, match="not a folder"):
        check_output(Folder(tmp_path / "thesis.tex"))


def test_a_newer_format_is_one_clear_line(published):
    folder, manifest, _ = published
    value = json.loads(manifest.to_bytes()) | {"format_version": 2, "something": "new"}
    folder.write(f"versions/{manifest.digest}.json", canonical(value))
    with pytest.raises(NewerFormatError, match=r"format version 2 is newer than 1.*install a newer premask"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"{", "damaged"),
        (b"\xff", "damaged"),
        (b"[1]", "not a JSON object"),
        (b"{}", "not a manifest of format version 1"),
    ],
)
def test_damaged_manifests(published, data, message):
    folder, manifest, _ = published
    folder.write(f"versions/{manifest.digest}.json", data)
    with pytest.raises(FormatError, match=message):
        load_manifest(folder)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value["config"].pop("pack"),
        lambda value: value["tokenizer"]["roles"].pop("pad"),
        lambda value: value["bounds"].update(max_targets=[1]),
        lambda value: value["splits"]["train"].update(num_rows="many"),
        lambda value: value["ledger"].pop("tokens"),
        lambda value: value["splits"].pop("validation"),
    ],
)
def test_manifests_that_lack_what_readers_need(published, change):
    folder, manifest, _ = published
    value = json.loads(manifest.to_bytes())
    change(value)
    folder.write(f"versions/{manifest.digest}.json", canonical(value))
    with pytest.raises(FormatError, match="damaged"):
        load_manifest(folder)


def test_folders_without_a_version(published, tmp_path):
    folder, manifest, _ = published
    with pytest.raises(FormatError, match="no LATEST there: not a Premask dataset, or its build never ended"):
        load_manifest(Folder(tmp_path / "versions"))
    with pytest.raises(FormatError, match="no such version"):
        load_manifest(folder, "0" * 64)
    folder.write("versions/" + "0" * 64 + ".json", manifest.to_bytes())
    with pytest.raises(FormatError, match=f"holds the manifest of {manifest.digest}"):
        load_manifest(folder, "0" * 64)
    folder.write("LATEST", b"tomorrow\n")
    with pytest.raises(FormatError, match="LATEST: not a digest"):
        load_manifest(folder)


def test_damaged_file_tables_and_side_files(published):
    folder, manifest, _ = published
    names = version_names(manifest)
    side = folder.read(names["side"])
    folder.write(names["side"], side.replace(b'"parent":null', b'"parent":true'))
    with pytest.raises(FormatError, match="checksum is wrong: a byte was changed"):
        load_side(folder, manifest)
    folder.delete(names["side"])
    with pytest.raises(FormatError, match=r"side\.json: missing"):
        load_side(folder, manifest)
    folder.write(names["files"], b"nothing")
    with pytest.raises(FormatError, match=r"files\.arrow: damaged"):
        load_files(folder, manifest)
    folder.delete(names["files"])
    with pytest.raises(FormatError, match=r"files\.arrow: missing"):
        load_files(folder, manifest)


def test_a_latest_that_names_a_missing_version_says_what_to_do(tmp_path):
    path = make_dataset(tmp_path / "data")
    digest = (path / "LATEST").read_text().strip()
    (path / "LATEST").write_text("0" * 64 + "\n")
    with pytest.raises(FormatError, match=f"though LATEST names it: write one that is there into it, such as {digest}"):
        load_manifest(Folder(path))
    (path / "versions" / f"{digest}.json").unlink()
    with pytest.raises(FormatError, match="though LATEST names it: delete it and build again"):
        load_manifest(Folder(path))
