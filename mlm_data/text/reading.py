"""Read a unit's slices as documents, in batches of about 8 MiB of text, whatever the size of a file.

    slice -> bytes (streams) -> blocks of whole lines or paragraphs (borders, blocks) -> text, fields and places
          -> row groups, record batches (tables)                                          (one of formats/)

`offset` is the byte at which a document begins in the decompressed file, or its row in a Parquet or Arrow file. A
byte order mark wins over the configured encoding. What can't be read becomes a `Quarantined` with its place and a
reason; docs/reference/reasons.md has them all.

Blank lines of text and JSON Lines are no documents. Strings of other fields are kept as they are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

from mlm_data.config import BuildConfig, InputSettings
from mlm_data.errors import InputError
from mlm_data.stores.folder import file_info, input_hash, stat_facts, stat_identity
from mlm_data.text.formats import FORMATS
from mlm_data.types import Documents, Slice, Unit

ALGORITHM_VERSION = 2  # enters cache keys: count up when other documents come out of the same bytes

BATCH_BYTES = 8 << 20


def read_unit(unit: Unit, config: BuildConfig, *, batch_bytes: int = BATCH_BYTES) -> Iterator[Documents]:
    """The documents of a unit's slices, in order.

    Each batch is of one source and has about `batch_bytes` of text; a longer document is a batch of its own. The
    `num_bytes_read` of a slice's batches add up to its bytes (decompressed), or to what its columns take in memory.

    Raises:
        InputError: a file can't be opened or read, has changed since it was planned, or has no column for the text.
    """
    for piece in unit.slices:
        yield from read_slice(piece, config, batch_bytes=batch_bytes)


def read_slice(piece: Slice, config: BuildConfig, *, batch_bytes: int = BATCH_BYTES) -> Iterator[Documents]:
    """`read_unit` for one slice."""
    settings = config.inputs[piece.input]
    with _as_planned(piece, config.cache.identity):
        yield from _read(piece, settings, config, batch_bytes)


def _read(piece: Slice, settings: InputSettings, config: BuildConfig, batch_bytes: int) -> Iterator[Documents]:
    if config.clean.fix_encoding and "encoding" in FORMATS[piece.format].settings:
        from mlm_data.text.charset import with_found_encoding

        settings = with_found_encoding(piece, settings)
    replace = config.clean.bad_bytes == "replace"
    found = FORMATS[piece.format].read(piece, settings, batch_bytes=batch_bytes, replace=replace)
    if settings.word_field is None:
        yield from found
        return
    from mlm_data.text.word_borders import with_borders

    for documents in found:
        yield with_borders(documents, settings.word_field, config.clean)


@contextmanager
def _as_planned(piece: Slice, identity: str) -> Iterator[None]:
    """See to it that what is read is what was planned: asked before the first byte and behind the last one.

    With `cache.identity: content` the file's bytes are hashed, once a process however many slices it has. In a bucket,
    where asking is a request and an object never changes back to what it was, it is asked behind the last byte alone.

    Raises:
        InputError: it is another file now.
    """
    if not piece.identity or piece.identity == "empty":
        yield
        return
    by_content = identity == "content"
    if "://" in piece.path and not by_content:
        try:
            yield
        except InputError:
            _check(piece, stat_identity(file_info(piece.path)))  # a better reason than what came of it
            raise
        _check(piece, stat_identity(file_info(piece.path)))
        return
    before = stat_facts(piece.path)
    _check(piece, _content(piece.path, before) if by_content else stat_identity(file_info(piece.path)))
    yield
    _check(piece, piece.identity if stat_facts(piece.path) == before else "another")


def _check(piece: Slice, found: str) -> None:
    if found != piece.identity:
        raise InputError(f"{piece.path}: changed after the build had begun: start it again")


@lru_cache(maxsize=1024)
def _content(path: str, _facts: tuple[object, ...]) -> str:
    """SHA-256 of a file's bytes as it was when these facts were true of it."""
    return input_hash(path)
