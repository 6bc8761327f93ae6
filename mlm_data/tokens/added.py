"""Added tokens that are not special: where they stand in the texts.

The rule of HF `tokenizers`: before anything else, added tokens are found in a text, the leftmost first and the longest
at one place, without overlap; what lies between them goes on alone. OLMo's tokens are runs of 2 to 24 spaces:

    "a" + 26 spaces + "b"     ->   a | 24 spaces | 2 spaces | b

Tokens with `normalized` are looked for after the normalizer, the others before. Where tokens of both kinds
exist, or one wants white space stripped or whole words (`lstrip`, `rstrip`, `single_word`), a text that holds such a
token's string at all is left to HF.

Cost: two comparisons for eight bytes and each pair of bytes that tokens begin with; a walk down a byte trie where they
are found. (Finding a zero byte in a word: Warren, Hacker's Delight, 2nd ed., sec. 6-1.)
"""

import numpy as np
from jaxtyping import Bool, Int32, Int64, UInt8, UInt64

from mlm_data.kernels import lean_kernel, load_uint64, trailing_zeros

MOST_NODES = 1 << 14  # of a trie, 1 KiB each
MOST_OPENINGS = 6
ONES = 0x0101010101010101
LOW_BITS = np.uint64(ONES)
HIGH_BITS = np.uint64(0x8080808080808080)
BEYOND = np.int64(2**62)  # where the match after the last one starts


class AddedTokens:
    """A byte trie of the added tokens of a tokenizer.

    Args:
        tokens: as in the tokenizer.json, with their ids.
    """

    def __init__(self, tokens: list[dict], ids: dict[str, int]) -> None:
        self.tokens = tokens
        self.normalized = bool(tokens) and all(token["normalized"] for token in tokens)
        mixed = any(token["normalized"] for token in tokens)
        strings = [token["content"].encode() for token in tokens]
        num_nodes = 1 + sum(len(string) for string in strings)
        self.usable = num_nodes <= MOST_NODES
        if not self.usable:
            return
        self._children: Int32[np.ndarray, " nodes 256"] = np.zeros((num_nodes, 256), np.int32)
        self._ids: Int64[np.ndarray, " nodes"] = np.full(num_nodes, -1, np.int64)
        used = 1
        for token, string in zip(tokens, strings, strict=True):
            node = 0
            for byte in string:
                if not self._children[node, byte]:
                    self._children[node, byte] = used
                    used += 1
                node = self._children[node, byte]
            flags = token["lstrip"] or token["rstrip"] or token["single_word"] or (mixed and not token["normalized"])
            # -2: a text that holds this one is left to HF.
            self._ids[node] = -2 if flags else ids[token["content"]]

        # The first two bytes of each token: eight places of a text are compared with them at a time. A token of one
        # byte, or too many pairs, make every place worth a look.
        pairs = sorted({string[:2] for string in strings})
        few = len(pairs) <= MOST_OPENINGS and all(len(pair) == 2 for pair in pairs)
        self._openings: UInt64[np.ndarray, "pairs 2"] = np.array(
            [[byte * ONES for byte in pair] for pair in pairs if few], np.uint64
        ).reshape(-1, 2)

    def find(
        self, data: UInt8[np.ndarray, " bytes"], bounds: Int64[np.ndarray, " texts+1"], left: Bool[np.ndarray, " texts"]
    ) -> Int64[np.ndarray, "matches+1 3"]:
        """Start, end and id of each match, in order, and one beyond all; sets left[text] where HF must decide."""
        room = 1 << 10
        while True:
            matches = np.empty((room, 3), np.int64)
            count = find_added(data, bounds, self._children, self._ids, self._openings, left, matches)
            if count < room:
                matches[count] = BEYOND
                return matches[: count + 1]
            room = 2 * count + 2


NONE = np.full((1, 3), BEYOND, np.int64)


@lean_kernel
def find_added(data, bounds, children, ids, openings, left, matches):
    """Fill matches as far as they go, set left; returns their number."""
    count = 0
    for text in range(bounds.size - 1):
        place = bounds[text]
        end = bounds[text + 1]
        free = place  # matches start here or later
        while place < end:
            if openings.shape[0] > 0:
                while place + 9 <= end:
                    here = load_uint64(data, place)
                    after = load_uint64(data, place + 1) if place + 9 <= data.size else np.uint64(0)
                    zeros = np.uint64(0)
                    for i in range(openings.shape[0]):
                        both = (here ^ openings[i, 0]) | (after ^ openings[i, 1])
                        zeros |= (both - LOW_BITS) & ~both & HIGH_BITS
                    if zeros != 0:
                        place += trailing_zeros(zeros) >> 3
                        break
                    place += 8
                if place >= end:
                    break
            node = children[0, data[place]]
            if node == 0:
                place += 1
                continue
            found = -1
            stop = place + 1
            while True:
                if ids[node] == -2:
                    left[text] = True
                elif ids[node] >= 0:
                    found = ids[node]
                    length = stop - place
                if stop >= end:
                    break
                node = children[node, data[stop]]
                if node == 0:
                    break
                stop += 1
            if found >= 0 and place >= free:
                if count < matches.shape[0]:
                    matches[count, 0] = place
                    matches[count, 1] = place + length
                    matches[count, 2] = found
                count += 1
                free = place + length
            place += 1
    return count
