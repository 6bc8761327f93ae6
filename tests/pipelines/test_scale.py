"""The arithmetic of scale, beside what really crosses the borders of small builds."""

from collections import defaultdict

import pytest

from mlm_data.build.account import ASSEMBLE, SELECT, Kind, Part
from mlm_data.build.scale import SIGNATURE_BYTES, Load, crossings
from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.pipelines.small_corpus import settings, write_jsonl

CURATED = {
    "deduplicate": {"near": {}, "lines": {"min_chars": 20}},
    "mixing": {"by": "source", "temperature": 0.5},
}


@pytest.fixture
def counted(monkeypatch):
    """(step, kind) to [messages, bytes], of all that steps have opened."""
    found = defaultdict(lambda: [0, 0])
    real = Part.open

    def opened(self, messages):
        messages = list(messages)
        for message in messages:
            one = found[self.step.name, Kind(message[0])]
            one[0] += 1
            one[1] += len(message)
        return real(self, messages)

    monkeypatch.setattr(Part, "open", opened)
    return found


@pytest.mark.parametrize(("files", "documents", "changes"), [(6, 500, {}), (12, 45, CURATED)], ids=["plain", "curated"])
def test_what_crosses_each_border_is_what_the_arithmetic_says(tmp_path, counted, files, documents, changes):
    step = documents * 9 // 10
    for number in range(files):
        write_jsonl(tmp_path / f"in/{number:03}.jsonl", range(number * step, number * step + documents))
    config = parse_settings(
        BuildConfig, settings(tmp_path, unit_bytes=600 * documents, mask={"planes": 1}, **changes), where="test"
    )
    built = build(config)
    assert built.num_units == files
    ledger = built.manifest.ledger["documents"]
    load = Load(
        num_bytes=built.num_bytes,
        num_files=files,
        num_slices=files,
        num_units=files,
        num_documents=ledger["read"],
        num_tokens=1,
        planes=1,
        source_bytes=len("000.jsonl"),
        path_bytes=len(str(tmp_path / "in/000.jsonl")) + len("000.jsonl"),
        copies=ledger["dropped"]["exact_duplicate"] / ledger["read"],
        near=0.0,
        lines_a_document=1.0,  # texts of one line
        cut_lines=0.0,
        bands=16 if changes else 0,
        has_lines=bool(changes),
        groups=1 if changes else 0,
        is_local=True,
    )
    expected = {(one.to, one.kind): one for one in crossings(load)}
    for key, (messages, num_bytes) in counted.items():
        assert key in expected, key
        one = expected[key]
        if one.kind is Kind.COPIES:  # copies of one text fall together
            assert 0.6 * one.elements <= messages <= 1.2 * one.elements
        else:
            assert messages == one.elements, key
        assert num_bytes == pytest.approx(one.num_bytes, rel=0.2), key
    assert {key for key, one in expected.items() if one.elements} == set(counted)


def test_bytes_of_a_document_that_cross_a_shuffle_are_bounded(tmp_path, counted):
    """At most 17 bytes a document and what a message costs, for exact duplicates, where payloads go inline."""
    config = parse_settings(
        BuildConfig, settings(tmp_path, unit_bytes=200_000, pack={"sequence_length": 128}), where="test"
    )
    write_jsonl(tmp_path / "in/a.jsonl", range(300))
    build(config)
    messages, num_bytes = counted["DEDUPLICATE", Kind.SIGNATURES]
    assert messages * 14 + 300 * 16 < num_bytes <= messages * 30 + 300 * SIGNATURE_BYTES + 8
    assert {step for step, kind in counted if kind is Kind.PREPARED} == {SELECT.name, ASSEMBLE.name}
