"""One document through the whole of curation, step by step, for a person who wants to know what happens to it.

Everything is asked of the functions that a build asks; only what is counted of a change is counted here. What needs all
documents (copies, lines that many share, weights) is not looked for; evaluations only if they are cut.
"""

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa

from mlm_data.build.context import Context
from mlm_data.build.curate import clean_steps, languages_of, without_evaluations
from mlm_data.build.forecast import judge_documents, sample_context
from mlm_data.build.measures import Measure, measure
from mlm_data.build.units import whole_file
from mlm_data.build.weights import input_names
from mlm_data.config import BuildConfig, CleanSettings
from mlm_data.curation.thresholds import SCORE_UNIT, reasons
from mlm_data.errors import InputError
from mlm_data.rows.packing import cut_documents
from mlm_data.text import normalize
from mlm_data.text.find import expand
from mlm_data.text.identify import identify
from mlm_data.text.reading import read_slice
from mlm_data.tokens.engine import Reference
from mlm_data.types import Documents

_LINE_ENDS = re.compile(r"\r\n?|[\v\f\x85]")
_CONTROLS = re.compile("[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f\ufeff]")
MOST_LINES = 1000  # of a step, that are remembered


@dataclass(frozen=True, kw_only=True)
class Change:
    """What one step did to the text."""

    step: str  # the setting
    before: int  # characters
    after: int
    kinds: Mapping[str, int] = field(default_factory=dict)  # what kind of change, and how often
    lines: tuple[tuple[str, str], ...] = ()  # lines that it changed, and what they became: "" where they went


