"""What a machine and a place for datasets can do: facts that decide whether a build will end well.

Each check is a plain function that returns `Finding`s: what was looked at, whether it is well, and the remedy where it
is not. None of them leaves anything behind.

The limits are rules of thumb, not measurements of this machine: a build with two workers needs 0.4 to 1.9 GB of
memory, and about 2.5 bytes of disk for a byte of raw text.
"""

import ast
import importlib.metadata
import importlib.util
import os
import platform
import resource
import shutil
import sys
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlm_data.errors import PremaskError
from mlm_data.stores.folder import Folder

OK, WARN, BAD = "ok", "warn", "bad"
PACKAGES: Mapping[str, str] = {
    "premask": "",
    "pyarrow": "",
    "numpy": "",
    "numba": "",
    "tokenizers": "",
    "apache-beam": "build",
    "torch": "train",
}  # distribution: the extra that installs it; "": nothing works without it
MOST_APART = 30.0  # seconds between two clocks: locks and ages of files are compared in minutes
LEAST_MEMORY, LITTLE_MEMORY = 512 * 10**6, 2 * 10**9
LEAST_DISK, LITTLE_DISK = 100 * 10**6, 5 * 10**9
LITTLE_FILES = 1024
TRIAL_BYTES = 1 << 20
KERNEL_DECORATORS = ("kernel", "lean_kernel")


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of the answer."""

    name: str
    state: str  # ok, warn or bad
    text: str  # what was found
    remedy: str = ""  # where it is not well


def check_packages() -> Iterator[Finding]:
    """Python and the libraries, by their metadata: none of them is imported."""
    version = platform.python_version()
    is_known = (3, 11) <= sys.version_info[:2] <= (3, 13)
    yield Finding(
        name="python",
        state=OK if is_known else (BAD if sys.version_info < (3, 11) else WARN),
        text=f"{version}, {platform.system()} {platform.machine()}",
        remedy="" if is_known else "use Python 3.11, which premask is tested with",
    )
    for name, extra in PACKAGES.items():
        with suppress(importlib.metadata.PackageNotFoundError):
            yield Finding(name=name, state=OK, text=importlib.metadata.version(name))
            continue
        if extra:
            yield Finding(name=name, state=OK, text=f"not installed; only premask's extra `{extra}` needs it")
        else:
            yield Finding(name=name, state=BAD, text="not installed", remedy="pip install premask")


def kernel_names(package: Path) -> list[tuple[Path, str, int]]:
    """(source, name, first line) of every compiled loop below a folder of sources."""
    found = []
    for source in sorted(package.rglob("*.py")):
        text = source.read_text(encoding="utf-8")
        if "@kernel" not in text and "@lean_kernel" not in text:
            continue
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef):
                for decorator in node.decorator_list:
                    if isinstance(decorator, ast.Name) and decorator.id in KERNEL_DECORATORS:
                        found.append((source, node.name, decorator.lineno))
    return found


def check_kernels() -> Iterator[Finding]:
    """How many compiled loops are in numba's cache, and how long a first call takes.

    numba (0.68, `numba/core/caching.py`) names a file of its index `<module>.<function>-<first line>.py<version>.nbi`.
    """
    import mlm_data

    package = Path(mlm_data.__file__).parent
    kernels, cached = kernel_names(package), 0
    tag = f"py{sys.version_info.major}{sys.version_info.minor}"
    elsewhere = os.environ.get("NUMBA_CACHE_DIR")
    for source, name, line in kernels:
        pattern = f"{source.stem}.{name}-{line}.{tag}*.nbi"
        folders = Path(elsewhere).rglob(pattern) if elsewhere else (source.parent / "__pycache__").glob(pattern)
        cached += any(found.stat().st_mtime >= source.stat().st_mtime for found in folders)
    started = time.perf_counter()
    with suppress(ImportError):
        import pyarrow as pa

        from mlm_data.hashing import hash128

        hash128(pa.array(["a", "b"], pa.large_string()))
    seconds = time.perf_counter() - started
    is_warm = cached >= 0.8 * len(kernels)
    rest = "; the others when something needs them, as some tokenizers do" if is_warm and cached < len(kernels) else ""
    yield Finding(
        name="kernels",
        state=OK if is_warm else WARN,
        text=f"{cached} of {len(kernels)} are compiled and cached{rest}; a first one was ready in {seconds:.1f} s",
        remedy=""
        if is_warm
        else "python -m pipelines.warm compiles them now; else the first build does, for a minute or more",
    )


def check_processor(cpuinfo: Path = Path("/proc/cpuinfo")) -> Iterator[Finding]:
    """What its instructions are good for here."""
    flags: set[str] = set()
    model = platform.processor() or platform.machine()
    if cpuinfo.exists():
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip() in ("flags", "Features"):
                flags.update(value.split())
            elif key.strip() == "model name":
                model = value.strip()
    wanted = {"avx2": "avx2", "avx512f": "avx512f", "avx512_bf16": "bf16 (AVX-512)", "amx_bf16": "bf16 (AMX)"}
    wanted |= {"asimd": "neon", "sve": "sve", "bf16": "bf16"}
    known = [shown for name, shown in wanted.items() if name in flags]
    is_slow = bool(flags) and platform.machine() == "x86_64" and "avx2" not in flags
    yield Finding(
        name="processor",
        state=WARN if is_slow else OK,
        text=f"{model}: {', '.join(known) or 'no vector instructions known'}",
        remedy="without AVX2 the scanners are several times slower: use a newer processor" if is_slow else "",
    )


def check_cores(workers: int | None = None, root: Path = Path("/sys/fs/cgroup")) -> Iterator[Finding]:
    """How many cores there are, and how many this process may use."""
    total = os.cpu_count() or 1
    mine = float(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else total)
    limit = cgroup_cores(root)
    usable = min(mine, limit or mine)
    wanted = workers or total
    is_well = wanted <= usable + 0.5
    yield Finding(
        name="cores",
        state=OK if is_well else WARN,
        text=f"{total}, of which this process may use {usable:g}" if usable < total else f"{total}",
        remedy="" if is_well else f"say --workers {max(1, int(usable))}: more only take memory and turns",
    )


def cgroup_cores(root: Path = Path("/sys/fs/cgroup")) -> float | None:
    """Cores that a control group allows (v2: cpu.max; v1: cpu.cfs_quota_us); None where it sets no limit."""
    with suppress(OSError, ValueError):
        quota, period = (root / "cpu.max").read_text().split()
        return None if quota == "max" else int(quota) / int(period)
    with suppress(OSError, ValueError):
        limit = int((root / "cpu/cpu.cfs_quota_us").read_text())
        return limit / int((root / "cpu/cpu.cfs_period_us").read_text()) if limit > 0 else None
    return None


def check_memory(root: Path = Path("/sys/fs/cgroup"), meminfo: Path = Path("/proc/meminfo")) -> Iterator[Finding]:
    """What is free for this process, limits of its control group included."""
    available = available_memory(root, meminfo)
    if available is None:
        yield Finding(name="memory", state=OK, text="nobody tells how much there is on this system")
        return
    state = BAD if available < LEAST_MEMORY else (WARN if available < LITTLE_MEMORY else OK)
    yield Finding(
        name="memory",
        state=state,
        text=f"{available / 1e9:.1f} GB free for this process",
        remedy="" if state == OK else "a build takes up to 2 GB with two workers: free some, or say --workers 1",
    )


def available_memory(root: Path, meminfo: Path) -> int | None:
    """Bytes that are free: of the machine (proc(5), MemAvailable), and below the limit of the control group."""
    found = []
    with suppress(OSError, ValueError):
        for line in meminfo.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(1024 * int(line.split()[1]))
    for limit, used in (
        ("memory.max", "memory.current"),
        ("memory/memory.limit_in_bytes", "memory/memory.usage_in_bytes"),
    ):
        with suppress(OSError, ValueError):  # `max`: no limit
            found.append(int((root / limit).read_text()) - int((root / used).read_text()))
    return max(0, min(found)) if found else None


def check_open_files() -> Iterator[Finding]:
    """How many files may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    is_well = soft == resource.RLIM_INFINITY or soft - used >= LITTLE_FILES - 64
    yield Finding(
        name="open files",
        state=OK if is_well else WARN,
        text=f"{'any number' if soft == resource.RLIM_INFINITY else f'{soft:,}'} may be open, {used} are",
        remedy="" if is_well else f"ulimit -n {min(65536, hard) if hard > 0 else 65536}",
    )


