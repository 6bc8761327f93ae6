"""All kinds of masks at falling rates, by script: the audit passes them, and sees what is wrong."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from mlm_data.config import MaskSettings, TokenizerTraining
from mlm_data.rows.audit import count_shard, judge, source_groups
from mlm_data.rows.masking import KINDS, training_planes
from mlm_data.shards.planes import vocabulary_of
from mlm_data.tokens.reference import load_tokenizer
from mlm_data.tokens.train import train_tokenizer
from tests.mlm_data.rows.text_rows import masks_of, rows_of_texts

RATES = (0.3, 0.3, 0.15, 0.05)
# Letters of invented words, what stands between the words, and the scripts that the audit tells apart.
SCRIPTS = {
    "Chinese": ([chr(0x4E00 + 11 * i) for i in range(90)], "", {"Han"}),
    "Japanese": ([chr(0x3042 + i) for i in range(60)] + [chr(0x4E00 + 13 * i) for i in range(40)], "", {"Han", "Kana"}),
    "Thai": ([chr(0x0E01 + i) for i in range(46)], "", {"Southeast Asian"}),
    "Arabic": ([chr(0x0627 + i) for i in range(20)], " ", {"Arabic"}),
    "Latin": ([chr(0x61 + i) for i in range(26)], " ", {"Latin"}),
}
BYTE_LEVEL = {"bytes"}  # tokens of a few bytes of a letter


@pytest.fixture(scope="module", params=[(script, kind) for script in SCRIPTS for kind in ("wordpiece", "bpe")], ids=str)
def packed(request, tmp_path_factory):
    """(script, rows, ids of documents, reference) of texts of invented words."""
    script, kind = request.param
    letters, between, _ = SCRIPTS[script]
    rng = np.random.default_rng(len(script))
    lexicon = ["".join(rng.choice(letters, rng.integers(1, 5))) for _ in range(400)]
    # Frequencies fall as in a text.
    picks = (400 * rng.random((240, 150)) ** 3).astype(int)
    texts = [between.join(lexicon[pick] for pick in line[: 20 + i % 130]) + "。 12." for i, line in enumerate(picks)]
    path = tmp_path_factory.mktemp("script") / "tokenizer.json"
    path.write_bytes(
        train_tokenizer(iter([pa.array(texts, pa.large_string())]), TokenizerTraining(kind=kind, vocab_size=600))
    )
    reference = load_tokenizer(path)
    return script, *rows_of_texts(texts, reference, sequence_length=128), reference


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_all_kinds_at_falling_rates(packed, kind):
    script, rows, ids, reference = packed
    settings = MaskSettings(kind=kind, planes=4, rate=RATES, ngram=2 if kind == "ngram" else None)
    planes = {str(plane.index): plane for plane in training_planes(settings, seed=3)}
    masks = masks_of(rows, ids, reference, planes)
    vocabulary = vocabulary_of(reference)
    sources = source_groups([f"{number % 7}.txt" for number in range(len(ids))])

    def report(masks):
        return judge(count_shard(rows, masks, planes, vocabulary=vocabulary, sources=sources), planes)

    honest = report(masks)
    assert honest.failures == []
    for line in honest.table:
        if line["check"] == "targets":
            assert 0.85 * line["expected"] < line["observed"] <= line["expected"]
    seen = {line["check"].removeprefix("hidden, script ") for line in honest.table if "script" in line["check"]}
    assert seen & (SCRIPTS[script][2] | BYTE_LEVEL)
    for spoilt, message in mutations(masks, rows, reference, kind):
        failures = report(spoilt).failures
        assert any(message in line for line in failures), (message, failures)


def mutations(masks, rows, reference, kind):
    """(spoilt masks, what the audit must say)."""

    def with_bits(name, change):
        targets = masks[name].targets.copy()
        change(targets)
        return {**masks, name: replace(masks[name], targets=targets)}

    def hide_cls(targets):
        targets[2, 0] |= 1

    def unhide(targets):
        row = int(np.argmax(np.bitwise_count(targets).sum(axis=1)))
        place = int(np.flatnonzero(np.unpackbits(targets[row], bitorder="little"))[0])
        targets[row, place // 8] &= ~np.uint8(1 << place % 8)

    def everything(targets):
        targets[:] = masks["0"].targets

    yield with_bits("1", hide_cls), "plane 1: 1 targets on special tokens"
    yield {**masks, "1": masks["0"]}, "planes 0 and 1 hide the same places"
    yield with_bits("3", everything), "rows with too many targets"
    told = {"token": "rows with too few targets", "ngram": "runs of another length"}
    yield with_bits("0", unhide), told.get(kind, "plane 0")
    swapped = masks["0"].swap_tokens.copy()
    swapped[0] = reference.roles.mask
    yield {**masks, "0": replace(masks["0"], swap_tokens=swapped)}, "swaps to special or unused tokens"
