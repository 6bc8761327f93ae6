r"""What the text at the beginning of a file is, where its name doesn't say it.

    {"text": "a"}\n{"text": ...     most lines are JSON objects                     jsonl
    [ {"text": ...                  an array of objects                             json
    {\n  "text": ...                an object over several lines                    json
    >sp|P69905 ...\nMVLSPADKTN...   lines behind ">" and lines of letters alone     fasta
    <!doctype html>, <html           a page                                          html
    anything else                                                                   text

A text with commas or tabs is no table: CSV and TSV are known by their names, or by `format:`.
"""

import json
import re
from itertools import islice
from typing import NamedTuple

LINES_LOOKED_AT = 32

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=str)
_KEY = rb'\{\s*"(?:[^"\\]|\\.)*"\s*:'
_OBJECT = re.compile(rb"\s*" + _KEY, re.DOTALL)
_ARRAY = re.compile(rb"\s*\[\s*" + _KEY, re.DOTALL)
_ANY_ARRAY = re.compile(rb"\s*\[")
_PAGE = re.compile(rb"\s*<(?:!doctype\s+html|html)\b", re.IGNORECASE)
_SEQUENCE = re.compile(rb"[A-Za-z*.-]+")
SHORTEST_SEQUENCE = 20  # letters in the longest line of a FASTA that isn't called so: "> quoted" mail has spaces


class Why(NamedTuple):
    """Why a file is read as what it is: a rule, and in how many of the lines looked at it was seen."""

    rule: str
    hits: int = 0
    lines: int = 0

    def __str__(self) -> str:
        return self.rule.format(hits=self.hits, lines=self.lines)


BY_NAME, BY_BYTES, AS_SAID = Why("by its name"), Why("by its first bytes"), Why("as `format:` says")
_OBJECTS = "by its content: {hits} of {lines} lines are JSON objects"


def sniff(head: bytes, *, is_whole: bool) -> tuple[str, Why]:
    """(format, why) of a file without a known name; `head` is its beginning, as UTF-8."""
    hits, lines = count_objects(head, is_whole=is_whole)
    if hits * 2 > lines:
        return "jsonl", Why(_OBJECTS, hits, lines)
    if found := _json(head, _ARRAY):
        return found
    if _PAGE.match(head):
        return "html", Why("by its content: a page of HTML")
    if _is_fasta(head, is_whole=is_whole):
        return "fasta", Why("by its content: records behind >")
    return "text", Why("by its content: nothing but text")


def sniff_json(head: bytes, *, is_whole: bool, name: str) -> tuple[str, Why]:
    """(format, why) of a file whose name says JSON or JSON Lines: which of the two it is.

    Args:
        head: its beginning, as UTF-8.
        is_whole: whether that is all of it.
        name: the format that the extension stands for; a .json that is neither is JSON Lines, too.
    """
    hits, lines = count_objects(head, is_whole=is_whole)
    if hits * 2 > lines:
        return "jsonl", BY_NAME if name == "jsonl" else Why(_OBJECTS, hits, lines)
    if name == "json":
        return _json(head, _ANY_ARRAY) or ("jsonl", BY_NAME)
    return (
        ("json", Why("by its content: a JSON array, though its name says jsonl"))
        if _ARRAY.match(head)
        else (name, BY_NAME)
    )


def count_objects(head: bytes, *, is_whole: bool) -> tuple[int, int]:
    """(lines that are JSON objects, lines looked at); a first line longer than `head` counts by how it begins."""
    lines = head.splitlines()
    if not is_whole and lines and not head.endswith((b"\n", b"\r")):
        last = lines.pop()
        if not any(line.strip() for line in lines):
            return int(bool(_OBJECT.match(last))), 1
    some = list(islice((line for line in lines if line.strip()), LINES_LOOKED_AT))
    return sum(map(_is_object, some)), len(some)


def _json(head: bytes, array: re.Pattern[bytes]) -> tuple[str, Why] | None:
    if array.match(head):
        return "json", Why("by its content: a JSON array")
    if _OBJECT.match(head):
        return "json", Why("by its content: a JSON object over several lines")
    return None


def _is_object(line: bytes) -> bool:
    if not line.lstrip().startswith(b"{"):
        return False
    try:
        return isinstance(_DECODER.decode(line.decode()), dict)
    except (ValueError, RecursionError):
        return False


def _is_fasta(head: bytes, *, is_whole: bool) -> bool:
    lines = head.splitlines()
    if not is_whole and len(lines) > 1:
        lines.pop()
    lines = [line.rstrip() for line in lines if line.strip()]
    if len(lines) < 2 or not re.match(rb">\S", lines[0]):
        return False
    sequences = [line for line in lines if not line.startswith((b">", b";"))]
    return (
        bool(sequences) and all(map(_SEQUENCE.fullmatch, sequences)) and max(map(len, sequences)) >= SHORTEST_SEQUENCE
    )
