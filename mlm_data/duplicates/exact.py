"""Exact signatures: who has the same text as somebody before.

A signature says: this id belongs to that document of that unit. Signatures are packed into fixed-width records, 24
bytes each, and gathered by a partition of the id, so that equal ids meet:

    id (h1, h2)  unit  document            the first by (unit, document) stays, the others are copies 1, 2, ...
      7  7         2      0
      5  5         0      4     ->         (unit 1, document 9, copy 1), (unit 2, document 0, copy 1)
      5  5         1      9
      7  7         0      1

Only records whose h1 occurs twice are looked at closely. Cost: one sort of 8 bytes a record; memory 16 bytes a record
beside the records themselves.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Int32, Int64

from mlm_data.hashing import Hashes

RECORD = np.dtype([("h1", "<u8"), ("h2", "<u8"), ("unit", "<i4"), ("document", "<i4")])
Records = np.ndarray  # of RECORD


class Duplicates(NamedTuple):
    """Documents to drop, sorted by (unit, document)."""

    unit: Int32[np.ndarray, " copies"]
    document: Int32[np.ndarray, " copies"]
    copy: Int32[np.ndarray, " copies"]  # 1 for the second of its kind, and so on


def pack_records(ids: Hashes, unit: int, documents: Int64[np.ndarray, " documents"]) -> Records:
    """Records of one unit: ids [n, 2], and which documents of the unit they belong to."""
    records = np.empty(len(ids), RECORD)
    records["h1"], records["h2"] = ids[:, 0], ids[:, 1]
    records["unit"], records["document"] = unit, documents
    return records


def find_duplicates(records: Records) -> Duplicates:
    """Which documents repeat the text of one before them, by (unit, document)."""
    order = np.argsort(records["h1"], kind="stable")
    keys = records["h1"][order]
    equal = keys[1:] == keys[:-1]
    is_candidate = np.zeros(len(records), np.bool_)
    is_candidate[1:] |= equal
    is_candidate[:-1] |= equal
    some = records[order[is_candidate]]
    some = some[np.lexsort((some["document"], some["unit"], some["h2"], some["h1"]))]
    repeats = np.zeros(len(some), np.bool_)
    repeats[1:] = (some["h1"][1:] == some["h1"][:-1]) & (some["h2"][1:] == some["h2"][:-1])
    places = np.arange(len(some))
    first = np.maximum.accumulate(np.where(repeats, 0, places)) if len(some) else places
    copy = (places - first).astype(np.int32)[repeats]
    some = some[repeats]
    order = np.lexsort((some["document"], some["unit"]))
    return Duplicates(some["unit"][order], some["document"][order], copy[order])
