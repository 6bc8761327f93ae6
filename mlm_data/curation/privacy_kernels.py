r"""The loops that find private data in UTF-8: a fast look for `@` and digits, and an exact check where there are some.

The rules stand in `privacy`. Checks look at a bounded number of bytes (64 before an `@`, some 50 elsewhere), and at a
domain up to the next byte that can't be in one; so time is linear in the text, whatever is in it.

A check sees `data[low:high]`, a stretch between two things that are replaced already, and takes those for marks. That
is how the text will look afterwards: looking again finds nothing new.
"""

import numpy as np

from mlm_data.kernels import copy_bytes, kernel, range_mask, trailing_zeros

EMAIL, IP, PHONE, IBAN = range(4)

_ALL_BITS = np.uint64(0xFFFFFFFFFFFFFFFF)
_MARK = np.uint8(ord("<"))  # what stands beside a stretch: some mark
_LINE_FEED = np.uint8(10)
_LOCAL = 64  # the longest local part (RFC 5321, section 4.5.3.1.1)
_DOMAIN = 255  # the longest domain (section 4.5.3.1.2)
_LABEL = 63  # its longest part (RFC 1035, section 2.3.4)


@kernel
def _is_digit(c):
    return 48 <= c <= 57


@kernel
def _is_letter(c):
    return 97 <= c | 32 <= 122


@kernel
def _is_word(c):
    """ASCII letter, digit, underscore."""
    return _is_letter(c) or _is_digit(c) or c == 95


@kernel
def _is_hex(c):
    return _is_digit(c) or 97 <= c | 32 <= 102


@kernel
def _at(data, i, low, high):
    """The byte at i, or a mark outside the stretch."""
    return data[i] if low <= i < high else _MARK


@kernel
def _next(data, i, high, first, count):
    """The place of the next byte in [first, first + count), or `high`."""
    while i < high:
        if i + 64 <= len(data):
            bits = range_mask(data, i, 0, first, count)
            if bits == 0:
                i += 64
                continue
            i += trailing_zeros(bits)
            return min(i, high)
        if first <= data[i] < first + count:
            return i
        i += 1
    return high


# Email


@kernel
def _latin(data, i, low, high):
    """Whether the byte at i belongs to a letter from U+00C0 to U+027F: bytes C3 80 to C9 BF."""
    if not low <= i < high:
        return False
    c = data[i]
    if 0xC3 <= c <= 0xC9:
        return True
    return 0x80 <= c < 0xC0 and low <= i - 1 and 0xC3 <= data[i - 1] <= 0xC9


@kernel
def _local_start(data, place, low, high):
    """Where the local part before the @ at `place` begins; `place` if there is none."""
    i = place
    while i > low and place - i < _LOCAL:
        c = data[i - 1]
        if c == 46:
            if _at(data, i, low, high) == 46 or i == place:
                break  # two dots, or one at the end
        elif c == 39:
            if not (_is_letter(_at(data, i, low, high)) and _is_letter(_at(data, i - 2, low, high))):
                break
        elif not (_is_word(c) or c == 37 or c == 43 or c == 45 or _latin(data, i - 1, low, high)):
            break
        i -= 1
    # It begins with a letter or a digit.
    while i < place and not (_is_word(data[i]) or 0xC3 <= data[i] <= 0xC9):
        i += 1
    return i


@kernel
def _domain_end(data, i, low, high, no_domains):
    """Where the domain that begins at i ends; i if there is none."""
    start = i
    label = i  # where the label began
    labels = 0
    end = i  # behind the last whole label
    last = i  # where that one began
    while i <= high:
        c = _at(data, i, low, high)
        if i < high and (_is_letter(c) or _is_digit(c) or c == 45 or _latin(data, i, low, high)):
            i += 1
            continue
        behind = i
        while behind > label and data[behind - 1] == 45:
            behind -= 1
        if behind == label or behind - label > _LABEL or data[label] == 45:
            break
        labels += 1
        last = label
        end = behind
        if c != 46 or behind != i:
            break
        i += 1
        label = i
    if labels < 2 or end - start > _DOMAIN or end - last < 2:
        return start
    name = np.uint64(0)
    for k in range(last, end):
        c = data[k]
        if not (_is_letter(c) or c >= 0x80) and not (data[last] | 32 == 120 and data[last + 1] | 32 == 110):
            return start  # a top-level domain has letters, or begins with xn--
        name = name << np.uint64(8) | np.uint64(c | 32)
    if end - last <= 8:
        for other in no_domains:
            if name == other:
                return start
    after = _at(data, end, low, high)
    if after == 64 or after == 95 or after == 40:
        return start
    return end


