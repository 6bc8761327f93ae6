"""Every mistake gets one clear line and exit code 2, and leaves no dataset behind."""

import errno
import gzip
import json
import lzma
import os
import subprocess
import sys

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from mlm_data.dataset.manifest import load_manifest
from mlm_data.stores import folder as storage
from mlm_data.stores.folder import Folder
from pipelines.commands.cli import main
from tests.conftest import ROOT
from tests.pipelines.small_corpus import refused, text, write_config, write_jsonl


@pytest.fixture
def folder(tmp_path):
    """An input of 40 documents and a configuration that would build."""
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    return tmp_path


def built(folder) -> bool:
    return (folder / "out/LATEST").exists() or (folder / "out/versions").exists()


def test_no_file_matches(folder, capsys):
    line = refused(capsys, "build", write_config(folder, inputs=[{"path": str(folder / "nowhere/*.jsonl")}]))
    assert "nowhere/*.jsonl" in line
    assert not (folder / "out").exists()


def test_an_unknown_field_names_the_nearest(folder, capsys):
    line = refused(capsys, "build", write_config(folder, mask={"planess": 2}))
    assert "mask.planess" in line
    assert "'planes'" in line
    assert not (folder / "out").exists()


@pytest.mark.parametrize("rate", [0, 1.5])
def test_a_rate_that_cannot_be(folder, capsys, rate):
    line = refused(capsys, "build", write_config(folder, mask={"rate": rate}))
    assert "mask.rate" in line
    assert f"{rate:g}" in line
    assert not (folder / "out").exists()


def test_a_length_that_is_no_multiple_of_8(folder, capsys):
    line = refused(capsys, "build", write_config(folder, pack={"sequence_length": 100}))
    assert "multiple of 8" in line
    assert "96 or 104" in line


