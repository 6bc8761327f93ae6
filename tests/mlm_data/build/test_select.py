"""From prepared units to lists of copies."""

import numpy as np

from mlm_data.build import select
from mlm_data.duplicates import exact
from mlm_data.stores.folder import Folder


def records(*hashes_and_places):
    """Signature records from (hash, unit, document)."""
    ids = np.array([(h, h) for h, _, _ in hashes_and_places], np.uint64)
    made = exact.pack_records(ids, 0, np.zeros(len(ids), np.int64))
    made["unit"] = [unit for _, unit, _ in hashes_and_places]
    made["document"] = [document for _, _, document in hashes_and_places]
    return made


def test_copies_by_unit_in_reading_order():
    found = list(select.find_copies(records((7, 2, 0), (5, 0, 4), (5, 1, 9), (7, 0, 1), (5, 1, 2))))
    assert [(unit, copies.tolist()) for unit, copies in found] == [(1, [(2, 1), (9, 2)]), (2, [(0, 1)])]


def test_no_copies():
    assert list(select.find_copies(records((7, 2, 0), (5, 0, 4)))) == []
    assert list(select.find_copies(np.zeros(0, exact.RECORD))) == []


def test_copy_numbers_do_not_wrap():
    """More copies of one text than 16 bits can count."""
    many = np.zeros(40_000, exact.RECORD)
    many["document"] = np.arange(len(many))
    ((unit, copies),) = select.find_copies(many)
    assert unit == 0
    assert copies["copy"].tolist() == list(range(1, 40_000))


def test_records_survive_the_shuffle(tmp_path):
    some = records((5, 0, 4), (7, 2, 0))
    work = Folder(tmp_path)
    assert select.load(select.store(some, work), work).tolist() == some.tolist()