def check_output(location: str) -> Iterator[Finding]:
    """Write, replace, read and delete a file in the output, look at its time, and at the room that is left."""
    try:
        folder = Folder(location)
    except PremaskError as error:
        yield Finding(
            name="output", state=BAD, text=str(error), remedy="name a folder, or a URI such as gs://bucket/name"
        )
        return
    before = set(_ancestors(folder))
    try:
        yield from _try_output(folder, location)
    finally:
        for made in _ancestors(folder):
            if made not in before:
                with suppress(OSError):
                    os.rmdir(made)


def _try_output(folder: Folder, location: str) -> Iterator[Finding]:
    name = f"premask-doctor-{uuid.uuid4().hex}"
    first, second = b"a" * TRIAL_BYTES, b"b" * TRIAL_BYTES
    try:
        started = time.time()
        folder.write(name, first)
        written = time.time()
        changed = folder.changed(name)
        folder.write(name, second)
        replaced = time.time()
        is_right = folder.read(name) == second
        read = time.time()
    except (PremaskError, OSError) as error:
        yield Finding(
            name="output", state=BAD, text=str(error), remedy="choose a folder or bucket that you may write to"
        )
        return
    finally:
        with suppress(PremaskError, OSError):
            folder.delete(name)
    times = f"written in {1e3 * (written - started):.0f} ms, read in {1e3 * (read - replaced):.0f} ms"
    yield Finding(
        name="output",
        state=OK if is_right else BAD,
        text=f"{location}: a file of 1 MiB was {times}, replaced and deleted"
        if is_right
        else f"{location}: a file was replaced, and the old one was read",
        remedy="" if is_right else "this place answers with old content: choose another, or switch its cache off",
    )
    apart = max(0.0, started - 2 - changed, changed - written - 2) if changed else 0.0  # a store may round to seconds
    yield Finding(
        name="clocks",
        state=OK if apart <= MOST_APART else WARN,
        text=f"this machine's and the output's are {'less than 2' if not apart else f'{apart + 2:.0f}'} s apart",
        remedy="" if apart <= MOST_APART else "set this machine's clock (NTP): ages of files are compared with it",
    )
    if not folder.is_local:
        return
    free = shutil.disk_usage(_ancestors(folder)[0]).free
    state = BAD if free < LEAST_DISK else (WARN if free < LITTLE_DISK else OK)
    yield Finding(
        name="disk",
        state=state,
        text=f"{free / 1e9:.1f} GB free for {location}",
        remedy=""
        if state == OK
        else "a build takes up to 2.5 bytes for a byte of raw text: make room, or name another",
    )


def _ancestors(folder: Folder) -> list[str]:
    """The folder and those above it that are there on this machine's disk, the nearest first."""
    found, path = [], folder.path() if folder.is_local else ""
    while path:
        if os.path.isdir(path):
            found.append(path)
        path = os.path.dirname(path) if path != os.path.dirname(path) else ""
    return found
