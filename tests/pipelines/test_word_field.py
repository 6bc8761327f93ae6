"""Words that the user brings: from the file into the rows, and hidden whole."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.shards.format import SPLITS
from pipelines.commands.cli import main
from tests.pipelines.small_corpus import settings

SYLLABLES = [chr(0x4E00 + 7 * i) for i in range(60)]  # Han characters, not a text


def documents(num=60):
    """(text, words) of invented words of one to three characters."""
    rng = np.random.default_rng(0)
    lexicon = ["".join(rng.choice(SYLLABLES, 1 + i % 3)) for i in range(80)]
    for number in range(num):
        words = [*rng.choice(lexicon, 40).tolist(), str(number)]
        yield "".join(words), words


@pytest.fixture(scope="module", params=["wordpiece", "bpe", "unigram", "characters"])
def built(request, tmp_path_factory):
    """A dataset with words, one half from JSON Lines and one from Parquet; one document's words are not its text."""
    folder = tmp_path_factory.mktemp("words")
    (folder / "in").mkdir()
    rows = list(documents())
    with (folder / "in/a.jsonl").open("w", encoding="utf-8") as file:
        for text, words in rows[:30]:
            file.write(json.dumps({"text": text, "seg": words}, ensure_ascii=False) + "\n")
        file.write(json.dumps({"text": "一丁", "seg": ["一"]}) + "\n")
    columns = {"text": [text for text, _ in rows[30:]], "seg": [words for _, words in rows[30:]]}
    pq.write_table(pa.table(columns), folder / "in/b.parquet")
    values = settings(
        folder,
        inputs=[{"path": str(folder / "in/*"), "word_field": "seg"}],
        tokenizer={"train": {"kind": request.param, "vocab_size": 400}},
        clean={"min_chars": 0},
        pack={"sequence_length": 256},
        mask={"planes": 3, "kind": "whole_word", "rate": 0.3},
        max_quarantined=0.05,
    )
    (folder / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(folder / "premask.yaml"), "--workers", "1"]) == 0
    return folder


def test_masks_pass_the_audit_and_what_did_not_fit_is_told(built):
    report = check_dataset(str(built / "out"))
    assert report.problems == ()
    dataset = Dataset.open(built / "out")
    assert dataset.manifest.ledger["documents"]["quarantined"] == {"words_do_not_fit": 1}


def plain_starts(reference, text, words):
    """(ids, which begin a word): the first token that reaches behind a word's first character."""
    encoding = reference.raw_tokenizer.encode(text, add_special_tokens=False)
    starts, at = {0}, 0
    for word in words:
        starts.add(next((i for i, (_, end) in enumerate(encoding.offsets) if end > at), 0))
        at += len(word)
    return tuple(encoding.ids), tuple(i in starts for i in range(len(encoding.ids)))


def test_word_starts_are_the_users(built):
    """Rows are so long that each segment is a document."""
    dataset = Dataset.open(built / "out")
    wanted = {plain_starts(dataset.reference(), text, words) for text, words in documents()}
    found = set()
    for split in SPLITS:
        for index in range(dataset.num_shards(split)):
            for rows in dataset.shard(split, index).rows:
                bits = np.unpackbits(rows.word_starts, axis=1, bitorder="little").astype(bool)
                for r in range(len(rows)):
                    at = 0
                    for s in range(rows.segment_offsets[r], rows.segment_offsets[r + 1]):
                        end = at + int(rows.segment_lengths[s])
                        found.add((tuple(rows.tokens[r, at + 1 : end - 1].tolist()), tuple(bits[r, at + 1 : end - 1])))
                        at = end
    assert found == wanted


def test_other_words_are_another_dataset(built):
    """The words enter the digest; a dataset without them has no trace of the setting."""
    assert Dataset.open(built / "out").manifest.config["inputs"][0]["word_field"] == "seg"


@pytest.mark.parametrize(("name", "message"), [("a.jsonl", "word_field: none of"), ("b.parquet", "Set word_field")])
def test_a_field_that_is_nowhere_is_an_error(built, tmp_path, capsys, name, message):
    values = json.loads((built / "premask.yaml").read_text())
    values |= {"inputs": [{"path": str(built / "in" / name), "word_field": "words"}], "output": str(tmp_path / "out")}
    (tmp_path / "premask.yaml").write_text(json.dumps(values | {"max_quarantined": 1}))
    assert main(["build", str(tmp_path / "premask.yaml"), "--workers", "1"]) == 2
    assert message in capsys.readouterr().err
