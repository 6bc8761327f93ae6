"""HTML: a file is a page, and its main text a document. See `mlm_data.text.pages`."""

from collections.abc import Iterator

import numpy as np

from mlm_data.config import InputSettings
from mlm_data.text.batches import batch, quarantined
from mlm_data.text.blocks import truncated
from mlm_data.text.formats.record import Format
from mlm_data.text.pages import MAX_PAGE_BYTES, TOO_LARGE, Page, check_packages, page_texts
from mlm_data.text.streams import AIM, ByteStream
from mlm_data.types import Documents, Slice


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    del batch_bytes, replace
    parts, num_bytes = [], 0
    with ByteStream(piece) as stream:
        while part := stream.read(AIM):
            num_bytes += len(part)
            if num_bytes <= MAX_PAGE_BYTES:
                parts.append(part)
    if stream.damage:
        yield batch(piece, settings, (truncated(piece, stream, 0),), num_bytes)
        return
    if num_bytes > MAX_PAGE_BYTES:
        detail = f"a page of {num_bytes} bytes; at most {MAX_PAGE_BYTES} are read"
        yield batch(piece, settings, (quarantined(piece, 0, TOO_LARGE, detail, num_bytes),), num_bytes)
        return
    found = page_texts([Page(data=b"".join(parts))], settings)
    bad = tuple(quarantined(piece, 0, reason, detail, num_bytes) for _, reason, detail in found.problems)
    offsets = np.zeros(len(found.kept), np.int64)
    yield batch(piece, settings, bad, num_bytes, found.texts, offsets, counts=found.counts)


def _check_head(head: bytes, settings: InputSettings, path: str) -> None:
    del head, path
    check_packages(settings)


FORMAT = Format(
    name="html",
    extensions=("html", "htm", "xhtml"),
    settings=frozenset({"extract"}),
    check_head=_check_head,
    read=_read,
)
