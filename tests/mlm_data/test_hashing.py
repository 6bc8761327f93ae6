"""Hashes against their published values, and the independence that the digest relies on."""

import hashlib
import struct
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.hashing import hash128, hash_bytes, ids_from_arrow, ids_to_arrow, string_buffers, table_hash

# h1 and h2 as the reference implementation prints them (seed 0).
VECTORS = {
    b"": (0, 0),
    b"hello": (0xCBD8A7B341BD9B02, 0x5B1E906A48AE1D19),
    b"hello, world": (0x342FAC623A5EBC8E, 0x4CDCBC079642414D),
    b"19 Jan 2038 at 3:14:07 AM": (0xB89E5988B737AFFC, 0x664FC2950231B2CB),
    b"The quick brown fox jumps over the lazy dog.": (0xCD99481F9EE902C9, 0x695DA1A38987B6E7),
    b"The quick brown fox jumps over the lazy dog": (0xE34BBC7BBC071B6C, 0x7A433CA9C49A9347),
}


def binary(*values):
    return pa.array(values, pa.large_binary())


@pytest.mark.parametrize("text", VECTORS)
def test_hash128_gives_the_published_values(text):
    assert tuple(int(h) for h in hash128(binary(text))[0]) == VECTORS[text]


def test_hash128_passes_smhasher_verification():
    """SMHasher's check of MurmurHash3_x64_128: 0x6384BA69 over keys of every length below 256 and as many seeds."""
    hashes = b"".join(hash128(binary(bytes(range(i))), seed=256 - i)[0].astype("<u8").tobytes() for i in range(256))
    assert struct.unpack("<I", hash128(binary(hashes))[0].astype("<u8").tobytes()[:4])[0] == 0x6384BA69


@given(st.lists(st.text(), max_size=20), st.integers(0, 5))
def test_hash128_of_a_slice_is_a_slice_of_the_hashes(texts, start):
    values = pa.array(texts, pa.large_string())
    np.testing.assert_array_equal(hash128(values.slice(start)), hash128(values)[start:])
    for text, pair in zip(texts, hash128(values), strict=True):
        np.testing.assert_array_equal(hash128(binary(text.encode()))[0], pair)


def test_hash_bytes_is_h1():
    assert hash_bytes(b"hello") == VECTORS[b"hello"][0]


@given(st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), max_size=10), st.integers(0, 3))
def test_ids_round_trip_through_arrow(pairs, start):
    ids = np.array(pairs, np.uint64).reshape(-1, 2)
    column = ids_to_arrow(ids)
    assert [item.as_py() for item in column] == [struct.pack("<QQ", *pair) for pair in pairs]
    np.testing.assert_array_equal(ids_from_arrow(column.slice(start)), ids[start:])


def test_string_buffers_refuses_nulls():
    with pytest.raises(AssertionError, match="nulls"):
        string_buffers(pa.array(["a", None], pa.large_string()))


KINDS = [
    (pa.int32(), st.integers(-(2**31), 2**31 - 1)),
    (pa.uint16(), st.integers(0, 2**16 - 1)),
    (pa.float64(), st.floats(allow_nan=False)),
    (pa.bool_(), st.booleans()),
    (pa.string(), st.text(max_size=5)),
    (pa.large_string(), st.text(max_size=5)),
    (pa.large_binary(), st.binary(max_size=5)),
    (pa.binary(3), st.binary(min_size=3, max_size=3)),
    (pa.null(), st.none()),
    (pa.list_(pa.int32()), st.lists(st.none() | st.integers(0, 9), max_size=4)),
    (pa.large_list(pa.string()), st.lists(st.none() | st.text(max_size=3), max_size=3)),
    (pa.list_(pa.uint16(), 2), st.lists(st.none() | st.integers(0, 9), min_size=2, max_size=2)),
    (
        pa.struct([("a", pa.int8()), ("b", pa.list_(pa.string()))]),
        st.fixed_dictionaries({"a": st.none() | st.integers(0, 9), "b": st.none() | st.lists(st.text(max_size=2))}),
    ),
]


@st.composite
def columns(draw):
    kind, values = draw(st.sampled_from(KINDS))
    return kind, draw(st.lists(st.none() | values, max_size=12)), draw(st.lists(st.integers(0, 12), max_size=3))


def chunked(values, kind, cuts):
    """The same values as slices of longer arrays, cut anywhere, empty chunks included."""
    borders = [*sorted({0, len(values), *(min(cut, len(values)) for cut in cuts)}), len(values)]
    junk = [value for value in values if value is not None][:1] * 2
    parts = []
    for start, end in pairwise(borders):
        whole = pa.array(junk + values[start:end] + junk, kind)
        parts.append(whole.slice(len(junk), end - start))
    return pa.chunked_array(parts, kind)


@settings(max_examples=300, deadline=None)
@given(columns())
def test_table_hash_ignores_chunks_and_slices(column):
    kind, values, cuts = column
    whole = pa.table({"x": pa.array(values, kind)})
    assert table_hash(pa.table({"x": chunked(values, kind, cuts)}), "d") == table_hash(whole, "d")


