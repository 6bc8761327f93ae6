"""Files appear whole or not at all, and every refusal is one line that says what to do."""

import errno
import hashlib
import http.server
import os
import pickle
import tempfile
import threading
from pathlib import Path

import pyarrow as pa
import pytest

from mlm_data.dataset.manifest import load_manifest
from mlm_data.dataset.publish import check_output
from mlm_data.errors import InputError, PremaskError, StorageError
from mlm_data.stores.folder import TEMPORARY, Folder, explain, file_info, open_input, stat_identity


@pytest.fixture(params=["path", "uri"])
def folder(tmp_path, request):
    place = tmp_path / "data set"
    return Folder(str(place) if request.param == "path" else "file://" + str(place).replace(" ", "%20"))


def listing(folder):
    return sorted(os.listdir(folder.path())) if folder.exists() else None


def test_what_is_written_can_be_read(folder):
    written = folder.write("a.bin", b"hello")
    assert (written.name, written.num_bytes) == ("a.bin", 5)
    assert written.sha256 == hashlib.sha256(b"hello").hexdigest()
    assert folder.read("a.bin") == b"hello"
    assert folder.num_bytes("a.bin") == 5
    assert folder.exists("a.bin")
    assert listing(folder) == ["a.bin"]


def test_writing_again_replaces(folder):
    folder.write("a", b"one")
    folder.write("a", b"two")
    assert folder.read("a") == b"two"


def test_names_may_follow_from_the_bytes(folder):
    written = folder.create(lambda sink: sink.write(b"abc"), lambda sha: f"rows/{sha}.bin")
    assert written.name == f"rows/{hashlib.sha256(b'abc').hexdigest()}.bin"
    assert folder.names("rows") == [f"{written.sha256}.bin"]


def test_sinks_hash_all_that_arrow_writes(folder):
    table = pa.table({"x": range(1000)})

    def fill(sink):
        with pa.ipc.new_file(sink, table.schema) as writer:
            writer.write_table(table, max_chunksize=100)

    written = folder.create(fill, lambda sha: "t.arrow")
    data = folder.read("t.arrow")
    assert (written.num_bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with folder.open("t.arrow") as stream:
        assert pa.ipc.open_file(stream).read_all() == table


def test_empty_files(folder):
    folder.write("empty", b"")
    assert folder.read("empty") == b""


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EACCES])
def test_a_failed_write_leaves_no_trace(folder, number):
    folder.write("old", b"old")

    def fill(sink):
        sink.write(b"half")
        raise OSError(number, os.strerror(number))

    with pytest.raises(StorageError, match=r"disk is full|quota is used up|permission denied") as error:
        folder.create(fill, lambda sha: "new")
    assert "\n" not in str(error.value)
    assert listing(folder) == ["old"]


def test_a_bug_in_filling_leaves_no_trace_either(folder):
    with pytest.raises(ZeroDivisionError):
        folder.create(lambda sink: 1 / 0, lambda sha: "new")
    assert listing(folder) == []


def test_temporary_names_are_nobody_s_files(folder):
    folder.write("a", b"")
    folder.write(f"{TEMPORARY}left", b"by a crash")
    assert folder.names() == ["a"]


def test_absent_things(folder):
    assert not folder.exists()
    assert folder.names("nothing") == []
    folder.delete("nothing")
    with pytest.raises(StorageError, match="no such file"):
        folder.num_bytes("nothing")
    with pytest.raises(StorageError, match=r"nothing: can't read: no such file or folder"):
        folder.read("nothing")


def test_deleting(folder):
    folder.write("a", b"x")
    folder.delete("a")
    assert not folder.exists("a")


