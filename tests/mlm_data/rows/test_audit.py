"""The audit: it catches what it must, never fails an honest build, and counts what a plain program counts."""

import json
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.errors import FormatError
from mlm_data.rows import audit_counts
from mlm_data.rows.audit import (
    REMEDY,
    AuditCounts,
    count_pairs,
    count_shard,
    describe_vocabulary,
    judge,
    source_groups,
)
from mlm_data.rows.audit_counts import FAULTS, GROUPS
from mlm_data.rows.audit_kernels import FRACTION_BITS
from mlm_data.rows.masking import KINDS, MAX_UNIT, Plane, draw_plane
from mlm_data.rows.packing import cut_documents, fill_rows, pack
from mlm_data.shards.planes import vocabulary_of
from mlm_data.tokens.reference import load_tokenizer
from mlm_data.types import Roles
from tests import shapes
from tests.mlm_data.rows.text_rows import masks_of, rows_of_texts

VOCAB = 300
NEVER = np.arange(5)
RANDOM = np.arange(10, VOCAB)  # 5 to 9 are unused
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"[unused{i}]" for i in range(5))]
TOKENS += [("##" if i % 3 == 0 else "") + "aж中7!"[i % 5] + str(i) for i in range(10, VOCAB)]
ROLES = Roles(cls=2, sep=3, pad=0, mask=4, unk=1)


