"""What pages of HTML have in common: files that ask the network for nothing, and that no text can break out of.

Colours follow the reader's choice of light or dark. Names and texts from configurations and corpora are escaped twice:
what doesn't print becomes an escape, and then HTML's own characters become entities. A content policy forbids scripts
and anything from elsewhere.
"""

import html
from collections.abc import Iterator

from mlm_data.console import shown

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --card: #f6f7f9; --ink: #1b1f24; --soft: #5b6470; --line: #d9dde3;
  --bar: #2f6fb0; --second: #b34414; }
@media screen and (prefers-color-scheme: dark) { :root { --paper: #14171b; --card: #1d2127; --ink: #e7eaee;
  --soft: #9aa4b1; --line: #343b44; --bar: #6fa8e0; --second: #f08a4b; } }
* { box-sizing: border-box; }
body { margin: 0 auto; max-width: 76rem; padding: 1rem; background: var(--paper); color: var(--ink);
  font: 1rem/1.45 system-ui, sans-serif; }
h1 { font-size: 1.5rem; margin: .5rem 0; } h2 { font-size: 1.2rem; margin: 2rem 0 .5rem; }
h3 { font-size: 1rem; margin: 1.2rem 0 .5rem; color: var(--soft); }
p { margin: .4rem 0; max-width: 46rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .85rem; }
th, td { padding: .2rem .9rem .2rem 0; text-align: right; border-bottom: 1px solid var(--line); vertical-align: top; }
th:first-child, td:first-child, td.name, th.name { text-align: left; overflow-wrap: anywhere; }
details { margin-top: .3rem; font-size: .85rem; } summary { color: var(--soft); cursor: pointer; }
"""


def head(title: str, style: str) -> Iterator[str]:
    """The beginning of a page, up to its first heading. `title` is escaped; `style` goes after what all pages have."""
    yield "<!doctype html>"
    yield '<html lang="en"><head><meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    yield f"<title>{title}</title><style>{STYLE}{style}</style></head><body><main>"


def escaped(text: str, most: int | None = None) -> str:
    r"""A text of somebody else's in HTML, in an attribute, too; `most` as in `shown`.

    >>> escaped("<b>\u202e\x1b")
    '&lt;b&gt;\\u202e\\x1b'
    """
    return html.escape(shown(text, most))
