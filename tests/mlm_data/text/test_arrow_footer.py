"""Metadata of Arrow files against Arrow's own readers."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlm_data.text.arrow_footer import batch_blocks, batch_rows


def save(path, sizes, *, compression=None, legacy=False, dictionary=False):
    words = pa.array(["a", "b", None] * 5)
    column = words.dictionary_encode() if dictionary else words
    options = pa.ipc.IpcWriteOptions(compression=compression, use_legacy_format=legacy)
    schema = pa.schema([("x", column.type), ("y", pa.list_(pa.int64()))])
    with pa.ipc.new_file(path, schema, options=options) as writer:
        for size in sizes:
            lists = pa.array([[1, 2]] * size, schema.field("y").type)
            writer.write_batch(pa.record_batch([column.slice(0, size), lists], schema=schema))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.integers(0, 15), max_size=8), st.sampled_from([None, "lz4", "zstd"]), st.booleans(), st.booleans())
def test_rows_of_each_batch(tmp_path_factory, sizes, compression, legacy, dictionary):
    path = tmp_path_factory.getbasetemp() / "footer.arrow"
    save(path, sizes, compression=compression, legacy=legacy, dictionary=dictionary)
    with pa.OSFile(str(path)) as stream:
        blocks = batch_blocks(stream)
        assert batch_rows(stream, blocks).tolist() == sizes
        assert all(block["offset"] + block["metadata"] + block["body"] <= stream.size() for block in blocks)


@pytest.mark.parametrize("cut", [1, 5, 20, 200])
def test_a_damaged_end(tmp_path, cut):
    path = tmp_path / "x.arrow"
    save(path, [3, 4])
    path.write_bytes(path.read_bytes()[:-cut])
    with pa.OSFile(str(path)) as stream, pytest.raises(pa.ArrowInvalid):
        batch_rows(stream, batch_blocks(stream))


def test_no_arrow_file_at_all(tmp_path):
    path = tmp_path / "x.arrow"
    path.write_bytes(b"ARROW1")
    with pa.OSFile(str(path)) as stream, pytest.raises(pa.ArrowInvalid, match="its end is damaged or missing"):
        batch_blocks(stream)
