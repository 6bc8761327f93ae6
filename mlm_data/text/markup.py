r"""HTML without a parser: how deep it is nested, and its text, both in linear time on bytes that may hold anything.

`measure` is what protects parsers. Some look at all elements around each element: 20,000 nested ones, which are 220 kB,
keep resiliparse 2.0.1 busy for 8 seconds, and so do 200,000 paragraphs in 500 nested ones. So pages are measured before
they are parsed: how many elements are open at once at most, and the sum, over all start tags, of those open around it.

    <div><p>a<p>b<br><span>c</div>      depth 2 (p ends by itself, br has no end tag, span ends with its div)
                                        work 0 + 1 + 1 + 1 + 1

`strip` is what is left where no parser may be used: tags go; script, style and the like go with what is in them; block
elements end lines; white space is collapsed; references such as `&eacute;` become characters.

    <h1>A&amp;B</h1><p>one <b>t</b>wo</p>     ->     "A&B\none two"

Tokens are cut as the HTML standard cuts them (WHATWG, section 13.2.5), in so far as it matters here: comments, quoted
attributes, elements whose content is no markup. What is never closed goes on to the end. Cost: one step a byte, about
400 MB/s.
"""

import re
from html.entities import html5

import numpy as np
from jaxtyping import UInt64

from mlm_data.kernels import kernel, read_only


def _key(name: str) -> int:
    """The first eight letters of a name, as the kernels have them."""
    return int.from_bytes(name.encode()[:8], "little")


def _keys(names: str) -> UInt64[np.ndarray, " names"]:
    return read_only(np.array(sorted(map(_key, names.split())), np.uint64))


_VOID = _keys("area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr")
# Closed by what follows them, with an end tag or without.
_IMPLIED = _keys("p li dt dd option optgroup tr td th thead tbody tfoot colgroup rt rp rb rtc html head body")
# Their content is no markup, or no text that is seen.
_OPAQUE = _keys("script style textarea title xmp iframe noembed noframes noscript template")
_BLOCK = _keys(
    "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption "
    "figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol option p pre "
    "search section summary table tbody tfoot thead tr ul"
)
_CELL = _keys("td th")
_REFERENCE = re.compile(r"&(?:#([0-9]{1,7})|#[xX]([0-9a-fA-F]{1,6})|([A-Za-z][A-Za-z0-9]{1,31}));")


def measure(page: bytes, *, max_depth: int) -> tuple[int, int]:
    """(depth, work) of a page: see above; counting ends where it is deeper than `max_depth`.

    Elements that end by themselves, such as p, li and the parts of tables, are not counted as open.
    """
    stack = np.empty(max_depth + 1, np.uint64)
    depth, work = _measure(np.frombuffer(page, np.uint8), _VOID, _IMPLIED, _OPAQUE, stack)
    return int(depth), int(work)


def strip(page: bytes) -> str:
    """The text of a page in UTF-8, in lines."""
    return _REFERENCE.sub(_character, strip_tags(page).decode(errors="replace"))


def strip_tags(page: bytes) -> bytes:
    """The text of a page in any encoding that has ASCII in it, in lines; references stay as they are written."""
    out = np.empty(len(page), np.uint8)
    size = _strip(np.frombuffer(page, np.uint8), _OPAQUE, _BLOCK, _CELL, out)
    return out[:size].tobytes()


def _character(found: re.Match[str]) -> str:
    decimal, hexadecimal, name = found.groups()
    if name is not None:
        return html5.get(name + ";", found[0])
    code = int(decimal) if decimal else int(hexadecimal, 16)
    if 0x80 <= code < 0xA0:
        # As the standard has it: these numbers mean windows-1252.
        return bytes([code]).decode("cp1252", "replace")
    is_character = 0 < code < 0x110000 and not 0xD800 <= code < 0xE000
    return chr(code) if is_character else "\ufffd"


@kernel
def _is_in(key, keys):
    at = np.searchsorted(keys, key)
    return at < len(keys) and keys[at] == key


@kernel
def _is_letter(c):
    return 97 <= (c | 32) <= 122


