"""The logical hash of a table: what it depends on and what not."""

import hashlib
import struct
from itertools import pairwise

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.shards.table_hash import table_hash

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
