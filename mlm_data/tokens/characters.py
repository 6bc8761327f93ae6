"""Tokenizers whose tokens are characters: their tokenizer.json, and the engine's family for it.

The rule. White space separates and leaves nothing. Every other code point is a token, or the unknown token, and a word:
with `mask.kind: whole_word` each is hidden alone. Nothing is normalized: in DNA small letters mark repeats, in SMILES
they are aromatic atoms.

    "CC(=O)Oc1 cc"   ->   C | C | ( | = | O | ) | O | c | 1 | c | c

As a tokenizer.json this is HF's WordLevel after WhitespaceSplit and a Split at each character. A code point's answer
depends on nothing around it, so it is read off that tokenizer once, 256 code points at a time, and looked up by the
code point itself: no table of words is needed. Cost: a look-up a character.
"""

from typing import Any

import numpy as np

from mlm_data.kernels import lean_kernel
from mlm_data.tokens.bert import around
from mlm_data.tokens.emit import DOCUMENT, MATCH, NUM_HOLES, NUM_IDS, PLACE, SLACK, UNKNOWN_POINT, any_code_point
from mlm_data.tokens.table import WORD_START

NOTHING, UNREAD = -1, -2  # instead of an id: white space, and a code point that nobody asked about yet
PRE_TOKENIZERS = [
    {"type": "WhitespaceSplit"},
    {"type": "Split", "pattern": {"Regex": "."}, "behavior": "Isolated", "invert": False},
]


def character_settings(vocabulary: dict[str, int], specials: list[str]) -> dict[str, Any]:
    """The tokenizer.json of a vocabulary of characters; [UNK], [CLS] and [SEP] are among the specials."""
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": vocabulary[name], "content": name, **flags} for name in specials],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": PRE_TOKENIZERS},
        "post_processor": around(vocabulary),
        "decoder": {"type": "Fuse"},
        "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "[UNK]"},
    }


@lean_kernel
def scan_characters(data, offsets, ids, matches, out, ends, state):
    """Scan from the state's document and place until all is done or `out` is full; see `emit.py` for the contract.

    ids: of each code point. matches: added tokens, as for `scan_separated`. There are no holes.
    """
    document = state[DOCUMENT]
    place = state[PLACE]
    match = state[MATCH]
    num_ids = 0
    unread = -1
    enough = out.size - SLACK
    while document < offsets.size - 1:
        document_end = offsets[document + 1]
        if place == matches[match, 0] and place < document_end:
            if num_ids >= enough:
                break
            out[num_ids] = np.uint32(matches[match, 2]) | WORD_START
            num_ids += 1
            place = matches[match, 1]
            match += 1
        end = min(document_end, matches[match, 0])
        while place < end and num_ids < enough:
            point, length = any_code_point(data, place, end)
            found = ids[point]
            if found == UNREAD:
                unread = point
                break
            if found >= 0:
                out[num_ids] = np.uint32(found) | WORD_START
                num_ids += 1
            place += length
        if place < end:
            break
        if end < document_end:
            continue
        ends[document, 0] = num_ids
        ends[document, 1] = 0
        document += 1
    state[DOCUMENT] = document
    state[PLACE] = place
    state[MATCH] = match
    state[NUM_IDS] = num_ids
    state[NUM_HOLES] = 0
    state[UNKNOWN_POINT] = unread