@kernel
def _find_emails(data, low, high, no_domains, starts, ends, n):
    """Write the spans of the addresses in a text behind the first n; returns their number: perhaps more than fit."""
    i = low
    while True:
        i = _next(data, i, high, 64, 1)
        if i == high:
            return n
        start = _local_start(data, i, low, high)
        before = _at(data, start - 1, low, high)
        in_url = before == 47 and _at(data, start - 2, low, high) == 47
        is_git = i - start == 3 and data[start] == 103 and data[start + 1] == 105 and data[start + 2] == 116
        if start < i and before != 64 and not in_url and not is_git:
            end = _domain_end(data, i + 1, low, high, no_domains)
            if end > i + 1:
                if n < len(starts):
                    starts[n], ends[n] = start, end
                n += 1
                low = i = end
                continue
        i += 1


# Borders of everything else


@kernel
def _opens(data, i, low, high):
    """Whether something may begin at i: it is no part of a longer name or number."""
    before = _at(data, i - 1, low, high)
    if _is_word(before):
        return False
    if before == 46 or (before == 45 and _is_word(_at(data, i - 2, low, high))):
        return False
    if before == 58:  # a group of an IPv6 address?
        k = i - 2
        while k > i - 6 and _is_hex(_at(data, k, low, high)):
            k -= 1
        return _at(data, k, low, high) != 58
    return True


@kernel
def _not_in_path(data, i, low, high):
    return _at(data, i - 1, low, high) != 47 or not _is_word(_at(data, i - 2, low, high))


@kernel
def _closes(data, i, low, high):
    """Whether something may end before i."""
    after = _at(data, i, low, high)
    if _is_word(after):
        return False
    return not ((after == 46 or after == 45) and _is_word(_at(data, i + 1, low, high)))


# IP addresses


@kernel
def _is_public(a, b, c):
    """Whether a.b.c.x is a public address: none of the blocks of RFC 6890 and its successors, no multicast."""
    if a == 0 or a == 10 or a == 127 or a >= 224:
        return False
    if (a == 100 and 64 <= b < 128) or (a == 169 and b == 254) or (a == 172 and 16 <= b < 32):
        return False
    if a == 192:
        return not (b == 168 or (b == 0 and (c == 0 or c == 2)) or (b == 88 and c == 99))
    return not ((a == 198 and (b == 18 or b == 19 or (b == 51 and c == 100))) or (a == 203 and b == 0 and c == 113))


@kernel
def _is_among(name, names):
    found = False
    for other in names:
        found |= name == other
    return found


@kernel
def _is_called(data, i, low, names, links, fillers):
    """Whether the word before i is one of `names`; fillers may stand between ("version is"), and a list of numbers with
    links or commas ("sections 1.2, 3.4 and").
    """
    listed = False  # there was a link: a number comes
    for _ in range(8):
        bottom = max(low, i - 16)
        while i > bottom:
            c = data[i - 1]
            if c == 44 or c == 59 or c == 38:  # , ; &
                listed = True
            elif not (c <= 32 or c == 58 or c == 61 or c == 40 or c == 35 or c == 34 or c == 39):  # : = ( # " '
                break
            i -= 1
        if i <= low:
            return False
        if i - 2 >= low and data[i - 1] == 0xA7 and data[i - 2] == 0xC2:
            return not listed  # §
        if data[i - 1] == 46 and i - 2 >= low and _is_letter(data[i - 2]):
            i -= 1  # sec.
        bottom = max(low, i - 20)
        end = i
        while i > bottom and (_is_digit(data[i - 1]) or data[i - 1] == 46 or data[i - 1] == 45):
            i -= 1
        if i < end:
            if not listed:
                return False
            listed = False
            continue
        while i > bottom and _is_letter(data[i - 1]):
            i -= 1
        if i == end or listed:
            return False
        name = np.uint64(0)
        for k in range(i, min(end, i + 8)):
            name = name << np.uint64(8) | np.uint64(data[k] | 32)
        if _is_among(name, names):
            return True
        listed = _is_among(name, links)
        if not listed and not _is_among(name, fillers):
            return False
    return False


