"""Markup: kernels beside plain Python, by hand and on anything."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mlm_data.text import markup
from mlm_data.text.markup import measure, strip, strip_tags

NAMES = ["div", "p", "b", "br", "td", "li", "svg", "path", "script", "title", "h1", "blockquote"]
_PIECES = st.one_of(
    st.sampled_from([f"<{name}>" for name in NAMES] + [f"</{name}>" for name in NAMES]),
    st.sampled_from(
        ["<", ">", "</", "<!--", "-->", "--!>", "<!-->", "<!--->", "<!x>", "<?x>", "<a b='>'>", '<a b=">', "'"]
    ),
    st.sampled_from(["<path/>", "<DIV / >", "a", " ", "\n\t", "é", "&amp;", "</>", "</ x>", "<script", "<a-b:c d=e/>"]),
)
PAGES = st.lists(_PIECES, max_size=40).map("".join).map(str.encode)


class Plain:
    """The same rules, one character at a time, in plain Python."""

    VOID = "area base basefont bgsound br col embed frame hr img input keygen link meta param source track wbr".split()
    IMPLIED = "p li dt dd option optgroup tr td th thead tbody tfoot colgroup rt rp rb rtc html head body".split()
    OPAQUE = "script style textarea title xmp iframe noembed noframes noscript template".split()
    BLOCK = (
        "address article aside blockquote body br caption center dd details dialog dir div dl dt fieldset figcaption "
        "figure footer form frameset h1 h2 h3 h4 h5 h6 header hgroup hr html legend li main menu nav ol option p pre "
        "search section summary table tbody tfoot thead tr ul"
    ).split()

    def __init__(self, page):
        self.page = page.decode("latin-1")

    def tokens(self):
        """("text", character), ("start", name, ends with "/>"), ("end", name, ...)."""
        page, i = self.page, 0
        while i < len(page):
            if page[i] != "<" or i + 1 == len(page):
                yield "text", page[i], False
                i += 1
            elif page[i + 1] in "!?":
                i = self.comment(i)
            elif page[i + 1].isascii() and page[i + 1].isalpha():
                name, i = self.name(i + 1)
                closed, i = self.tag(i)
                yield "start", name, closed
                if name in [opaque[:8] for opaque in self.OPAQUE]:
                    while i < len(page) and not (page[i : i + 2] == "</" and self.name(i + 2)[0] == name):
                        i += 1
            elif page[i + 1] == "/":
                name, i = self.name(i + 2)
                closed, i = self.tag(i)
                yield "end", name, closed
            else:
                yield "text", page[i], False
                i += 1

    def name(self, i):
        start = i
        while i < len(self.page) and self.page[i].isascii() and (self.page[i].isalnum() or self.page[i] in "-:"):
            i += 1
        return self.page[start:i].lower()[:8], i

    def tag(self, i):
        last = ""
        while i < len(self.page) and self.page[i] != ">":
            c = self.page[i]
            if c in "\"'" and last == "=":
                end = self.page.find(c, i + 1)
                i = len(self.page) if end < 0 else end
            last = last if c in " \t\n\v\f\r" else c
            i += 1
        return (last == "/", i + 1) if i < len(self.page) else (False, len(self.page))

    def comment(self, i):
        page = self.page
        if not page.startswith("<!--", i):
            end = page.find(">", i)
            return len(page) if end < 0 else end + 1
        for whole in ("<!-->", "<!--->"):
            if page.startswith(whole, i):
                return i + len(whole)
        ends = [(place, size) for mark, size in (("-->", 3), ("--!>", 4)) if (place := page.find(mark, i + 4)) >= 0]
        return sum(min(ends)) if ends else len(page)

    def measure(self):
        stack, most, work = [], 0, 0
        for kind, name, closed in self.tokens():
            if kind == "start":
                work += len(stack)
                ignored = [n[:8] for n in self.VOID + self.IMPLIED + self.OPAQUE]
                foreign = "svg" in stack or "math" in stack
                if name not in ignored and not (closed and foreign):
                    stack.append(name)
                    most = max(most, len(stack))
            elif kind == "end" and name in stack:
                while stack.pop() != name:
                    pass
        return most, work

    def strip(self):
        out, gap = "", 0
        for kind, value, _ in self.tokens():
            if kind == "text":
                if value in " \t\n\v\f\r":
                    gap = max(gap, 1)
                else:
                    out += ("", " ", "\n")[gap if out else 0] + value
                    gap = 0
            elif value in [n[:8] for n in self.BLOCK]:
                gap = 2
            elif value in ("td", "th"):
                gap = max(gap, 1)
        return out.encode("latin-1")


@settings(deadline=None)
@given(PAGES)
@example(b"<svg><path/><path/></svg><div/><div/>")
@example(b"<div></x><div></b></div>")
@example(b"<!---!><b>--><i>")
def test_equal_to_plain_python(page):
    assert measure(page, max_depth=100) == Plain(page).measure()
    assert strip_tags(page) == Plain(page).strip()


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes(page):
    measure(page, max_depth=5)
    assert strip_tags(page) == Plain(page).strip()
    strip(page)


@pytest.mark.parametrize(
    ("page", "expected"),
    [
        ("<div><p>a<p>b<br><span>c</div>", (2, 4)),
        ("<table><tr><td><table><tr><td>", (2, 1 + 1 + 1 + 2 + 2)),
        ("<div>" * 50, (11, sum(range(11)))),  # counting ends
        ("</div>" * 50 + "<b>" * 3, (3, 3)),
        ("<script>" + "<div>" * 50, (0, 0)),
        ("", (0, 0)),
    ],
)
def test_measure(page, expected):
    assert measure(page.encode(), max_depth=10) == expected


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<title>T</title><h1>A&amp;B</h1>\n<p>one <b>t</b>wo</p><style>p {}</style>", "A&B\none two"),
        ("<table><tr><td>a<td>b<tr><td>c", "a b\nc"),
        (
            "&eacute;&#233;&#xE9;&#x80;&lt;p&gt;&nothing;&amp &#0;&#xD800;&#9999999;",
            "ééé€<p>&nothing;&amp \ufffd\ufffd\ufffd",
        ),
        ("a < b && c > d", "a < b && c > d"),
        ("  \n ", ""),
        ("left <b unclosed='", "left"),
    ],
)
def test_strip(page, text):
    assert strip(page.encode()) == text


@pytest.mark.parametrize(
    "unit", ["<a ", "<!--", "<div>", "</b>", "<b>", "<script>", "&ab;", "&", '<a b="', "<a b='\">", "<![CDATA[", "\n"]
)
def test_hostile_pages_end(unit):
    """Time that grows with the square of 4 MB would be hours."""
    page = unit.encode() * (4_000_000 // len(unit))
    measure(page, max_depth=512)
    strip(page)


def test_the_lists_of_names_are_sorted():
    for keys in (markup._VOID, markup._IMPLIED, markup._OPAQUE, markup._BLOCK, markup._CELL):
        assert (np.diff(keys.astype(object)) > 0).all()
