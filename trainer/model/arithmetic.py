"""What a training step must cost: operations, bytes and the least time, by arithmetic. Nothing here is a measurement.

Useful operations of a forward pass, counting 2 for each multiply-add; a step costs three times that:

    products       2 T (4 D^2 + 3 D F) per layer: qkv, attention's output, and GeGLU's two matrices; in the last layer
                   2 T 3 D^2 + 2 N (D^2 + 3 D F), for after its attention only target places go on
    attention      4 D per pair of places that see each other: q k^T and p v
    head           2 N (D^2 + D V), at N target places only

    base, 8 rows of one segment of 1,024 places, 15 % targets, V = 50,368
    products  21 x 2 x 8,192 x 5.01e6 + last 3.7e10 = 1.76e12    attention  8 global 2.06e11 + 14 local 4.40e10
    head      2 x 1,229 x 3.93e7 = 9.65e10                       a step     6.33e12

Norms, rotations, GeGLU and the rest cost bytes instead: what Inductor's kernels read and write for a layer of
ModernBERT-base is counted in tests/trainer/test_gpu_proof.py. The roofline (Williams et al. 2009) says that a step
can't be faster than its products at the peak of the matrix units, nor than its bytes at the peak of the memory.

Padding counts as a segment here, as the kernels see it; leave it out of `lengths` to count useful places only.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from trainer.config import ModelSettings
from trainer.model.encoder import padded_vocabulary


@dataclass(frozen=True, kw_only=True)
class Peak:
    """A device's peaks as its maker states them."""

    flops: float  # bf16 matrix products without sparsity, float32 sums, per second
    memory: float  # bytes per second
    source: str


# By the beginning of `torch.cuda.get_device_name()`; the first that fits.
PEAKS = {
    "NVIDIA H200": Peak(flops=989.4e12, memory=4.8e12, source="NVIDIA H200 datasheet"),
    "NVIDIA H100 PCIe": Peak(flops=756e12, memory=2.0e12, source="NVIDIA H100 datasheet, PCIe"),
    "NVIDIA H100": Peak(flops=989.4e12, memory=3.35e12, source="NVIDIA H100 datasheet, SXM"),
    "NVIDIA A100-SXM4-80GB": Peak(flops=312e12, memory=2.039e12, source="NVIDIA A100 datasheet, 80GB SXM"),
    "NVIDIA A100": Peak(flops=312e12, memory=1.555e12, source="NVIDIA A100 datasheet, 40GB"),
    "NVIDIA L4": Peak(flops=121e12, memory=0.3e12, source="NVIDIA L4 datasheet, half of the sparse figure"),
    "NVIDIA GeForce RTX 4090": Peak(flops=165.2e12, memory=1.008e12, source="NVIDIA Ada GPU architecture, appendix A"),
}


def peak_of(name: str) -> Peak | None:
    """The stated peaks of a device by its name; None if they are not in our table.

    >>> peak_of("NVIDIA H100 80GB HBM3").memory
    3350000000000.0
    """
    return next((peak for start, peak in PEAKS.items() if name.startswith(start)), None)


def seen_pairs(lengths: Iterable[int], window: int | None = None) -> int:
    """Pairs (i, j) of places in one segment, with |i - j| <= window where there is one.

    >>> seen_pairs([3, 4]), seen_pairs([3, 4], window=1)
    (25, 17)
    """
    total = 0
    for length in lengths:
        if window is None or length <= window + 1:
            total += length * length
        else:
            total += length * (2 * window + 1) - window * (window + 1)
    return total


def step_flops(shape: ModelSettings, *, vocab_size: int, lengths: list[int], targets: int) -> dict[str, float]:
    """Useful operations of one step (forward and backward) over segments of these lengths, by kind.

    What is computed again (flash attention's scores in the backward pass, activation checkpoints) does not count, nor
    does the optimizer.
    """
    width, places = shape.width, sum(lengths)
    num_global = len(range(0, shape.layers, shape.global_every))
    pairs = num_global * seen_pairs(lengths) + (shape.layers - num_global) * seen_pairs(lengths, shape.window)
    mixing, mapping = 3 * width**2, width**2 + 3 * width * shape.intermediate
    forward = {
        "products": 2.0 * ((shape.layers - 1) * places * (mixing + mapping) + places * mixing + targets * mapping),
        "attention": 4.0 * width * pairs,
        "head": 2.0 * targets * (width**2 + width * padded_vocabulary(vocab_size)),
    }
    return {kind: 3 * flops for kind, flops in forward.items()}


