"""Kernels that walk a line of JSON (RFC 8259), note where wanted values lie, and write them as text.

Places count bytes in one buffer; -1 says "not by this grammar, or not for this kernel". See `json_lines`.
"""

import numpy as np

from mlm_data.kernels import copy_bytes, kernel, load_uint64, store_uint64, trailing_zeros, zero_bytes
from mlm_data.text.utf8 import put_code_point

MISSING, PLAIN, ESCAPED, BARE, CONTAINER, NULL = range(6)  # strings without and with escapes; number, true or false
MAX_DEPTH = 64  # brackets open inside a value: the bits of one word

_QUOTE = np.uint64(0x2222222222222222)
_BACKSLASH = np.uint64(0x5C5C5C5C5C5C5C5C)
_BLANK = np.uint64(0x2020202020202020)
_HIGHS = np.uint64(0x8080808080808080)


@kernel
def _skip_space(data, i, end):
    while i < end and (data[i] == 32 or data[i] == 10 or data[i] == 13 or data[i] == 9):
        i += 1
    return i


@kernel
def _hex4(data, i, end):
    """The number that four hexadecimal digits write, or -1."""
    if i + 4 > end:
        return -1
    value = 0
    for k in range(4):
        c = data[i + k]
        if 48 <= c <= 57:
            digit = c - 48
        elif 65 <= c <= 70:
            digit = c - 55
        elif 97 <= c <= 102:
            digit = c - 87
        else:
            return -1
        value = value * 16 + np.int64(digit)
    return value


@kernel
def _string_end(data, i, end):
    """(place of the closing quote or -1, has it escapes, has it a lone surrogate); i is behind the opening quote."""
    has_escape = False
    has_lone = False
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
            return i, has_escape, has_lone
        if c < 32:
            return -1, has_escape, has_lone
        if c != 92:
            i += 1
            continue
        has_escape = True
        if i + 1 >= end:
            return -1, has_escape, has_lone
        c = data[i + 1]
        if c == 117:
            code = _hex4(data, i + 2, end)
            if code < 0:
                return -1, has_escape, has_lone
            i += 6
            if 0xD800 <= code < 0xE000:
                low = np.int64(-1)
                if code < 0xDC00 and i + 6 <= end and data[i] == 92 and data[i + 1] == 117:
                    low = _hex4(data, i + 2, end)
                if 0xDC00 <= low < 0xE000:
                    i += 6
                else:
                    has_lone = True
        elif c == 34 or c == 92 or c == 47 or c == 98 or c == 102 or c == 110 or c == 114 or c == 116:
            i += 2
        else:
            return -1, has_escape, has_lone
    return -1, has_escape, has_lone


@kernel
def _skip_digits(data, i, end):
    """Behind at least one digit, or -1."""
    first = i
    while i < end and 48 <= data[i] <= 57:
        i += 1
    return i if i > first else -1


@kernel
def _matches(data, i, end, word):
    if i + len(word) > end:
        return False
    for k in range(len(word)):  # noqa: SIM110 - compiled
        if data[i + k] != word[k]:
            return False
    return True


_TRUE, _FALSE, _NULL = (np.frombuffer(word, np.uint8) for word in (b"true", b"false", b"null"))


@kernel
def _skip_bare(data, i, end):
    """Behind a number, true, false or null, or -1."""
    c = data[i]
    if c == 116:
        return i + 4 if _matches(data, i, end, _TRUE) else -1
    if c == 102:
        return i + 5 if _matches(data, i, end, _FALSE) else -1
    if c == 110:
        return i + 4 if _matches(data, i, end, _NULL) else -1
    if c == 45:
        i += 1
    if i < end and data[i] == 48:
        i += 1
    else:
        i = _skip_digits(data, i, end)
    if i > 0 and i < end and data[i] == 46:
        i = _skip_digits(data, i + 1, end)
    if i > 0 and i < end and (data[i] == 69 or data[i] == 101):
        i += 1
        if i < end and (data[i] == 43 or data[i] == 45):
            i += 1
        i = _skip_digits(data, i, end)
    return i


@kernel
def _skip_colon(data, i, end):
    """Where the value begins, i being behind a key; -1 if there is no colon."""
    i = _skip_space(data, i, end)
    if i >= end or data[i] != 58:
        return -1
    return _skip_space(data, i + 1, end)


