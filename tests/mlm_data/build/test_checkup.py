"""What is well with a machine, and what isn't: machines are played by files."""

import os
from pathlib import Path

import pytest

from mlm_data.build import checkup
from mlm_data.build.checkup import BAD, OK, WARN
from mlm_data.stores.folder import Folder


def one(findings):
    (found,) = findings
    return found


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_DOT_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def meminfo(folder: Path, gigabytes: float) -> Path:
    path = folder / "meminfo"
    path.write_text(f"MemTotal: 99999999 kB\nMemAvailable: {int(gigabytes * 1e9 / 1024)} kB\n")
    return path


@pytest.mark.parametrize(("gigabytes", "state"), [(8, OK), (1.5, WARN), (0.2, BAD)])
def test_memory_of_the_machine(tmp_path, gigabytes, state):
    found = one(checkup.check_memory(tmp_path / "none", meminfo(tmp_path, gigabytes)))
    assert found.state == state
    assert bool(found.remedy) == (state != OK)
    assert f"{gigabytes:.1f} GB" in found.text


def test_memory_of_a_container_is_what_its_group_leaves(tmp_path):
    second = write(tmp_path / "v2", memory_DOT_max="3000000000\n", memory_DOT_current="2700000000\n")
    first = write(
        tmp_path / "v1", memory__memory_DOT_limit_in_bytes="3000000000", memory__memory_DOT_usage_in_bytes="1000000000"
    )
    whole = write(tmp_path / "max", memory_DOT_max="max\n", memory_DOT_current="1\n")
    machine = meminfo(tmp_path, 16)
    assert checkup.available_memory(second, machine) == 300_000_000
    assert checkup.available_memory(first, machine) == 2_000_000_000
    assert checkup.available_memory(whole, machine) == pytest.approx(16e9, rel=1e-6)
    assert one(checkup.check_memory(tmp_path / "none", tmp_path / "none")).state == OK


def test_cores_of_a_container(tmp_path):
    limited = write(tmp_path / "v2", cpu_DOT_max="150000 100000\n")
    older = write(tmp_path / "v1", cpu__cpu_DOT_cfs_quota_us="50000", cpu__cpu_DOT_cfs_period_us="100000")
    free = write(tmp_path / "free", cpu_DOT_max="max 100000\n")
    assert [checkup.cgroup_cores(root) for root in (limited, older, free, tmp_path / "none")] == [1.5, 0.5, None, None]
    found = one(checkup.check_cores(workers=64, root=older))
    assert found.state == WARN
    assert found.remedy.startswith("say --workers 1")
    assert one(checkup.check_cores(workers=1, root=free)).state == OK


def test_a_processor_without_vectors_is_told_of(tmp_path, monkeypatch):
    monkeypatch.setattr(checkup.platform, "machine", lambda: "x86_64")
    new, old = tmp_path / "new", tmp_path / "old"
    new.write_text("model name\t: A\nflags\t\t: sse2 avx2 avx512f avx512_bf16 amx_bf16\n")
    old.write_text("model name\t: B\nflags\t\t: sse2\n")
    found = one(checkup.check_processor(new))
    assert (found.state, found.text) == (OK, "A: avx2, avx512f, bf16 (AVX-512), bf16 (AMX)")
    assert one(checkup.check_processor(old)).state == WARN


def test_all_kernels_are_found_and_where_they_are_cached(tmp_path, monkeypatch):
    import mlm_data

    found = checkup.kernel_names(Path(mlm_data.__file__).parent)
    assert len(found) > 100
    assert ("kernels.py", "zero_bytes") in {(path.name, name) for path, name, _ in found}
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    cold = one(checkup.check_kernels())
    assert cold.state == WARN
    assert cold.text.startswith(f"0 of {len(found)} are")
    assert "pipelines.warm" in cold.remedy
    tag = f"py{checkup.sys.version_info.major}{checkup.sys.version_info.minor}"
    for path, name, line in found:
        (tmp_path / f"{path.stem}.{name}-{line}.{tag}.1.nbi").touch()
    warm = one(checkup.check_kernels())
    assert (warm.state, warm.remedy) == (OK, "")
    assert warm.text.startswith(f"{len(found)} of {len(found)} are compiled and cached; a first one")
    path, name, line = found[0]
    (tmp_path / f"{path.stem}.{name}-{line}.{tag}.1.nbi").unlink()
    usual = one(checkup.check_kernels())
    assert usual.state == OK
    assert usual.text.startswith(f"{len(found) - 1} of {len(found)} are compiled and cached; the others when something")


def test_packages_that_are_missing(monkeypatch):
    real = checkup.importlib.metadata.version

    def version(name):
        if name in ("torch", "pyarrow"):
            raise checkup.importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(checkup.importlib.metadata, "version", version)
    states = {found.name: (found.state, found.text) for found in checkup.check_packages()}
    assert states["pyarrow"][0] == BAD
    assert states["torch"] == (OK, "not installed; only premask's extra `train` needs it")
    assert states["python"][0] == OK


def test_few_open_files(monkeypatch):
    monkeypatch.setattr(checkup.resource, "getrlimit", lambda _: (256, 4096))
    found = one(checkup.check_open_files())
    assert (found.state, found.remedy) == (WARN, "ulimit -n 4096")


def test_an_output_that_is_well_is_left_as_it_was(tmp_path):
    found = {one.name: one for one in checkup.check_output(str(tmp_path / "a/b"))}
    assert found["output"].state == OK
    assert found["clocks"].state == OK
    assert set(found) == {"output", "clocks", "disk"}
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "kept").mkdir()
    list(checkup.check_output(str(tmp_path / "kept")))
    assert list((tmp_path / "kept").iterdir()) == []


def test_an_output_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    found = one(checkup.check_output(str(tmp_path / "file/out")))
    assert found.state == BAD
    assert "a part of the path is a file" in found.text
    assert one(checkup.check_output("nosuch://place/x")).state == BAD


def test_a_place_that_answers_with_what_was_there_before(tmp_path, monkeypatch):
    monkeypatch.setattr(Folder, "read", lambda self, name: b"a" * checkup.TRIAL_BYTES)
    found = {one.name: one for one in checkup.check_output(str(tmp_path))}
    assert found["output"].state == BAD


@pytest.mark.parametrize("hours", [-1, 1])
def test_clocks_that_differ(tmp_path, monkeypatch, hours):
    real = Folder.changed
    monkeypatch.setattr(Folder, "changed", lambda self, name: real(self, name) + hours * 3600)
    found = {one.name: one for one in checkup.check_output(str(tmp_path))}
    assert found["clocks"].state == WARN
    assert "3600 s apart" in found["clocks"].text or "3599 s apart" in found["clocks"].text


def test_little_room(tmp_path, monkeypatch):
    usage = checkup.shutil.disk_usage(tmp_path)._replace(free=10**6)
    monkeypatch.setattr(checkup.shutil, "disk_usage", lambda _: usage)
    found = {one.name: one for one in checkup.check_output(str(tmp_path))}
    assert found["disk"].state == BAD
    assert os.listdir(tmp_path) == []
