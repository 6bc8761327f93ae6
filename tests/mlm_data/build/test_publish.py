"""What a build may lose, weighed by documents and by bytes."""

from dataclasses import asdict

import pytest

from mlm_data.build.publish import check_quarantine
from mlm_data.config import BuildConfig
from mlm_data.dataset.ledger import Ledger
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from mlm_data.types import Quarantined


def weigh(*items, documents_read=1000, bytes_read=100_000, **settings):
    counts = {}
    for item in items:
        counts[item.reason] = counts.get(item.reason, 0) + 1
    ledger = Ledger(bytes_read=bytes_read, documents_read=documents_read, documents_quarantined=counts)
    values = {"inputs": [{"path": "x"}], "output": "o", "tokenizer": {"train": {}}} | settings
    check_quarantine(ledger, [asdict(item) for item in items], parse_settings(BuildConfig, values, where="test"))


def bad(num_bytes=10, lost_bytes=0, reason="bad_json"):
    return Quarantined(
        source="a.jsonl", offset=7, reason=reason, detail="why", num_bytes=num_bytes, lost_bytes=lost_bytes
    )


def test_nothing_lost_is_no_problem():
    weigh()
    weigh(documents_read=0, bytes_read=0)


def test_a_share_of_the_documents():
    weigh(*[bad()] * 10)
    with pytest.raises(
        BuildError, match=r"^11 of 1000 documents \(1\.1%\) can't be read \(bad_json 11\), more than"
    ) as error:
        weigh(*[bad()] * 11)
    assert "max_quarantined = 0.01 allows; the first: a.jsonl at 7: bad_json why" in str(error.value)
    assert str(error.value).endswith("mend the input or raise max_quarantined")


def test_a_share_of_the_bytes():
    """One line of a hundred thousand may hold most of a corpus."""
    weigh(bad(1000))
    with pytest.raises(BuildError, match=r"^1001 of 100000 bytes \(1\.0%\) can't be read"):
        weigh(bad(1001))
    weigh(bad(1001), max_quarantined=0.02)


def test_bytes_that_were_never_read_count_on_both_sides():
    with pytest.raises(BuildError, match=r"^900500 of 1000000 bytes \(90\.0%\) can't be read \(truncated 1\)"):
        weigh(bad(500, 900_000, "truncated"), max_truncated=1)


def test_one_stream_that_breaks_off_is_one_too_many():
    for lost in (0, None, 5):
        with pytest.raises(BuildError, match="1 file breaks off, more than max_truncated = 0") as error:
            weigh(bad(0, lost, "truncated"))
    assert "the first: a.jsonl at 7: truncated why: download it again, or set max_truncated: 1" in str(error.value)
    with pytest.raises(BuildError, match="3 files break off, more than max_truncated = 2"):
        weigh(*[bad(0, 0, "truncated")] * 3, max_truncated=2)


def test_what_nobody_knows_does_not_count_as_bytes():
    weigh(bad(0, None, "truncated"), max_truncated=1)
