"""What masks cost: drawing and counting them by kind, one core; and their bytes. `make bench` prints it."""

import time

import numpy as np
import pytest

from mlm_data.rows.audit_counts import count_shard, describe_vocabulary, source_groups
from mlm_data.rows.masking import KINDS, Plane, draw_plane
from mlm_data.rows.packing import cut_documents, fill_rows, pack
from mlm_data.shards.writer import masks_table
from mlm_data.types import Rows
from tests.bench.datasets import VOCAB
from tests.bench.report import show
from tests.synthetic import ROLES

NEVER, RANDOM = np.arange(5), np.arange(5, VOCAB)
ROUNDS = 5


def packed(tokens: int, *, length: int = 512, mean: int = 600) -> tuple[Rows, np.ndarray]:
    """Rows of random documents, whose ids fall in frequency as in a text, and the documents' ids."""
    rng = np.random.default_rng(0)
    sizes = rng.geometric(1 / mean, tokens // mean)
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    ids = (5 + (VOCAB - 5) * rng.random(offsets[-1]) ** 4).astype(np.uint16)
    words = rng.random(ids.size) < 0.75
    words[offsets[:-1]] = True
    segments = cut_documents(offsets, words, capacity=length - 2)
    packing = pack(segments.length + np.int32(2), sequence_length=length, max_segments=16)
    rows = fill_rows(ids, offsets, words, segments, packing, sequence_length=length, roles=ROLES)
    return rows, rng.integers(0, 2**64, (len(sizes), 2), dtype=np.uint64)


def planes_of(kind: str, number: int) -> dict[str, Plane]:
    return {str(i): Plane(index=i, kind=kind, ngram=6 if kind == "ngram" else 0) for i in range(number)}


def draw(rows: Rows, keys: np.ndarray, plane: Plane):
    return draw_plane(
        rows,
        keys,
        np.zeros(len(keys), np.int16),
        plane,
        roles=ROLES,
        vocab_size=VOCAB,
        never_targets=NEVER,
        random_ids=RANDOM,
    )


@pytest.mark.bench
def test_drawing_and_counting_by_kind():
    """Million tokens a second of one plane, and of the audit of four with their pairs, by plane."""
    rows, keys = packed(4_000_000)
    used = int(rows.used().sum())
    names = [f"[{i}]" for i in range(VOCAB)]
    vocabulary = describe_vocabulary(names, roles=ROLES, never_targets=NEVER, random_ids=RANDOM)
    sources = source_groups(["a.txt"])[np.zeros(len(keys), np.int64)]
    lines = []
    for kind in KINDS:
        planes = planes_of(kind, 4)
        masks = {name: draw(rows, keys, plane) for name, plane in planes.items()}
        count_shard(rows, masks, planes, vocabulary=vocabulary, sources=sources)
        drawing, counting = [], []
        for _ in range(ROUNDS):
            start = time.perf_counter()
            draw(rows, keys, planes["0"])
            drawing.append(time.perf_counter() - start)
            start = time.perf_counter()
            count_shard(rows, masks, planes, vocabulary=vocabulary, sources=sources)
            counting.append((time.perf_counter() - start) / len(planes))
        drawn, counted = min(drawing), min(counting)
        lines.append([kind, *(f"{used / seconds / 1e6:.1f}" for seconds in (drawn, counted, drawn + counted))])
    show(
        f"masks of {used:,} tokens, a plane, million tokens/s of one core",
        ["kind", "drawing", "audit", "both"],
        lines,
        packages=("numpy", "numba"),
    )


@pytest.mark.bench
def test_bytes_of_ten_planes():
    """10 planes at 30 % with 80/10/10, as they are written, beside the tokens."""
    rows, keys = packed(2_000_000)
    masks = {name: draw(rows, keys, plane) for name, plane in planes_of("token", 10).items()}
    num_bytes = masks_table(rows, masks).nbytes
    used = int(rows.used().sum())
    show("10 planes at 30 %, 80/10/10", ["tokens", "bytes", "a token"], [[used, num_bytes, f"{num_bytes / used:.3f}"]])
