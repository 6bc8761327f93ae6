"""Documents are paired off as a plain loop would do it, and every other difference has its line."""

from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.dataset.diff import ABSENT, Counts, changed_settings, diff, match
from mlm_data.errors import FormatError
from mlm_data.hashing import ids_to_arrow
from mlm_data.shards import format as fmt
from tests.mlm_data.dataset.documents_only import documents_table, publish_documents
from tests.synthetic import make_dataset


def as_ids(letters):
    """A 128-bit id for each letter: equal first halves, and equal second halves, say nothing."""
    words = [(ord(letter) % 2, ord(letter) // 2) for letter in letters]
    return np.array(words, np.uint64).reshape(-1, 2)


def pairs_by_hand(older, newer, *keys):
    """Rounds of a plain loop: each pairs what has an equal key, the first with the first."""
    left, right, rounds = list(range(len(older))), list(range(len(newer))), []
    for key in keys:
        waiting, found = defaultdict(list), []
        for place in left:
            waiting[key(older[place])].append(place)
        for place in right:
            name = key(newer[place])
            if name is not None and waiting[name]:
                found.append((waiting[name].pop(0), place))
        left = [place for place in left if place not in {one for one, _ in found}]
        right = [place for place in right if place not in {two for _, two in found}]
        rounds.append(sorted(found, key=lambda both: both[1]))
    return rounds, left, right


document = st.tuples(st.sampled_from("ABCDEF"), st.sampled_from(["a.txt", "b.txt"]), st.sampled_from([None, "x", "y"]))
versions = st.lists(st.lists(document, min_size=1, max_size=5), min_size=1, max_size=3)


@given(versions, versions, st.booleans())
@settings(max_examples=30, deadline=None)
def test_documents_are_paired_as_a_loop_would_do_it(tmp_path_factory, one, two, has_own):
    place = tmp_path_factory.mktemp("diff")
    own = (lambda d: (d[2], d[1]) if d[2] else None, lambda d: d[2]) if has_own else ()
    versions, flat = [], [[d for shard in version for d in shard] for version in (one, two)]
    for number, shards in enumerate((one, two)):
        tables = [
            documents_table(
                ids_to_arrow(as_ids(d[0] for d in s)), [d[1] for d in s], [d[2] for d in s] if has_own else None
            )
            for s in shards
        ]
        versions.append(publish_documents(place, tables, seed=number))
    found = diff(*versions)
    (_, moved, *changed), removed, added = pairs_by_hand(*flat, lambda d: d[:2], lambda d: d[0], *own)
    # Files that both have are not read; who is paired with whom may then differ, how many never.
    assert found.documents["moved"].documents == len(moved)
    assert found.documents["removed"].documents - found.documents["added"].documents == len(removed) - len(added)
    assert found.documents["changed"].documents <= len(flat[0])
    written = [{tuple(d if has_own else d[:2] for d in shard) for shard in version} for version in (one, two)]
    shared = written[0] & written[1]
    if not shared:
        both = sorted((pair for part in changed for pair in part), key=lambda pair: pair[1])
        assert list(zip(*(part.tolist() for part in found.pairs.changed), strict=True)) == both
        assert list(zip(*(part.tolist() for part in found.pairs.moved), strict=True)) == moved
        assert (found.pairs.removed.tolist(), found.pairs.added.tolist()) == (removed, added)
        lines = Counter(line.fate for line in found.lines())
        assert lines == Counter(
            {fate: counts.documents for fate, counts in found.documents.items() if counts.documents}
        )


@pytest.mark.parametrize("seed", range(5))
def test_keys_are_matched_as_a_loop_would_do_it(seed):
    rng = np.random.default_rng(seed)
    one, two = (rng.integers(0, 4, (size, 2)).astype(np.uint64) for size in (60, 50))
    groups = [rng.integers(0, 2, len(keys)).astype(np.int32) for keys in (one, two)]
    for with_groups in (False, True):
        sides = [
            [(*key.tolist(), int(group) * with_groups) for key, group in zip(keys, group, strict=True)]
            for keys, group in zip((one, two), groups, strict=True)
        ]
        (pairs,), left, right = pairs_by_hand(*sides, lambda key: key)
        left_of, right_of, alone, alone_two = match(one, two, *(groups if with_groups else ()))
        assert list(zip(left_of.tolist(), right_of.tolist(), strict=True)) == pairs
        assert (alone.tolist(), alone_two.tolist()) == (left, right)


def test_what_a_diff_says(tmp_path):
    """The trace in the module's docstring."""
    older = documents_table(ids_to_arrow(as_ids("ABCC")), ["a.txt", "b.txt", "c.txt", "c.txt"], ["x", "y", None, None])
    newer = documents_table(
        ids_to_arrow(as_ids("ADCE")), ["c.txt", "a.txt", "c.txt", "b.txt"], ["x", "y", None, "w"], [5, 6, 7, 8]
    )
    shared = documents_table(ids_to_arrow(as_ids("XYZ")), ["z.txt"] * 3, [None] * 3)
    found = diff(
        publish_documents(tmp_path, [older, shared], seed=1), publish_documents(tmp_path, [shared, newer], seed=2)
    )
    assert found.documents == {
        "added": Counts(documents=1, tokens=8),
        "removed": Counts(documents=1, tokens=3),
        "changed": Counts(documents=1, tokens=6),
        "moved": Counts(documents=1, tokens=5),
    }
    assert {name: {fate: one.documents for fate, one in fates.items()} for name, fates in found.sources.items()} == {
        "a.txt": {"changed": 1},
        "b.txt": {"added": 1},
        "c.txt": {"removed": 1, "moved": 1},
    }
    removed, added, changed, moved = found.lines()
    assert (removed.fate, removed.source, removed.offset) == ("removed", "c.txt", 30)
    assert (added.own_id, added.offset, added.before) == ("w", 30, None)
    old_id = ids_to_arrow(as_ids("B"))[0].as_py().hex()
    assert (changed.own_id, changed.source, changed.before) == ("y", "a.txt", (old_id, "b.txt", 10))
    assert (moved.source, moved.before[1]) == ("c.txt", "a.txt")
    assert found.settings == {"seed": (1, 2)}
    assert found.sizes == {"documents": (7, 7), "tokens": (21, 35), "rows": (2, 2)}


def test_one_version_and_another_dataset(tmp_path):
    table = documents_table(ids_to_arrow(as_ids("AB")), ["a.txt", "a.txt"])
    one = publish_documents(tmp_path / "one", [table, table], validation=1)
    assert not any(counts.documents for counts in diff(one, one).documents.values())
    assert list(diff(one, one).lines()) == []
    other = publish_documents(tmp_path / "two", [table])
    found = diff(one, other)
    assert found.documents["removed"] == Counts(documents=2, tokens=6)
    assert found.settings["split.validation"] == (0.2, 0)


def test_a_whole_dataset(tmp_path):
    from mlm_data.dataset.dataset import Dataset

    paths = [make_dataset(tmp_path / str(seed), num_rows=9, validation_rows=3, seed=seed) for seed in (1, 2)]
    one, two = map(Dataset.open, paths)
    found = diff(one, two)
    assert found.documents["removed"].documents == found.sizes["documents"][0]
    assert found.documents["added"].documents == found.sizes["documents"][1]


def test_settings_that_differ():
    older = {"a": {"b": 1, "c": [1, 2]}, "inputs": [{"name": "x"}, {"name": "y"}], "same": {}, "gone": None}
    newer = {"a": {"b": 1, "c": [2, 1]}, "inputs": [{"name": "x", "k": True}], "same": {}, "t": True}
    assert changed_settings(older, newer) == {
        "a.c": ([1, 2], [2, 1]),
        "gone": (None, ABSENT),
        "inputs.0.k": (ABSENT, True),
        "inputs.1.name": ("y", ABSENT),
        "t": (ABSENT, True),
    }


def test_a_damaged_documents_file(tmp_path):
    table = documents_table(ids_to_arrow(as_ids("AB")), ["a.txt", "a.txt"])
    one = publish_documents(tmp_path / "one", [table])
    other = publish_documents(tmp_path / "two", [table.slice(1)])
    (path,) = (tmp_path / "two" / fmt.DOCUMENTS).iterdir()
    path.write_bytes(path.read_bytes()[:-50])
    with pytest.raises(FormatError, match=path.name):
        diff(one, other)


def test_a_documents_file_without_a_column(tmp_path):
    table = documents_table(ids_to_arrow(as_ids("AB")), ["a.txt", "a.txt"])
    one = publish_documents(tmp_path / "one", [table])
    odd = table.drop_columns("num_tokens").append_column("num_tokens", pa.array([1, 2], pa.int64()))
    with pytest.raises(FormatError, match="column num_tokens is no int32"):
        diff(one, publish_documents(tmp_path / "two", [odd]))
