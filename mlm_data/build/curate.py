"""What PREPARE does to texts before they are tokenized: clean them, name them, and score them.

    text -> mojibake -> normalize -> privacy   =  the cleaned text: its hash is the document's id
         -> language, quality, classifier, hosts, filters of the user's, sketch     =  scores, which are stored
         -> lines cut by copies, lines cut by rules, evaluations cut      =  the text that is tokenized

Scores and ids are those of the uncut text. Nothing is dropped here: thresholds decide later, over what is stored.
A step is imported where it is asked for: a build without it doesn't wait for its tables and loops.
"""

import contextlib
import hashlib
import importlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from jaxtyping import Int32

from mlm_data.build.context import Context
from mlm_data.config import BuildConfig
from mlm_data.curation.thresholds import SCORE_UNIT
from mlm_data.curation_settings import LanguageSettings
from mlm_data.errors import BuildError, ConfigError, InputError
from mlm_data.hashing import Hashes, hash128
from mlm_data.stores.folder import read_input
from mlm_data.text import normalize
from mlm_data.types import Documents

if TYPE_CHECKING:
    from mlm_data.curation.language import LanguageModel
    from mlm_data.duplicates.lines import Cuts

HEAD_CHARS = 200  # of each document, kept as an example where documents may be dropped for what they say


@dataclass(frozen=True, kw_only=True)
class Curated:
    """A batch of documents, cleaned and scored."""

    texts: pa.LargeStringArray  # to be tokenized
    ids: Hashes  # of the texts before lines were cut
    columns: Mapping[str, pa.Array] = field(default_factory=dict)  # `score_fields`
    counts: Counter[str] = field(default_factory=Counter)  # what was changed, by step


def clean(texts: pa.LargeStringArray, config: BuildConfig, placeholders: Mapping[str, str]) -> tuple[Any, Counter[str]]:
    """The texts after per-document cleaning, and what was changed, by step."""
    counts: Counter[str] = Counter()
    for step in clean_steps(texts, config, placeholders):
        texts = step.texts
        counts.update(step.counts)
    return texts, counts


@dataclass(frozen=True, kw_only=True)
class Cleaned:
    """The texts after one step of cleaning, and what it counted."""

    name: str  # of the setting
    texts: Any
    counts: Mapping[str, int] = field(default_factory=dict)


def clean_steps(texts: pa.LargeStringArray, config: BuildConfig, placeholders: Mapping[str, str]) -> Iterator[Cleaned]:
    """Each step of cleaning that is on, in order."""
    settings = config.clean
    if settings.fix_encoding:
        from mlm_data.text import mojibake

        texts, lines = mojibake.fix_mojibake(texts)
        yield Cleaned(name="fix_encoding", texts=texts, counts={"mojibake lines mended": int(lines.sum())})
    texts = normalize.normalize(texts, settings)
    yield Cleaned(name="unicode", texts=texts)
    if settings.privacy:
        from mlm_data.curation import privacy

        replaced = privacy.replace_private(texts, settings.privacy, {**privacy.PLACEHOLDERS, **placeholders})
        totals = zip(settings.privacy, replaced.counts.sum(0).tolist(), strict=True)
        yield Cleaned(
            name="privacy", texts=replaced.texts, counts={f"{kind} replaced": count for kind, count in totals}
        )


