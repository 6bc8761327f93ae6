"""`premask try`: one document, every step, the verdict."""

import io
import json
import sys

import pytest

from pipelines.commands.cli import main
from tests.pipelines.small_corpus import settings, text, write_jsonl

HOSTILE = "\x1b[31m\u202e<script>\x9b2J\u2066\x00"


@pytest.fixture
def config(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    quality = ["gopher_quality", {"c4": {"min_sentences": 3}}]
    inputs = [
        {"path": "in/a.jsonl", "name": "plain"},
        {"path": "in/*.txt", "name": "web", "quality": quality, "keep_fields": ["url"]},
    ]
    path = tmp_path / "premask.yaml"
    path.write_text(json.dumps(settings(tmp_path, inputs=inputs, output="out", clean={"lines": ["c4"]})))
    return path


def asked(capsys, *words):
    capsys.readouterr()
    assert main(["try", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def piped(monkeypatch, data):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_a_document_of_a_file_is_read_as_its_input_is(config, capsys):
    found = asked(capsys, config, config.parent / "in/a.jsonl", "--document", "7")
    assert found["reason"] == "kept"
    assert found["text"] == text(7)
    assert found["input"] == "plain"
    assert found["offset"] > 0
    assert [change["step"] for change in found["changes"]] == ["clean.unicode", "clean.lines: c4"]
    assert found["tokens"] is None


def test_plain_text_on_standard_input_needs_no_format(config, capsys, monkeypatch):
    piped(monkeypatch, f"MENU\r\n{text(1)}\r\n".encode())
    found = asked(capsys, config, "-", "--input", "1")
    assert found["source"] == "standard input"
    assert found["text"] == text(1)
    unicode, lines = found["changes"]
    assert unicode["kinds"] == {"line ends made line feeds": 2, "white space and line ends removed": 1}
    assert (lines["before"], lines["after"]) == (len(text(1)) + 5, len(text(1)))
    assert lines["kinds"] == {"lines cut": 1, "words cut": 1}
    assert lines["lines"] == [["MENU", ""]]


def test_a_format_can_be_given(config, capsys, monkeypatch):
    piped(monkeypatch, json.dumps({"text": text(2)}).encode())
    assert asked(capsys, config, "-", "--format", "jsonl")["text"] == text(2)


def test_the_first_rule_that_fails_is_the_reason_and_the_others_are_shown(config, capsys, monkeypatch):
    document = b"One two three. Four five six. " + b"and so on it went for a while, # # # # # # " * 2 + b"."
    piped(monkeypatch, document)
    found = asked(capsys, config, "-", "--input", "1")
    fails = [one["reason"] for one in found["scores"] if one["fails"]]
    assert found["reason"] == fails[0]
    assert set(fails) > {"gopher_quality:too_few_words"}
    by_reason = {one["reason"]: one for one in found["scores"]}
    words = by_reason["gopher_quality:too_few_words"]
    assert (words["value"], words["threshold"], words["bound"]) == (22, 50, "at_least")
    piped(monkeypatch, document)
    assert main(["try", str(config), "-", "--input", "1"]) == 0
    out = capsys.readouterr().out
    assert f"it would be dropped: {found['reason']}" in out
    assert "would drop it, too" in out


def test_tokens_are_those_of_the_dataset_that_was_built(config, capsys):
    assert main(["build", str(config), "--set", 'inputs=[{"path":"in/a.jsonl"}]']) == 0
    found = asked(capsys, config, config.parent / "in/a.jsonl")
    assert found["tokens"]["num_tokens"] > 60
    assert found["tokens"]["num_segments"] == -(-found["tokens"]["num_tokens"] // 62)
    assert main(["try", str(config), str(config.parent / "in/a.jsonl")]) == 0
    assert "rows of 64" in capsys.readouterr().out


def test_nothing_of_a_document_reaches_the_terminal_as_it_is(config, capsys, monkeypatch):
    piped(monkeypatch, (HOSTILE + "\n" + text(1) + "\n" + HOSTILE).encode())
    assert main(["try", str(config), "-", "--text", "--lines", "9", "--input", "1"]) == 0
    out = capsys.readouterr().out
    assert not [char for char in out if not char.isprintable() and char != "\n"]
    assert "[31m\\u202e<script>2J\\u2066" in out
    name = config.parent / "\x1b[5m.txt"
    name.write_text(text(3))
    assert main(["try", str(config), str(name), "--format", "text"]) == 0
    assert "\\x1b[5m.txt at 0" in capsys.readouterr().out


def test_an_empty_document_is_dropped_as_that(config, capsys, monkeypatch):
    for data in (b"", b"\r\n \t\n"):
        piped(monkeypatch, data)
        assert asked(capsys, config, "-")["reason"] == "empty"


def test_a_change_far_behind_in_a_long_line_is_shown(config, capsys, monkeypatch):
    piped(monkeypatch, (text(1, 30) + " write to caf\u00c3\u00a9@example.org and back " + text(2, 30)).encode())
    assert main(["try", str(config), "-", "--set", "clean.fix_encoding=true"]) == 0
    out = capsys.readouterr().out
    assert "write to caf\u00c3\u00a9@example.org and back" in out
    assert "write to caf\u00e9@example.org and back" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["-", "--input", "2"], "has inputs 0 to 1"),
        (["nowhere.txt"], "no such file"),
        (["in/a.jsonl", "--document", "40"], "has 40 documents, read as jsonl: there is no 40"),
        (["in/a.jsonl", "--format", "docx"], "--format docx: is none of auto, text, jsonl"),
        (["bad.txt", "--format", "text"], "bad_utf8"),
    ],
)
def test_mistakes_are_one_line(config, capsys, words, message, monkeypatch):
    monkeypatch.chdir(config.parent)
    (config.parent / "bad.txt").write_bytes(b"abc \xff\xfe\xfa def" * 9)
    assert main(["try", str(config), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
