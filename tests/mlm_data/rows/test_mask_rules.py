"""The kernels say what numpy says."""

import numpy as np
import pytest

from mlm_data.rows.mask_rules import look_at_targets, maskable_bits


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
