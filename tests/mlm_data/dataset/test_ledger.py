from mlm_data.dataset.ledger import Ledger

ONE = Ledger(
    bytes_read=100,
    documents_read=10,
    documents_kept=6,
    documents_dropped={"too_short": 2},
    documents_quarantined={"bad_json": 2},
    tokens_tokenized=50,
    tokens_in_rows=40,
    tokens_truncated=4,
    tokens_dropped={"too_short": 6},
)


def test_ledgers_add_up_in_any_order():
    two = Ledger(documents_read=1, documents_dropped={"exact_duplicate": 1}, tokens_tokenized=3, tokens_in_rows=3)
    assert ONE + two == two + ONE
    total = ONE + two
    assert total.documents_dropped == {"exact_duplicate": 1, "too_short": 2}
    assert total.problems() == []
    assert sum([ONE, two], Ledger()) == total


def test_it_survives_json():
    assert Ledger.from_dict(ONE.to_dict()) == ONE


def test_a_lost_document_and_a_lost_token_are_each_named():
    lost = Ledger.from_dict({**ONE.to_dict(), "documents": {**ONE.to_dict()["documents"], "kept": 5}})
    assert lost.problems() == ["documents: read 10 + repeated 0 is not kept 5 + dropped 2 + quarantined 2 = 9"]
    lost = Ledger.from_dict({**ONE.to_dict(), "tokens": {**ONE.to_dict()["tokens"], "truncated": 0}})
    assert lost.problems() == ["tokens: tokenized 50 + repeated 0 is not in rows 40 + truncated 0 + dropped 6 = 46"]