def num_parameters(shape: ModelSettings, vocab_size: int) -> int:
    """Parameters of the encoder with its tied decoder, padding of the vocabulary included."""
    width, vocab = shape.width, padded_vocabulary(vocab_size)
    layer = 4 * width**2 + 3 * width * shape.intermediate + 2 * width
    return shape.layers * layer - width + vocab * (width + 1) + width**2 + 3 * width


def memory_bytes(
    shape: ModelSettings, *, vocab_size: int, places: int, targets: int, adamw: bool = True
) -> dict[str, int]:
    """Bytes on the device at the end of the forward pass, in bf16 with float32 weights, without checkpointing.

    A place keeps 22 D + 6 F bytes in each layer: the residual stream (4 D), both norms' outputs (4 D), qkv (6 D), the
    rotated q and k (4 D), attention's output before and after its matrix (4 D), and GeGLU's input and output (6 F).
    """
    parameters = num_parameters(shape, vocab_size)
    chunk = min(targets, 2048)
    return {
        "weights": 4 * parameters,
        "gradients": 4 * parameters,
        "optimizer": (8 if adamw else 4) * parameters,
        "activations": places * shape.layers * (22 * shape.width + 6 * shape.intermediate),
        "logits": 2 * chunk * padded_vocabulary(vocab_size),
    }


# Bytes that Inductor's kernels read and write for one place in one layer of ModernBERT-base, and for one place outside
# the layers, forward and backward: tests/trainer/test_gpu_proof.py counts them in the generated programs. The last
# layer is counted as the others, which is more than it moves.
# They hold at 8,192 places: what a step moves only once is in there, and `least_seconds` takes it out again.
COUNTED_PLACES = 8192
BASE_LAYER_BYTES = 32_361 + 47_818
BASE_OTHER_BYTES = 25_045 + 62_869 + 2_741 + 6_226
WEIGHT_BYTES = 12  # per parameter of a layer: float32 to bf16 for the products, and the gradient back
OPTIMIZER_BYTES = 48  # per parameter: norm 4, scaling 8, AdamW 28, the gradient added up and cleared 8
LOGIT_BYTES = 14  # per logit in bf16: product 2, kernel 6, two products back 4, the bias's sum 2


def least_seconds(
    shape: ModelSettings, *, vocab_size: int, lengths: list[int], targets: int, peak: Peak
) -> dict[str, float]:
    """Seconds of one step of ModernBERT-base at the stated peaks, by what bounds them: an AdamW step can't be faster.

    Products, attention and head are bound by operations, all else by memory; nothing overlaps, for one kernel runs
    after the other. The bytes hold for base's widths only.
    """
    flops = step_flops(shape, vocab_size=vocab_size, lengths=lengths, targets=targets)
    places, width, vocab = sum(lengths), shape.width, padded_vocabulary(vocab_size)
    weights = WEIGHT_BYTES * (4 * width**2 + 3 * width * shape.intermediate)
    table = 4 * vocab * width  # counted as read once and written twice; only the rows of a step's tokens are read
    moved = {
        "layers": shape.layers * (places * (BASE_LAYER_BYTES - weights / COUNTED_PLACES) + weights),
        "embedding and head": places * (BASE_OTHER_BYTES - 3 * table / COUNTED_PLACES + 4 * width) + 2 * table,
        "logits": targets * vocab * LOGIT_BYTES,
        "optimizer": num_parameters(shape, vocab_size) * OPTIMIZER_BYTES,
    }
    return {kind: count / peak.flops for kind, count in flops.items()} | {
        f"{kind}, memory": count / peak.memory for kind, count in moved.items()
    }
