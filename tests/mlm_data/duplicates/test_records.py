"""Packed records come back whole, and take as many bytes as is said."""

import numpy as np
import pytest

from mlm_data.duplicates import clusters, exact, lines
from mlm_data.duplicates.records import pack, unpack
from mlm_data.errors import FormatError

KINDS = {"signatures": exact.RECORD, "bands": clusters.BAND, "lines": lines.RECORD}


def random_records(generator, kind, num):
    records = np.zeros(num, kind)
    for name in kind.names:
        high = {"unit": 4, "document": 300, "line": 2**40 if generator.random() < 0.5 else 90}.get(name, 2**64)
        records[name] = generator.integers(0, high, num, kind[name] if high == 2**64 else np.int64)
    return records


def places(kind):
    return [name for name in ("unit", "document", "line") if name in kind.names]


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("num", [0, 1, 2, 1000])
@pytest.mark.parametrize("seed", range(4))
def test_all_come_back_in_order(kind, num, seed):
    records = random_records(np.random.default_rng(seed), kind, num)
    order = sorted(range(num), key=lambda k: [int(records[name][k]) for name in places(kind)])  # stable
    assert unpack(pack(records), kind).tolist() == records[order].tolist()
    assert pack(records[order]) == pack(records)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_places_are_leb128(kind):
    """Beside a plain twin."""
    records = random_records(np.random.default_rng(7), kind, 500)
    records = records[np.lexsort([records[name] for name in reversed(places(kind))])]
    numbers, before = [], (-1, 0, 0)
    for record in records:
        unit, document = int(record["unit"]), int(record["document"])
        line = int(record["line"]) if "line" in kind.names else 0
        if unit != before[0]:
            before = (unit, 0, 0)
        further = document - before[1]
        if "line" in kind.names:
            numbers.append(2 * (line - (0 if further else before[2])) + (further > 0))
        if further or "line" not in kind.names:
            numbers.append(further)
        before = (unit, document, line)
    plain = bytearray()
    for number in numbers:
        while number > 127:
            plain.append(number % 128 + 128)
            number //= 128
        plain.append(number)
    assert pack(records).endswith(bytes(plain))


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_bytes_that_are_cut_are_refused(kind):
    data = pack(random_records(np.random.default_rng(0), kind, 50))
    for size in (len(data) - 1, len(data) // 2, 20):
        with pytest.raises(FormatError):
            unpack(data[:size], kind)
    with pytest.raises(FormatError):
        unpack(data + b"\0", kind)


def test_how_many_bytes_a_record_takes():
    """4,000 documents of 30 lines in 4 partitions: of lines and bands each fourth, or so, is of this one."""
    generator, num = np.random.default_rng(0), 4000
    ids = generator.integers(0, 2**64, (num, 2), np.uint64)
    documents = np.arange(num)
    mine = ids[:, 1] % 4 == 0
    signatures = exact.pack_records(ids[mine], 3, documents[mine])
    assert len(pack(signatures)) / len(signatures) < 17.1
    keys = generator.integers(0, 2**64, (num, 16), np.uint64)
    bands = clusters.pack_bands(keys, 3, documents, np.ones(num, np.int64))
    bands = bands[bands["key"] % 4 == 0]
    assert len(pack(bands)) / len(bands) < 9.1
    records = np.zeros(num * 30, lines.RECORD)
    records["document"], records["line"] = np.repeat(documents, 30), np.tile(np.arange(30) * 2, num)
    records["hash"] = generator.integers(0, 2**64, len(records), np.uint64)
    records = records[generator.integers(0, 4, len(records)) == 0]
    assert len(pack(records)) / len(records) < 9.3
