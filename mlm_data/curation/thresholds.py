"""Thresholds over stored scores: which documents pass, and the reason for each that doesn't.

Scores are stored with the prepared documents, so changing a threshold reads and tokenizes nothing again. The first
reason in the order of `REASONS` is the one that counts.
"""

import numpy as np
from jaxtyping import Int32, Int64, UInt8

from mlm_data.config import CleanSettings

KEPT = 0
REASONS = ("kept", "empty", "too_short", "no_tokens")
EXACT_DUPLICATE = "exact_duplicate"  # given later, by the deduplication


def judge_documents(
    num_chars: Int32[np.ndarray, " documents"],
    num_tokens: Int64[np.ndarray, " documents"],
    settings: CleanSettings,
) -> UInt8[np.ndarray, " documents"]:
    """The index in `REASONS` of each document's fate; 0 keeps it.

    >>> judge_documents(np.array([0, 5, 200], np.int32), np.array([0, 2, 50]), CleanSettings(min_chars=100))
    array([1, 2, 0], dtype=uint8)
    """
    fails = {"empty": num_chars == 0, "too_short": num_chars < settings.min_chars, "no_tokens": num_tokens == 0}
    assert tuple(fails) == REASONS[1:], "the first reason in their order is the one that counts"
    return np.select(
        list(fails.values()), [np.uint8(REASONS.index(reason)) for reason in fails], default=np.uint8(KEPT)
    )
