"""A kernel that finds where the elements of a JSON array, or values one after another, begin and end.

It walks brackets and strings and checks just enough of the grammar to notice a string or bracket that is not closed
where it happens, not at the end of the file: no control character in a string, no string, "{" or "[" where none may
stand, no bracket closed by another kind. Whether an element is JSON is decided later, for each one alone.
"""

import numpy as np

from mlm_data.kernels import kernel, load_uint64, trailing_zeros, zero_bytes

MAX_DEPTH = 64  # brackets open at once: the bits of one word
DONE, MORE, BROKEN = range(3)

_QUOTE = np.uint64(0x2222222222222222)
_BACKSLASH = np.uint64(0x5C5C5C5C5C5C5C5C)
_BLANK = np.uint64(0x2020202020202020)
_HIGHS = np.uint64(0x8080808080808080)


@kernel
def _skip_string(data, i):
    """(behind the closing quote, DONE, or MORE or BROKEN); i is behind the opening one."""
    end = len(data)
    while i < end:
        if i + 8 <= end:
            word = load_uint64(data, i)
            special = zero_bytes(word ^ _QUOTE) | zero_bytes(word ^ _BACKSLASH) | ((word - _BLANK) & ~word & _HIGHS)
            if special == np.uint64(0):
                i += 8
                continue
            i += trailing_zeros(special) >> 3
        c = data[i]
        if c == 34:
            return i + 1, DONE
        if c < 32:
            return i, BROKEN
        i += 2 if c == 92 else 1
    return end, MORE


@kernel
def _may_open(before, depth, objects):
    """Whether a value may begin behind the character `before`; a key may, if `before` opens or goes on an object."""
    if depth == 0:
        return True
    if objects & np.uint64(1):
        return before == 58
    return before in (91, 44)


@kernel
def _skip_element(data, i):
    """(behind the element that begins at i, DONE), or (where that was known, MORE or BROKEN)."""
    end = len(data)
    depth = 0
    objects = np.uint64(0)  # a bit for each open bracket: 1 is an object
    before = np.uint8(0)  # the last character that is not white space
    while i < end:
        c = data[i]
        if c == 32 or 9 <= c <= 10 or c == 13:
            i += 1
            continue
        if c == 34:
            is_key = (objects & np.uint64(1)) and before in (123, 44)
            if not (is_key or _may_open(before, depth, objects)):
                return i, BROKEN
            i, state = _skip_string(data, i + 1)
            if state != DONE or depth == 0:
                return i, state
            before = c
            continue
        if c in (123, 91):
            if depth == MAX_DEPTH or not _may_open(before, depth, objects):
                return i, BROKEN
            depth += 1
            objects = (objects << np.uint64(1)) | np.uint64(c == 123)
        elif c in (125, 93):
            if depth == 0:
                return i, DONE
            if (objects & np.uint64(1)) != np.uint64(c == 125):
                return i, BROKEN
            depth -= 1
            objects >>= np.uint64(1)
            if depth == 0:
                return i + 1, DONE
        elif c == 44:
            if depth == 0:
                return i, DONE
        elif not (c == 58 or c == 43 or 45 <= c <= 57 or 65 <= c <= 90 or 97 <= c <= 122):
            return i, BROKEN
        before = c
        i += 1
    return end, MORE


@kernel
def scan_elements(data, i, in_array, starts, ends):
    """Find elements from data[i] on, inside of an array or between arrays; commas between them are not counted.

    Returns:
        (elements found, where the next one begins, behind the last thing before it that is not white space, is that
        inside of an array, what stopped the search). DONE: starts and ends are full. MORE: the next element is not
        whole. BROKEN: it can't be one.
    """
    count = 0
    behind = i
    while count < len(starts):
        while i < len(data) and (data[i] == 32 or 9 <= data[i] <= 10 or data[i] == 13):
            i += 1
        if i >= len(data):
            return count, i, behind, in_array, MORE
        c = data[i]
        if (c in (44, 93) and in_array) or (c == 91 and not in_array):
            in_array = c != 93
            i += 1
            behind = i
            continue
        stop, state = _skip_element(data, i)
        if state == MORE:
            return count, i, behind, in_array, MORE
        if state == BROKEN or stop == i:
            return count, i, behind, in_array, BROKEN
        starts[count] = i
        ends[count] = stop
        count += 1
        i = behind = stop
    return count, i, behind, in_array, DONE
