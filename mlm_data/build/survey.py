"""SURVEY: the lines of all documents, so that those which many share can be cut before anything is scored or tokenized.

Only where `deduplicate.lines` asks for it, since it reads and cleans all inputs once more. What crosses the shuffle are
hashes of lines; what comes back to a unit is the list of its lines to cut.
"""

import numpy as np

from mlm_data.build.context import Context
from mlm_data.build.curate import clean
from mlm_data.duplicates import lines
from mlm_data.text import reading
from mlm_data.types import Unit


def survey_unit(unit: Unit, context: Context) -> lines.Records:
    """Line records of one unit; documents are numbered as PREPARE numbers them.

    Raises:
        InputError: a file can't be read, or has changed since it was planned.
    """
    settings = context.config.deduplicate.lines
    assert settings is not None, "the build cuts lines"
    found, first = [np.zeros(0, lines.RECORD)], 0
    for documents in reading.read_unit(unit, context.config):
        texts, _ = clean(documents.table.column("text"), context.config, context.placeholders())
        numbers = np.arange(first, first + len(texts), dtype=np.int32)
        found.append(lines.pack_lines(lines.line_hashes(texts, min_chars=settings.min_chars), unit.index, numbers))
        first += len(texts)
    return np.concatenate(found)


def choose_cuts(records: lines.Records, context: Context) -> lines.Cuts:
    """The lines of one partition to cut."""
    settings = context.config.deduplicate.lines
    assert settings is not None, "the build cuts lines"
    return lines.choose_cuts(records, max_copies=settings.max_copies)
