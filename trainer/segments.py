"""Rotary attention inside segments on CPUs: `segments.cpp`, built when it is first wanted, as two torch operations.

The kernel works on the segments as they lie in the batch: it reads the packed qkv that a matrix product wrote, turns
queries and keys on the way in and gradients on the way out, makes scores only where a query sees a key, and keeps
nothing but one number a query and head for the backward pass. Beside products over whole rows (`Batched`) that saves
the masks, the pairs in other segments, the [L, L] probabilities, and the copies to and from a layout by heads.

    a row of 256 places, segments of 100, 120 and 36: 25,696 of 65,536 pairs are made, fewer still in local layers

The library is compiled for this processor (2 s) and kept in `cache_folder()` under a name that its source, the
compiler and the processor determine; it appears there whole or not at all.

Legend: T places; L positions; H heads; K head dimension.
"""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

SOURCE = Path(__file__).with_name("segments.cpp")
FLAGS = ("-std=c++17", "-O3", "-march=native", "-fopenmp", "-shared", "-fPIC")
WHOLE = -1  # a window that hides nothing


def compiler() -> str | None:
    """The C++ compiler: $CXX, g++ or clang++; None if there is none."""
    names = (os.environ.get("CXX") or "g++", "clang++")
    return next((path for name in names if (path := shutil.which(name))), None)


def cache_folder() -> Path:
    """Where compiled libraries are kept: $XDG_CACHE_HOME/premask, or ~/.cache/premask."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "premask"


@cache
def problem() -> str | None:
    """Why the kernel can't be had here, in a few words; None if it is ready to be called."""
    try:
        _library()
    except (OSError, subprocess.CalledProcessError) as error:
        said = str(getattr(error, "stderr", None) or error).split("\n")
        return next((line for line in said if line.strip()), type(error).__name__)
    return None


@cache
def _library() -> ctypes.CDLL:
    program = compiler()
    if program is None:
        raise OSError("no C++ compiler")
    path = cache_folder() / f"segments-{_identity(program)}.so"
    if not path.exists():
        _compile(program, path)
    return ctypes.CDLL(str(path))


def _identity(program: str) -> str:
    """Digest of what the library depends on: source, flags, compiler, processor."""
    version = subprocess.run([program, "--version"], capture_output=True, check=True).stdout
    parts = [SOURCE.read_bytes(), " ".join(FLAGS).encode(), program.encode(), version, _processor()]
    return hashlib.sha256(b"\0".join(parts)).hexdigest()[:32]


def _processor() -> bytes:
    """What `-march=native` looks at; a home folder may be shared by machines of several kinds."""
    info = Path("/proc/cpuinfo")
    if not info.exists():
        return platform.processor().encode()
    wanted = (b"vendor_id", b"cpu family", b"model", b"flags", b"Features")
    lines = info.read_bytes().partition(b"\n\n")[0].splitlines()
    return b"\n".join(line for line in lines if line.startswith(wanted))


def _compile(program: str, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        made = Path(folder) / path.name
        command = [program, *FLAGS, "-o", str(made), str(SOURCE)]
        subprocess.run(command, capture_output=True, text=True, check=True)
        made.replace(path)


def _call(name: str, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, *others: Tensor) -> None:
    heads, dim = qkv.shape[2:]
    numbers = (borders.numel() - 1, heads, dim, window, torch.get_num_threads())
    getattr(_library(), name)(
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in (qkv, cos, sin, borders)),
        *(ctypes.c_int64(number) for number in numbers),
        *(ctypes.c_void_p(tensor.data_ptr()) for tensor in others),
    )


@torch.library.custom_op("premask::attend_segments", mutates_args=(), device_types="cpu")
def attend_segments(qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Attention of every place over its segment, and the logarithm of each sum of exponentials.

    Args:
        qkv: float32 [T, 3, H, K], not turned yet.
        cos, sin: float32 [L, K / 2], by position in the segment.
        borders: int32, ascending, from 0 to T: where segments begin and the last one ends; empty ones are allowed.
        window: place i sees j in its segment iff |i - j| <= window; WHOLE: all.

    Returns:
        float32 [T, H, K] and [T, H].
    """
    qkv, borders = qkv.contiguous(), borders.contiguous()
    places, _, heads, dim = qkv.shape
    out, lse = qkv.new_empty(places, heads, dim), qkv.new_empty(places, heads)
    _call("premask_forward", qkv, cos, sin, borders, window, out, lse)
    return out, lse


@attend_segments.register_fake
def _(qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int) -> tuple[Tensor, Tensor]:
    places, _, heads, dim = qkv.shape
    return qkv.new_empty(places, heads, dim), qkv.new_empty(places, heads)


@torch.library.custom_op("premask::attend_segments_backward", mutates_args=(), device_types="cpu")
def attend_segments_backward(
    grad: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, out: Tensor, lse: Tensor
) -> Tensor:
    """The gradient for qkv, [T, 3, H, K]; `grad` and `out` are [T, H, K]."""
    qkv, grad, borders = qkv.contiguous(), grad.contiguous(), borders.contiguous()
    grad_qkv = torch.empty_like(qkv)
    _call("premask_backward", qkv, cos, sin, borders, window, grad, out, lse, grad_qkv)
    return grad_qkv


@attend_segments_backward.register_fake
def _(
    grad: Tensor, qkv: Tensor, cos: Tensor, sin: Tensor, borders: Tensor, window: int, out: Tensor, lse: Tensor
) -> Tensor:
    return torch.empty_like(qkv, memory_format=torch.contiguous_format)


def _save(ctx: torch.autograd.function.FunctionCtx, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    *tensors, ctx.window = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.mark_non_differentiable(output[1])


def _differentiate(ctx: torch.autograd.function.FunctionCtx, grad: Tensor, _: Tensor | None) -> tuple:
    qkv, cos, sin, borders, out, lse = ctx.saved_tensors
    grad_qkv = attend_segments_backward(grad, qkv, cos, sin, borders, ctx.window, out, lse)
    return grad_qkv, None, None, None, None


attend_segments.register_autograd(_differentiate, setup_context=_save)