@settings(deadline=None)
@given(st.lists(st.none() | st.text(max_size=3), max_size=12))
def test_table_hash_ignores_dictionary_encoding(values):
    plain = pa.table({"x": pa.array(values, pa.string()), "y": pa.array([[v] for v in values], pa.list_(pa.string()))})
    encoded = plain["x"].combine_chunks().dictionary_encode()
    nested = pa.ListArray.from_arrays(pa.array(range(len(values) + 1), pa.int32()), encoded)
    assert table_hash(pa.table({"x": encoded, "y": nested}), "d") == table_hash(plain, "d")


@settings(max_examples=300, deadline=None)
@given(columns(), columns())
def test_table_hash_tells_different_values_apart(one, two):
    tables = [pa.table({"x": pa.array(values, kind)}) for kind, values, _ in (one, two)]
    assert (table_hash(tables[0], "d") == table_hash(tables[1], "d")) == (one[:2] == two[:2] or tables[0] == tables[1])


def test_table_hash_covers_names_types_order_domain_and_nulls():
    x, y = pa.array([1, 2], pa.int32()), pa.array([1, 2], pa.int64())
    tables = [
        pa.table({"x": x}),
        pa.table({"z": x}),
        pa.table({"x": y}),
        pa.table({"x": x, "y": y}),
        pa.table({"y": y, "x": x}),
        pa.table({"x": pa.array([1, None], pa.int32())}),
        pa.table({"x": pa.array([1, 0], pa.int32())}),
        pa.table({"x": pa.array(["", "a"])}),
        pa.table({"x": pa.array([None, "a"])}),
        pa.table({"x": pa.array(["", "a"], pa.large_string())}),
        pa.table({"x": pa.array(["a", ""])}),
        pa.table({}),
    ]
    hashes = [table_hash(table, "rows") for table in tables] + [table_hash(tables[0], "masks")]
    assert len(set(hashes)) == len(hashes)


def test_table_hash_ignores_what_lies_under_nulls():
    bitmap = pa.py_buffer(b"\x01")
    numbers = [pa.Array.from_buffers(pa.int32(), 2, [bitmap, pa.py_buffer(struct.pack("<ii", 7, n))]) for n in (0, 9)]
    offsets = pa.py_buffer(struct.pack("<iii", 0, 1, 2))
    texts = [pa.Array.from_buffers(pa.string(), 2, [bitmap, offsets, pa.py_buffer(b"a" + c)]) for c in (b"b", b"c")]
    for one, two in (numbers, texts):
        assert table_hash(pa.table({"x": one}), "d") == table_hash(pa.table({"x": two}), "d")
    assert table_hash(pa.table({"x": texts[0]}), "d") == table_hash(pa.table({"x": ["a", None]}), "d")


@pytest.mark.parametrize("codec", ["uncompressed", "zstd", "lz4"])
def test_table_hash_survives_a_file(tmp_path, codec):
    table = pa.table(
        {
            "tokens": pa.array([[1, 2], [3, 4], [5, 6]], pa.list_(pa.field("item", pa.uint16(), nullable=False), 2)),
            "source": pa.array(["a", "b", "a"]).dictionary_encode(),
            "places": pa.array([[1], [], [2, 3]], pa.list_(pa.uint16())),
        }
    )
    path = tmp_path / "x.arrow"
    options = pa.ipc.IpcWriteOptions(compression=None if codec == "uncompressed" else codec)
    with pa.ipc.new_file(path, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=2)
    with pa.memory_map(str(path)) as stream:
        assert table_hash(pa.ipc.open_file(stream).read_all(), "d") == table_hash(table, "d")


def test_table_hash_is_sha256_of_the_specified_bytes():
    """A change here changes the digest of every dataset: it needs a new format version."""
    table = pa.table({"x": pa.array([1, 2, 3], pa.uint16()), "y": pa.array(["a", None, "bc"]), "z": [[1], None, []]})

    def number(value):
        return struct.pack("<Q", value)

    def text(value):
        return number(len(value)) + value.encode()

    head = text("premask.table.1") + text("rows") + number(3) + number(3)
    x = text("x") + text("uint16") + number(0) + number(6) + struct.pack("<3H", 1, 2, 3)
    y = text("y") + text("string") + number(1) + b"\1\0\1" + number(32) + struct.pack("<4q", 0, 1, 1, 3) + text("abc")
    z = text("z") + text("list<int64>") + number(1) + b"\1\0\1" + number(32) + struct.pack("<4q", 0, 1, 1, 1)
    z += text("int64") + number(0) + number(8) + struct.pack("<q", 1)
    assert table_hash(table, "rows") == hashlib.sha256(head + x + y + z).digest()


def test_table_hash_refuses_what_has_no_layout():
    with pytest.raises(TypeError, match="no canonical layout"):
        table_hash(pa.table({"x": pa.array(["a"], pa.string_view())}), "d")
