"""Near duplicates that were planted are found, and others are not."""

import pytest

from tests.mlm_data.duplicates.planted import find_pairs, plant, recall, similarity_of


def check(planted):
    found = find_pairs(planted.texts, bands=16, rows=7, verify=0.7)
    assert recall(found, planted.pairs[0.9]) >= 0.99
    assert recall(found, planted.pairs[0.8]) >= 0.96
    assert recall(found, planted.pairs[0.5]) <= 0.001
    truth = planted.pairs[0.9] | planted.pairs[0.8] | planted.pairs[0.5]
    assert all((a, b) in truth or (b, a) in truth for a, b in found)


def test_among_2000_documents():
    planted = plant(2000, 250)
    texts = planted.texts.to_pylist()
    for similarity, pairs in planted.pairs.items():
        for one, other in sorted(pairs)[:20]:
            assert abs(similarity_of(texts[one], texts[other]) - similarity) < 0.02
    check(planted)


@pytest.mark.slow
def test_among_20000_documents():
    check(plant(20_000, 2500, seed=1))
