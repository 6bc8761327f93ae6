"""The shapes in signatures are checked in these tests."""

from dataclasses import dataclass
from types import ModuleType

import jaxtyping
import numba
import numpy as np
import pytest
from jaxtyping import Int32

from mlm_data.build.split import choose_validation
from tests import shapes


def test_a_wrong_shape_in_the_packages_raises():
    groups = np.arange(8, dtype=np.uint64)
    assert choose_validation(groups, share=0.5, seed=0).shape == (8,)
    with pytest.raises(jaxtyping.TypeCheckError, match="groups"):
        choose_validation(groups.reshape(2, 4), share=0.5, seed=0)
    with pytest.raises(jaxtyping.TypeCheckError, match="groups"):
        choose_validation(groups.astype(np.float32), share=0.5, seed=0)


def test_functions_methods_and_dataclasses_are_checked_kernels_are_not():
    def double(row: Int32[np.ndarray, " places"]) -> Int32[np.ndarray, " places"]:
        return np.concatenate([row, row]) if row.size > 1 else row

    @dataclass
    class Rows:
        tokens: Int32[np.ndarray, "rows length"]

        @classmethod
        def of(cls, rows: Int32[np.ndarray, "rows length"]) -> int:
            return len(rows)

    kernel = numba.njit(lambda row: row)
    module = ModuleType("sample")
    for name, value in {"double": double, "Rows": Rows, "kernel": kernel}.items():
        value.__module__ = "sample"
        setattr(module, name, value)
    shapes.check(module)
    one, two = np.zeros(1, np.int32), np.zeros((1, 2), np.int32)
    assert module.double(one) is one
    assert module.Rows(two).tokens is two
    assert module.Rows.of(two) == 1
    assert module.kernel is kernel
    for wrong in (lambda: module.double(np.zeros(2, np.int32)), lambda: module.Rows(one), lambda: module.Rows.of(one)):
        with pytest.raises(jaxtyping.TypeCheckError):
            wrong()