@kernel
def _skip_key(data, i, end):
    """Where the value begins whose key begins at i, or -1."""
    if i >= end or data[i] != 34:
        return -1
    i = _string_end(data, i + 1, end)[0]
    return _skip_colon(data, i + 1, end) if i >= 0 else -1


@kernel
def _skip_value(data, i, end):
    """Behind the value that begins at i, or -1."""
    depth = 0
    objects = np.uint64(0)  # a bit for each open bracket: 1 is an object
    while True:
        if i >= end:
            return -1
        c = data[i]
        if c == 34:
            i = _string_end(data, i + 1, end)[0] + 1
            if i == 0:
                return -1
        elif c == 123 or c == 91:
            i = _skip_space(data, i + 1, end)
            if i >= end or depth == MAX_DEPTH:
                return -1
            if data[i] != c + 2:
                depth += 1
                objects = (objects << np.uint64(1)) | np.uint64(c == 123)
                if c == 123:
                    i = _skip_key(data, i, end)
                    if i < 0:
                        return -1
                continue
            i += 1
        else:
            i = _skip_bare(data, i, end)
            if i < 0:
                return -1
        while True:
            if depth == 0:
                return i
            i = _skip_space(data, i, end)
            if i >= end:
                return -1
            is_object = objects & np.uint64(1)
            if data[i] == 44:
                i = _skip_space(data, i + 1, end)
                if is_object:
                    i = _skip_key(data, i, end)
                    if i < 0:
                        return -1
                break
            if data[i] != (125 if is_object else 93):
                return -1
            depth -= 1
            objects >>= np.uint64(1)
            i += 1


@kernel
def _kind_of(first_byte):
    if first_byte == 123 or first_byte == 91:
        return CONTAINER
    return NULL if first_byte == 110 else BARE


@kernel
def _find_key(data, first, last, keys, key_ends):
    """Which wanted name this key is, or -1."""
    start = 0
    for k in range(len(key_ends)):
        end = key_ends[k]
        if end - start == last - first:
            at = first
            for j in range(start, end):
                if data[at] != keys[j]:
                    break
                at += 1
            if at == last:
                return k
        start = end
    return -1


@kernel
def _scan_line(data, i, end, keys, key_ends, line, kinds, firsts, lasts):
    """Note where the wanted values lie; False where this kernel is not sure."""
    i = _skip_space(data, i, end)
    if i >= end or data[i] != 123:
        return False
    i = _skip_space(data, i + 1, end)
    if i < end and data[i] == 125:
        return _skip_space(data, i + 1, end) == end
    while i < end and data[i] == 34:
        last, has_escape, _ = _string_end(data, i + 1, end)
        if last < 0 or has_escape:
            return False
        wanted = _find_key(data, i + 1, last, keys, key_ends)
        i = _skip_colon(data, last + 1, end)
        if i < 0 or i >= end:
            return False
        first = i
        c = data[i]
        if c == 34:
            first = i + 1
            last, has_escape, has_lone = _string_end(data, first, end)
            if last < 0 or (has_lone and wanted >= 0):
                return False
            i = last + 1
            kind = ESCAPED if has_escape else PLAIN
        else:
            i = last = _skip_value(data, i, end)
            if i < 0:
                return False
            kind = _kind_of(c)
        if wanted >= 0:
            kinds[wanted, line] = kind
            firsts[wanted, line] = first
            lasts[wanted, line] = last
        i = _skip_space(data, i, end)
        if i < end and data[i] == 125:
            return _skip_space(data, i + 1, end) == end
        if i >= end or data[i] != 44:
            return False
        i = _skip_space(data, i + 1, end)
    return False


@kernel
def scan_lines(data, starts, ends, keys, key_ends, is_sure, kinds, firsts, lasts):
    """Fill kinds, firsts and lasts [wanted, line] of the lines that are sure, and clear is_sure where they aren't."""
    for line in range(len(starts)):
        if is_sure[line]:
            is_sure[line] = _scan_line(data, starts[line], ends[line], keys, key_ends, line, kinds, firsts, lasts)