class Build:
    """A small dataset in memory, drawn by the real drawer: to be audited, or spoilt first."""

    def __init__(
        self,
        *,
        documents=60,
        mean=60,
        sequence_length=64,
        planes=3,
        kind="token",
        ngram=3,
        rate=0.3,
        shares=(0.8, 0.1, 0.1),
        seed=0,
        roles=ROLES,
        word_share=0.7,
        unknown_share=0.02,
        vocab=VOCAB,
    ):
        rng = np.random.default_rng(seed)
        lengths = rng.geometric(1 / mean, documents)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
        # Frequencies fall as in a text.
        ids = (10 + (vocab - 10) * rng.random(offsets[-1]) ** 3).astype(np.uint16)
        ids[rng.random(ids.size) < unknown_share] = 1
        words = rng.random(ids.size) < word_share
        words[offsets[:-1]] = True
        segments = cut_documents(offsets, words, capacity=sequence_length - roles.num_specials)
        packing = pack(
            segments.length + np.int32(roles.num_specials),
            sequence_length=sequence_length,
            max_segments=max(8, sequence_length // 32),
        )
        self.rows = fill_rows(ids, offsets, words, segments, packing, sequence_length=sequence_length, roles=roles)
        self.keys = rng.integers(0, 2**64, (documents, 2), dtype=np.uint64)
        self.copies = np.zeros(documents, np.int16)
        self.sources = source_groups([f"books/{d // 5}.txt" for d in range(documents)])
        self.random_ids = RANDOM[: vocab - 10]
        self.vocabulary = describe_vocabulary(
            TOKENS[:vocab], roles=roles, never_targets=NEVER, random_ids=self.random_ids
        )
        mask, random, keep = shares
        self.planes = {
            str(i): Plane(
                index=i,
                kind=kind,
                ngram=ngram if kind == "ngram" else 0,
                rate=rate,
                mask_share=mask,
                random_share=random,
                keep_share=keep,
                seed=seed,
            )
            for i in range(planes)
        }
        self.masks = {name: self.draw(plane) for name, plane in self.planes.items()}

    def draw(self, plane, random_ids=None, never=NEVER):
        random_ids = self.random_ids if random_ids is None else random_ids
        return draw_plane(
            self.rows,
            self.keys,
            self.copies,
            plane,
            roles=self.vocabulary.roles,
            vocab_size=self.vocabulary.never.size,
            never_targets=never,
            random_ids=random_ids,
        )

    def count(self):
        return count_shard(self.rows, self.masks, self.planes, vocabulary=self.vocabulary, sources=self.sources)

    def failures(self):
        return judge(self.count(), self.planes).failures

    def spoil(self, name, **fields):
        self.masks[name] = replace(self.masks[name], **fields)

    def hide(self, name, r, p, *, hidden=True):
        """Set or clear one target bit."""
        targets = self.masks[name].targets.copy()
        targets[r, p // 8] = targets[r, p // 8] & ~np.uint8(1 << p % 8) | np.uint8(hidden << p % 8)
        self.spoil(name, targets=targets)


def places(build, name="0"):
    return np.unpackbits(build.masks[name].targets, axis=1, bitorder="little").astype(bool)


# ---------------------------------------------------------------- it catches what it must


@pytest.fixture
def build():
    return Build(documents=200)


def test_an_honest_build_passes(build):
    report = judge(build.count(), build.planes)
    assert report.ok
    assert report.failures == []
    assert report.warnings == []
    checks = {line["check"] for line in report.table}
    assert {"targets", "targets that hold [MASK]", "hidden by both planes", "hidden, script Han"} <= checks
    json.dumps(report.table)


def test_cls_masked(build):
    build.hide("1", 3, 0)
    assert any("plane 1: 1 targets on special tokens" in line for line in build.failures())


def test_sep_masked(build):
    build.hide("0", 0, int(build.rows.segment_lengths[0]) - 1)
    assert any("1 targets on special tokens" in line for line in build.failures())


def test_a_drawer_that_masks_cls_and_sep():
    """As ModernBERT's packer does: special tokens are candidates like all others."""
    build = Build(documents=200)
    inner = replace(build.vocabulary, roles=replace(ROLES, cls=-1, sep=-1))
    build.vocabulary, honest = inner, build.vocabulary
    build.masks["0"] = build.draw(build.planes["0"], never=np.array([0, 1]))
    build.vocabulary = honest
    assert any("targets on special tokens" in line for line in build.failures())


def test_unk_masked(build):
    r, p = np.argwhere(build.rows.tokens == 1)[0].tolist()
    build.hide("2", r, p)
    assert any("plane 2: 1 targets on tokens that are never targets" in line for line in build.failures())


def test_bits_beside_the_rows_end(build):
    r = int(np.argmin(build.rows.used()))
    assert build.rows.used()[r] < 64
    build.hide("0", r, 63)
    assert any("1 targets past a row's end" in line for line in build.failures())


def test_too_many_targets(build):
    free = ~places(build) & (build.rows.tokens >= 10)
    r, p = np.argwhere(free)[0].tolist()
    build.hide("0", r, p)
    assert any("1 rows with too many targets" in line for line in build.failures())


def test_too_few_targets(build):
    r, p = np.argwhere(places(build))[-1].tolist()
    build.hide("0", r, p, hidden=False)
    assert any("1 rows with too few targets" in line for line in build.failures())


@pytest.mark.parametrize("kind", ["whole_word", "span"])
def test_words_hidden_in_part(kind):
    build = Build(documents=200, kind=kind, word_share=0.4, unknown_share=0)
    words = np.unpackbits(build.rows.word_starts, axis=1, bitorder="little").astype(bool)
    r, p = np.argwhere(places(build)[:, 1:] & ~words[:, 1:] & words[:, :-1])[0].tolist()
    build.hide("0", r, p + 1, hidden=False)
    assert any("1 words hidden in part" in line for line in build.failures())


@pytest.mark.parametrize("kind", ["whole_word", "span"])
def test_too_few_whole_words(kind):
    """Less than the budget is right only where no further word would fit."""
    build = Build(documents=200, kind=kind, word_share=1)
    r, p = np.argwhere(places(build))[0].tolist()
    build.hide("0", r, p, hidden=False)
    assert any("1 rows with too few targets" in line for line in build.failures())


@pytest.mark.parametrize(
    ("spoil", "message"),
    [("longer", "1 runs of another length"), ("shorter", "1 runs of another length"), ("moved", "2 runs of another")],
)
def test_runs_of_another_length(spoil, message):
    """A run that lost a place, gained one, or gave one to another that was not beside it."""
    build = Build(documents=200, kind="ngram", ngram=4, unknown_share=0)
    hidden, candidate = places(build), build.rows.tokens >= 10
    r = int(np.argmax(hidden.sum(axis=1) >= 12))
    ends = np.flatnonzero(hidden[r, :-1] & ~hidden[r, 1:]).tolist()
    free = [p + 1 for p in ends if candidate[r, p + 1] and not hidden[r, p + 2]]
    if spoil in ("shorter", "moved"):
        build.hide("0", r, next(p for p in ends if p + 1 != free[0]), hidden=False)
    if spoil in ("longer", "moved"):
        build.hide("0", r, free[0])
    assert any(message in line for line in build.failures())


def test_a_run_missing_and_runs_that_were_drawn_for_another_k():
    build = Build(documents=200, kind="ngram", ngram=4, unknown_share=0)
    targets, hidden = build.masks["0"].targets.copy(), places(build)
    r = int(np.argmax(hidden.sum(axis=1) >= 4))
    p = int(np.argmax(hidden[r]))
    for place in range(p, p + 4):
        targets[r, place // 8] &= ~np.uint8(1 << place % 8)
    build.spoil("0", targets=targets)
    failures = build.failures()
    assert any("1 rows with too few targets" in line for line in failures)
    assert not any("runs of another length" in line for line in failures)
    build.masks["0"] = build.draw(replace(build.planes["0"], ngram=5))
    assert any("runs of another length" in line for line in build.failures())
    wanted = {name: replace(plane, ngram=5) for name, plane in build.planes.items()}
    assert any("counted in runs of 4 places, not 5" in line for line in judge(build.count(), wanted).failures)


def test_runs_whose_places_do_not_share_what_they_show():
    """A k-mer that is shown beside hidden ones tells them."""
    build = Build(documents=300, kind="ngram", ngram=6, planes=1, unknown_share=0)
    masks = build.masks["0"]
    first = int(masks.swap_places[0])
    build.spoil(
        "0",
        swap_places=masks.swap_places[1:].copy(),
        swap_tokens=masks.swap_tokens[1:].copy(),
        swap_offsets=np.maximum(masks.swap_offsets - 1, 0),
    )
    assert first not in build.masks["0"].swap_places[: build.masks["0"].swap_offsets[1]]
    assert any("runs of which only some places hold [MASK]" in line for line in build.failures())


def test_random_ids_from_zero_to_the_largest_in_the_batch(build):
    """As ModernBERT's packer draws them."""
    largest = int(build.rows.tokens.max())
    build.masks["0"] = build.draw(build.planes["0"], random_ids=np.arange(largest + 1))
    assert any("swaps to special or unused tokens" in line for line in build.failures())


def test_random_ids_that_never_reach_the_vocabularys_end():
    build = Build(documents=200)
    build.masks["0"] = build.draw(build.planes["0"], random_ids=RANDOM[: int(0.9 * RANDOM.size)])
    assert any("highest random token" in line for line in build.failures())
    build.masks["0"] = build.draw(build.planes["0"], random_ids=RANDOM[int(0.1 * RANDOM.size) :])
    assert any("lowest random token" in line for line in build.failures())


def test_random_ids_drawn_by_frequency():
    build = Build(documents=800, planes=1)
    text = build.rows.tokens[build.rows.tokens >= 10]
    build.masks["0"] = build.draw(build.planes["0"], random_ids=text)
    assert any("random tokens in range 1/64" in line for line in build.failures())


def test_a_plane_repeated(build):
    build.masks["2"] = build.masks["0"]
    failures = build.failures()
    assert any(line.startswith("planes 0 and 2 hide the same places") for line in failures)
    assert any("plane 0/2: hidden by both planes" in line for line in failures)


def test_a_plane_half_repeated(build):
    half = len(build.rows) // 2
    targets = build.masks["1"].targets.copy()
    targets[:half] = build.masks["0"].targets[:half]
    build.spoil("1", targets=targets)
    assert any("plane 0/1: hidden by both planes" in line for line in build.failures())


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_far_plane_repeated_among_many(kind):
    build = Build(documents=150, planes=20, kind=kind)
    assert build.failures() == []
    build.masks["17"] = build.masks["2"]
    assert build.failures() == [f"planes 2 and 17 hide the same places: {REMEDY}"]


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("shares", [(0.7, 0.1, 0.2), (0.8, 0.2, 0.0), (0.9, 0.05, 0.05), (1.0, 0.0, 0.0)])
def test_a_wrong_split_of_what_targets_hold(kind, shares):
    build = Build(documents=1500, planes=1, kind=kind)
    asked = build.planes["0"]
    mask, random, keep = shares
    build.masks["0"] = build.draw(replace(asked, mask_share=mask, random_share=random, keep_share=keep))
    assert any("targets that hold" in line for line in build.failures())


def test_all_mask_means_all():
    build = Build(planes=1, shares=(1.0, 0.0, 0.0))
    assert build.failures() == []
    build.masks["0"] = build.draw(replace(build.planes["0"], mask_share=0.999, random_share=0.0005, keep_share=0.0005))
    assert any("targets don't hold [MASK], and all should" in line for line in build.failures())


def test_none_mask_and_no_random():
    build = Build(planes=1, shares=(0.0, 0.0, 1.0))
    assert build.failures() == []
    build.masks["0"] = build.draw(replace(build.planes["0"], mask_share=0.5, random_share=0.3, keep_share=0.2))
    failures = build.failures()
    assert any("hold [MASK], and none should" in line for line in failures)
    assert any("hold another token, and none should" in line for line in failures)


def test_swaps_out_of_place(build):
    swapped = build.masks["0"].swap_places.copy()
    swapped[0] = 0
    build.spoil("0", swap_places=swapped)
    assert any("swaps that are no target or out of order" in line for line in build.failures())
    backwards = Build(documents=200)
    offsets = backwards.masks["0"].swap_offsets
    r = int(np.argmax(np.diff(offsets) > 1))
    turned = backwards.masks["0"].swap_places.copy()
    turned[offsets[r] : offsets[r] + 2] = turned[offsets[r] : offsets[r] + 2][::-1]
    backwards.spoil("0", swap_places=turned)
    assert any("swaps that are no target or out of order" in line for line in backwards.failures())


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("word_share", [1.0, 0.5])
def test_any_single_flipped_bit_is_caught(kind, word_share):
    """Set or cleared, on whatever place: some fixed count no longer holds."""
    build = Build(documents=12, planes=1, kind=kind, word_share=word_share)
    honest = build.masks["0"]
    for r in range(len(build.rows)):
        for p in range(build.rows.sequence_length):
            targets = honest.targets.copy()
            targets[r, p // 8] ^= np.uint8(1 << p % 8)
            build.spoil("0", targets=targets)
            assert sum(build.count().planes["0"].faults) > 0


@pytest.mark.parametrize("content", [ROLES.cls, ROLES.mask, 7, VOCAB, 60_000])
def test_swaps_to_what_is_no_ordinary_token(build, content):
    tokens = build.masks["0"].swap_tokens.copy()
    tokens[5] = content
    build.spoil("0", swap_tokens=tokens)
    assert any("1 swaps to special or unused tokens" in line for line in build.failures())


def test_another_rate_or_kind_than_configured(build):
    counts = build.count()
    wanted = {name: replace(plane, rate=0.15) for name, plane in build.planes.items()}
    assert any(
        "counted as token at 300000 millionths, not token at 150000" in f for f in judge(counts, wanted).failures
    )
    build.masks["0"] = build.draw(replace(build.planes["0"], rate=0.31))
    assert any("rows with too many targets" in line for line in build.failures())


def test_missing_and_superfluous_planes(build):
    counts = build.count()
    assert judge(counts, {"0": build.planes["0"]}).failures == [
        "plane 1: the configuration has no such plane",
        "plane 2: the configuration has no such plane",
    ]
    assert "plane 7: it was not counted" in judge(counts, {**build.planes, "7": Plane(index=7)}).failures[0]


def test_rows_of_another_shape(build):
    tokens = build.rows.tokens.copy()
    tokens[4, 0] = 50
    build.rows = replace(build.rows, tokens=tokens)
    assert any("1 rows whose segments don't hold [CLS], [SEP] or [PAD]" in line for line in build.failures())


@pytest.mark.parametrize("group", ["source", "length", "word", "frequency", "script"])
def test_a_drawer_that_favours_a_group(group):
    """Counts per row stay right, but one group is hidden too often: the statistics see it."""
    build = Build(documents=3000, mean=20, planes=1)
    tokens, rows = build.rows.tokens, build.rows
    segment = np.full(tokens.shape, -1)
    for r in range(len(rows)):
        part = slice(rows.segment_offsets[r], rows.segment_offsets[r + 1])
        index = np.repeat(np.arange(part.start, part.stop), rows.segment_lengths[part])
        segment[r, : index.size] = index
    liked = {
        "source": build.sources[rows.segment_documents[segment]] < 4,
        "length": rows.segment_lengths[segment] < 24,
        "word": np.unpackbits(rows.word_starts, axis=1, bitorder="little").astype(bool),
        "frequency": tokens > 100,
        "script": tokens % 5 == 1,
    }[group]
    candidate = tokens >= 10
    hidden = places(build)
    rng = np.random.default_rng(0)
    for r in range(len(rows)):
        # Move up to three targets from the others to this group.
        gain, loss = np.flatnonzero(candidate[r] & liked[r] & ~hidden[r]), np.flatnonzero(hidden[r] & ~liked[r])
        hidden[r, rng.permutation(gain)[: min(3, loss.size)]] = True
        hidden[r, rng.permutation(loss)[: min(3, gain.size)]] = False
    keep = np.zeros(build.masks["0"].swap_places.size, bool)
    for r in range(len(rows)):
        part = slice(build.masks["0"].swap_offsets[r], build.masks["0"].swap_offsets[r + 1])
        keep[part] = hidden[r, build.masks["0"].swap_places[part]]
    offsets = np.concatenate([[0], np.cumsum(keep)])[build.masks["0"].swap_offsets].astype(np.int32)
    build.spoil(
        "0",
        targets=np.packbits(hidden, axis=1, bitorder="little"),
        swap_offsets=offsets,
        swap_places=build.masks["0"].swap_places[keep],
        swap_tokens=build.masks["0"].swap_tokens[keep],
    )
    names = {"source": "source group", "length": "segment length", "word": "start of a word"}
    failures = build.failures()
    assert any(names.get(group, group) in line for line in failures)
    assert not any("rows with" in line for line in failures)


@shapes.unchecked()
def test_damaged_arrays_are_refused(build):
    def refused(message, rows=None, masks=None):
        with pytest.raises(FormatError, match=message):
            count_shard(
                rows or build.rows,
                {"0": masks or build.masks["0"]},
                {"0": build.planes["0"]},
                vocabulary=build.vocabulary,
                sources=build.sources,
            )

    rows, masks = build.rows, build.masks["0"]
    refused("longer than the row", rows=replace(rows, segment_lengths=rows.segment_lengths + np.int32(60)))
    refused("shorter than its special", rows=replace(rows, segment_lengths=np.minimum(rows.segment_lengths, 1)))
    refused("document that isn't there", rows=replace(rows, segment_documents=rows.segment_documents + np.int32(9999)))
    refused("outside the vocabulary of 300", rows=replace(rows, tokens=rows.tokens + np.uint16(300)))
    refused("segment_offsets", rows=replace(rows, segment_offsets=rows.segment_offsets + np.int32(1)))
    refused("segment_offsets", rows=replace(rows, segment_offsets=rows.segment_offsets[1:]))
    refused("different shapes", masks=replace(masks, targets=masks.targets[1:]))
    refused("swap_offsets", masks=replace(masks, swap_offsets=masks.swap_offsets + np.int32(1)))
    refused("swap_offsets", masks=replace(masks, swap_offsets=masks.swap_offsets[::-1].copy()))


def test_source_groups_come_from_source_groups(build):
    assert build.sources.max() < 16
    assert source_groups(["a.txt"]).tolist() == source_groups(["b.txt", "a.txt"]).tolist()[1:]
    build.sources = build.sources + np.uint8(16)
    with pytest.raises(ValueError, match="take them from source_groups"):
        build.count()


# ---------------------------------------------------------------- honest builds never fail


@given(
    st.integers(1, 40),
    st.integers(1, 150),
    st.sampled_from([16, 64, 128]),
    st.integers(1, 5),
    st.sampled_from(sorted(KINDS)),
    st.sampled_from([2, 3, 6, 20]),
    st.sampled_from([0.01, 0.15, 0.3, 0.5, 0.95]),
    st.sampled_from([(0.8, 0.1, 0.1), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.5, 0.5, 0.0)]),
    st.sampled_from([0.0, 0.2, 0.7, 1.0]),
    st.sampled_from([0.0, 0.3]),
    st.sampled_from([12, 35, VOCAB]),
    st.integers(0, 2**32),
)
@settings(max_examples=400, deadline=None)
def test_honest_builds_of_any_kind_pass(
    documents, mean, length, planes, kind, ngram, rate, shares, word_share, unknown_share, vocab, seed
):
    build = Build(
        documents=documents,
        mean=mean,
        sequence_length=length,
        planes=planes,
        kind=kind,
        ngram=ngram,
        rate=rate,
        shares=shares,
        word_share=word_share,
        unknown_share=unknown_share,
        vocab=vocab,
        seed=seed,
    )
    assert build.failures() == []


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_a_thousand_seeds_never_fail(kind):
    """The same small corpus under many seeds: no failure, and few warnings."""
    build = Build(documents=40, kind=kind, planes=2)
    warned = 0
    for seed in range(1000):
        build.planes = {name: replace(plane, seed=seed) for name, plane in build.planes.items()}
        build.masks = {name: build.draw(plane) for name, plane in build.planes.items()}
        report = judge(build.count(), build.planes)
        assert report.failures == []
        warned += bool(report.warnings)
    assert warned <= 5


@pytest.mark.slow
@pytest.mark.parametrize("kind", sorted(KINDS))
def test_ten_thousand_builds_never_fail(kind):
    """Corpora, lengths, rates and shares at random."""
    rng = np.random.default_rng(sorted(KINDS).index(kind))
    for seed in range(10_000):
        mask = rng.choice([0.0, 0.5, 0.8, 1.0])
        random = rng.choice([0.0, 0.5, 1.0]) * (1 - mask)
        build = Build(
            documents=int(rng.integers(1, 80)),
            mean=int(rng.integers(1, 200)),
            sequence_length=int(rng.choice([16, 32, 64, 128, 256])),
            planes=int(rng.integers(1, 6)),
            kind=kind,
            ngram=int(rng.choice([2, 3, 6, 20])),
            rate=round(float(rng.uniform(0.01, 0.95)), 6),
            shares=(mask, random, 1 - mask - random),
            word_share=float(rng.random()),
            unknown_share=float(rng.choice([0, 0.02, 0.5])),
            vocab=int(rng.integers(12, VOCAB)),
            seed=seed,
        )
        assert build.failures() == []


@pytest.mark.corpora
@pytest.mark.parametrize("tokenizer", ["bert_vocab/bert-base-cased-vocab.txt", "ortx/tokenizer/roberta-base"])
def test_text_in_many_scripts_passes(corpora, tokenizer):
    """Real text: words of many tokens, unknown ones, and scripts that a vocabulary hardly knows."""
    reference = load_tokenizer(corpora / "tok" / tokenizer)
    texts, names = [], []
    for language in ("ar", "de", "hi", "ja", "ko", "ru", "th", "zh-CN"):
        for path in sorted((corpora / "ml_hf_course" / language).rglob("*.mdx"))[:6]:
            texts.append(path.read_text(encoding="utf-8")[:8000])
            names.append(f"{language}/{path.name}")
    rows, ids = rows_of_texts(texts, reference, sequence_length=256)
    vocabulary = vocabulary_of(reference)
    for kind in KINDS:
        planes = {str(i): Plane(index=i, kind=kind, ngram=4 if kind == "ngram" else 0) for i in range(3)}
        masks = masks_of(rows, ids, reference, planes)
        report = judge(count_shard(rows, masks, planes, vocabulary=vocabulary, sources=source_groups(names)), planes)
        assert report.failures == []
        scripts = {line["check"] for line in report.table if "script" in line["check"]}
        assert {f"hidden, script {name}" for name in ("Latin", "Cyrillic", "Arabic", "Kana")} <= scripts
        total = next(line for line in report.table if line["check"] == "targets")
        assert total["observed"] > 0.97 * total["expected"]


# ---------------------------------------------------------------- counts


def flatten(lists):
    return (item for one in lists for item in one)


def plain_counts(build, name):
    """Faultless builds only: units, hidden and expected by group, and the shares, with dictionaries."""
    rows, plane = build.rows, build.planes[name]
    hidden, words = places(build, name), np.unpackbits(rows.word_starts, axis=1, bitorder="little").astype(bool)
    frequency = Counter(rows.tokens[rows.tokens >= 5].tolist())
    total = sum(frequency.values())
    units, found, expected = Counter(), Counter(), Counter()
    for r in range(len(rows)):
        row_units, at = [], 0
        for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
            length = rows.segment_lengths[s]
            runs, begins = [], True
            for p in range(at + 1, at + length - 1):
                begins |= bool(words[r, p])
                if rows.tokens[r, p] < 5:
                    continue
                if plane.kind in ("token", "ngram") or begins or len(runs[-1]) == MAX_UNIT:
                    runs.append([])
                runs[-1].append(p)
                begins = False
            if plane.kind == "ngram":  # where a run may start, and how many of its likes there are
                stretches = np.split(list(flatten(runs)), np.flatnonzero(np.diff(list(flatten(runs))) > 1) + 1)
                runs = []
                for stretch in stretches:
                    fitting = len(stretch) - plane.ngram + 1
                    alike = 0 if fitting == 1 else 1 if fitting <= plane.ngram + 1 else 2
                    runs += [(p, alike) for p in stretch[: max(0, fitting)].tolist()]
            else:
                runs = [(run[0], len(run)) for run in runs]
            for start, alike in runs:
                token = int(rows.tokens[r, start])
                share = frequency[token] / total
                band = sum(share < limit for limit in (0.01, 0.001, 0.0001, 0.00001))
                groups = (
                    f"source group {build.sources[rows.segment_documents[s]]}",
                    f"segment length up to {(length - 1) * 8 // rows.sequence_length + 1}/8 row",
                    f"script {['Latin', 'Cyrillic', 'Han', 'digits', 'digits'][token % 5]}",
                    "start of a word" if words[r, start] else "inside a word",
                    f"token frequency at least {('1 %', '0.1 %', '0.01 %', '0.001 %', '0 %')[band]}",
                )
                begins = hidden[r, start]
                if plane.kind == "ngram":
                    begins &= not hidden[r, start - 1]
                row_units.append((alike, bool(begins), groups))
            at += length
        for size in {unit[0] for unit in row_units}:
            alike = [unit for unit in row_units if unit[0] == size]
            k = sum(unit[1] for unit in alike)
            for _, hid, groups in alike:
                units.update(groups)
                found.update(groups if hid else ())
                for group in groups:
                    expected[group] += k / len(alike)
    return units, found, expected


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_groups_match_a_plain_count(kind):
    build = Build(documents=80, kind=kind, planes=1)
    counts = build.count().planes["0"]
    units, hidden, expected = plain_counts(build, "0")
    by_group = dict(zip(GROUPS, zip(counts.units, counts.hidden, counts.expected, strict=True), strict=True))
    assert {g: u for g, (u, _, _) in by_group.items() if u} == dict(units)
    assert {g: h for g, (_, h, _) in by_group.items() if h} == dict(hidden)
    for group, (_, _, fixed) in by_group.items():
        assert fixed / 2**FRACTION_BITS == pytest.approx(expected[group], abs=1e-3)
    assert counts.num_targets == places(build).sum()
    assert counts.max_targets == places(build).sum(axis=1).max()
    assert counts.faults == (0,) * len(FAULTS)


def test_swaps_match_a_plain_count(build):
    counts, masks = build.count().planes["0"], build.masks["0"]
    row = np.repeat(np.arange(len(build.rows)), np.diff(masks.swap_offsets))
    own = build.rows.tokens[row, masks.swap_places]
    other = masks.swap_tokens != own
    assert (counts.num_same, counts.num_other) == ((~other).sum(), other.sum())
    assert (counts.lowest, counts.highest) == (masks.swap_tokens[other].min() - 10, masks.swap_tokens[other].max() - 10)
    ranges = np.bincount((masks.swap_tokens[other].astype(int) - 10) * 64 // RANDOM.size, minlength=64)
    assert counts.ranges == tuple(ranges)
    own_ranges = np.bincount((own[other].astype(int) - 10) * 64 // RANDOM.size, minlength=64)
    assert counts.own_ranges == tuple(own_ranges)


def test_pairs_match_a_plain_count(build):
    pair = build.count().pairs["0/2"]
    a, b, candidate = places(build, "0"), places(build, "2"), build.rows.tokens >= 10
    assert pair.both == (a & b).sum()
    expected = (a.sum(1) * b.sum(1) / np.maximum(1, candidate.sum(1))).sum()
    assert pair.expected / 2**FRACTION_BITS == pytest.approx(expected, abs=1e-3)
    assert pair.most == np.minimum(a.sum(1), b.sum(1)).sum()


def test_counts_add_up_in_any_order_and_survive_json():
    builds = [Build(documents=30, seed=seed) for seed in range(4)]
    counts = [AuditCounts.from_dict(json.loads(json.dumps(build.count().to_dict()))) for build in builds]
    assert counts == [build.count() for build in builds]
    a, b, c, d = counts
    total = (a + b) + (c + d)
    assert total == d + (b + (a + c)) == AuditCounts() + a + c + b + d
    assert total.planes["0"].num_targets == sum(places(build).sum() for build in builds)
    assert total.planes["0"].max_targets == max(places(build).sum(axis=1).max() for build in builds)
    assert json.dumps(total.to_dict()) == json.dumps((d + c + b + a).to_dict())
    assert judge(total, builds[0].planes).failures == []


def test_counts_of_different_planes_do_not_add_up():
    with pytest.raises(ValueError, match="different planes"):
        Build(kind="token").count() + Build(kind="span").count()


def test_batches_of_rows_count_as_the_whole():
    """All but the frequency bands, which are shares of what is counted together, and the fingerprint."""
    build = Build(documents=100)
    whole = build.count().planes["1"]
    half = len(build.rows) // 2
    total = AuditCounts()
    for part in (slice(0, half), slice(half, None)):
        begin, end, _ = part.indices(len(build.rows))
        rows, masks = build.rows, build.masks["1"]
        segments = slice(rows.segment_offsets[begin], rows.segment_offsets[end])
        some = replace(
            rows,
            tokens=rows.tokens[part],
            word_starts=rows.word_starts[part],
            segment_offsets=rows.segment_offsets[begin : end + 1] - rows.segment_offsets[begin],
            segment_lengths=rows.segment_lengths[segments],
            segment_documents=rows.segment_documents[segments],
            segment_starts=rows.segment_starts[segments],
        )
        total += count_shard(
            some,
            {"1": replace(masks, targets=masks.targets[part], swap_offsets=masks.swap_offsets[begin : end + 1])},
            {"1": build.planes["1"]},
            vocabulary=build.vocabulary,
            sources=build.sources,
        )
    both = total.planes["1"]
    assert both.hidden[: -len(audit_counts.FREQUENCIES)] == whole.hidden[: -len(audit_counts.FREQUENCIES)]
    assert (both.num_targets, both.faults, both.ranges, both.choices) == (
        whole.num_targets,
        whole.faults,
        whole.ranges,
        whole.choices,
    )


def test_one_plane_has_no_pairs():
    build = Build(planes=1)
    assert count_pairs(build.rows, build.masks, build.planes, vocabulary=build.vocabulary) == AuditCounts()


def test_tokenizers_without_specials_and_empty_batches():
    build = Build(roles=Roles(cls=-1, sep=-1, pad=0, mask=4, unk=-1), unknown_share=0)
    assert build.failures() == []
    empty = Build(documents=1, mean=1, rate=0.01)
    assert empty.failures() == []
    assert empty.count().planes["0"].num_targets == 0
