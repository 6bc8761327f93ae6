"""Wide encodings without a mark, and binaries, are no text: quarantined, never cleaned into garbage."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from mlm_data.text.encodings import decode
from mlm_data.text.reading import read_slice
from mlm_data.text.utf8 import BAD_BYTES, GARBAGE, TEXT, check_texts
from mlm_data.types import Slice

RUSSIAN = "Все счастливые семьи похожи друг на друга, каждая несчастливая семья несчастлива по-своему.\n"
SAMPLES = {
    "ru": RUSSIAN,
    "en": "All happy families are alike; every unhappy family is unhappy in its own way.\n",
    "hi": "सभी सुखी परिवार एक जैसे होते हैं; हर दुखी परिवार अपने ढंग से दुखी होता है।\n",
    "th": "ครอบครัวที่มีความสุขล้วนคล้ายคลึงกัน แต่ครอบครัวที่ไม่มีความสุขนั้นต่างกันไป\n",
    "el": "Όλες οι ευτυχισμένες οικογένειες μοιάζουν μεταξύ τους.\n",
    "ar": "كل العائلات السعيدة تتشابه لكن لكل عائلة تعيسة طريقتها الخاصة في التعاسة\n",
    "zh": "幸福的家庭都是相似的，不幸的家庭各有各的不幸。\n",
    "ko": "행복한 가정은 모두 서로 닮았지만 불행한 가정은 제각기 나름으로 불행하다.\n",
}


def kind(*pieces):
    data = b"".join(pieces)
    ends = np.cumsum([len(piece) for piece in pieces], dtype=np.int64)
    starts = ends - np.array([len(piece) for piece in pieces], np.int64)
    return check_texts(np.frombuffer(data, np.uint8), starts, ends).tolist()


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
@pytest.mark.parametrize("language", SAMPLES)
def test_wide_text_is_never_taken_for_utf8(language, encoding):
    (found,) = kind(SAMPLES[language].encode(encoding) * 3)
    # Scripts whose letters have bytes above 7F are no UTF-8 at all.
    assert found in (GARBAGE, BAD_BYTES)
    if language in ("ru", "en", "th", "el") or "32" in encoding:
        assert found == GARBAGE


@pytest.mark.parametrize("language", SAMPLES)
def test_text_is_text_even_with_a_stray_nul(language):
    assert kind(SAMPLES[language].encode(), SAMPLES[language].encode() + b"\0", b"") == [TEXT, TEXT, TEXT]


def test_controls_without_nul_are_text():
    assert kind(b"\x1b[31mred\x1b[0m", b"\x01\x02\x03", b"a\x00b", b"a" * 9 + b"\0", b"a" * 10 + b"\0") == [
        TEXT,
        TEXT,
        GARBAGE,
        TEXT,
        TEXT,
    ]


def twin(data):
    controls = sum(byte < 32 and byte not in b"\t\n\v\f\r\x1b" for byte in data)
    if 0 in data and controls > len(data) / 10:
        return GARBAGE
    try:
        data.decode()
    except UnicodeDecodeError:
        return BAD_BYTES
    return TEXT


pieces = st.lists(
    st.lists(st.sampled_from([b"\0", b"\1", b"abcdefgh", b"\t", "é".encode(), "漢字".encode(), b"\xff"])).map(b"".join)
    | st.binary(),
    max_size=5,
)


@given(pieces)
def test_the_kernel_is_its_twin(data):
    assert kind(*data) == [twin(piece) for piece in data]


@pytest.mark.parametrize("codec", ["utf-8", "latin-1", "utf-16-le"])
def test_decoding_says_so_under_replace_too(codec):
    good, bad = ("some plain text".encode(codec), RUSSIAN.encode("utf-16-le"))
    if codec == "utf-16-le":
        bad = "\0\1 \2\3".encode(codec)
    data, ends = good + bad, np.array([len(good), len(good + bad)])
    for replace in (False, True):
        texts, kept, problems = decode(data, np.array([0, len(good)]), ends, codec, replace)
        assert texts.to_pylist() == ["some plain text"]
        assert kept.tolist() == [0]
        assert [(place, reason) for place, reason, _ in problems] == [(1, "not_text")]


def test_texts_of_a_table_and_of_json_are_checked(tmp_path):
    config = parse_settings(
        BuildConfig, {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}}, where="test"
    )

    def read(kind, size):
        piece = Slice(
            input=0, source="s", path=str(tmp_path / kind), format=kind, compression="", start=0, end=size,
            num_bytes=size, identity="",
        )  # fmt: skip
        (batch,) = read_slice(piece, config)
        return batch.table["text"].to_pylist(), [(item.offset, item.reason) for item in batch.quarantined]

    rows = pa.table({"text": ["good", "\0\1\0", "also good"]})
    with pa.ipc.new_file(str(tmp_path / "arrow"), rows.schema) as writer:
        writer.write_table(rows)
    assert read("arrow", 1) == (["good", "also good"], [(1, "not_text")])

    lines = [b'{"text": "good"}', b'{"text": "\\u0000\\u0001"}', b'{"text": "a few\\u0000 only, in a long text"}']
    wide = '{"text": "wide"}'.encode("utf-16-le")
    data = b"\n".join([*lines, wide])
    (tmp_path / "jsonl").write_bytes(data)
    texts, bad = read("jsonl", len(data))
    assert texts == ["good", "a few\0 only, in a long text"]
    assert bad == [(len(lines[0]) + 1, "not_text"), (data.index(wide), "not_text")]
