"""The three attentions agree, and hide what must be hidden."""

import pytest
import torch

from tests.trainer.precision import both_precisions, tolerance
from trainer.kernels import segments
from trainer.model import attention as at
from trainer.model.attention import make_attention, segment_numbers
from trainer.model.rotary import rotary_tables


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
    seen = reference.layout(positions, borders)
    segments = [0, 0, 0, 1, 1, 1, 1, 2]
    for i in range(8):
        for j in range(8):
            same = segments[i] == segments[j]
            assert seen.for_global[0, 0, i, j] == same
            assert seen.for_local[0, 0, i, j] == (same and abs(i - j) <= 1)


@both_precisions
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
def test_batched_agrees_with_sdpa_in_values_and_gradients(
    monkeypatch, rows, length, window, blocks_from, local, precision
):
    monkeypatch.setattr(at, "BLOCKS_FROM", blocks_from)
    positions, borders = layout(rows)
    results = []
    for kind in ("reference", "batched"):
        attention = make_attention(kind, rows=len(rows), length=length, window=window)
        kept = torch.float32 if kind == "reference" else getattr(torch, precision)
        q, k, v = inputs(len(rows) * length, 2, 8)
        out = attention(q.to(kept), k.to(kept), v.to(kept), attention.layout(positions, borders), local=local)
        weight = torch.randn(out.shape, generator=torch.Generator().manual_seed(1))
        (out * weight).sum().backward()
        results.append((out.detach(), q.grad, k.grad, v.grad))
    for one, other in zip(*results, strict=True):
        error = max(1e-5, tolerance(precision, units=4))
        assert float((one - other).abs().max()) <= error * float(one.abs().max())


@both_precisions
@pytest.mark.parametrize("local", [False, True])
@pytest.mark.parametrize(
    ("rows", "length", "heads", "dim", "window"),
    [
        ([[40, 20, 4], [64]], 64, 2, 8, 16),
        ([[1, 1, 1, 61], [63, 1]], 64, 1, 64, 64),
        ([[150, 50], [97, 103]], 200, 3, 64, 64),  # more than a block of queries, no multiple of a tile
        ([[600]], 600, 2, 40, 7),
        ([[16], [16]], 16, 1, 128, 1),
    ],
)
def test_segments_agree_with_sdpa_in_values_and_gradients(rows, length, heads, dim, window, local, precision):
    """Rotation included: the kernel turns queries and keys itself, and their gradients back."""
    low = getattr(torch, precision)
    positions, borders = layout(rows)
    padded = torch.nn.functional.pad(borders, (0, 3), value=int(borders[-1]))  # as a loader fills it up
    cos, sin = rotary_tables(length, dim, 10_000.0)
    results = []
    for kind in ("reference", "segments"):
        attention = make_attention(kind, rows=len(rows), length=length, window=window)
        generator = torch.Generator().manual_seed(0)
        qkv = torch.randn(len(rows) * length, 3, heads, dim, generator=generator).to(low).float().requires_grad_()
        seen = attention.layout(positions, padded)
        out = attention.mix(
            qkv.to(torch.float32 if kind == "reference" else low),
            *attention.turns(cos, sin, positions),
            seen,
            local=local,
        )
        weight = torch.randn(out.shape, generator=generator)
        (out * weight).sum().backward()
        results.append((out.detach(), qkv.grad))
        assert out.dtype == (torch.float32 if kind == "reference" else low)
    for one, other in zip(*results, strict=True):
        error = max(1e-5, tolerance(precision, units=2))
        assert float((one - other).abs().max()) <= error * float(one.abs().max())


@both_precisions
def test_segments_do_not_depend_on_threads_or_layout(precision):
    positions, borders = layout([[40, 20, 4], [64]])
    cos, sin = rotary_tables(64, 16, 10_000.0)
    qkv = torch.randn(128, 3, 2, 16, generator=torch.Generator().manual_seed(0)).to(getattr(torch, precision))
    before = torch.get_num_threads()
    results = []
    try:
        for threads, given in ((1, qkv), (2, qkv), (2, qkv.transpose(1, 2).contiguous().transpose(1, 2))):
            torch.set_num_threads(threads)
            results.append(segments.attend_segments(given, cos, sin, borders, 16))
    finally:
        torch.set_num_threads(before)
    for out, lse in results[1:]:
        assert torch.equal(out, results[0][0])
        assert torch.equal(lse, results[0][1])
    assert positions.numel() == 128


@both_precisions
def test_a_value_that_is_no_number_shows(precision):
    _, borders = layout([[8, 8]])
    cos, sin = rotary_tables(16, 8, 10_000.0)
    qkv = torch.ones(16, 3, 1, 8, dtype=getattr(torch, precision))
    qkv[3, 1, 0, 2] = torch.nan
    out, _ = segments.attend_segments(qkv, cos, sin, borders, segments.WHOLE)
    assert out[:8].isnan().all()
    assert not out[8:].isnan().any()


def test_nothing_crosses_a_border():
    positions, borders = layout([[5, 11]])
    attention = make_attention("batched", rows=1, length=16, window=4)
    q, k, v = inputs(16, 1, 8)
    out = attention(q, k, v, attention.layout(positions, borders), local=False)
    out[:5].sum().backward()
    assert torch.count_nonzero(v.grad[5:]) == 0
    assert torch.count_nonzero(v.grad[:5]) > 0


def test_bfloat16_stays_close():
    positions, borders = layout([[40, 24], [64]])
    reference = make_attention("reference", rows=2, length=64, window=16)
    batched = make_attention("batched", rows=2, length=64, window=16)
    q, k, v = inputs(128, 2, 8)
    wanted = reference(q, k, v, reference.layout(positions, borders), local=False)
    low = [x.detach().bfloat16() for x in (q, k, v)]
    found = batched(*low, batched.layout(positions, borders), local=False)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=0.05, atol=0.05)


def test_the_operation_is_registered_soundly():
    q, k, v = (x.flatten(0, 1)[None] for x in inputs(8, 1, 8))
    bias = torch.zeros(1, 8, 8)
    torch.library.opcheck(at.attend, (q, k, v, bias), test_utils=("test_schema", "test_faketensor"))
    _, borders = layout([[3, 5]])
    for precision in (torch.float32, torch.bfloat16):
        qkv = torch.randn(8, 3, 1, 8, dtype=precision, requires_grad=True)
        torch.library.opcheck(segments.attend_segments, (qkv, *rotary_tables(8, 8, 100.0), borders, 2))