def test_a_file_in_the_way(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file") as error:
        Folder(tmp_path / "file").write("a", b"x")
    assert "\n" not in str(error.value)
    assert (tmp_path / "file").read_bytes() == b""


def test_folders_cross_process_borders(folder):
    folder.write("a", b"x")
    again = pickle.loads(pickle.dumps(folder))
    assert again.read("a") == b"x"
    assert again.location == folder.location


def test_sub_folders(folder):
    folder.join("sub").write("a", b"x")
    assert folder.read("sub/a") == b"x"
    assert folder.join("sub").is_local


def test_places_that_make_no_sense():
    with pytest.raises(StorageError, match="nosuch://x: not a path or a URI"):
        Folder("nosuch://x")


def test_a_rename_that_was_done_already_is_a_success(folder, monkeypatch):
    """An object store may report a retried rename as failed: the source is gone, the target there."""
    move = os.replace

    def twice(source, target):
        move(source, target)
        raise FileNotFoundError(source)

    monkeypatch.setattr(os, "replace", twice)
    assert folder.write("a", b"x").name == "a"
    assert folder.read("a") == b"x"


@pytest.fixture
def nobody():
    """Root may do everything: be somebody else for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_no_permission(nobody):
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "a"
        path.write_bytes(b"x")
        path.chmod(0)
        with pytest.raises(InputError, match=r"/a: can't read: permission denied"):
            open_input(str(path))
        with pytest.raises(StorageError, match=r"/a: can't read: permission denied"):
            Folder(place).read("a")
        Path(place).chmod(0o500)
        with pytest.raises(StorageError, match="can't write: permission denied"):
            Folder(place).write("b", b"x")
        Path(place).chmod(0o700)


def test_open_input_names_the_file(tmp_path):
    path = tmp_path / "a.txt"
    path.write_bytes(b"hello")
    for place in (str(path), f"file://{path}"):
        with open_input(place) as stream:
            stream.seek(1)
            assert stream.read() == b"ello"
    for place in (str(tmp_path / "b.txt"), f"file://{tmp_path}/b.txt"):
        with pytest.raises(InputError, match=r"b\.txt: can't read: no such file"):
            open_input(place)
    with pytest.raises(InputError, match="nosuch://a"):
        open_input("nosuch://a")


def test_identity_is_size_and_time(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"hello")
    os.utime(path, ns=(1, 1_700_000_000_000_000_001))
    for place in (str(path), f"file://{path}"):
        assert stat_identity(file_info(place)) == "5-1700000000000000001"
    assert "None" in stat_identity(file_info(str(tmp_path / "b")))
    with pytest.raises(InputError, match="nosuch"):
        file_info("nosuch://a")


def test_unknown_reasons_are_shown():
    assert str(explain(OSError(errno.EIO, "Input/output error"), "x", "read")) == (
        "x: can't read: [Errno 5] Input/output error"
    )
    assert "disk is full" in str(explain(OSError("write failed. Detail: [errno 28] No space left"), "x", "write"))


def test_flush_covers_what_was_written_and_an_absent_folder(tmp_path):
    folder = Folder(tmp_path / "new")
    folder.flush()
    folder.write("a/b", b"x")
    folder.flush()
    assert folder.read("a/b") == b"x"


class _Denying(http.server.BaseHTTPRequestHandler):
    """A bucket's server that refuses everything."""

    def _refuse(self):
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied</Message></Error>"
        self.rfile.read(int(self.headers.get("content-length") or 0))
        self.send_response(403)
        self.send_header("content-type", "application/xml")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_PUT = do_POST = do_HEAD = do_DELETE = _refuse  # noqa: N815

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def denied():
    """The address of a bucket to which access is denied."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Denying)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    place = f"127.0.0.1:{server.server_address[1]}"
    yield f"s3://key:secret@bucket/data?endpoint_override={place}&scheme=http&region=us-east-1"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    "action",
    [
        lambda folder: folder.exists("LATEST"),
        lambda folder: folder.names(),
        lambda folder: folder.num_bytes("x"),
        lambda folder: folder.read("x"),
        lambda folder: folder.write("x", b"data"),
        lambda folder: check_output(folder),
        lambda folder: load_manifest(folder),
        lambda folder: open_input(folder.location.replace("data?", "data/x?")).read(),
    ],
    ids=["exists", "names", "num_bytes", "read", "write", "check_output", "load_manifest", "open_input"],
)
def test_a_bucket_that_denies_access_is_one_line(denied, action):
    with pytest.raises(PremaskError, match="access denied: check the credentials and the bucket's policy") as caught:
        action(Folder(denied))
    assert "\n" not in str(caught.value)


def test_a_name_that_is_no_utf_8_is_told(tmp_path, monkeypatch):
    (tmp_path / "b\udcff").mkdir()
    monkeypatch.chdir(tmp_path / "b\udcff")
    with pytest.raises(StorageError, match=r"b\\xff/out': its name is no UTF-8: rename the file or folder"):
        Folder("out")
