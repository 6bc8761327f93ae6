"""Scores of a fastText classifier of the user's (Joulin et al. 2016), such as a filter for quality.

Read by fasttext-predict, which has fastText's prediction and nothing else: `pip install 'premask[fasttext]'`. Packages
whose names begin with fasttext overwrite each other's module, so install one of them.

fastText reads one line: line feeds become spaces; every other byte of the text is what the model sees. A score is the
probability of one label, rounded to 1/10,000 so that the last bits of a machine's arithmetic decide nothing.
"""

import hashlib
import os
import struct
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Float32

from mlm_data.command import require
from mlm_data.curation.thresholds import SCORE_UNIT
from mlm_data.errors import ConfigError

_MAGIC, _VERSION = 793712314, 12  # of fastText's files since 2017
_HEADER = struct.Struct("<2i12id3i2q")  # magic, version, arguments, then sizes of the dictionary
_ENTRY = struct.Struct("<qb")  # behind a word and its zero: count, whether it is a label


def classifier_scores(texts: pa.LargeStringArray, path: str, label: str) -> Float32[np.ndarray, " documents"]:
    """The probability of `label` for each text, in [0, 1], a multiple of 1/10,000.

    Python reads the texts one by one, and holds the GIL.

    Args:
        texts: without nulls.
        path: a supervised model of fastText, .bin or .ftz.
        label: whole, such as `__label__hq`.

    Raises:
        ConfigError: fasttext-predict isn't installed, the file is no such model, or has no such label.
    """
    model, labels = _load(path, _stat(path))
    if label not in labels:
        raise ConfigError(f"classifier.label: {path} has no label {label!r}: it has {', '.join(labels[:10])}")
    out = np.zeros(len(texts), np.float32)
    for i, line in enumerate(lines(texts)):
        names, chances = model.predict(line, k=-1, threshold=0.0)
        if label in names:  # one that is next to impossible is left out
            out[i] = chances[names.index(label)]
    return (np.floor(np.clip(out, 0, 1) * SCORE_UNIT + np.float32(0.5)) / SCORE_UNIT).astype(np.float32)


def lines(texts: pa.LargeStringArray) -> list[str]:
    r"""The texts as fastText wants them: each one line.

    >>> lines(pa.array(["a\nb"], pa.large_string()))
    ['a b']
    """
    return pc.replace_substring(texts, "\n", " ").to_pylist()


def load_fasttext(path: str) -> Any:
    """A model of fastText.

    Raises:
        ConfigError: fasttext-predict isn't installed, or the file can't be read as such a model.
    """
    return _load(path, _stat(path))[0]


def _stat(path: str) -> tuple[int, int]:
    try:
        found = os.stat(path)
    except OSError as error:
        raise ConfigError(f"{path}: can't read the model: {error.strerror}") from error
    return found.st_size, found.st_mtime_ns


@lru_cache(maxsize=4)
def _load(path: str, stat: tuple[int, int]) -> tuple[Any, tuple[str, ...]]:
    """A model and its labels, read once per process as long as the file stays the same."""
    del stat
    fasttext = require("fasttext", extra="fasttext")
    labels = fasttext_labels(path)  # the library believes all that a file says of its sizes
    try:
        return fasttext.load_model(path), labels
    except (ValueError, RuntimeError, MemoryError) as error:
        raise ConfigError(f"{path} can't be read as a model of fastText: {error}") from error


def fasttext_labels(path: str) -> tuple[str, ...]:
    """The labels of a model, in its own order.

    Raises:
        ConfigError: the file isn't there, or is no supervised model of fastText.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise ConfigError(f"{path}: can't read the model: {error.strerror}") from error
    wrong = ConfigError(f"{path} is no supervised model of fastText (.bin or .ftz)")
    if len(data) < _HEADER.size:
        raise wrong
    magic, version, *_, num_entries, _, num_labels, _, _ = _HEADER.unpack_from(data)
    if magic != _MAGIC or version > _VERSION or not 0 < num_labels <= num_entries:
        raise wrong
    labels = []
    at = _HEADER.size
    for _ in range(num_entries):
        end = data.find(b"\0", at)
        if end < 0 or end + 1 + _ENTRY.size > len(data):
            raise wrong
        if _ENTRY.unpack_from(data, end + 1)[1] == 1:
            labels.append(data[at:end].decode("utf-8", "replace"))
        at = end + 1 + _ENTRY.size
    if len(labels) != num_labels:
        raise wrong
    return tuple(labels)


def file_sha256(path: str) -> str:
    """SHA-256 of a model's file, in hexadecimal: for cache keys.

    Raises:
        ConfigError: the file can't be read.
    """
    try:
        with Path(path).open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ConfigError(f"{path}: can't read the model: {error.strerror}") from error