def curate(
    documents: Documents,
    number: int,
    context: Context,
    cuts: "Cuts | None" = None,
    ignored: Int32[np.ndarray, " ignored"] | None = None,
) -> Curated:
    """Clean and score a batch of one source, of the input `number`.

    Args:
        cuts: (document of the batch, line) of lines that many documents share, sorted.
        ignored: runs of evaluations that are not cut, as many documents hold them.

    Raises:
        BuildError: a filter of the user's raised, or answered with something else than a value for each document.
    """
    config = context.config
    texts, counts = clean(documents.table.column("text"), config, context.placeholders())
    ids = hash128(texts)
    columns = _languages(texts, config)
    codes = None
    if columns:
        codes = pa.array(languages_of(config), pa.string()).take(columns["language"])
    columns |= _score(texts, codes, documents, number, context)
    if cuts is not None and len(cuts):
        from mlm_data.duplicates import lines

        texts, removed = lines.cut_lines(texts, cuts["document"], cuts["line"])
        texts = normalize.normalize(texts, config.clean)  # blank lines that have become neighbours
        counts["characters cut as copies of lines"] += int(removed.sum())
    if config.clean.lines:
        from mlm_data.curation import line_edits

        edited = line_edits.edit_lines(texts, config.clean.lines, codes)
        texts = edited.texts
        edits = list(edited.by_edit.values())  # one after the other
        columns["num_words"] = pa.array(edits[0].num_words)
        columns["words_removed"] = pa.array(np.sum([edit.num_words_removed for edit in edits], 0, dtype=np.int32))
        for name, edit in edited.by_edit.items():
            counts[f"characters cut by the lines of {name}"] += int(edit.characters_removed.sum())
    if config.cuts_evaluations:
        texts, more = without_evaluations(texts, context, ignored)
        columns |= more
    return Curated(texts=texts, ids=ids, columns=columns, counts=counts)


def without_evaluations(
    texts: pa.LargeStringArray, context: Context, ignored: Int32[np.ndarray, " ignored"] | None = None
) -> tuple[pa.LargeStringArray, dict[str, pa.Array]]:
    """(texts, columns that say what was cut). It comes last: lines that go may bring parts of an item together."""
    from mlm_data.build import evaluations
    from mlm_data.duplicates import decontaminate

    settings, index = evaluations.index_of(context)
    cut = decontaminate.cut_runs(texts, index, ignored=ignored, window=settings.window)
    left, is_cut = texts, cut.num_cuts > 0
    if is_cut.any():  # white space where it was cut; the others stay as they are
        mended = normalize.normalize(cut.texts.filter(pa.array(is_cut)), context.config.clean)
        left = pc.replace_with_mask(texts, pa.array(is_cut), mended)
    lost = pc.cast(pc.subtract(pc.utf8_length(texts), pc.utf8_length(left)), pa.int32())
    return left, {"evaluation_cuts": pa.array(cut.num_cuts), "evaluation_chars": lost}


def score_fields(config: BuildConfig) -> list[pa.Field]:
    """The columns of scores in a prepared unit: one schema for all units. Null where an input has no such score."""
    settings = config.clean
    fields = []
    if settings.languages is not None:
        fields += [pa.field("language", pa.int16()), pa.field("language_score", pa.uint16())]
    if settings.lines:
        fields += [pa.field("num_words", pa.int32()), pa.field("words_removed", pa.int32())]
    if settings.domains is not None:
        fields.append(pa.field("is_blocked", pa.bool_()))
    presets = {preset for item in config.inputs for preset in item.quality.presets}
    if presets:
        from mlm_data.curation import quality

        fields += quality.score_schema(tuple(preset for preset in quality.PRESETS if preset in presets))
    if settings.classifier is not None:
        fields.append(pa.field("classifier", pa.uint16()))
    for index in range(len(settings.custom)):
        fields += [pa.field(f"custom.{index}", pa.float32()), pa.field(f"custom.{index}.keep", pa.bool_())]
    if near := config.deduplicate.near:
        fields += [pa.field("sketch", pa.binary(near.bands * near.rows)), pa.field("num_shingles", pa.int64())]
    if config.cuts_evaluations:
        fields += [pa.field("evaluation_cuts", pa.int32()), pa.field("evaluation_chars", pa.int32())]
    elif config.decontaminate is not None:
        fields += [pa.field("matched_grams", pa.list_(pa.int32())), pa.field("matched_starts", pa.list_(pa.int64()))]
    if fields:
        fields.append(pa.field("head", pa.string()))
    return fields


