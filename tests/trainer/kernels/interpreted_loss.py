"""Runs the Triton kernel in Triton's interpreter (TRITON_INTERPRET=1) beside its twin; prints one JSON line per case.

A process of its own: the interpreter is chosen when Triton is imported.
"""

import json
import sys

import torch

from trainer.kernels import triton_loss
from trainer.model import loss

CASES = json.loads(sys.argv[1])


def compare(*, rows: int, vocab: int, block: int, dtype: str, scale: float, ties: bool = False) -> dict[str, float]:
    triton_loss.BLOCK = block
    generator = torch.Generator().manual_seed(rows * vocab)
    logits = (torch.randn(rows, vocab, generator=generator) * scale).to(getattr(torch, dtype))
    bias = torch.randn(vocab, generator=generator)
    target = torch.randint(0, vocab, (rows,), generator=generator)
    if ties:  # the best value stands in two blocks: the lower id is the best
        logits.zero_()
        bias.zero_()
        logits[:, [1, vocab - 1]] = 1.0
        target = torch.tensor([1, vocab - 1] * (rows // 2))
    else:
        target[:2] = (logits[:2].float() + bias).argmax(-1)  # two hits
        target[rows // 2 :: 5] = -100
    expected, found = logits.float().clone(), logits.clone()
    wide = torch.full((rows, vocab + 8), 7.0, dtype=found.dtype)
    wide[:, :vocab] = found  # rows further apart than they are long: what lies beyond must stay
    loss_a, hit_a = loss.softmax_gradient(expected, bias, target)
    loss_b, hit_b = triton_loss.softmax_gradient(wide[:, :vocab], bias, target)
    return {
        "loss": (loss_a - loss_b).abs().max().item(),
        "hits": (hit_a - hit_b).abs().sum().item(),
        "num_hits": hit_b.sum().item(),
        "gradient": (expected - wide[:, :vocab].float()).abs().max().item(),
        "ignored": wide[:, :vocab][target == -100].abs().sum().item() + loss_b[target == -100].abs().sum().item(),
        "beyond": (wide[:, vocab:] - 7.0).abs().sum().item(),
    }


def whole(dtype: str) -> dict[str, float]:
    """`target_loss` over two chunks and a rest, with either kernel; differences relative to the largest value."""
    loss.CHUNK = triton_loss.BLOCK = 32
    generator = torch.Generator().manual_seed(0)
    precision = getattr(torch, dtype)
    features = torch.randn(75, 24, generator=generator)
    target = torch.randint(0, 100, (75,), generator=generator)
    target[::4] = -100
    results = []
    for kernel in (loss.softmax_gradient, triton_loss.softmax_gradient):
        values = [
            features.clone(),
            *(torch.randn(*shape, generator=torch.Generator().manual_seed(1)) for shape in ((100, 24), (100,))),
        ]
        x, weight, bias = (value.requires_grad_() for value in values)
        total, hits = loss.target_loss(x, weight, bias, target, compute=precision, kernel=kernel)
        (total / 3).backward()
        results.append((total.detach(), hits, x.grad, weight.grad, bias.grad))
    return {
        name: ((a - b).abs().max() / a.abs().max().clamp(min=1e-9)).item()
        for name, a, b in zip(("loss", "hits", "dx", "dweight", "dbias"), *results, strict=True)
    }


def broken() -> dict[str, float]:
    """What a NaN and an infinity in a row do to its loss, and to the row beside it."""
    logits = torch.zeros(3, 40)
    logits[0, 5], logits[1, 6] = float("nan"), float("inf")
    found, _ = triton_loss.softmax_gradient(logits, torch.zeros(40), torch.tensor([1, 2, 3]))
    return {"finite": torch.isfinite(found).tolist()}


for case in CASES:
    kind = case.pop("kind")
    print(json.dumps({"compare": compare, "whole": whole, "broken": broken}[kind](**case)))
