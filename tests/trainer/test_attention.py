"""The three attentions agree, and hide what must be hidden."""

import pytest
import torch

from trainer import attention as at
from trainer.attention import make_attention, segment_numbers


def layout(lengths: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    """Positions and borders of rows given as lists of segment lengths."""
    flat = [n for row in lengths for n in row]
    positions = torch.cat([torch.arange(n, dtype=torch.int32) for n in flat])
    borders = torch.tensor([0, *torch.tensor(flat).cumsum(0).tolist()], dtype=torch.int32)
    return positions, borders


def inputs(places: int, heads: int, dim: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(places, heads, dim, generator=generator, requires_grad=True) for _ in range(3)]


def test_segments_are_numbered_through_the_batch():
    positions, _ = layout([[3, 2], [5]])
    assert segment_numbers(positions).tolist() == [1, 1, 1, 2, 2, 3, 3, 3, 3, 3]


def test_the_reference_sees_what_the_rule_says():
    positions, borders = layout([[3, 4, 1]])
    reference = make_attention("reference", rows=1, length=8, window=1)
    plan = reference.plan(positions, borders)
    segments = [0, 0, 0, 1, 1, 1, 1, 2]
    for i in range(8):
        for j in range(8):
            same = segments[i] == segments[j]
            assert plan.wide[0, 0, i, j] == same
            assert plan.near[0, 0, i, j] == (same and abs(i - j) <= 1)


@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(
    ("rows", "length", "window", "blocks_from"),
    [
        ([[40, 20, 4], [64]], 64, 16, 512),
        ([[40, 20, 4], [64]], 64, 16, 64),  # in blocks of the window
        ([[30, 34], [1, 1, 62]], 64, 8, 64),
        ([[64], [64]], 64, 24, 64),  # the window does not divide the row: whole rows
    ],
)
def test_batched_agrees_with_sdpa_in_values_and_gradients(monkeypatch, rows, length, window, blocks_from, local):
    monkeypatch.setattr(at, "BLOCKS_FROM", blocks_from)
    positions, borders = layout(rows)
    results = []
    for kind in ("reference", "batched"):
        attention = make_attention(kind, rows=len(rows), length=length, window=window)
        q, k, v = inputs(len(rows) * length, 2, 8)
        out = attention(q, k, v, attention.plan(positions, borders), local=local)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        (out * weight).sum().backward()
        results.append((out, q.grad, k.grad, v.grad))
    for one, other in zip(*results, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_nothing_crosses_a_border():
    positions, borders = layout([[5, 11]])
    attention = make_attention("batched", rows=1, length=16, window=4)
    q, k, v = inputs(16, 1, 8)
    out = attention(q, k, v, attention.plan(positions, borders), local=False)
    out[:5].sum().backward()
    assert torch.count_nonzero(v.grad[5:]) == 0
    assert torch.count_nonzero(v.grad[:5]) > 0


def test_bfloat16_stays_close():
    positions, borders = layout([[40, 24], [64]])
    reference = make_attention("reference", rows=2, length=64, window=16)
    batched = make_attention("batched", rows=2, length=64, window=16)
    q, k, v = inputs(128, 2, 8)
    wanted = reference(q, k, v, reference.plan(positions, borders), local=False)
    low = [x.detach().bfloat16() for x in (q, k, v)]
    found = batched(*low, batched.plan(positions, borders), local=False)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)


def test_the_operation_is_registered_soundly():
    q, k, v = (x.flatten(0, 1)[None] for x in inputs(8, 1, 8))
    bias = torch.zeros(1, 8, 8)
    torch.library.opcheck(at.attend, (q, k, v, bias), test_utils=("test_schema", "test_faketensor"))
