"""A full disk, damaged inputs, inputs that change, workers that raise, partial files: never a wrong dataset.

What damaged inputs are counted as is tested where they are read (tests/mlm_data/text); here a build must not end in a
traceback, and what it publishes must be sound.
"""

import gzip
import json
import random
import shutil
import subprocess

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet
import pytest

from mlm_data.build import account
from mlm_data.ending import TEMPORARY
from tests.faults import builds
from tests.faults.builds import Ended, Job, temporary_files
from tests.pipelines.small_corpus import text

SIZES = tuple(range(200, 2200, 200))  # kB of a disk; a build of `job` needs about 1.9 MB
STEPS = (account.PREPARE, account.SELECT, account.DEDUPLICATE, account.ASSEMBLE, account.PUBLISH)


def is_one_line(ended: Ended, *, code: int = 2) -> None:
    assert ended.code == code
    assert len(ended.lines) == 1, ended.err
    assert ended.err.startswith("premask: ")


@pytest.fixture
def disk(tmp_path):
    """`disk(kB)` mounts a file system of this size, again in the same place where one was."""
    place = tmp_path / "disk"
    place.mkdir()

    def mount(size: int):
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}k", "none", str(place)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"can't mount a tmpfs here: {done.stderr.strip()}")
        return place

    yield mount
    subprocess.run(["umount", "--all-targets", str(place)], capture_output=True)


@pytest.mark.faults
def test_a_full_disk_at_ten_sizes(disk, whole, right):
    place = disk(SIZES[0])
    full = 0
    for size in SIZES:
        done = subprocess.run(["mount", "-o", f"remount,size={size}k", str(place)], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        job = Job(folder=place / "job") if (place / "job").exists() else None
        if job is None:
            job = builds.job(place / "job", inputs=whole[0].folder / "in")
        err = place.parent / "err"
        ended = builds.build(job, err=err)
        if ended.code:
            full += 1
            is_one_line(ended)
            assert "the disk is full: make room or choose another output folder" in ended.err
            assert builds.digest(job) == ""
        else:
            assert builds.digest(job) == right
        assert temporary_files(job) == []
    assert 2 <= full < len(SIZES)
    assert builds.digest(job) == right


@pytest.mark.faults
@pytest.mark.parametrize("error", ["bug", "refusal"])
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
def test_a_worker_that_raises(step, error, job, right):
    ended = builds.build(job, fault={"raise": [step.name, error]})
    assert ended.reached
    if error == "refusal":
        is_one_line(ended)
        assert ended.err == "premask: x: can't write: a fault\n"
    else:
        assert ended.code == 1
        assert "ValueError: a bug" in ended.err
    assert builds.digest(job) == ""
    assert temporary_files(job) == []
    assert builds.finish(job) == right


@pytest.mark.faults
@pytest.mark.parametrize(
    "folder", ["", "work", "work/prepared", "work/assembled", "rows", "masks", "documents", "signatures", "versions"]
)
def test_a_partial_file_in_every_folder(folder, job, right):
    """A temporary one of an owner that is gone, and half of a file under its own name, as a copy that broke off."""
    assert builds.finish(job) == right
    place = job.out / folder
    if folder not in ("", "work", "versions"):
        for path in sorted(place.glob("*.json" if folder == "work/assembled" else "*.arrow"))[:3]:
            path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    (place / f"{TEMPORARY}{'0' * 32}").write_bytes(b"half")
    ended = builds.build(job)
    assert ended.code == 0
    assert builds.digest(job) == right


@pytest.mark.faults
@pytest.mark.parametrize(
    ("identity", "change"),
    [
        ("stat", "longer"),
        ("stat", "other"),
        ("stat", "gone"),
        ("content", "gone"),
        ("content", "longer"),
        ("content", "other"),
    ],
)
def test_a_file_that_changes_between_plan_and_read(change, identity, tmp_path):
    job = builds.job(tmp_path / "job", documents=40, cache={"identity": identity})
    path = job.folder / "in/1.jsonl"
    before = path.read_bytes()
    right = builds.finish(job)
    shutil.rmtree(job.out)
    new = {"longer": before + before, "other": before.replace(b"the", b"THE"), "gone": None}[change]
    (job.folder / "new").write_bytes(new or b"")
    ended = builds.build(job, fault={"change": [str(path), str(job.folder / "new") if new is not None else ""]})
    assert ended.reached
    is_one_line(ended)
    assert "1.jsonl" in ended.err
    assert builds.digest(job) == ""
    path.write_bytes(before)
    assert builds.finish(job) == right


def _files(folder) -> dict[str, bytes]:
    """The same documents in each format."""
    texts = [text(number) for number in range(60)]
    lines = "".join(json.dumps({"text": one}) + "\n" for one in texts).encode()
    table = pa.table({"text": texts})
    for name, write in (("parquet", pa.parquet.write_table), ("csv", pa.csv.write_csv)):
        write(table, folder / f"x.{name}")
    with pa.ipc.new_file(str(folder / "x.arrow"), table.schema) as writer:
        writer.write_table(table, max_chunksize=20)
    found = {f"x.{kind}": (folder / f"x.{kind}").read_bytes() for kind in ("parquet", "csv", "arrow")}
    for path in folder.iterdir():
        path.unlink()
    page = "".join(
        f"WARC/1.0\r\nWARC-Type: conversion\r\nWARC-Target-URI: http://a/{number}\r\n"
        f"Content-Length: {len(one.encode())}\r\n\r\n{one}\r\n\r\n"
        for number, one in enumerate(texts)
    )
    return found | {
        "x.jsonl": lines,
        "x.jsonl.gz": gzip.compress(lines, mtime=0),
        "x.jsonl.zst": pa.compress(lines, "zstd", asbytes=True),
        "x.txt": "\n\n".join(texts).encode(),
        "x.json": json.dumps([{"text": one} for one in texts]).encode(),
        "x.warc.wet": page.encode(),
        "x.html": ("<html><body><p>" + "</p><p>".join(texts) + "</p></body></html>").encode(),
    }


FORMATS = ("parquet", "csv", "arrow", "jsonl", "jsonl.gz", "jsonl.zst", "txt", "json", "warc.wet", "html")


@pytest.mark.faults
@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty"])
@pytest.mark.parametrize("kind", FORMATS)
def test_damaged_inputs_of_every_format(kind, damage, tmp_path):
    """One line, or a dataset that is sound, and the same however often it is built; never a traceback or a crash."""
    (tmp_path / "made").mkdir()
    name, chance = f"x.{kind}", random.Random(f"{kind} {damage}")
    whole = _files(tmp_path / "made")[name]
    for seed in range(3):
        folder = tmp_path / f"{seed}"
        job = builds.job(folder, documents=40)
        data = bytearray(whole)
        if damage == "truncated":
            del data[chance.randrange(1, len(data)) :]
        elif damage == "flipped":
            for _ in range(5):
                data[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        else:
            data.clear()
        (folder / "in" / name).write_bytes(data)
        config = json.loads(job.config.read_text())
        config["inputs"].append({"path": str(folder / "in" / name)})
        job.config.write_text(json.dumps(config))
        ended = builds.build(job)
        if ended.code:
            is_one_line(ended)
            assert builds.digest(job) == ""
        else:
            right = builds.digest(job)
            shutil.rmtree(job.out)
            assert builds.finish(job) == right
        assert temporary_files(job) == []


@pytest.mark.faults
def test_two_builds_into_one_output(job, right):
    both = [builds.start(job) for _ in range(2)]
    assert [one.end().code for one in both] == [0, 0]
    assert builds.digest(job) == right
    assert temporary_files(job) == []