@dataclass(frozen=True, kw_only=True)
class Tokenized:
    """What the tokenizer made of the text, and the rows that it takes."""

    num_tokens: int
    num_unknown: int
    num_segments: int  # pieces of the document, each at most as long as a row


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One document, and what became of it."""

    input: str
    source: str
    offset: int
    id: str  # hexadecimal
    changes: tuple[Change, ...]
    language: str | None
    language_score: float | None
    measures: tuple[Measure, ...]  # each of one document
    reason: str  # "kept", or why it would be dropped
    text: str  # what would be tokenized
    tokens: Tokenized | None  # None: there is no tokenizer yet


def read_document(path: str, config: BuildConfig, number: int, format_: str | None, index: int = 0) -> Documents:
    """One document of a file, read as the input `number` is; a batch of one.

    Args:
        path: the file.
        config: the build.
        number: of the input whose settings hold.
        format_: instead of the input's own; None: its own.
        index: which document of the file.

    Raises:
        InputError: the file can't be read, or has no such document.
    """
    update: dict[str, str] = {"path": path} | ({} if format_ is None else {"format": format_})
    settings = config.inputs[number].model_copy(update=update)
    inputs = tuple(settings if i == number else item for i, item in enumerate(config.inputs))
    own = config.model_copy(update={"inputs": inputs})
    found, _ = expand(path, "the file")
    file = identify(settings, number, found[0].relative, found[0], by_content=False)
    piece = whole_file(replace(file, identity=""))  # it is read at once: nothing to compare it with
    place = 0
    for documents in read_slice(piece, own, batch_bytes=1 << 20):
        if index < place + documents.table.num_rows:
            table = documents.table.slice(index - place, 1)
            for name in settings.keep_fields:  # plain text has none
                if f"keep.{name}" not in table.schema.names:
                    table = table.append_column(f"keep.{name}", pa.nulls(1, pa.string()))
            return Documents(source=documents.source, table=table)
        place += documents.table.num_rows
        if documents.quarantined and not documents.table.num_rows and not place:
            first = documents.quarantined[0]
            raise InputError(f"{path}: at {first.offset}: {first.reason} {first.detail}".rstrip())
    raise InputError(f"{path}: has {place} document{'s' * (place != 1)}, read as {piece.format}: there is no {index}")


def try_document(documents: Documents, number: int, config: BuildConfig, reference: Reference | None = None) -> Trial:
    """What becomes of the one document of a batch of the input `number`.

    Args:
        documents: one of them.
        number: of the input.
        config: the build.
        reference: its tokenizer; None: no tokens are counted.
    """
    assert documents.table.num_rows == 1, "one document"
    context = sample_context(config, reference)
    judged = judge_documents(documents, number, context)
    table = judged.table
    languages = languages_of(config)
    row = table.slice(0, 1).to_pylist()[0]
    tokens = None
    if reference is not None:
        capacity = config.pack.sequence_length - reference.roles.num_specials
        ids = row["tokens"]
        segments = cut_documents(
            np.array([0, len(ids)], np.int64),
            np.array(row["word_starts"], np.bool_),
            capacity=capacity,
            long_documents=config.pack.long_documents,
        )
        tokens = Tokenized(num_tokens=len(ids), num_unknown=row["num_unknown"], num_segments=len(segments.length))
    return Trial(
        input=input_names(config)[number],
        source=documents.source,
        offset=row["offset"],
        id=row["id"].hex(),
        changes=tuple(_changes(documents.table.column("text"), context)),
        language=languages[row["language"]] if languages else None,
        language_score=row["language_score"] / SCORE_UNIT if languages else None,
        measures=tuple(measure(judged, context)),
        reason=reasons(config)[judged.fates[0]],
        text=judged.texts[0].as_py(),
        tokens=tokens,
    )


def _changes(texts: pa.LargeStringArray, context: Context) -> list[Change]:
    config, placeholders = context.config, context.placeholders()
    before = texts[0].as_py()
    found = []
    for step in clean_steps(texts, config, placeholders):
        after = step.texts[0].as_py()
        kinds: Mapping[str, int] = step.counts
        lines: tuple[tuple[str, str], ...] = ()
        if step.name == "unicode":
            kinds = normalization_kinds(before, config.clean)
        elif after != before:
            lines = _changed_lines(before, after)
        found.append(_change(f"clean.{step.name}", before, after, kinds, lines))
        before, texts = after, step.texts
    if config.clean.lines:
        from mlm_data.curation import line_edits

        for edit in config.clean.lines:
            edited = line_edits.edit_lines(texts, (edit,))
            counts = edited.by_edit[edit]
            after = edited.texts[0].as_py()
            kinds = {"lines cut": int(counts.num_lines_removed[0]), "words cut": int(counts.num_words_removed[0])}
            found.append(_change(f"clean.lines: {edit}", before, after, kinds, _lost_lines(before, after)))
            before, texts = after, edited.texts
    if config.decontaminate is not None:
        found.append(_cut_evaluations(texts, context))
    return found


def _cut_evaluations(texts: pa.LargeStringArray, context: Context) -> Change:
    """What `decontaminate.action: cut` takes out of a text; its lines are those that go, or parts of them."""
    from mlm_data.build import evaluations
    from mlm_data.duplicates import decontaminate

    settings, index = evaluations.index_of(context)
    left, columns = without_evaluations(texts, context)
    _, starts, ends = decontaminate.find_cuts(texts, index, window=settings.window)
    before, after = texts[0].as_py(), left[0].as_py()
    data = before.encode()
    pieces = [data[start:end].decode() for start, end in zip(starts.tolist(), ends.tolist(), strict=True)]
    lines = [(line, "") for piece in pieces for line in piece.split("\n") if line.strip()]
    kinds = {"cuts": columns["evaluation_cuts"][0].as_py()}
    return _change("decontaminate", before, after, kinds, tuple(lines[:MOST_LINES]))


def _change(
    step: str, before: str, after: str, kinds: Mapping[str, int], lines: tuple[tuple[str, str], ...] = ()
) -> Change:
    some = {name: count for name, count in kinds.items() if count}
    return Change(step=step, before=len(before), after=len(after), kinds=some, lines=lines)


def normalization_kinds(text: str, settings: CleanSettings) -> dict[str, int]:
    r"""How many characters normalization changes, by the rules of `normalize`.

    >>> normalization_kinds("a \r\nb\x00", CleanSettings())
    {'line ends made line feeds': 1, 'controls removed': 1, 'white space and line ends removed': 1}
    >>> normalization_kinds("e\u0301", CleanSettings())
    {'letters composed': 1}
    """
    array = pa.array([text], pa.large_string())
    plain = normalize.normalize(array, settings.model_copy(update={"unicode": "none"}))[0].as_py()
    composed = normalize.normalize(array, settings)[0].as_py()
    ends = [len(match) for match in _LINE_ENDS.findall(text)]
    controls = len(_CONTROLS.findall(text))
    kinds = {
        "line ends made line feeds": len(ends),
        "controls removed": controls,
        "white space and line ends removed": len(text) - (sum(ends) - len(ends)) - controls - len(plain),
        "letters composed": len(plain) - len(composed) or int(plain != composed),
    }
    return {name: count for name, count in kinds.items() if count}


def _changed_lines(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """Lines that differ, of a step that keeps the number of lines."""
    pairs = zip(before.split("\n"), after.split("\n"), strict=False)
    return tuple((old, new) for old, new in pairs if old != new)[:MOST_LINES]


def _lost_lines(before: str, after: str) -> tuple[tuple[str, str], ...]:
    """Lines of `before` that `after` doesn't have (any more so often): they went, or were changed."""
    left = Counter(after.split("\n"))
    lost = []
    for line in before.split("\n"):
        if left[line.strip()] > 0:
            left[line.strip()] -= 1
        elif line.strip():
            lost.append((line, ""))
    return tuple(lost[:MOST_LINES])