def versions(config: BuildConfig) -> dict[str, int | str]:
    """Of each step that this build asks for, the version of what it does: for cache keys."""
    settings = config.clean
    found: dict[str, int | str] = {}
    if any(item.quality.presets for item in config.inputs):
        from mlm_data.curation import quality

        found["quality"] = quality.ALGORITHM_VERSION
    if settings.lines:
        from mlm_data.curation import line_edits

        found["line_edits"] = line_edits.ALGORITHM_VERSION
    if settings.privacy:
        from mlm_data.curation import privacy

        found["privacy"] = privacy.ALGORITHM_VERSION
    if settings.fix_encoding:
        from mlm_data.text import charset, mojibake

        found["charset"], found["mojibake"] = charset.identity(), mojibake.identity()
    if config.deduplicate.near is not None:
        from mlm_data.duplicates import minhash

        found["minhash"] = minhash.ALGORITHM_VERSION
    if config.deduplicate.lines is not None:
        from mlm_data.duplicates import lines

        found["lines"] = lines.ALGORITHM_VERSION
    if config.cuts_evaluations:
        from mlm_data.duplicates import decontaminate

        found["evaluation cuts"] = decontaminate.CUT_VERSION
    if config.deduplicate.near is not None or config.decontaminate is not None:
        from mlm_data.duplicates import words

        found["words"] = words.ALGORITHM_VERSION
    return found


def languages_of(config: BuildConfig) -> tuple[str, ...]:
    """The codes that the column `language` counts in; () where no language is looked for."""
    settings = config.clean.languages
    return () if settings is None else language_model(settings).languages


@lru_cache
def language_model(settings: LanguageSettings) -> "LanguageModel":
    """The model of a configuration, read once per process.

    Raises:
        ConfigError: it isn't installed, or a language to keep is none that it knows.
    """
    from mlm_data.curation import language_codes, language_peers

    model = language_peers.language_model(settings.model, path=settings.path, group=settings.group)
    if settings.keep != "all":
        language_codes.parse_languages(settings.keep, model.languages)
    return model


def _languages(texts: pa.LargeStringArray, config: BuildConfig) -> dict[str, pa.Array]:
    if config.clean.languages is None:
        return {}
    found = language_model(config.clean.languages).identify(texts)
    return {"language": pa.array(found.codes), "language_score": pa.array(found.scores)}


def _score(
    texts: pa.LargeStringArray,
    codes: pa.StringArray | None,
    documents: Documents,
    number: int,
    context: Context,
) -> dict[str, pa.Array]:
    """Scores of a batch; `codes` are its languages, where they are known."""
    config, settings = context.config, context.config.clean
    columns: dict[str, pa.Array] = {}
    presets = config.inputs[number].quality
    if presets.presets:
        from mlm_data.curation import quality

        scores = quality.quality_scores(texts, presets, codes)
        columns |= {name: pa.array(values) for name, values in scores.items()}
    if settings.domains is not None:
        from mlm_data.curation import domains

        field = f"keep.{settings.domains.field}"
        if field in documents.table.schema.names:  # an input that doesn't keep it has no addresses
            hosts = load_blocklist(settings.domains.drop, context.asset("clean.domains.drop"))
            columns["is_blocked"] = pa.array(domains.blocked(documents.table.column(field), hosts))
    if settings.classifier is not None:
        from mlm_data.curation import classifier

        scored = classifier.classifier_scores(texts, settings.classifier.path, settings.classifier.label)
        columns["classifier"] = pa.array(np.round(scored * SCORE_UNIT).astype(np.uint16))
    for index, name in enumerate(settings.custom):
        scored, keeps = _ask(name, texts, documents)
        columns[f"custom.{index}"], columns[f"custom.{index}.keep"] = scored, keeps
    if near := config.deduplicate.near:
        from mlm_data.duplicates import minhash

        sketches = minhash.sketch(texts, ngram=near.ngram, size=near.bands * near.rows)
        flat = pa.py_buffer(np.ascontiguousarray(sketches.values))
        columns["sketch"] = pa.Array.from_buffers(pa.binary(near.bands * near.rows), len(texts), [None, flat])
        columns["num_shingles"] = pa.array(sketches.num_shingles)
    if config.decontaminate is not None and not config.cuts_evaluations:
        from mlm_data.build import evaluations
        from mlm_data.duplicates import decontaminate

        _, grams = evaluations.index_of(context)
        matches = decontaminate.find_matches(texts, grams)
        offsets = pa.array(np.searchsorted(matches["document"], np.arange(len(texts) + 1)), pa.int32())
        for name, values in (("matched_grams", matches["gram"]), ("matched_starts", matches["start"])):
            columns[name] = pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(values)))
    if score_fields(config):
        columns["head"] = pc.cast(pc.utf8_slice_codeunits(texts, 0, HEAD_CHARS), pa.string())
    return columns


