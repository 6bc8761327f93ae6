"""C++ sources beside this file, compiled for this processor when they are first wanted.

A library is kept in `cache_folder()` under a name that its source, the compiler and the processor determine; it appears
there whole or not at all. Where nothing can be compiled, `problem` says why, and callers have a slower way. Its first
answer holds for the whole process, or two parts of one run could round differently.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")


def compiler() -> str | None:
    """The C++ compiler: $CXX, g++ or clang++; None if there is none."""
    names = (os.environ.get("CXX") or "g++", "clang++")
    return next((path for name in names if (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where compiled libraries are kept: $XDG_CACHE_HOME/premask, or ~/.cache/premask."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "premask"


@cache
def problem(name: str) -> str | None:
    """Why `name`.cpp can't be had here, in a few words; None if it is ready to be called."""
    try:
        library(name)
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or error).split("\n")
        return next((line for line in said if line.strip()), type(error).__name__)
    return None


@cache
def library(name: str) -> ctypes.CDLL:
    """The library of `name`.cpp.

    Raises:
        OSError: if there is no compiler, or the library can't be loaded.
        subprocess.CalledProcessError: if it can't be compiled.
    """
    program = compiler()
    if program is None:
        raise OSError("no C++ compiler")
    source = Path(__file__).with_name(f"{name}.cpp")
    path = _path(cache_folder(), program, source)
    if not path.exists():
        failed = _compile_missing(cache_folder(), program)
        if name in failed:
            raise failed[name]
    return ctypes.CDLL(str(path))


_OPERATIONS = torch.library.Library("premask", "FRAGMENT")


def operation(schema: str) -> Callable[[Callable[..., None]], torch._ops.OpOverload]:
    """Make a function on CPUs that only writes to its arguments an operation of torch: premask::NAME.

    Within a step a call costs 0.15 ms less than with `torch.library.custom_op`, which puts more of Python between.
    Like that it needs `schema`: name(Tensor a, Tensor(a!) out) -> ().
    """
    name = schema.partition("(")[0]

    def register(function: Callable[..., None]) -> torch._ops.OpOverload:
        _OPERATIONS.define(schema)
        _OPERATIONS.impl(name, function, "CPU")
        torch.library.register_fake(f"premask::{name}", lambda *_: None, lib=_OPERATIONS)
        return getattr(torch.ops.premask, name).default

    return register


def pointer(tensor: Tensor) -> ctypes.c_void_p:
    """Where a tensor's numbers lie, as an argument of a library's function."""
    return ctypes.c_void_p(tensor.data_ptr())


def numbers(*values: int) -> tuple[ctypes.c_int64, ...]:
    """Whole numbers as arguments of a library's function."""
    return tuple(ctypes.c_int64(value) for value in values)


def processor() -> bytes:
    """What `-march=native` looks at; a home folder may be shared by machines of several kinds."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor().encode()
    wanted = (b"vendor_id", b"cpu family", b"model", b"flags", b"Features")
    lines = info.read_bytes().partition(b"\n\n")[0].splitlines()
    return b"\n".join(line for line in lines if line.startswith(wanted))


@cache
def _version(program: str) -> bytes:
    return subprocess.run([program, "--version"], capture_output=True, check=True).stdout


def _path(folder: Path, program: str, source: Path) -> Path:
    """Named by a digest of what a library depends on: source, headers, flags, compiler, processor."""
    headers = b"".join(path.read_bytes() for path in sorted(source.parent.glob("*.h")))
    parts = [source.read_bytes(), headers, " ".join(FLAGS).encode(), program.encode(), _version(program), processor()]
    digest = hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]
    return folder / f"{source.stem}-{digest}.so"


@cache
def _compile_missing(folder: Path, program: str) -> dict[str, BaseException]:
    """Compile every library that is missing, at once: who wants one will want the others. What failed, by name."""
    paths = {source: _path(folder, program, source) for source in Path(__file__).parent.glob("*.cpp")}
    missing = {source: path for source, path in paths.items() if not path.exists()}
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        futures = {source.stem: pool.submit(_compile, program, source, path) for source, path in missing.items()}
    errors = {name: future.exception() for name, future in futures.items()}
    return {name: error for name, error in errors.items() if error is not None}


def _compile(program: str, source: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [program, *FLAGS, "-o", str(made), str(source)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        made.replace(path)
