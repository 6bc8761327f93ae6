"""Evaluation texts that a dataset is not to hold: read from files, indexed once per process.

A file of JSON Lines, or one JSON array, gives an item for each string in it, however deep; of any other text each line
is an item. Files may be compressed.
"""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from mlm_data.build.context import Context
from mlm_data.curation_settings import DecontaminateSettings
from mlm_data.duplicates.decontaminate import Index, Report, build_index
from mlm_data.errors import InputError
from mlm_data.stores.folder import file_info
from mlm_data.text import compression
from mlm_data.text.find import expand
from mlm_data.text.streams import ByteStream
from mlm_data.types import Slice

ASSET = "decontaminate.against"  # as `find_assets` calls them


@dataclass(frozen=True, kw_only=True)
class Items:
    """The items of all evaluations."""

    names: tuple[str, ...]  # of the files
    texts: pa.LargeStringArray
    files: Int32[np.ndarray, " items"]

    @property
    def sha256(self) -> str:
        """What the items are, whatever the files are called."""
        hasher = hashlib.sha256()
        for text in self.texts.to_pylist():
            hasher.update(f"{len(text)}:{text}".encode())
        return hasher.hexdigest()


def read_items(settings: DecontaminateSettings) -> Items:
    """All items, in the order of the files.

    Raises:
        InputError: a file is missing, can't be read, or none holds an item.
    """
    names: list[str] = []
    texts: list[str] = []
    files: list[int] = []
    for pattern in settings.against:
        found, _ = expand(pattern, ASSET)
        for file in found:
            before = len(texts)
            texts.extend(_items(_read(file.path), file.path))
            files += [len(names)] * (len(texts) - before)
            names.append(file.relative)
    if not texts:
        raise InputError(f"decontaminate.against: no item in {', '.join(settings.against)}")
    return Items(names=tuple(names), texts=pa.array(texts, pa.large_string()), files=np.array(files, np.int32))


def load_index(settings: DecontaminateSettings, version: str) -> Index:
    """The index of all items, made once per process.

    Args:
        version: `Items.sha256` when the build began.

    Raises:
        InputError: the files have changed since.
    """
    return _load(settings, version)[1]


def index_of(context: Context) -> tuple[DecontaminateSettings, Index]:
    """(what a build looks for, the index of it): `load_index` of its own items."""
    settings = context.config.decontaminate
    assert settings is not None, "the build looks for evaluations"
    return settings, load_index(settings, context.asset(ASSET))


def report(found: Report, context: Context) -> list[dict[str, Any]]:
    """What was found, a line for each file, as plain JSON types."""
    assert context.config.decontaminate is not None, "the build looks for evaluations"
    names, _ = _load(context.config.decontaminate, context.asset(ASSET))
    counts = {name: values.tolist() for name, values in found._asdict().items()}
    return [{"file": name, **{key: values[i] for key, values in counts.items()}} for i, name in enumerate(names)]


def count_cuts(
    cuts: Int32[np.ndarray, " documents"],
    characters: Int32[np.ndarray, " documents"],
    numbers: Int32[np.ndarray, " documents"],
    inputs: Sequence[str],
) -> dict[str, int]:
    """What `decontaminate.action: cut` has taken away, by what is counted and input; nothing where it took nothing.

    Args:
        cuts: of each document.
        characters: that each lost.
        numbers: which of the inputs each is of.
        inputs: their names.
    """
    documents, spans, lost = (
        np.bincount(numbers, values, minlength=len(inputs)).astype(np.int64).tolist()
        for values in (cuts > 0, cuts, characters)
    )
    counts: dict[str, int] = {}
    for place, name in enumerate(inputs):
        counts |= {
            f"documents of {name} with evaluations cut": documents[place],
            f"evaluations cut from {name}": spans[place],
            f"characters cut from {name} as evaluations": lost[place],
        }
    return {name: count for name, count in counts.items() if count}


@lru_cache(maxsize=2)
def _load(settings: DecontaminateSettings, version: str) -> tuple[tuple[str, ...], Index]:
    """(names of the files, index)."""
    items = read_items(settings)
    if items.sha256 != version:
        raise InputError(f"{settings.against[0]}: an evaluation was changed while the build ran: start it again")
    index = build_index(
        items.texts,
        items.files,
        num_files=len(items.names),
        ngram=settings.ngram,
        min_words=min(settings.ngram, 5),
    )
    return items.names, index


def _read(path: str) -> bytes:
    with ByteStream(_whole(path, "")) as stream:
        head = stream.peek(64)
    with ByteStream(_whole(path, compression.by_magic(head))) as stream:
        data = stream.read_all()
        if stream.damage:
            raise InputError(f"{path}: {stream.damage}: download it again")
    return data


def _whole(path: str, codec: str) -> Slice:
    size = file_info(path).size or 0
    kind: dict[str, Any] = {"input": 0, "format": "text", "identity": ""}
    return Slice(source=path, path=path, compression=codec, start=0, end=size, num_bytes=size, **kind)


def _items(data: bytes, path: str) -> Iterator[str]:
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 at byte {error.start}: convert it first") from error
    if text.lstrip()[:1] == "[":
        yield from _strings(_parse(text, path, 1))
        return
    for number, line in enumerate(text.split("\n"), 1):
        if line.lstrip()[:1] == "{":
            yield from _strings(_parse(line, path, number))
        elif line.strip():
            yield line


def _parse(text: str, path: str, line: int) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}, line {line}: not valid JSON: {error}") from error


def _strings(value: Any) -> Iterator[str]:
    """All strings of a JSON value, in order."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, str):
            yield one
        elif isinstance(one, dict):
            waiting += reversed(one.values())
        elif isinstance(one, list):
            waiting += reversed(one)
