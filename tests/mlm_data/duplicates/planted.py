"""Documents with near duplicates of known similarity among them, and what the rooms of `duplicates` say to them."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mlm_data.duplicates.clusters import Members, find_edges, pack_bands, resolve
from mlm_data.duplicates.minhash import band_keys, sketch
from mlm_data.duplicates.records import partition
from mlm_data.hashing import hash128

NGRAM = 5


class Planted(NamedTuple):
    texts: pa.LargeStringArray
    pairs: dict[float, set[tuple[int, int]]]  # documents that resemble each other, by Jaccard similarity of 5-grams


def plant(num_documents: int, num_pairs: int, similarities=(0.9, 0.8, 0.5), seed: int = 0) -> Planted:
    """Documents of 60 to 600 words; `num_pairs` pairs of each similarity, the second with single words replaced.

    A word that is replaced by a new one takes up to five shingles away from both; words are replaced until as few are
    shared as the similarity wants: shared = 2 J / (1 + J) of either's.
    """
    generator = np.random.default_rng(seed)
    vocabulary = np.array([f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "", "lt", "rk", "s")])
    documents, pairs = [], {similarity: [] for similarity in similarities}
    for similarity in similarities:
        for _ in range(num_pairs):
            words = generator.choice(vocabulary, generator.integers(60, 601))
            num_shingles = len(words) - NGRAM + 1
            wanted = round(2 * similarity / (1 + similarity) * num_shingles)
            is_shared, other = np.ones(num_shingles, np.bool_), words.astype(object)
            for place in generator.permutation(len(words)):
                first, behind = max(0, place - NGRAM + 1), place + 1
                if is_shared[first:behind].sum() <= is_shared.sum() - wanted:
                    is_shared[first:behind] = False
                    other[place] = f"new{place}"
            pairs[similarity].append((len(documents), len(documents) + 1))
            documents += [" ".join(words), " ".join(other)]
    while len(documents) < num_documents:
        documents.append(" ".join(generator.choice(vocabulary, generator.integers(60, 601))))
    order = generator.permutation(len(documents))
    number = np.argsort(order).tolist()
    texts = pa.array([documents[k] for k in order.tolist()], pa.large_string())
    return Planted(texts, {key: {(number[a], number[b]) for a, b in found} for key, found in pairs.items()})


def similarity_of(one: str, other: str) -> float:
    """Jaccard similarity of the 5-grams of words between spaces."""
    sets = [
        {tuple(words[k : k + NGRAM]) for k in range(len(words) - NGRAM + 1)} for words in (one.split(), other.split())
    ]
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def find_pairs(texts: pa.LargeStringArray, *, bands: int, rows: int, verify: float) -> set[tuple[int, int]]:
    """(dropped, kept) documents of one unit, all of one input, in three partitions."""
    values, num_shingles = sketch(texts, ngram=NGRAM, size=bands * rows)
    ids = hash128(texts)
    lengths = np.array([len(text) for text in texts.to_pylist()], np.int64)

    def load(unit, documents):
        return Members(np.zeros(len(documents), np.int32), lengths[documents], ids[documents], values[documents])

    records = pack_bands(band_keys(values, bands=bands), 0, np.arange(len(texts)), num_shingles)
    edges = [find_edges(part, load, verify=verify, collapse_equal=True) for part in partition(records, "key", 3)]
    drops = resolve(np.concatenate(edges))
    return set(zip(drops["document"].tolist(), drops["kept_document"].tolist(), strict=True))


def recall(found: set[tuple[int, int]], pairs: set[tuple[int, int]]) -> float:
    """Share of the pairs of which one is dropped because of the other."""
    return sum((a, b) in found or (b, a) in found for a, b in pairs) / len(pairs)