@kernel
def _ipv4_end(data, i, low, high, names, links, fillers, address_words):
    """Where the IPv4 address at i ends; i if there is none."""
    start = i
    a = b = c = d = 0
    for part in range(4):
        if part > 0:
            if _at(data, i, low, high) != 46:
                return start
            i += 1
        first = i
        number = 0
        while i < first + 3 and _is_digit(_at(data, i, low, high)):
            number = 10 * number + (data[i] - 48)
            i += 1
        if i == first or number > 255 or (i - first > 1 and data[first] == 48):
            return start
        a, b, c, d = b, c, d, number
    is_small = max(a, b, c, d) < 32 or (a < 16 and b < 64 and c < 16)
    if not (_is_public(a, b, c) and _closes(data, i, low, high) and _not_in_path(data, start, low, high)):
        return start
    if _is_called(data, start, low, names, links, fillers):
        return start
    if is_small:
        after = _at(data, i, low, high)
        is_address = (after == 58 or after == 47) and _is_digit(_at(data, i + 1, low, high))
        before = _at(data, start - 1, low, high)
        is_address |= before == 64 or (before == 47 and _at(data, start - 2, low, high) == 47)
        if not is_address and not _is_called(data, start, low, address_words, links, fillers):
            return start
    return i


@kernel
def _ipv6_end(data, i, low, high):
    """Where the global IPv6 address at i ends; i if there is none."""
    start = i
    if not 50 <= data[i] <= 51:
        return start
    groups = 0
    gap = False
    first = second = 0
    while True:
        begin = i
        number = 0
        while i < begin + 4 and _is_hex(_at(data, i, low, high)):
            c = data[i]
            number = 16 * number + (c - 48 if c <= 57 else (c | 32) - 87)
            i += 1
        if i > begin:
            groups += 1
            if groups == 1:
                first = number
                if i - begin != 4:
                    return start
            elif groups == 2 and not gap:
                second = number
        if _at(data, i, low, high) != 58 or groups == 8:
            break
        if _at(data, i + 1, low, high) == 58:
            if gap:
                break
            gap = True
            i += 2
            if not _is_hex(_at(data, i, low, high)):
                break
        elif _is_hex(_at(data, i + 1, low, high)):
            i += 1
        else:
            break
    if not (groups == 8 and not gap) and not (gap and 2 <= groups <= 7):
        return start
    if first == 0x2001 and second == 0xDB8:
        return start  # for documentation (RFC 3849)
    after = _at(data, i, low, high)
    further = _at(data, i + 1, low, high)
    if not _closes(data, i, low, high) or (after == 58 and (further == 58 or _is_hex(further))):
        return start
    return i


# Telephone numbers


@kernel
def _digits(data, i, high, most):
    """Where the digits that begin at i end; at most `most` are looked at."""
    end = min(high, i + most)
    while i < end and _is_digit(data[i]):
        i += 1
    return i


@kernel
def _is_nanp(area, exchange, data):
    """Whether the digits at these places begin an area and an exchange of North America: [2-9]XX, the area no N11."""
    return data[area] >= 50 and data[exchange] >= 50 and not (data[area + 1] == 49 and data[area + 2] == 49)


