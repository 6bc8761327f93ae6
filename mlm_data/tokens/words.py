"""The words engine: scan once, tokenize each distinct word once, remember it.

    texts -> careful steps of the family -> scan (known pieces become ids, unknown ones holes) -> ask -> splice

The table, the class table and what they are read from are shared by all threads that use an engine; a scan's
buffers belong to one thread.
"""

import threading

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int64, UInt8

from mlm_data.hashing import string_buffers
from mlm_data.tokens.ask import Answers
from mlm_data.tokens.emit import (
    DOCUMENT,
    LONGEST_ANSWER,
    MATCH,
    NUM_HOLES,
    NUM_IDS,
    PLACE,
    UNKNOWN_POINT,
    Buffers,
    distinct_holes,
    splice,
)
from mlm_data.tokens.families import Family, Prepared
from mlm_data.tokens.huggingface import HuggingFaceEngine, interleaved
from mlm_data.tokens.reference import Reference
from mlm_data.tokens.table import LONGEST_KEY, WordTable
from mlm_data.types import Encoded, id_type

BYTES_PER_ID = 3  # a first guess at how much room ids need; pages that aren't written cost nothing


class WordsEngine:
    """Ids of texts by a table of known words.

    Args:
        budget_bytes: memory of the table; what doesn't fit is asked again.
    """

    name = "words"

    def __init__(self, reference: Reference, family: Family, why: str, budget_bytes: int = 512 << 20) -> None:
        self.why = why
        self.table = WordTable(budget_bytes)
        self.family = family
        self.num_asked = 0  # pieces asked of the model
        self.num_left = 0  # texts left to HF, whole
        self._certain = HuggingFaceEngine(reference)
        self._dtype = id_type(reference.vocab_size)
        self._local = threading.local()

    def encode(self, texts: pa.LargeStringArray) -> Encoded:
        """Ids of each text, as the reference gives them."""
        prepared = self.family.prepare(texts)
        if prepared.left is None:
            return self._scan(prepared)
        # Texts that the scanner isn't certain of take HF's way, whole.
        left = pa.array(prepared.left)
        certain = self.encode(texts.filter(pc.invert(left)))
        others = self._certain.encode(texts.filter(left))
        self.num_left += len(others.offsets) - 1
        return interleaved(certain, others, prepared.left)

    def _scan(self, prepared: Prepared) -> Encoded:
        data, bounds = string_buffers(prepared.texts)
        if not hasattr(self._local, "buffers"):
            self._local.buffers = Buffers()
        own: Buffers = self._local.buffers
        offsets = np.zeros(len(bounds), np.int64)
        ends = np.zeros((len(bounds) - 1, 2), np.int64)
        total, document, place = 0, 0, int(bounds[0])
        room = int(bounds[-1] - bounds[0]) // BYTES_PER_ID + 1024
        ids, starts = np.empty(room, self._dtype), np.empty(room, bool)
        own.state[MATCH] = 0
        while document < len(bounds) - 1:
            own.state[DOCUMENT], own.state[PLACE] = document, place
            self.family.scan(data, bounds, prepared.matches, self.table.view, own, ends)
            num_ids, num_holes = int(own.state[NUM_IDS]), int(own.state[NUM_HOLES])
            which = np.empty(num_holes, np.int64)
            answers = self._answer(data, own, which) if num_holes else NOTHING
            size = num_ids + int(np.diff(answers.bounds)[which].sum())
            if total + size > len(ids):
                room = max(total + size, len(ids) * 3 // 2)
                ids, starts = _longer(ids, total, room), _longer(starts, total, room)
            first, document, place = document, int(own.state[DOCUMENT]), int(own.state[PLACE])
            splice(
                own.out,
                num_ids,
                own.holes,
                which,
                answers.ids,
                answers.bounds,
                ends[first:document],
                ids[total:],
                starts[total:],
                offsets[first + 1 : document + 1],
                total,
            )
            total += size
            if own.state[UNKNOWN_POINT] >= 0:
                self.family.learn(int(own.state[UNKNOWN_POINT]))
        return Encoded(ids=ids[:total], offsets=offsets, word_starts=starts[:total])

    def _answer(self, data: UInt8[np.ndarray, " bytes"], own: Buffers, which: Int64[np.ndarray, " holes"]) -> Answers:
        """Ask about the distinct pieces of the holes, and remember the answers."""
        holes = own.holes[: len(which)]
        slots = np.zeros(1 << (len(which).bit_length() + 1), np.int64)
        starts, lengths = np.empty(len(which), np.int64), np.empty(len(which), np.int64)
        count = distinct_holes(data, holes, own.hashes, slots, which, starts, lengths)
        starts, lengths = starts[:count], lengths[:count]
        answers = self.family.ask(data, starts, lengths)
        self.num_asked += count
        keep = (lengths <= LONGEST_KEY) & (np.diff(answers.bounds) <= LONGEST_ANSWER)
        if keep.all():
            self.table.add(data, starts, lengths, answers.ids, answers.bounds)
        else:
            sizes = np.diff(answers.bounds)
            kept = answers.ids[np.repeat(keep, sizes)]
            bounds = np.concatenate([[0], np.cumsum(sizes[keep])])
            self.table.add(data, starts[keep], lengths[keep], kept, bounds)
        return answers


NOTHING = Answers(np.empty(0, np.uint32), np.zeros(1, np.int64))


def _longer(array: np.ndarray, used: int, room: int) -> np.ndarray:
    result = np.empty(room, array.dtype)
    result[:used] = array[:used]
    return result
