"""A kernel that finds the rows and the wanted fields of CSV (RFC 4180). See `mlm_data.text.formats.csv`."""

import numpy as np

from mlm_data.kernels import kernel, load_uint64, trailing_zeros, zero_bytes

GOOD, COUNT, QUOTE, UNCLOSED = range(4)  # a row: fine; wrong number of fields; text behind a closing quote; too long
QUOTED, DOUBLED = 1, 2  # bits of a field: it stands in quotes, and holds doubled ones

_QUOTES = np.uint64(0x2222222222222222)
_LFS = np.uint64(0x0A0A0A0A0A0A0A0A)
_CRS = np.uint64(0x0D0D0D0D0D0D0D0D)


@kernel
def _quote_from(data, i):
    """The first quote at or after i, or the length."""
    n = len(data)
    while i + 8 <= n:
        found = zero_bytes(load_uint64(data, i) ^ _QUOTES)
        if found:
            return i + (trailing_zeros(found) >> 3)
        i += 8
    while i < n and data[i] != 34:
        i += 1
    return i


@kernel
def _field_end_from(data, i, delimiter):
    """The first delimiter, LF or CR at or after i, or the length."""
    n = len(data)
    delimiters = np.uint64(delimiter) * np.uint64(0x0101010101010101)
    while i + 8 <= n:
        word = load_uint64(data, i)
        found = zero_bytes(word ^ delimiters) | zero_bytes(word ^ _LFS) | zero_bytes(word ^ _CRS)
        if found:
            return i + (trailing_zeros(found) >> 3)
        i += 8
    while i < n and data[i] != delimiter and data[i] != 10 and data[i] != 13:
        i += 1
    return i


@kernel
def _line_end_from(data, i):
    """The first LF or CR at or after i, or the length."""
    return _field_end_from(data, i, 10)


@kernel
def _scan_row(data, i, delimiter, slots, row, firsts, lasts, flags):
    """(state, number of fields, the line end behind the row or the length). Notes the fields that have a slot."""
    n = len(data)
    field = 0
    while True:
        flag = 0
        first = i
        if i < n and data[i] == 34:
            flag = QUOTED
            first = i + 1
            i = _quote_from(data, first)
            while i + 1 < n and data[i + 1] == 34:
                flag = QUOTED | DOUBLED
                i = _quote_from(data, i + 2)
            if i >= n:
                return UNCLOSED, field, n
            last = i
            i += 1
            if i < n and data[i] != delimiter and data[i] != 10 and data[i] != 13:
                return QUOTE, field, i
        else:
            i = last = _field_end_from(data, i, delimiter)
        if field < len(slots) and slots[field] >= 0:
            slot = slots[field]
            firsts[slot, row] = first
            lasts[slot, row] = last
            flags[slot, row] = flag
        field += 1
        if i >= n or data[i] != delimiter:
            return GOOD if field == len(slots) else COUNT, field, i
        i += 1


@kernel
def scan_rows(data, delimiter, slots, is_last, max_bytes, max_rows, starts, states, counts, firsts, lasts, flags):
    """Find the rows of `data`, which begins with one; blank lines are none.

    Args:
        slots: for each column, where in firsts, lasts and flags [slots, rows] its fields are noted, or -1.
        is_last: nothing comes behind `data`; else a row that reaches its end is left for the next call.
        max_bytes: a row that is not whole after so many bytes is UNCLOSED.
        starts, states, counts: for each row, where it begins, what it is, its number of fields.

    Returns:
        (rows, bytes of `data` that are done with). A QUOTE or UNCLOSED row costs its first line alone.
    """
    n = len(data)
    row = 0
    i = 0
    while i < n and row < max_rows:
        if data[i] == 10 or data[i] == 13:
            i += 1
            continue
        state, count, end = _scan_row(data, i, delimiter, slots, row, firsts, lasts, flags)
        # At the end of what is there, a quote may be one half of two, and a CR one half of a line end.
        if end >= n - 1 and not is_last and state != QUOTE:
            if n - i < max_bytes:
                break
            state = UNCLOSED
        if state in (QUOTE, UNCLOSED):
            end = _line_end_from(data, i)
            if end == n and not is_last and n - i < max_bytes:
                break
        starts[row] = i
        states[row] = state
        counts[row] = count
        row += 1
        i = end
    return row, i
