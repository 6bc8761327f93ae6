"""SURVEY: what stands in many documents, known before the first of them is scored and tokenized.

Lines that many share are to be cut; runs of words of evaluations that many hold are not, as they are quotations. Only
where `deduplicate.lines` or `decontaminate.action: cut` asks for it, since it reads and cleans all inputs once more.
What crosses the shuffle are hashes of lines and numbers of runs; what comes back to a unit is the list of its lines to
cut, and of its runs to leave.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from jaxtyping import Int32

from mlm_data.build import evaluations
from mlm_data.build.context import Context
from mlm_data.build.curate import clean
from mlm_data.build.select import runs
from mlm_data.duplicates import decontaminate, lines
from mlm_data.hashing import hash128
from mlm_data.text import reading
from mlm_data.types import Unit

GRAM = np.dtype("<i4")  # an n-gram of evaluations
Ignored = Int32[np.ndarray, " ignored"]


@dataclass(frozen=True, kw_only=True)
class Surveyed:
    """What was seen in one unit; documents are numbered as PREPARE numbers them."""

    lines: lines.Seen  # none where no lines are cut
    runs: decontaminate.Runs  # none where no evaluations are


def survey_unit(unit: Unit, context: Context) -> Surveyed:
    """Lines and runs of one unit.

    Raises:
        InputError: a file can't be read, or has changed since it was planned.
    """
    config, settings = context.config, context.config.deduplicate.lines
    found, held, first = [np.zeros(0, lines.SEEN)], [np.zeros(0, decontaminate.RUN)], 0
    for documents in reading.read_unit(unit, config):
        texts, _ = clean(documents.table.column("text"), config, context.placeholders())
        if settings is not None:
            numbers = np.arange(first, first + len(texts), dtype=np.int32)
            found.append(lines.pack_lines(lines.line_hashes(texts, min_chars=settings.min_chars), unit.index, numbers))
        if config.cuts_evaluations:
            held.append(_runs(texts, unit.index, first, context))
        first += len(texts)
    return Surveyed(lines=np.concatenate(found), runs=np.concatenate(held))


def choose_cuts(records: lines.Records, context: Context) -> lines.Cuts:
    """The lines of one partition to cut."""
    settings = context.config.deduplicate.lines
    assert settings is not None, "the build cuts lines"
    return lines.choose_cuts(records, max_copies=settings.max_copies)


def choose_ignored(records: decontaminate.Runs, context: Context) -> tuple[dict[int, Ignored], list[dict[str, Any]]]:
    """(for each unit that holds such the runs that are too common to be cut, sorted; the report, a line for each file).

    Args:
        records: the runs of all units.
        context: the build.
    """
    settings, index = evaluations.index_of(context)
    ignored, found = decontaminate.choose_ignored(records, index, max_documents=settings.max_documents)
    some = records[np.isin(records["gram"], ignored)]
    pairs = np.unique(np.stack([some["unit"], some["gram"]]), axis=1)
    by_unit = {unit: pairs[1, start:end].astype(GRAM) for unit, start, end in runs(pairs[0])}
    return by_unit, evaluations.report(found, context)


def _runs(texts: pa.LargeStringArray, unit: int, first: int, context: Context) -> decontaminate.Runs:
    """Runs of evaluations in the documents `first` and on of a unit."""
    _, index = evaluations.index_of(context)
    matches = decontaminate.find_matches(texts, index, unit=unit, first_document=first)
    records = np.empty(len(matches), decontaminate.RUN)
    for name in matches.dtype.names or ():
        records[name] = matches[name]
    records["text"] = hash128(texts)[matches["document"] - first, 0]
    return records