@kernel
def _name(data, i):
    """(the first eight letters of the name at i, in lower case, where it ends)."""
    key = np.uint64(0)
    k = 0
    while i < len(data) and (_is_letter(data[i]) or 48 <= data[i] <= 57 or data[i] == 45 or data[i] == 58):
        if k < 8:
            c = data[i] | 32 if _is_letter(data[i]) else data[i]
            key |= np.uint64(c) << np.uint64(8 * k)
        k += 1
        i += 1
    return key, i


@kernel
def _behind_tag(data, i):
    """(the place behind the ">" of a tag, whether it ends with "/>"); a ">" in a quoted value ends nothing."""
    last = np.uint8(0)
    while i < len(data):
        c = data[i]
        if c == 62:
            return i + 1, last == 47
        if (c == 34 or c == 39) and last == 61:
            i += 1
            while i < len(data) and data[i] != c:
                i += 1
        if not (c == 32 or 9 <= c <= 13):
            last = c
        i += 1
    return len(data), False


@kernel
def _behind_comment(data, i):
    """The place behind a comment, a doctype or what passes for one, from its "<" on."""
    if i + 3 < len(data) and data[i + 1] == 33 and data[i + 2] == 45 and data[i + 3] == 45:
        i += 4
        # <!--> and <!---> are whole comments.
        if i < len(data) and data[i] == 62:
            return i + 1
        if i + 1 < len(data) and data[i] == 45 and data[i + 1] == 62:
            return i + 2
        while i + 2 < len(data):
            if data[i] == 45 and data[i + 1] == 45:
                if data[i + 2] == 62:
                    return i + 3
                if data[i + 2] == 33 and i + 3 < len(data) and data[i + 3] == 62:
                    return i + 4
            i += 1
        return len(data)
    while i < len(data) and data[i] != 62:
        i += 1
    return min(i + 1, len(data))


@kernel
def _behind_content(data, i, key):
    """Where the end tag of an opaque element begins."""
    while i + 1 < len(data):
        if data[i] == 60 and data[i + 1] == 47 and _name(data, i + 2)[0] == key:
            return i
        i += 1
    return len(data)


@kernel
def _measure(data, void, implied, opaque, stack):
    depth = most = work = 0
    foreign = 0  # how many of the open elements are svg or math, where "/>" ends an element
    svg, math = np.uint64(6780531), np.uint64(1752457581)
    i = 0
    while i + 1 < len(data):
        if data[i] != 60:
            i += 1
            continue
        c = data[i + 1]
        if c == 33 or c == 63:
            i = _behind_comment(data, i)
        elif _is_letter(c):
            key, i = _name(data, i + 1)
            i, is_closed = _behind_tag(data, i)
            work += depth
            if _is_in(key, opaque):
                i = _behind_content(data, i, key)
            elif not (_is_in(key, void) or _is_in(key, implied) or (is_closed and foreign > 0)):
                stack[depth] = key
                depth += 1
                foreign += key in (svg, math)
                most = max(most, depth)
                if depth == len(stack):
                    return most, work
        elif c == 47:
            key, i = _name(data, i + 2)
            i, _ = _behind_tag(data, i)
            below = depth - 1
            while below >= 0 and stack[below] != key:
                below -= 1
            if below >= 0:
                for k in range(below, depth):
                    foreign -= stack[k] in (svg, math)
                depth = below
        else:
            i += 1
    return most, work


@kernel
def _strip(data, opaque, block, cell, out):
    at = 0
    gap = 0  # what stands before the next character: nothing, a space, a line end
    i = 0
    while i < len(data):
        c = data[i]
        if c == 60 and i + 1 < len(data):
            d = data[i + 1]
            if d == 33 or d == 63:
                i = _behind_comment(data, i)
                continue
            is_end = d == 47
            if _is_letter(d) or is_end:
                key, k = _name(data, i + 2 if is_end else i + 1)
                i, _ = _behind_tag(data, k)
                if not is_end and _is_in(key, opaque):
                    i = _behind_content(data, i, key)
                if _is_in(key, block):
                    gap = 2
                elif _is_in(key, cell):
                    gap = max(gap, 1)
                continue
        if c == 32 or 9 <= c <= 13:
            gap = max(gap, 1)
        else:
            if gap and at:
                out[at] = 10 if gap == 2 else 32
                at += 1
            gap = 0
            out[at] = c
            at += 1
        i += 1
    return at
