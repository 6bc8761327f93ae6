"""Each rule of packed rows, broken once; and the plain numpy twin on random damage."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.rows.row_rules import LINES, add_content, document_problems, row_problems
from mlm_data.types import Roles
from tests.synthetic import ROLES, make_rows

VOCAB = 100


def sound(seed=0):
    """Rows of 32 places, and the content tokens of each document."""
    rows, documents = make_rows(np.random.default_rng(seed), 12, 32, VOCAB, 4, ROLES, "a")
    return rows, documents["num_tokens"].to_numpy()


def found(rows, num_tokens, roles=ROLES, first=0):
    return list(row_problems(rows, num_tokens, roles=roles, vocab_size=VOCAB, first=first))


def changed(rows, name, place, value):
    array = getattr(rows, name).copy()
    array[place] = value
    return replace(rows, **{name: array})


def test_sound_rows_break_nothing():
    assert found(*sound()) == []


def first_place_of_padding(rows):
    row = int(np.flatnonzero(rows.used() < 32)[0])
    return row, int(rows.used()[row])


@pytest.mark.parametrize(
    ("line", "break_it"),
    [
        ("a segment has no content", lambda rows: changed(rows, "segment_lengths", 0, 2)),
        ("its segments are longer than the row", lambda rows: changed(rows, "segment_lengths", 0, 33)),
        ("a segment names a document that is not there", lambda rows: changed(rows, "segment_documents", 0, 9999)),
        ("a segment lies outside its document", lambda rows: changed(rows, "segment_starts", 0, 5000)),
        (
            "padding holds something else than [PAD]",
            lambda rows: changed(rows, "tokens", first_place_of_padding(rows), 50),
        ),
        ("a token is not in the vocabulary", lambda rows: changed(rows, "tokens", (0, 1), VOCAB)),
        ("a segment has no [CLS] in its place", lambda rows: changed(rows, "tokens", (0, 0), 50)),
        (
            "a segment has no [SEP] in its place",
            lambda rows: changed(rows, "tokens", (0, int(rows.segment_lengths[0]) - 1), 50),
        ),
        ("a special token stands inside a segment", lambda rows: changed(rows, "tokens", (0, 1), ROLES.mask)),
        ("a word starts at a special token or padding", lambda rows: changed(rows, "word_starts", (0, 0), 255)),
    ],
)
def test_each_rule_has_its_line(line, break_it):
    rows, num_tokens = sound()
    assert f"row 40: {line}" in "".join(found(break_it(rows), num_tokens, first=40)) or any(
        problem.split(": ", 1)[1].startswith(line) for problem in found(break_it(rows), num_tokens)
    )


def test_every_rule_is_tested():
    """The table above has a line for each rule."""
    table = next(mark for mark in test_each_rule_has_its_line.pytestmark if mark.name == "parametrize")
    assert [case[0] for case in table.args[1]] == list(LINES)


def test_rows_are_counted():
    rows, num_tokens = sound()
    tokens = rows.tokens.copy()
    tokens[3:6, 1] = VOCAB
    assert found(replace(rows, tokens=tokens), num_tokens, first=100) == [
        "row 103: a token is not in the vocabulary (3 such rows)"
    ]


def test_roles_that_do_not_exist_are_not_looked_for():
    rows, num_tokens = sound()
    bare = Roles(cls=-1, sep=-1, pad=ROLES.pad, mask=ROLES.mask, unk=-1)
    lines = {line.split(": ")[1].split(" (")[0] for line in found(rows, num_tokens, roles=bare)}
    assert "a segment has no [CLS] in its place" not in lines
    assert "a segment has no [SEP] in its place" not in lines


def plain(rows, num_tokens):
    """Which rules are broken, in plain Python."""
    broken = set()
    for row in range(len(rows)):
        line = rows.tokens[row].tolist()
        starts = np.unpackbits(rows.word_starts[row], bitorder="little").astype(bool)
        at, special = 0, set()
        for s in range(rows.segment_offsets[row], rows.segment_offsets[row + 1]):
            size, document, start = (
                int(array[s]) for array in (rows.segment_lengths, rows.segment_documents, rows.segment_starts)
            )
            if size <= 2:
                broken.add(0)
            if not 0 <= document < len(num_tokens):
                broken.add(2)
            elif start < 0 or start + size - 2 > num_tokens[document]:
                broken.add(3)
            if size < 0 or at + size > 32:
                broken.add(1)
                break
            if size:
                special |= {at, at + size - 1}
                if line[at] != ROLES.cls:
                    broken.add(6)
                if size > 1 and line[at + size - 1] != ROLES.sep:
                    broken.add(7)
                if set(line[at + 1 : at + size - 1]) & {ROLES.cls, ROLES.sep, ROLES.pad, ROLES.mask}:
                    broken.add(8)
            at += size
        else:
            special |= set(range(at, 32))
            if set(line[at:]) - {ROLES.pad}:
                broken.add(4)
        if max(line) >= VOCAB:
            broken.add(5)
        if any(starts[place] for place in special):
            broken.add(9)
    return {LINES[rule] for rule in broken}


@settings(max_examples=150, deadline=None)
@given(
    st.integers(0, 5),
    st.sampled_from(["tokens", "segment_lengths", "segment_documents", "segment_starts", "word_starts"]),
    st.integers(0, 10**6),
    st.integers(-3, 120),
)
def test_the_kernel_agrees_with_plain_python(seed, name, place, value):
    rows, num_tokens = sound(seed)
    array = getattr(rows, name).copy()
    array.reshape(-1)[place % array.size] = np.array(value).astype(array.dtype)
    rows = replace(rows, **{name: array})
    assert {line.split(": ", 1)[1].split(" (")[0] for line in found(rows, num_tokens)} == plain(rows, num_tokens)


def test_documents_are_whole():
    rows, num_tokens = sound()
    content = np.zeros(len(num_tokens), np.int64)
    add_content(content, rows, ROLES)
    held = content.astype(np.int32)
    assert list(document_problems(content, held, is_whole=True)) == []
    more = held.copy()
    more[2] += 1
    assert list(document_problems(content, more, is_whole=False)) == []
    assert list(document_problems(content, more, is_whole=True)) == [
        f"document 2: has {held[2] + 1} tokens, rows hold {held[2]} of it (1 such)"
    ]
    assert len(list(document_problems(content, more - 2, is_whole=False))) == 1