@pytest.mark.parametrize("missing", ["[MASK]", "[PAD]"])
def test_a_tokenizer_without_a_role_that_is_needed(folder, capsys, missing):
    vocabulary = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##a", "the", "river"]
    vocabulary.remove(missing)
    tokenizer = Tokenizer(models.WordPiece({token: i for i, token in enumerate(vocabulary)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    line = refused(capsys, "build", write_config(folder, tokenizer={"path": str(folder / "tokenizer.json")}))
    assert missing.strip("[]").lower() in line.lower()
    assert not built(folder)


def test_a_tokenizer_that_is_not_there(folder, capsys):
    line = refused(capsys, "build", write_config(folder, tokenizer={"path": str(folder / "none.json")}))
    assert "none.json" in line
    assert not built(folder)


@pytest.mark.parametrize(
    ("bad", "reason"), [(b"{no json\n", "bad_json"), (b'{"txt": "a"}\n', "no_text_field"), (b'{"text": 3}\n', "text")]
)
def test_bad_lines_are_quarantined_and_counted_or_fail_the_build(folder, capsys, bad, reason):
    with (folder / "in/a.jsonl").open("ab") as file:
        file.write(bad)
    line = refused(capsys, "build", write_config(folder))
    assert reason in line
    assert "a.jsonl" in line
    assert not built(folder)
    assert main(["build", write_config(folder, max_quarantined=0.05)]) == 0
    manifest = load_manifest(Folder(folder / "out"))
    documents = manifest.ledger["documents"]
    assert sum(documents["quarantined"].values()) == 1
    assert documents["read"] == 41
    assert documents["kept"] == 40
    told = json.loads((folder / f"out/versions/{manifest.digest}.quarantine.jsonl").read_text())
    assert told["source"] == "a.jsonl"
    assert told["reason"].startswith(reason)


def test_a_truncated_gz(folder, capsys):
    data = gzip.compress((folder / "in/a.jsonl").read_bytes())
    (folder / "in/b.jsonl.gz").write_bytes(data[: len(data) // 2])
    changes = {"inputs": [{"path": str(folder / "in/b.jsonl.gz")}]}
    line = refused(capsys, "build", write_config(folder, **changes))
    assert "truncated" in line
    assert not built(folder)
    # What came before the break is kept when that is asked for.
    changes["inputs"][0]["path"] = str(folder / "in/*")
    assert (
        main(
            [
                "build",
                write_config(folder, max_quarantined=0.5, max_truncated=1, deduplicate={"exact": False}, **changes),
            ]
        )
        == 0
    )
    documents = load_manifest(Folder(folder / "out")).ledger["documents"]
    assert documents["quarantined"] == {"truncated": 1}
    assert documents["kept"] > 40


def test_a_download_that_broke_off_is_too_much(folder, capsys):
    """However small its part of the documents, and though nobody knows what it has lost."""
    data = gzip.compress("".join(json.dumps({"text": text(i)}) + "\n" for i in range(2000)).encode())
    (folder / "in/big.jsonl.gz").write_bytes(data[: len(data) // 2] + bytes(4))
    changes = {"inputs": [{"path": str(folder / "in/*")}], "max_quarantined": 0.5}
    line = refused(capsys, "build", write_config(folder, **changes))
    assert "1 file breaks off, more than max_truncated = 0 allows; the first: big.jsonl.gz at " in line
    assert "download it again, or set max_truncated: 1" in line
    assert not built(folder)


def test_a_compressed_file_without_its_end_is_refused_before_anything_is_read(folder, capsys):
    data = lzma.compress((folder / "in/a.jsonl").read_bytes())
    (folder / "in/b.jsonl.xz").write_bytes(data[:-5])
    changes = {"inputs": [{"path": str(folder / "in/*")}]}
    line = refused(capsys, "plan", write_config(folder, **changes))
    assert "b.jsonl.xz lacks its end: download it again, or set max_truncated: 1" in line
    assert main(["plan", write_config(folder, max_truncated=1, **changes)]) == 0
    assert "b.jsonl.xz lacks its end" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"id_field": "uri"}, "inputs.0.id_field: none of 40 documents has the field 'uri': did you mean 'url'?"),
        (
            {"text_field": "content"},
            "has the field 'content': did you mean 'text'? There are: text, url. Set text_field",
        ),
    ],
)
def test_a_field_that_no_document_has(folder, capsys, changes, told):
    line = refused(capsys, "build", write_config(folder, inputs=[{"path": str(folder / "in/a.jsonl")} | changes]))
    assert told in line
    assert not built(folder)


def test_documents_without_a_kept_field_are_counted_in_the_funnel(folder, capsys):
    with (folder / "in/a.jsonl").open("a") as file:
        file.write(json.dumps({"text": text(41)}) + "\n")
    inputs = [{"path": str(folder / "in/a.jsonl"), "keep_fields": ["url"], "id_field": "url"}]
    for command in (["build", write_config(folder, inputs=inputs)], ["inspect", str(folder / "out")]):
        assert main(command) == 0
        told = capsys.readouterr().out
        assert "kept without url" in told
        assert "kept without id_field" in told


def test_a_file_without_read_permission(folder, capsys):
    secret = folder / "in/a.jsonl"
    secret.chmod(0)
    if os.geteuid() != 0:
        line = refused(capsys, "build", write_config(folder))
    else:  # root may read everything: a process that has become another user tries
        for place in [folder, *folder.parents]:
            if not place.stat().st_mode & 0o001:
                place.chmod(0o755)
        program = (
            "import os, sys, apache_beam.runners.portability.fn_api_runner, pipelines.build, mlm_data.console;"
            "from pipelines.commands.cli import main;"
            "os.setresuid(65534, 65534, 65534); sys.exit(main(sys.argv[1:]))"
        )
        command = [sys.executable, "-c", program, "build", write_config(folder)]
        # That user may not write where coverage keeps its counts.
        alone = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=alone)
        assert done.returncode == 2, done.stderr
        assert "Traceback" not in done.stderr
        line = done.stderr.strip().splitlines()[-1]
    assert "a.jsonl" in line
    assert "permission" in line.lower()
    assert not built(folder)


def test_an_empty_file_is_a_warning_and_only_empty_files_an_error(folder, capsys):
    (folder / "in/empty.jsonl").write_bytes(b"")
    assert main(["build", write_config(folder)]) == 0
    assert "empty.jsonl" in capsys.readouterr().out
    line = refused(capsys, "build", write_config(folder, inputs=[{"path": str(folder / "in/empty.jsonl")}]))
    assert "empty" in line


def test_an_empty_validation_split(folder, capsys):
    line = refused(capsys, "build", write_config(folder, split={"validation": 0.0001}))
    assert "validation" in line
    assert not built(folder)


def test_a_disk_that_is_full(folder, capsys, monkeypatch):
    """The sink fails as a full disk does; a real one can't be had in a test."""
    config = write_config(folder)
    written = 0

    def write(self, data):
        nonlocal written
        written += memoryview(data).nbytes
        if written > 60_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, data)

    real = storage.HashingSink.write
    monkeypatch.setattr(storage.HashingSink, "write", write)
    line = refused(capsys, "build", config, "--workers", "1")
    assert "disk is full" in line
    assert not built(folder)
    assert list((folder / "out").rglob(f"{storage.TEMPORARY}*")) == []


def test_an_output_folder_that_holds_something_else(folder, capsys):
    (folder / "out").mkdir()
    (folder / "out/thesis.docx").write_bytes(b"important")
    line = refused(capsys, "build", write_config(folder))
    assert "thesis.docx" in line
    assert os.listdir(folder / "out") == ["thesis.docx"]


def test_a_dataset_of_a_newer_format(folder, capsys):
    assert main(["build", write_config(folder)]) == 0
    path = folder / f"out/versions/{(folder / 'out/LATEST').read_text().strip()}.json"
    path.write_text(path.read_text().replace('"format_version":1', '"format_version":2'))
    line = refused(capsys, "inspect", str(folder / "out"))
    assert "format version 2 is newer" in line
    assert "newer premask" in line


def test_a_changed_byte_in_a_shard(folder, capsys):
    assert main(["build", write_config(folder)]) == 0
    assert main(["verify", str(folder / "out")]) == 0
    shard = next((folder / "out/rows").iterdir())
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    capsys.readouterr()
    assert main(["verify", str(folder / "out")]) == 1
    assert shard.name[:12] in capsys.readouterr().out


def test_options_that_nobody_knows(folder, capsys):
    line = refused(capsys, "build", write_config(folder), "--wrokers=3")
    assert "--wrokers" in line
    assert "--workers" in line


def test_yaml_that_does_not_parse(folder, capsys):
    (folder / "premask.yaml").write_text("inputs: [\nname: x")
    line = refused(capsys, "build", str(folder / "premask.yaml"))
    assert "premask.yaml" in line
    assert "line" in line
    assert "none.yaml" in refused(capsys, "plan", str(folder / "none.yaml"))


def test_messages_hold_no_control_characters(folder, capsys):
    with (folder / "in/a.jsonl").open("ab") as file:
        file.write(b'{"text": "\x1b[31mred" nonsense \x07\n')
    line = refused(capsys, "build", write_config(folder))
    assert all(char.isprintable() for char in line)


def test_special_strings_in_a_text_are_text(folder):
    """A document that spells special tokens out does not get to place them."""
    with (folder / "in/a.jsonl").open("a") as file:
        file.write(json.dumps({"text": "[MASK] [CLS] [SEP] [PAD] " * 30 + text(77)}) + "\n")
    assert main(["build", write_config(folder)]) == 0
    assert main(["verify", str(folder / "out")]) == 0
