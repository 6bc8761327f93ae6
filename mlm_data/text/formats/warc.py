"""WARC: a web archive. Each HTML page in it is a document, its main text; in a WET file, each extracted text is.

    warcinfo, request, metadata, revisit     no documents: counted, `skipped.request`
    response, resource of HTML, status 2xx   a document: the page's main text
    conversion of text, as in WET files      a document: the text as it is
    all others                               no documents: counted, `skipped.image/png`, `skipped.status 404`

`url`, `host`, `date`, `content_type`, `status` and `record_id` can be `id_field` and `keep_fields`. `offset` is the
byte in the decompressed file at which the record begins. A record that is broken is quarantined, `bad_warc`, and what
can be read behind it is read: see `mlm_data.text.warc`. A file is one slice.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from dataclasses import replace as change
from urllib.parse import urlsplit

import pyarrow as pa

from mlm_data.config import InputSettings
from mlm_data.errors import ConfigError, InputError
from mlm_data.text.batches import batch, other_fields, quarantined
from mlm_data.text.field_names import hint
from mlm_data.text.formats.record import Format
from mlm_data.text.http import BadResponseError, TooLargeError, decode_body, read_head
from mlm_data.text.pages import MAX_PAGE_BYTES, TOO_LARGE, Page, check_packages, page_texts
from mlm_data.text.streams import ByteStream
from mlm_data.text.warc import BAD_WARC, Record, parse_fields, read_records
from mlm_data.types import Documents, Quarantined, Slice

FIELDS: tuple[str, ...] = ("url", "host", "date", "content_type", "status", "record_id")
HTML = frozenset({"text/html", "application/xhtml+xml"})
MAX_KINDS = 100  # of skipped records that a slice tells apart, as archives may hold any content type; the rest: other

_MIME = re.compile(r"\s*([A-Za-z0-9!#$&^_.+-]{1,60}/[A-Za-z0-9!#$&^_.+-]{1,60})\s*(?:;|$)")
_KIND = re.compile(r"[a-z]{1,20}")


def _read(piece: Slice, settings: InputSettings, *, batch_bytes: int, replace: bool) -> Iterator[Documents]:
    del replace
    kinds: set[str] = set()
    waiting = _Waiting()
    counted = 0
    with ByteStream(piece) as stream:
        for record in read_records(stream, max_bytes=MAX_PAGE_BYTES):
            waiting.add(piece, record, kinds)
            if waiting.num_bytes >= batch_bytes:
                counted, before = record.offset + record.num_bytes, counted
                yield _documents(piece, settings, waiting, counted - before)
                waiting = _Waiting()
    yield _documents(piece, settings, waiting, stream.at - counted)


@dataclass
class _Waiting:
    """What was read and is no batch yet."""

    pages: list[Page] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)  # of the pages, without their blocks
    columns: list[dict[str, str | None]] = field(default_factory=list)
    bad: list[Quarantined] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)
    num_bytes: int = 0

    def add(self, piece: Slice, record: Record, kinds: set[str]) -> None:
        try:
            page, columns = _page(record)
        except _NoDocument as skip:
            kind = skip.kind if skip.kind in kinds or len(kinds) < MAX_KINDS else "other"
            kinds.add(kind)
            self.skipped[f"skipped.{kind}"] += 1
        except _BadRecordError as error:
            item = quarantined(piece, record.offset, error.reason, error.detail, record.num_bytes)
            self.bad.append(change(item, lost_bytes=record.lost_bytes))
        else:
            self.pages.append(page)
            self.records.append(change(record, block=b""))
            self.columns.append(columns)
            self.num_bytes += len(page.data)


class _NoDocument(Exception):  # noqa: N818  # no error
    """A record that is sound, and no document."""

    def __init__(self, kind: str) -> None:
        super().__init__(kind)
        self.kind = kind


class _BadRecordError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


def _page(record: Record) -> tuple[Page, dict[str, str | None]]:
    """The page or text in a record, and its fields."""
    if record.problem is not None:
        raise _BadRecordError(*record.problem)
    kind = record.fields.get("warc-type", "").lower()
    stated = _mime(record.fields.get("content-type", ""))
    if "warc-segment-number" in record.fields:
        raise _NoDocument("segment")
    columns = _columns(record, stated, None)
    if kind == "response" and stated in ("application/http", ""):
        return _of_response(record)
    if kind in ("conversion", "resource", "response"):
        if stated in HTML:
            return Page(data=record.block, content_type=record.fields["content-type"]), columns
        if kind == "conversion" and stated in ("text/plain", ""):
            return Page(data=record.block, content_type=record.fields.get("content-type", ""), is_html=False), columns
        raise _NoDocument(stated or "unknown")
    raise _NoDocument(kind if _KIND.fullmatch(kind) else "unknown")


def _of_response(record: Record) -> tuple[Page, dict[str, str | None]]:
    try:
        status, fields, begin = read_head(record.block)
        content_type = fields.get("content-type", "")
        mime = _mime(content_type) or _mime(record.fields.get("warc-identified-payload-type", ""))
        if not 200 <= status < 300:
            raise _NoDocument(f"status {status}")
        if mime and mime not in HTML:
            raise _NoDocument(mime)
        body = decode_body(record.block[begin:], fields, max_bytes=MAX_PAGE_BYTES)
    except TooLargeError as error:
        raise _BadRecordError(TOO_LARGE, str(error)) from error
    except BadResponseError as error:
        raise _BadRecordError(BAD_WARC, str(error)) from error
    if not mime and not looks_like_html(body):
        raise _NoDocument("unknown")
    return Page(data=body, content_type=content_type), _columns(record, mime or None, status)


def looks_like_html(data: bytes) -> bool:
    """Whether bytes without a content type begin as pages do."""
    return bool(
        re.match(rb"(?:\xef\xbb\xbf)?\s*(?:<!--.{0,1000}?-->\s*)?<(?:!doctype\s+html|html\b)", data[:2048], re.I | re.S)
    )


def _mime(content_type: str) -> str:
    """The type in lower case, without parameters; "" if there is none."""
    found = _MIME.match(content_type)
    return found[1].lower() if found else ""


def _columns(record: Record, mime: str | None, status: int | None) -> dict[str, str | None]:
    fields = record.fields
    url = fields.get("warc-target-uri")
    url = url[1:-1] if url and url.startswith("<") and url.endswith(">") else url  # as some writers of WARC 1.0 do
    record_id = fields.get("warc-record-id")
    return {
        "url": url,
        "host": _host(url),
        "date": fields.get("warc-date"),
        "content_type": mime or None,
        "status": None if status is None else str(status),
        "record_id": record_id.strip("<>") if record_id else None,
    }


def _host(url: str | None) -> str | None:
    try:
        return urlsplit(url or "").hostname or None
    except ValueError:
        return None


def _documents(piece: Slice, settings: InputSettings, waiting: _Waiting, num_bytes: int) -> Documents:
    found = page_texts(waiting.pages, settings)
    records = waiting.records
    bad = list(waiting.bad)
    bad += (
        quarantined(piece, records[i].offset, reason, detail, records[i].num_bytes)
        for i, reason, detail in found.problems
    )
    bad.sort(key=lambda item: item.offset)
    kept = found.kept.tolist()
    others = [pa.array([waiting.columns[i][name] for i in kept], pa.string()) for name in other_fields(settings)]
    offsets = pa.array([records[i].offset for i in kept], pa.int64()).to_numpy()
    counts = waiting.skipped + Counter(found.counts)
    return batch(piece, settings, tuple(bad), num_bytes, found.texts, offsets, others, counts=counts)


def _check_head(head: bytes, settings: InputSettings, path: str) -> None:
    for name in other_fields(settings):
        if name not in FIELDS:
            raise ConfigError(f"{path}: a record of a WARC has no field {name!r}: {hint(name, FIELDS)}")
    heads = [parse_fields(part.split(b"\r\n\r\n")[0]) for part in re.split(rb"^WARC/1\.\d\r?\n", head, flags=re.M)[1:]]
    types = {fields.get("warc-type", "") for fields in heads}
    has_json = any(fields.get("content-type", "").startswith("application/json") for fields in heads)
    if "metadata" in types and has_json and types <= {"warcinfo", "metadata"}:
        remedy = "take the WARC or the WET file of the same name"
        raise InputError(f"{path}: a WAT file, which has links and metadata of pages, and no text: {remedy}")
    check_packages(settings)


FORMAT = Format(
    name="warc",
    extensions=("warc", "wet", "wat"),
    magics=tuple(b"WARC/%s%s" % (v, end) for v in (b"1.0", b"1.1", b"0.18", b"0.17") for end in (b"\r\n", b"\n")),
    needs_magic=False,
    settings=frozenset({"extract", "id_field", "keep_fields"}),
    check_head=_check_head,
    read=_read,
)