@kernel
def _national_end(data, i, low, high):
    """Where the number of North America at i ends, without its +; i if there is none."""
    start = i
    lead = _at(data, i, low, high)
    sep = np.uint8(0)
    if lead == 49:
        sep = _at(data, i + 1, low, high)
        if sep != 45 and sep != 46 and sep != 32:
            return start
        i += 2
    is_open = _at(data, i, low, high) == 40
    i += is_open
    area = i
    i = _digits(data, i, high, 4)
    if i - area != 3:
        return start
    between = _at(data, i, low, high)
    if is_open:
        if between != 41:
            return start
        i += 1
        if _at(data, i, low, high) == 32:
            i += 1
    else:
        if (between != 45 and between != 46) or (lead == 49 and sep != between):
            return start
        i += 1
    exchange = i
    i = _digits(data, i, high, 4)
    if i - exchange != 3 or not _is_nanp(area, exchange, data):
        return start
    last = _at(data, i, low, high)
    if last != 45 and last != 46 and not (is_open and last == 32):
        return start
    if not is_open and last != between:
        return start
    i += 1
    line = i
    i = _digits(data, i, high, 5)
    if i - line != 4 or not _closes(data, i, low, high):
        return start
    return i


@kernel
def _international_end(data, plus, low, high, countries, begins_line):
    """Where the number of the + ends; `plus` if there is none: the longest one that has up to 15 digits."""
    i = plus + 1
    if not 49 <= _at(data, i, low, high) <= 57:
        return plus
    best = plus
    digits = np.zeros(16, np.uint8)
    num_digits = 0
    num_groups = 0
    has_dot = False
    is_open = False
    was_open = False
    while True:
        end = _digits(data, i, high, 16)
        if num_digits + (end - i) > 15:
            break
        for k in range(i, end):
            digits[num_digits] = data[k] - 48
            num_digits += 1
        num_groups += 1
        i = end
        if not is_open and num_digits >= 9 and _closes(data, i, low, high):
            is_whole = num_groups >= 3 or (not has_dot and (num_groups == 2 or (num_digits >= 10 and not begins_line)))
            if digits[0] == 1:
                is_area = digits[1] >= 2 and digits[4] >= 2 and not (digits[2] == 1 and digits[3] == 1)
                is_known = num_digits == 11 and is_area
            else:
                is_known = countries[100 * np.int64(digits[0]) + 10 * np.int64(digits[1]) + np.int64(digits[2])]
            if is_whole and is_known:
                best = i
        # Between two groups: a bracket that closes, one of - . / or a space, a bracket that opens.
        if _at(data, i, low, high) == 41 and is_open:
            is_open = False
            i += 1
        c = _at(data, i, low, high)
        if c == 32 or c == 45 or c == 46 or c == 47:
            has_dot |= c == 46
            i += 1
        elif c == 0xC2 and _at(data, i + 1, low, high) == 0xA0:
            i += 2
        if _at(data, i, low, high) == 40 and not was_open:
            is_open = was_open = True
            i += 1
        if not _is_digit(_at(data, i, low, high)) or i == end:
            break
    return best


# IBAN


@kernel
def _iban_end(data, i, low, high, lengths):
    """Where the IBAN at i ends; i if there is none: length of its country, and 1 modulo 97 (ISO 13616, ISO 7064)."""
    start = i
    length = lengths[np.int64(data[i] - 65) * 26 + np.int64(data[i + 1] - 65)]
    if length == 0:
        return start
    grouped = _at(data, i + 4, low, high) == 32
    front = np.int64(0)  # the country and the check digits, which come last in the sum
    rest = np.int64(0)
    scale = 1
    for k in range(length):
        if grouped and k > 0 and k % 4 == 0:
            if _at(data, i, low, high) != 32:
                return start
            i += 1
        c = _at(data, i, low, high)
        if _is_digit(c):
            value, power = np.int64(c) - 48, 10
        elif 65 <= c <= 90:
            value, power = np.int64(c) - 55, 100
        else:
            return start
        if k < 4:
            front = front * power + value
            scale *= power
        else:
            rest = (rest * power + value) % 97
        i += 1
    if (rest * scale + front) % 97 != 1 or not _closes(data, i, low, high):
        return start
    return i


