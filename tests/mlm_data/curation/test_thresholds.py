import numpy as np

from mlm_data.config import CleanSettings
from mlm_data.curation.thresholds import REASONS, judge_documents


def test_one_document_for_each_reason():
    num_chars = np.array([0, 99, 100, 500], np.int32)
    num_tokens = np.array([0, 20, 20, 0])
    reasons = judge_documents(num_chars, num_tokens, CleanSettings(min_chars=100))
    assert [REASONS[code] for code in reasons] == ["empty", "too_short", "kept", "no_tokens"]


def test_the_threshold_is_a_setting():
    reasons = judge_documents(np.array([1, 0], np.int32), np.array([1, 0]), CleanSettings(min_chars=0))
    assert [REASONS[code] for code in reasons] == ["kept", "empty"]
