"""What the machine offers: device, the faster precision, a compiler, and the settings that make runs repeatable."""

import os
import time
from dataclasses import dataclass
from typing import Any

import torch

from mlm_data.errors import ConfigError
from trainer.config import RunSettings
from trainer.kernels import native, segments, softmax
from trainer.model.encoder import Encoder
from trainer.model.loss import compiled_kernel
from trainer.training.parallel import ALONE, Parallel

PRECISION = "PREMASK_PRECISION"  # environment variable: float32 or bfloat16, what `auto` takes instead of measuring
PRECISIONS = ("float32", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a run computes on. The names are stored with the run: resuming on other ones is no longer bit for bit."""

    device: torch.device
    precision: torch.dtype  # of matrix products
    compile: bool
    deterministic: bool
    notes: tuple[str, ...] = ()  # for people: what was chosen for a reason


def choose(settings: RunSettings, *, precision: str | None = None, parallel: Parallel = ALONE) -> Machine:
    """Choose device, precision and compilation.

    Args:
        precision: what an earlier start of the same run measured; it is kept.

    Raises:
        ConfigError: if the settings ask for what is not there, or PREMASK_PRECISION names no precision.
    """
    notes: list[str] = []
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ConfigError("device: cuda is asked for, and torch sees none: install a CUDA build of torch, or use cpu")
    device = torch.device(f"cuda:{parallel.local_rank}" if there and settings.device != "cpu" else "cpu")
    wanted = settings.precision if settings.precision != "auto" else precision
    if wanted is None:
        ordered = ordered_precision()
        usual = ordered or ("bfloat16" if device.type == "cuda" else faster_precision())
        wanted = PRECISIONS[int(parallel.largest(usual == "bfloat16", device))]  # the same on all ranks
        notes.append(f"matrix products in {wanted}: {f'{PRECISION} says so' if ordered else 'the faster here'}")
    if device.type == "cuda" and wanted != "bfloat16":
        raise ConfigError(
            f"precision: attention on CUDA needs bfloat16: remove precision (and {PRECISION}), or use device=cpu"
        )
    compiled = settings.compile != "off"
    if compiled and not has_compiler(device):
        if settings.compile == "on":
            raise ConfigError("compile: on needs a C++ compiler: install the package g++ (Debian, Ubuntu) or gcc-c++")
        notes.append("no C++ compiler: running eagerly, about 1.3 times slower; install the package g++ (or gcc-c++)")
        compiled = False
    elif device.type == "cpu" and (problem := segments.problem(getattr(torch, wanted))):
        notes.append(f"attention by products over whole rows, the slower way: {problem}")
    deterministic = settings.deterministic if settings.deterministic is not None else device.type == "cpu"
    return Machine(
        device=device,
        precision=getattr(torch, wanted),
        compile=compiled,
        deterministic=deterministic,
        notes=tuple(notes),
    )


def has_compiler(device: torch.device) -> bool:
    """Whether Inductor can compile for this device: a C++ compiler for CPUs; on GPUs Triton brings its own."""
    return device.type == "cuda" or native.compiler() is not None


def ordered_precision() -> str | None:
    """What PREMASK_PRECISION says `auto` shall take, so that one machine can do what another one would; None if unset.

    Raises:
        ConfigError: if it is neither float32 nor bfloat16.
    """
    ordered = os.environ.get(PRECISION) or None
    if ordered is not None and ordered not in PRECISIONS:
        raise ConfigError(f"{PRECISION} must be {' or '.join(PRECISIONS)}, got {ordered!r}: correct or unset it")
    return ordered


def faster_precision() -> str:
    """float32 or bfloat16: whichever multiplies faster here, by a short measurement (0.1 s).

    A processor may have bf16 instructions and be slower with them: without AMX, on 2 cores of a Sapphire Rapids,
    float32 did 340 and bf16 180 GFLOP/s. bf16 must win by a tenth.
    """
    if not torch.cpu._is_avx512_bf16_supported():
        return "float32"
    precisions = (torch.float32, torch.bfloat16)
    factors = {dtype: (torch.ones(2048, 256, dtype=dtype), torch.ones(256, 768, dtype=dtype)) for dtype in precisions}
    seconds = dict.fromkeys(precisions, float("inf"))
    for _ in range(15):  # in turn, and the shortest of each: other programs may be running
        for dtype in precisions:
            start = time.perf_counter()
            torch.mm(*factors[dtype])
            seconds[dtype] = min(seconds[dtype], time.perf_counter() - start)
    return "bfloat16" if seconds[torch.bfloat16] * 1.1 < seconds[torch.float32] else "float32"


def measured_peak(precision: torch.dtype, device: torch.device, *, size: int | None = None, repeats: int = 10) -> float:
    """Operations per second of the fastest of some square products here: what shares of the peak refer to.

    Args:
        size: of the square; by default 2,048 on a CPU and 8,192 on a GPU.
    """
    on_gpu = device.type == "cuda"
    size = size or (8192 if on_gpu else 2048)
    # Random numbers: processors save power, and gain speed, on zeros and ones. From a generator of their own: a
    # measurement leaves the state of a run as it is.
    generator = torch.Generator(device)
    left, right = (torch.randn(size, size, device=device, generator=generator).to(precision) for _ in range(2))
    best = float("inf")
    for _ in range(repeats):
        if on_gpu:
            torch.cuda.synchronize()
        start = time.perf_counter()
        torch.mm(left, right)
        if on_gpu:
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best


def prepare(machine: Machine) -> None:
    """Settings of the whole process."""
    torch.use_deterministic_algorithms(machine.deterministic)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # costs a pass per allocation
    if machine.device.type == "cuda":
        torch.set_float32_matmul_precision("high")
        if machine.deterministic:
            os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


def compile_parts(model: Encoder) -> None:
    """Compile embedding, blocks and head, each without graph breaks. Blocks of one kind share their code."""
    options: dict[str, Any] = {"fullgraph": True, "dynamic": False}
    for block in model.blocks:
        # Without the module's hooks: FSDP's stay outside.
        block.forward = torch.compile(block.forward, **options)
    model.embed = torch.compile(model.embed, **options)  # type: ignore[method-assign]
    model.features = torch.compile(model.features, **options)  # type: ignore[method-assign]
    if model.decoder_bias.is_cuda:
        from trainer.kernels.triton_loss import softmax_gradient  # Triton comes with torch for CUDA only

        model.loss_kernel = softmax_gradient
    elif model.compute in (torch.float32, torch.bfloat16) and softmax.problem() is None:
        model.loss_kernel = softmax.softmax_gradient
    else:
        model.loss_kernel = compiled_kernel()