# All together


@kernel
def _find_others(data, low, high, begin, wanted, tables, starts, ends, kinds, n):
    """Write the spans of everything but addresses of email in a stretch behind the first n; returns their number."""
    countries, lengths, names, links, fillers, address_words = tables
    i = low
    while True:
        i = _next(data, i, high, 48, 10)
        if i == high:
            return n
        start = i
        end = i
        kind = IP
        before = _at(data, i - 1, low, high)
        if 65 <= before <= 90:
            is_pair = i - 2 >= low and 65 <= data[i - 2] <= 90 and _is_digit(_at(data, i + 1, low, high))
            if wanted[IBAN] and is_pair and _opens(data, i - 2, low, high):
                start = i - 2
                kind = IBAN
                end = _iban_end(data, start, low, high, lengths)
        elif not _is_word(before):
            if wanted[PHONE]:
                kind = PHONE
                if before == 43:
                    start = end = i - 1
                    begins_line = start == begin or _at(data, start - 1, low, high) == _LINE_FEED
                    if _opens(data, start, low, high) and _at(data, start - 1, low, high) != 43:
                        end = _international_end(data, start, low, high, countries, begins_line)
                else:
                    for start in range(i - (before == 40), i + 1):  # with the bracket, or inside it
                        end = start
                        if _opens(data, start, low, high) and _not_in_path(data, start, low, high):
                            end = _national_end(data, start, low, high)
                        if end > start:
                            break
            if end <= start + 1 and wanted[IP] and _opens(data, i, low, high):
                start, kind = i, IP
                end = _ipv4_end(data, i, low, high, names, links, fillers, address_words)
                if end == start:
                    end = _ipv6_end(data, i, low, high)
        if end > start + 1:
            if n < len(starts):
                starts[n], ends[n], kinds[n] = start, end, kind
            n += 1
            low = i = end
        else:
            i += 1
            while i < high and _is_digit(data[i]):
                i += 1


@kernel
def find(data, offsets, wanted, no_domains, tables, starts, ends, kinds, counts):
    """Write the spans of private data of all texts in order, and counts[document, kind]; returns how many there are.

    Where there are more than fit into `starts`, those that fit are written, some out of order: call again with room.
    """
    n = 0
    addresses = np.empty(len(starts), np.int64)
    behind = np.empty(len(starts), np.int64)
    counts[:] = 0
    for document in range(len(offsets) - 1):
        low, high = offsets[document], offsets[document + 1]
        begin = low
        first = n
        num_addresses = 0
        if wanted[EMAIL]:
            num_addresses = _find_emails(data, low, high, no_domains, addresses, behind, 0)
        if num_addresses > len(starts):
            n += num_addresses  # there is no room: how many are needed at least
            continue
        for k in range(num_addresses + 1):
            stop = addresses[k] if k < num_addresses else high
            if wanted[IP] or wanted[PHONE] or wanted[IBAN]:
                n = _find_others(data, low, stop, begin, wanted, tables, starts, ends, kinds, n)
            if k < num_addresses:
                if n < len(starts):
                    starts[n], ends[n], kinds[n] = addresses[k], behind[k], EMAIL
                n += 1
                low = behind[k]
        for k in range(first, min(n, len(starts))):
            counts[document, kinds[k]] += 1
    return n


@kernel
def rewrite(data, offsets, starts, ends, kinds, marks, mark_offsets, out, places):
    """Copy all texts with a placeholder for each span; places[i] is where text i begins."""
    at = np.int64(0)
    k = 0
    places[0] = 0
    for document in range(len(offsets) - 1):
        i, high = offsets[document], offsets[document + 1]
        while k < len(starts) and starts[k] < high:
            at = copy_bytes(data, i, starts[k], out, at)
            at = copy_bytes(marks, mark_offsets[kinds[k]], mark_offsets[kinds[k] + 1], out, at)
            i = ends[k]
            k += 1
        at = copy_bytes(data, i, high, out, at)
        places[document + 1] = at