@lru_cache(maxsize=2)
def load_blocklist(path: str, version: str) -> frozenset[str]:
    """The hosts of a list, read once per process.

    Args:
        version: the SHA-256 of the file when the build began.

    Raises:
        InputError: it can't be read, or has changed since.
        ConfigError: it is no list of hosts.
    """
    from mlm_data.curation import domains

    data = read_input(path)
    if hashlib.sha256(data).hexdigest() != version:
        raise InputError(f"{path}: changed while the build ran: start it again")
    return domains.read_blocklist(data, path)


def _ask(name: str, texts: pa.LargeStringArray, documents: Documents) -> tuple[pa.Array, pa.Array]:
    """(score, whether it stays) of each document, by a filter of the user's."""
    fields = {field.name.removeprefix("keep."): documents.table.column(field.name) for field in documents.table.schema}
    batch = pa.RecordBatch.from_pydict({**fields, "text": texts})
    function = load_filter(name)
    try:
        # A copy: whatever it writes into, it harms no text of ours.
        answer = function(pa.ipc.read_record_batch(batch.serialize(), batch.schema))
    except Exception as error:
        place = _first_failure(function, batch)
        raise BuildError(f"{documents.source} at {place}: clean.custom: {name} raised {_line(error)}") from error
    values = pa.array(answer) if not isinstance(answer, pa.Array | pa.ChunkedArray) else answer
    values = values.combine_chunks() if isinstance(values, pa.ChunkedArray) else values
    is_bool = pa.types.is_boolean(values.type)
    is_number = pa.types.is_integer(values.type) or pa.types.is_floating(values.type)
    if len(values) != len(texts) or values.null_count or not (is_bool or is_number):
        raise BuildError(
            f"{documents.source}: clean.custom: {name} answered {len(values)} values of {values.type} with "
            f"{values.null_count} nulls for {len(texts)} documents: return a boolean or a number for each"
        )
    keeps = values if is_bool else pa.array(np.ones(len(texts), np.bool_))
    return pc.cast(values, pa.float32(), safe=False), keeps


def _first_failure(function: Callable[[pa.RecordBatch], Any], batch: pa.RecordBatch) -> int:
    """The offset of the first document that a filter can't take alone; of the first of all, if it can take each."""
    for row in range(batch.num_rows):
        try:
            function(batch.slice(row, 1))
        except Exception:
            return batch.column("offset")[row].as_py()
    return batch.column("offset")[0].as_py()


def _line(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


@lru_cache
def load_filter(name: str) -> Callable[[pa.RecordBatch], Any]:
    """The function behind `package.module:function`; modules of the current folder are found, too.

    Raises:
        ConfigError: there is no such module or function.
    """
    module, _, function = name.partition(":")
    try:
        with _current_folder():
            found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"clean.custom: {name}: {_line(error)}: write package.module:function, and start where Python finds it"
        ) from error
    if not callable(found):
        raise ConfigError(f"clean.custom: {name} is a {type(found).__name__}, not a function")
    return found


@lru_cache
def filter_source(name: str) -> bytes:
    """The source of a filter's module: what it answers depends on it. As it was when this process first asked: Python
    doesn't import a module again when its file changes.
    """
    load_filter(name)
    file = sys.modules[name.partition(":")[0]].__file__
    return Path(file).read_bytes() if file else b""


@contextlib.contextmanager
def _current_folder() -> Iterator[None]:
    sys.path.insert(0, str(Path.cwd()))
    try:
        yield
    finally:
        sys.path.remove(str(Path.cwd()))
