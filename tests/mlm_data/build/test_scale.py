"""The arithmetic of scale: what follows from what, by hand."""

import dataclasses

import pytest

from mlm_data.build import scale
from mlm_data.build.account import LIST_BYTES, Kind
from mlm_data.build.scale import Load, Machine, Prices, cost, crossings, limits, requests, whole_corpus
from mlm_data.errors import ConfigError

SMALL = {"num_files": 100, "num_slices": 100, "num_units": 100, "num_tokens": 10**8}


def by_kind(load: Load) -> dict:
    return {(one.to, one.kind): one for one in crossings(load)}


def test_signatures_are_17_bytes_a_document_and_30_a_message():
    load = Load(num_bytes=10**9, num_documents=10**6, **SMALL)
    assert (load.num_partitions, load.num_blocks) == (16, 100)
    found = by_kind(load)["DEDUPLICATE", Kind.SIGNATURES]
    assert (found.elements, found.num_bytes) == (1600, 17 * 10**6 + 1600 * (13 + 1 + 8 + 8))


def test_on_a_local_disk_names_of_files_cross_where_payloads_are_large():
    small = Load(num_bytes=10**9, num_documents=10**6, **SMALL)
    assert by_kind(small) == by_kind(dataclasses.replace(small, is_local=True))
    large = Load(num_bytes=10**9, num_documents=2 * 10**6, is_local=True, **SMALL)
    assert scale.INLINE_BYTES < 17 * 2 * 10**6 / 1600
    found = by_kind(large)["DEDUPLICATE", Kind.SIGNATURES]
    assert (found.elements, found.num_bytes) == (1600, 1600 * (13 + 80))


def test_large_payloads_come_in_pieces():
    load = Load(num_bytes=10**9, num_documents=10**6, bands=512, **{**SMALL, "num_units": 10})
    found = by_kind(load)["FIND NEAR DUPLICATES", Kind.BANDS]
    assert scale.MAX_PAYLOAD_BYTES < 512 * 9 * 10**6 / 160 < 2 * scale.MAX_PAYLOAD_BYTES
    assert found.elements == 160 * 2


def test_a_large_plan_lies_in_files():
    small, large = whole_corpus(10**10), whole_corpus(10**12)
    assert small.plan_bytes < LIST_BYTES
    assert ("LIST UNITS", Kind.LISTED) not in by_kind(small)
    assert by_kind(large)["LIST UNITS", Kind.LISTED].elements == -(-large.plan_bytes // LIST_BYTES) > 1
    assert cost(large).files_written > large.num_units * 4 + 3 * large.num_shards


def test_what_is_not_asked_for_costs_nothing():
    plain = {one.to for one in crossings(Load(num_bytes=10**9, num_documents=10**6, **SMALL))}
    assert plain == {"PREPARE", "SELECT", "DEDUPLICATE", "ASSEMBLE", "PUBLISH"}
    full = Load(
        num_bytes=10**9, num_documents=10**6, bands=16, has_lines=True, drops_evaluations=True, groups=3, **SMALL
    )
    assert {"SURVEY", "CHOOSE CUTS", "FIND NEAR DUPLICATES", "MIX"} < {one.to for one in crossings(full)}
    assert cost(full).shuffle_bytes > cost(Load(num_bytes=10**9, num_documents=10**6, **SMALL)).shuffle_bytes


def test_a_prepared_unit_crosses_as_often_as_steps_read_it():
    load = whole_corpus(10**12, bands=16, groups=2)
    readers = [one.to for one in crossings(load) if one.kind is Kind.PREPARED]
    assert readers == ["SELECT", "SELECT BANDS", "COUNT GROUPS", "ASSEMBLE"]


def test_money_is_price_times_quantity():
    load = whole_corpus(10**12)
    machine = Machine(cores=4, memory_gb=16, disk_gb=100, bytes_a_second=10**7)
    prices = Prices(vcpu_hour=1, memory_gb_hour=2, disk_gb_hour=3, shuffle_gb=5)
    found = cost(load, prices, machine)
    assert found.core_hours == pytest.approx(10**12 / 10**7 / 3600)
    assert found.money["cores"] == pytest.approx(found.core_hours)
    assert found.money["memory"] == pytest.approx(found.core_hours / 4 * 16 * 2)
    assert found.money["disks"] == pytest.approx(found.core_hours / 4 * 100 * 3)
    assert found.money["shuffle"] == pytest.approx(found.shuffle_bytes / 1e9 * 5)
    reads, writes = requests(load)
    assert found.money["requests"] == pytest.approx(reads * 0.0004 / 1000 + writes * 0.005 / 1000)
    assert found.total == pytest.approx(sum(found.money.values()))


def test_what_breaks_first_comes_first():
    small, large = whole_corpus(10**12), whole_corpus(66 * 10**12)
    assert all(one.share < 1 for one in limits(small))
    broken = [one.name for one in limits(large) if one.share > 1]
    assert broken == ["the version's file table and manifest", "results of all units, at PUBLISH"]
    assert limits(whole_corpus(10**12, bands=16))[0].name == "prepared units that FIND NEAR DUPLICATES reads again"
    shares = [one.share for one in limits(large)]
    assert shares == sorted(shares, reverse=True)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ({"vcpu_hours": 1}, "vcpu_hours: no such value"),
        ({"vcpu_hour": -1}, "must be a number from 0 on"),
        ({"vcpu_hour": "cheap"}, "must be a number from 0 on"),
        ({"vcpu_hour": True}, "must be a number from 0 on"),
        ({"vcpu_hour": float("nan")}, "must be a number from 0 on"),
    ],
)
def test_prices_that_are_none(values, line):
    with pytest.raises(ConfigError, match=line):
        Prices.parse(values, where="prices.yaml")