@kernel
def _copy_unescaped(data, i, end, out, at):
    """(behind what was written, was a NUL among it)."""
    has_nul = False
    while i < end:
        if i + 8 <= end:
            word = load_uint64(data, i)
            slashes = zero_bytes(word ^ _BACKSLASH)
            # What is written of the escape is overwritten; it is as long as all it can become.
            store_uint64(out, at, word)
            if slashes == np.uint64(0):
                i += 8
                at += 8
                continue
            num_plain = trailing_zeros(slashes) >> 3
            i += num_plain
            at += num_plain
        c = data[i]
        if c != 92:
            out[at] = c
            i += 1
            at += 1
            continue
        c = data[i + 1]
        i += 2
        if c == 117:
            code = _hex4(data, i, end)
            i += 4
            if 0xD800 <= code < 0xDC00:
                code = 0x10000 + ((code - 0xD800) << 10) + (_hex4(data, i + 2, end) - 0xDC00)
                i += 6
            has_nul |= code == 0
            at = put_code_point(code, out, at)
            continue
        out[at] = 10 if c == 110 else 9 if c == 116 else 13 if c == 114 else 8 if c == 98 else 12 if c == 102 else c
        at += 1
    return at, has_nul


@kernel
def _copy_compact(data, i, end, out, at):
    """Copy without the white space that is outside of strings."""
    is_string = False
    while i < end:
        c = data[i]
        if is_string:
            if c == 92:
                out[at] = c
                i += 1
                at += 1
                c = data[i]
            elif c == 34:
                is_string = False
        elif c == 34:
            is_string = True
        elif c == 32 or c == 9 or c == 10 or c == 13:
            i += 1
            continue
        out[at] = c
        i += 1
        at += 1
    return at


@kernel
def copy_values(data, kinds, firsts, lasts, offsets, out, has_nul):
    """Write one wanted field's values as text, their offsets, and which of them hold a NUL that was written escaped.

    `out` is as long as the values are written.
    """
    at = np.int64(0)
    for line in range(len(kinds)):
        kind = kinds[line]
        if kind in (PLAIN, BARE):
            at = copy_bytes(data, firsts[line], lasts[line], out, at)
        elif kind == ESCAPED:
            at, has_nul[line] = _copy_unescaped(data, firsts[line], lasts[line], out, at)
        elif kind == CONTAINER:
            at = _copy_compact(data, firsts[line], lasts[line], out, at)
        offsets[line + 1] = at


@kernel
def scan_items(data, kinds, firsts, lasts, is_list, owners, item_kinds, item_firsts, item_lasts, is_lone):
    """Open the lists among values that `scan_lines` or this kernel found, and note their items; the others stay.

    With empty arrays for the items they are only counted. `is_lone`: the item is a string with a lone surrogate.
    """
    count = 0
    fill = len(owners) > 0
    for v in range(len(kinds)):
        if not is_list[v]:
            if fill:
                owners[count] = v
                item_kinds[count] = kinds[v]
                item_firsts[count] = firsts[v]
                item_lasts[count] = lasts[v]
            count += 1
            continue
        end = lasts[v]
        i = _skip_space(data, firsts[v] + 1, end)
        while data[i] != 93:
            first = i
            lone = False
            if data[i] == 34:
                first = i + 1
                last, has_escape, lone = _string_end(data, first, end)
                i = last + 1
                kind = ESCAPED if has_escape else PLAIN
            else:
                kind = _kind_of(data[i])
                i = last = _skip_value(data, i, end)
            if fill:
                owners[count] = v
                item_kinds[count] = kind
                item_firsts[count] = first
                item_lasts[count] = last
                is_lone[count] = lone
            count += 1
            i = _skip_space(data, i, end)
            if data[i] == 44:
                i = _skip_space(data, i + 1, end)
    return count


@kernel
def join_parts(data, kinds, firsts, lasts, part_offsets, offsets, out):
    """Write the parts of each document with a blank line between them, and the documents' offsets.

    `out` is as long as the parts are written, and two bytes longer for each.
    """
    at = np.int64(0)
    for document in range(len(offsets) - 1):
        start = at
        for part in range(part_offsets[document], part_offsets[document + 1]):
            if firsts[part] == lasts[part]:
                continue
            if at > start:
                out[at] = out[at + 1] = 10
                at += 2
            if kinds[part] == ESCAPED:
                at, _ = _copy_unescaped(data, firsts[part], lasts[part], out, at)
            else:
                at = copy_bytes(data, firsts[part], lasts[part], out, at)
        offsets[document + 1] = at
