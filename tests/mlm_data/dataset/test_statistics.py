"""Counts over a version's rows are those that a plain loop finds, and a sample is a sample."""

from collections import Counter

import numpy as np
import pytest

from mlm_data.dataset import statistics
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.statistics import choose_shards, collect_statistics, lengths_of, merged
from mlm_data.rows.audit import judge
from mlm_data.shards import format as fmt
from mlm_data.tokens.reference import from_roles
from tests.synthetic import ROLES, make_dataset

ROLE_IDS = {"cls": ROLES.cls, "sep": ROLES.sep, "pad": ROLES.pad, "mask": ROLES.mask, "unk": ROLES.unk}


def words_tokenizer(vocab_size: int) -> bytes:
    """A tokenizer of numbered words, whose first ids are the roles of `ROLES`."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *(f"w{number}" for number in range(5, vocab_size))]
    made = Tokenizer(models.WordLevel({name: number for number, name in enumerate(names)}, unk_token="[UNK]"))
    made.add_special_tokens(names[:5])
    made.pre_tokenizer = pre_tokenizers.Whitespace()
    return from_roles(made.to_str().encode(), ROLE_IDS).json_bytes


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Dataset:
    path = make_dataset(
        tmp_path_factory.mktemp("statistics"), num_rows=50, rate=(0.3, 0.3, 0.1), planes=3, vocab_size=200,
        tokenizer=words_tokenizer(200),
    )  # fmt: skip
    return Dataset.open(path)


def all_rows(dataset):
    for split in fmt.SPLITS:
        for row in range(dataset.num_rows(split)):
            yield dataset.row(split, row, planes=())


def counted(lengths):
    return dict(zip(lengths.values.tolist(), lengths.counts.tolist(), strict=True))


def test_counts_are_those_of_a_plain_loop(dataset):
    found = collect_statistics(dataset, dataset.reference())
    tokens, segments, used, row_segments, documents = Counter(), Counter(), Counter(), Counter(), Counter()
    for view in all_rows(dataset):
        row_segments[len(view.segments)] += 1
        used[sum(segment.length for segment in view.segments)] += 1
        for segment in view.segments:
            segments[segment.length] += 1
            tokens.update(view.tokens[segment.place + 1 : segment.place + segment.length - 1].tolist())
    sources: dict[str, list[int]] = {}
    for split in fmt.SPLITS:
        for index in range(dataset.num_shards(split)):
            for line in dataset.shard(split, index).documents.to_pylist():
                documents[line["num_tokens"]] += 1
                sums = sources.setdefault(line["source"], [0, 0])
                sums[0] += 1
                sums[1] += line["num_tokens"]
    assert {token: count for token, count in enumerate(found.frequencies.tolist()) if count} == dict(tokens)
    assert counted(found.segments) == dict(segments)
    assert counted(found.used) == dict(used)
    assert counted(found.row_segments) == dict(row_segments)
    assert counted(found.documents) == dict(documents)
    assert {name: list(sums) for name, sums in found.sources.items()} == sources
    sizes = [tokens for _, tokens in found.sources.values()]
    assert sizes == sorted(sizes, reverse=True)
    assert found.is_whole
    assert found.num_tokens == found.num_tokens_read == sum(used_ * count for used_, count in used.items())


def test_masks_are_counted_for_each_rule_once(dataset):
    found = collect_statistics(dataset, dataset.reference())
    assert {split: list(planes) for split, planes in found.planes.items()} == {
        "train": ["0", "2"],  # plane 1 has the rule of plane 0
        "validation": ["evaluation"],
    }
    for split, counts in found.audited.items():
        for name in found.planes[split]:
            hidden = sum(dataset.row(split, row).planes[name].targets.size for row in range(dataset.num_rows(split)))
            assert counts.planes[name].num_targets == hidden
        assert judge(counts, found.planes[split]).ok


def test_a_sample_has_whole_shards_of_every_split_and_never_depends_on_their_order(dataset):
    chosen, num, total, read = choose_shards(dataset, 1500)
    assert 0 < read < total
    assert 1 < len(chosen) < num
    assert {split for split, _ in chosen} == set(fmt.SPLITS)
    again = Dataset(dataset.folder, dataset.manifest, dataset.files)
    assert choose_shards(again, 1500)[0] == chosen
    found = collect_statistics(dataset, dataset.reference(), most_tokens=1500)
    assert not found.is_whole
    assert (found.num_shards_read, found.num_tokens_read) == (len(chosen), read)
    assert int((found.used.values * found.used.counts).sum()) == read


def test_masks_of_a_sample_come_from_the_first_batches_of_each_shard(dataset, monkeypatch):
    looked = []

    def count(rows, *rest, **named):
        looked.append(len(rows))
        return statistics_count(rows, *rest, **named)

    statistics_count = statistics.count_shard
    monkeypatch.setattr(statistics, "count_shard", count)
    collect_statistics(dataset, dataset.reference(), most_audited=1)
    first = [int(dataset.shard_rows(split)[0]) for split in fmt.SPLITS]
    assert len(looked) == 3  # two rules in training, one in validation
    assert max(looked) <= max(first[0], first[1])


def test_quantiles_are_lengths_that_occur():
    lengths = lengths_of(np.array([5, 1, 1, 9]))
    assert [lengths.quantile(share) for share in (0, 0.5, 0.51, 0.75, 1)] == [1, 1, 5, 5, 9]
    assert lengths.mean == 4
    nothing = merged([])
    assert (nothing.num, nothing.mean, nothing.quantile(0.5)) == (0, 0.0, 0)
