"""Web pages to texts: find the encoding, then the main text. What the formats `html` and `warc` have in common."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import Int64

from mlm_data.config import InputSettings
from mlm_data.text import charset, extract
from mlm_data.text.encodings import NOT_TEXT, NOT_TEXT_DETAIL
from mlm_data.text.magic import find_foreign
from mlm_data.text.utf8 import is_no_text

TOO_LARGE = "too_large"
MAX_PAGE_BYTES = 64 << 20  # of a page or text, unpacked


@dataclass(frozen=True, kw_only=True)
class Page:
    """A page as it was fetched, or a text of which only the encoding is to be found."""

    data: bytes
    content_type: str = ""  # as the server has it
    is_html: bool = True


@dataclass(frozen=True, kw_only=True)
class PageTexts:
    """The texts of pages, and what became of the others."""

    texts: pa.LargeStringArray
    kept: Int64[np.ndarray, " texts"]  # which pages they are
    problems: tuple[tuple[int, str, str], ...]  # (page, reason, detail) of the others
    counts: Mapping[str, int]  # pages whose text comes from the stripper, by why


def check_packages(settings: InputSettings) -> None:
    """Raise the error that says what to install, before anything is read.

    Raises:
        ConfigError: a package is not there.
    """
    charset.check_installed()
    if settings.extract != "none":
        extract.check_installed(settings.extract)


def identity(settings: InputSettings) -> str:
    """What texts depend on beside pages and settings, versions of libraries above all: enters cache keys."""
    found = f"charset {charset.identity()}"
    return found if settings.extract == "none" else f"{found}; extract {extract.identity(settings.extract)}"


def page_texts(pages: Sequence[Page], settings: InputSettings) -> PageTexts:
    """The text of each page: see `mlm_data.text.charset` and `mlm_data.text.extract`.

    Bytes that an encoding doesn't allow become U+FFFD, whatever `clean.bad_bytes` says: so browsers read pages.
    """
    problems: list[tuple[int, str, str]] = []
    texts: dict[int, str] = {}
    to_extract: dict[int, bytes] = {}
    for i, page in enumerate(pages):
        if foreign := find_foreign(page.data):
            problems.append((i, NOT_TEXT, f"{foreign.name}, though it is called a page"))
            continue
        found = charset.find_charset(page.data, header=page.content_type, is_html=page.is_html)
        data = charset.decode(page.data, found)
        if b"\0" in data and is_no_text(data):
            problems.append((i, NOT_TEXT, NOT_TEXT_DETAIL))
        elif page.is_html and settings.extract != "none":
            to_extract[i] = data
        else:
            texts[i] = data.decode()
    counts: Counter[str] = Counter()
    if to_extract:
        answers = extract.extract_pages(list(to_extract.values()), settings.extract)
        for i, answer in zip(to_extract, answers, strict=True):
            if answer.problem is not None:
                problems.append((i, *answer.problem))
                continue
            texts[i] = answer.text
            if answer.stripped:
                counts[f"stripped.{answer.stripped}"] += 1
    kept = sorted(texts)
    return PageTexts(
        texts=pa.array([texts[i] for i in kept], pa.large_string()),
        kept=np.array(kept, np.int64),
        problems=tuple(sorted(problems)),
        counts=counts,
    )
