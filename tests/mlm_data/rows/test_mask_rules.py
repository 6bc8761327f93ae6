"""The kernels say what numpy says."""

import numpy as np
import pytest

from mlm_data.rows.mask_rules import SWAP_LINES, look_at_targets, maskable_bits, swap_problems
from mlm_data.types import PlaneMasks


@pytest.mark.parametrize(("dtype", "vocabulary"), [(np.uint16, 40), (np.uint32, 70_000)])
@pytest.mark.parametrize("rows", [0, 1, 37])
def test_as_numpy_has_it(dtype, vocabulary, rows):
    rng = np.random.default_rng(rows)
    tokens = rng.integers(0, vocabulary + 3, (rows, 24)).astype(dtype)  # some are in no vocabulary
    used = rng.integers(0, 25, rows).astype(np.int32)
    never = rng.random(vocabulary) < 0.3
    bits, counts = maskable_bits(tokens, used, never)
    wanted = (np.arange(24) < used[:, None]) & ~np.append(never, [True] * 3)[tokens]
    assert np.array_equal(np.unpackbits(bits, axis=1, bitorder="little").astype(bool), wanted)
    assert np.array_equal(counts, wanted.sum(1))
    targets = rng.integers(0, 256, (rows, 3)).astype(np.uint8) & rng.integers(0, 256, (rows, 3)).astype(np.uint8)
    targets[::2] &= bits[::2]
    wrong, found = look_at_targets(targets, bits)
    plain = np.unpackbits(targets, axis=1, bitorder="little").astype(bool)
    assert np.array_equal(wrong, (plain & ~wanted).any(1))
    assert np.array_equal(found, plain.sum(1))
    assert rows < 2 or (wrong.any() and not wrong.all())


def plain_swap_problems(masks: PlaneMasks, length: int, vocab_size: int) -> list[str]:
    """As people would say it: row by row."""
    broken: list[list[int]] = [[], [], [], []]
    for row, bits in enumerate(np.unpackbits(masks.targets, axis=1, bitorder="little")):
        span = slice(masks.swap_offsets[row], masks.swap_offsets[row + 1])
        places, tokens = masks.swap_places[span].tolist(), masks.swap_tokens[span].tolist()
        inside = [place for place in places if place < length]
        found = (
            len(inside) < len(places),
            not all(bits[place] for place in inside),
            inside != sorted(set(inside)),
            any(token >= vocab_size for token in tokens),
        )
        for rule, is_broken in enumerate(found):
            if is_broken:
                broken[rule].append(row)
    lines = [
        f"row {rows[0]}: {line}" + (f" ({len(rows)} such rows)" if len(rows) > 1 else "")
        for line, rows in zip(SWAP_LINES, broken, strict=True)
        if rows
    ]
    return lines[:1] if broken[0] else lines


@pytest.mark.parametrize("bad", ["nothing", "outside", "target", "order", "token"])
@pytest.mark.parametrize("seed", range(4))
def test_swaps_as_python_has_them(bad, seed):
    rng = np.random.default_rng(seed)
    targets = rng.random((9, 24)) < 0.5
    rows = [np.flatnonzero(one)[rng.random(one.sum()) < 0.5] for one in targets]
    rows[4] = rows[4][:0]
    offsets = np.cumsum([0, *map(len, rows)]) + 2  # the values begin before the first row's
    places = np.concatenate([[30, 31], *rows]).astype(np.uint16)
    tokens = rng.integers(0, 40, places.size).astype(np.uint16)
    for place in 2 + rng.permutation(places.size - 2)[:2]:
        if bad == "outside":
            places[place] = 24
        elif bad == "target":
            targets[:, places[place]] = False
        elif bad == "order":
            places[place] = places[place - 1] = places[2]
        elif bad == "token":
            tokens[place] = 40
    masks = PlaneMasks(
        targets=np.packbits(targets, axis=1, bitorder="little"),
        swap_offsets=offsets.astype(np.int32),
        swap_places=places,
        swap_tokens=tokens,
    )
    found = list(swap_problems(masks, sequence_length=24, vocab_size=40))
    assert found == plain_swap_problems(masks, 24, 40)
    assert bool(found) == (bad != "nothing")
