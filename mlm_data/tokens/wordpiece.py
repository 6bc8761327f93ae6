"""WordPiece over bytes: the model's answers for many normalized words in one call.

The rule (Schuster, Nakajima 2012; the code of Devlin et al. 2019): from the left, take the longest token that begins
the rest of the word; after the first one, tokens are those written with ##. A word whose rest no token begins, or of
more than `max_input_chars_per_word` characters, is the unknown token, whole.

    "unaffable", tokens un ##aff ##able ##a   ->   un ##aff ##able

HF's own answer for a word costs about 10 us, most of it in crossing from Python; this takes 0.3 us. The tests compare
them. Cost: the square of the longest token's length, in look-ups, for the worst word.
"""

import numpy as np
from jaxtyping import Int64, UInt8

from mlm_data.kernels import lean_kernel, read_only
from mlm_data.tokens.ask import Answers
from mlm_data.tokens.reference import UNSPEAKABLE, Reference
from mlm_data.tokens.table import LONGEST_KEY, WORD_START, View, WordTable, find, piece_hash, piece_key


class WordPiece:
    """A WordPiece model's vocabulary, ready to be asked. `usable` says whether it can be."""

    def __init__(self, reference: Reference) -> None:
        model = reference.raw_settings["model"]
        prefix = model.get("continuing_subword_prefix", "##")
        vocabulary = {t.encode(): i for t, i in model["vocab"].items() if not t.startswith(UNSPEAKABLE)}
        mark = prefix.encode()
        rest = {token.removeprefix(mark): i for token, i in vocabulary.items() if token.startswith(mark)}
        self.longest = max((len(token) for token in vocabulary), default=0)
        self.usable = bool(prefix) and self.longest <= LONGEST_KEY
        self.max_chars = model.get("max_input_chars_per_word", 100)
        self.unknown = np.uint32(model["vocab"][model["unk_token"]]) | WORD_START
        if self.usable:
            self._first, self._rest = _table(vocabulary), _table(rest)

    def ask(self, data: UInt8[np.ndarray, " bytes"], bounds: Int64[np.ndarray, " words+1"]) -> Answers:
        """Answers for the normalized words data[bounds[i]:bounds[i + 1]], valid UTF-8; an empty word has no ids."""
        ids = np.empty(int(bounds[-1] - bounds[0]) + len(bounds), np.uint32)
        ends = np.zeros(len(bounds), np.int64)
        wordpiece(
            read_only(data),
            bounds,
            self._first.slots,
            self._first.keys,
            self._rest.slots,
            self._rest.keys,
            self.longest,
            self.max_chars,
            self.unknown,
            ids,
            ends,
        )
        return Answers(ids[: ends[-1]], ends)


def _table(vocabulary: dict[bytes, int]) -> View:
    vocabulary.pop(b"", None)
    tokens = list(vocabulary)
    lengths = np.array([len(token) for token in tokens], np.int64)
    bounds = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    ids = np.fromiter(vocabulary.values(), np.uint32, len(tokens)) | WORD_START
    table = WordTable(1 << 40)
    data = np.frombuffer(b"".join(tokens), np.uint8)
    table.add(data, bounds[:-1], lengths, ids, np.arange(len(tokens) + 1, dtype=np.int64))
    return table.view


@lean_kernel
def wordpiece(data, bounds, first, first_keys, rest, rest_keys, longest, max_chars, unknown, ids, ends):
    """Fill ids (room: bytes + words) and ends[word + 1]."""
    used = 0
    for word in range(bounds.size - 1):
        start = bounds[word]
        stop = bounds[word + 1]
        begin = used
        chars = 0
        for i in range(start, stop):
            chars += (data[i] & 0xC0) != 0x80
        known = chars <= max_chars
        while known and start < stop:
            end = min(stop, start + longest)
            known = False
            while end > start:
                if end == stop or (data[end] & 0xC0) != 0x80:
                    length = end - start
                    k0, k1 = piece_key(data, start, length)
                    h = piece_hash(data, start, length, k0, k1)
                    place = -1
                    if used == begin:
                        place = find(first, first_keys, data, start, length, k0, k1, h)
                        if place >= 0:
                            ids[used] = np.uint32(first[place + 2])
                    else:
                        place = find(rest, rest_keys, data, start, length, k0, k1, h)
                        if place >= 0:
                            ids[used] = np.uint32(rest[place + 2]) & ~WORD_START
                    if place >= 0:
                        known = True
                        break
                end -= 1
            start = end
            used += known
        if not known:
            used = begin
            ids[used] = unknown
            used += 1
        ends[word + 1] = used


@lean_kernel
def gather(data, starts, lengths, lower, out, bounds):
    """Put pieces one after another, ASCII in lower case if wanted; bounds[i + 1] is piece i's end in `out`."""
    place = 0
    for i in range(starts.size):
        for j in range(starts[i], starts[i] + lengths[i]):
            byte = data[j]
            out[place] = byte | 0x20 if lower and 65 <= byte <= 90 else byte
            place += 1
        bounds[i + 1] = place
