"""The word table by itself: growth, forgetting, and readers that hold old arrays."""

import threading

import numpy as np
import pyarrow as pa

from mlm_data.config import TokenizerTraining
from mlm_data.tokens.engine import from_bytes, make_engine
from mlm_data.tokens.table import WORD_START, WordTable
from mlm_data.tokens.train import train_tokenizer


def add(table, words, ids_of):
    data = np.frombuffer(b"".join(words) or b" ", np.uint8)
    lengths = np.array([len(word) for word in words], np.int64)
    ids = [ids_of(word) for word in words]
    bounds = np.concatenate([[0], np.cumsum([len(item) for item in ids])]).astype(np.int64)
    table.add(data, np.cumsum(lengths) - lengths, lengths, np.concatenate(ids).astype(np.uint32), bounds)


def long_answer(word):
    """Five ids: too many for a slot, so they go to the arena."""
    return [int(WORD_START) | 7, 8, 9, 10, len(word)]


def test_old_readers_never_find_a_slot_that_points_into_newer_arrays():
    """Whenever the arena or the long keys move, the slots move too: a reader keeps arrays that belong together."""
    table = WordTable(8 << 20)
    moved = 0
    for number in range(400):
        before = table.view
        add(table, [b"%d-%d" % (number, i) + b"x" * (i % 40) for i in range(8)], long_answer)
        after = table.view
        if after.arena is not before.arena or after.keys is not before.keys:
            moved += 1
            assert after.slots is not before.slots
            assert np.count_nonzero(before.slots[::4]) == np.count_nonzero(after.slots[::4]) - 8
    assert moved >= 2


def test_the_budget_holds_while_arrays_grow():
    table = WordTable(1 << 20)
    for number in range(300):
        add(table, [b"w%d-%d" % (number, i) for i in range(100)], long_answer)
        assert table.num_bytes <= table.budget_bytes
    assert table.num_resets > 0


def test_threads_that_share_a_cold_table_get_the_reference_s_ids():
    """Words of many ids, from a cold table that grows under the readers: every thread must see whole answers."""
    rng = np.random.default_rng(0)
    letters = np.array(list("abcdefghij"))
    words = ["".join(rng.choice(letters, rng.integers(4, 14))) for _ in range(30_000)]
    texts = pa.array([" ".join(words[i : i + 100]) for i in range(0, len(words), 100)], pa.large_string())
    trained = train_tokenizer(iter([texts.slice(0, 20)]), TokenizerTraining(kind="wordpiece", vocab_size=64))
    reference = from_bytes(trained)
    wanted = make_engine(reference, "huggingface").encode(texts)
    for _ in range(3):
        engine = make_engine(reference, "words")
        results = [None] * 4

        def encode(number, engine=engine, results=results):
            order = np.random.default_rng(number).permutation(len(texts))
            encoded = [engine.encode(texts.slice(int(i), 1)) for i in order]
            results[number] = {int(i): item.ids for i, item in zip(order, encoded, strict=True)}

        threads = [threading.Thread(target=encode, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for result in results:
            ids = np.concatenate([result[i] for i in range(len(texts))])
            assert np.array_equal(ids, wanted.ids)
