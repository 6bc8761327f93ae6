r"""How much of a text is hard-wrapped: its lines end where a column ends, not where a sentence does.

Rules that read line by line (C4's edit and preset, FineWeb's) were made for web pages, where a line is a paragraph.
In a hard-wrapped text most lines end in the middle of a sentence, and such rules take nearly all of it. A line end
counts as wrapped if the line before it has 40 to 120 bytes and doesn't end in punctuation, and a line that isn't blank
follows.

    "The line rules of C4 take away lines that\nend in no punctuation.\n\nNext"    1 wrapped of 3 lines with text

Of the lines of PEPs 45 in a hundred are so, of Rust's RFCs 36 (the others end a paragraph, or are code, lists and
headings), of novels 9, of judgments in one line a paragraph none. Cost: a few numpy
passes over the bytes; it is asked of samples only.
"""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from mlm_data.hashing import string_buffers

SHORTEST, LONGEST = 40, 120  # bytes of a line that may be wrapped
MANY = 0.3  # share of the lines with text from which a text is called hard-wrapped

_ENDS = np.zeros(256, np.bool_)
_ENDS[np.frombuffer(b".?!:;\"'", np.uint8)] = True


class Wrapped(NamedTuple):
    """Lines with text, and those of them that are wrapped. Counts add up."""

    num_lines: int
    num_wrapped: int

    @property
    def share(self) -> float:
        return self.num_wrapped / self.num_lines if self.num_lines else 0.0


def count_wrapped(texts: pa.LargeStringArray) -> Wrapped:
    r"""How many lines with text there are, and how many of them are wrapped. CR LF is a line end, too.

    >>> count_wrapped(pa.array(["The line rules of C4 take away lines that\nend in no punctuation.\n\nNext"],
    ...     pa.large_string()))
    Wrapped(num_lines=3, num_wrapped=1)
    """
    data, offsets = string_buffers(texts)
    data = data[offsets[0] : offsets[-1]]
    if not len(data):
        return Wrapped(0, 0)
    borders = np.unique(offsets - offsets[0])
    feeds = np.flatnonzero(data == 10)
    starts = np.unique(np.concatenate([borders[:-1], feeds[feeds + 1 < len(data)] + 1]))
    is_feed = np.zeros(len(data) + 1, np.bool_)
    is_feed[feeds] = True
    ends = np.append(starts[1:], len(data))
    has_feed = is_feed[ends - 1]
    ends = ends - has_feed  # without the line feed
    ends = ends - ((ends > starts) & (data[np.maximum(ends - 1, 0)] == 13))
    sizes = ends - starts
    follows = np.append((sizes[1:] > 0) & ~np.isin(starts[1:], borders), False)
    is_wrapped = has_feed & follows & (sizes >= SHORTEST) & (sizes <= LONGEST) & ~_ENDS[data[np.maximum(ends - 1, 0)]]
    return Wrapped(int((sizes > 0).sum()), int(is_wrapped.sum()))
