"""What curation would do to a sample, before anything is built: the same steps and rules, over a little text.

A batch of documents is prepared as PREPARE does it, but not tokenized, and judged as SELECT does it. What needs all
documents is not looked for: copies, near duplicates, documents that hold evaluations, weights. Evaluations are cut as
if no run of theirs were too common.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from jaxtyping import UInt16

from mlm_data.build.assemble import cut_evaluations
from mlm_data.build.assets import find_assets
from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.prepare import only_chunk, prepare_documents, prepared_schema
from mlm_data.build.records import PreparedUnit
from mlm_data.build.select import judge_table
from mlm_data.build.units import Plan
from mlm_data.build.weights import input_names
from mlm_data.config import BuildConfig
from mlm_data.curation.hard_wrap import MANY, Wrapped, count_wrapped
from mlm_data.curation.thresholds import KEPT, reasons
from mlm_data.dataset.funnel import Funnel, count_fates
from mlm_data.dataset.steps import EATEN, FEWEST, eaten
from mlm_data.text.reading import BATCH_BYTES, read_slice
from mlm_data.tokens.engine import Reference
from mlm_data.types import Documents, Slice

MUCH = 0.25  # of an input's characters: an edit that cuts more from a hard-wrapped text is warned of
C4_CUT = "characters cut by the lines of c4"  # as `curate` counts them


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A batch of documents of one source, prepared without tokens, and judged."""

    input: int
    documents: Documents  # as they were read
    table: pa.Table  # columns of `prepared_schema`
    texts: pa.LargeStringArray  # what would be tokenized if all of them stayed
    fates: UInt16[np.ndarray, " documents"]  # indices in `reasons`
    changes: Mapping[str, int]

    @property
    def kept(self) -> pa.LargeStringArray:
        """What would be tokenized."""
        return self.texts.filter(pa.array(self.fates == KEPT))


def sample_context(config: BuildConfig, reference: Reference | None = None) -> Context:
    """The context of a look at documents one by one: no signatures, nothing is written.

    Args:
        config: the build.
        reference: its tokenizer; None: the texts stay texts.
    """
    alone = config.deduplicate.model_copy(update={"near": None, "lines": None})
    against = config.decontaminate if config.cuts_evaluations else None
    alone_config = config.model_copy(update={"deduplicate": alone, "decontaminate": against})
    context = Context(
        config=alone_config,
        tokenizer_sha256="" if reference is None else reference.sha256,
        num_partitions=1,
        unit_bytes=0,
        group_modulus=1,
        versions=(),
        assets=find_assets(alone_config),
    )
    if reference is not None:
        context.remember(reference)
    return context


def judge_documents(documents: Documents, number: int, context: Context) -> Judged:
    """Prepare and judge a batch of one source, of the input `number`; `context` is of `sample_context`."""
    batch, curated = prepare_documents(documents, number, context, schema=prepared_schema(context))
    table = pa.Table.from_batches([batch])
    fates = judge_table(table, PreparedUnit.reference(0, "", "", (number,)), context)
    return Judged(
        input=number,
        documents=documents,
        table=table,
        texts=curated.texts,
        fates=fates,
        changes=curated.counts,
    )


def slices_by_input(plan: Plan) -> dict[int, list[Slice]]:
    """What is to be read of each input, in order."""
    found: dict[int, list[Slice]] = {}
    for unit in plan.units:
        for piece in unit.slices:
            found.setdefault(piece.input, []).append(piece)
    return dict(sorted(found.items()))


def read_runs(pieces: Sequence[Slice], config: BuildConfig, *, runs: int, num_bytes: int) -> Iterator[Documents]:
    """About `num_bytes` of the slices of an input, from so many places that are spread evenly over them.

    An input that has no more than that is read whole, however unevenly its text lies in its files.
    """
    step = max(1, -(-len(pieces) // runs))
    budget = num_bytes
    if sum(piece.num_bytes for piece in pieces) > num_bytes:
        budget //= len(range(0, len(pieces), step))
    for first in range(0, len(pieces), step):
        read = 0
        for piece in pieces[first : first + step]:
            for documents in read_slice(piece, config, batch_bytes=min(BATCH_BYTES, budget)):
                yield documents
                read += documents.num_bytes_read
                if read >= budget:
                    break
            if read >= budget:
                break


def forecast(judged: Iterable[Judged], config: BuildConfig) -> Funnel:
    """What would become of these documents. Tokens aren't counted: they are 0."""
    languages, inputs, names = languages_of(config), input_names(config), reasons(config)
    total = Funnel()
    for batch in judged:
        num = batch.table.num_rows
        fates = count_fates(
            np.full(num, batch.input, np.int32),
            batch.table.column("language").to_numpy() if languages else np.zeros(num, np.int16),
            batch.fates,
            batch.table.column("num_chars").to_numpy(),
            np.zeros(num, np.int64),
            names=(inputs, languages, names),
        )
        changes = Counter(batch.changes)
        if config.cuts_evaluations:
            changes.update(cut_evaluations(batch.table, np.full(num, batch.input, np.int32), inputs))
        total += Funnel(fates=fates, changes=changes)
    return total


def forecast_warnings(judged: Sequence[Judged], config: BuildConfig, found: Funnel) -> list[str]:
    """Steps that would eat an input, and rules of lines over text that is hard-wrapped.

    Args:
        judged: the sample.
        config: the build.
        found: `forecast` of both.
    """
    warnings = eaten(found, would=True)
    inputs = input_names(config)
    for number, settings in enumerate(config.inputs):
        mine = [batch for batch in judged if batch.input == number]
        counts = [count_wrapped(only_chunk(pa.chunked_array([batch.documents.table.column("text")]))) for batch in mine]
        wrapped = Wrapped(sum(item.num_lines for item in counts), sum(item.num_wrapped for item in counts))
        changes: Counter[str] = Counter()
        for batch in mine:
            changes.update(batch.changes)
        cut = changes[C4_CUT]
        left = sum(int(batch.table.column("num_chars").to_numpy().sum()) for batch in mine)
        share = cut / max(1, cut + left)
        is_wrapped = wrapped.share > MANY
        told = f"{wrapped.share:.0%} of the lines of {inputs[number]} are hard-wrapped"
        if is_wrapped and share > MUCH:
            warnings.append(
                f"{told}, and C4 keeps only lines that end in punctuation: clean.lines: [c4] would cut {share:.0%} of "
                "its characters: leave c4 out of clean.lines, or join the lines of a paragraph first"
            )
        elif share > EATEN and sum(batch.table.num_rows for batch in mine) >= FEWEST:
            warnings.append(f"clean.lines: [c4] would cut {share:.0%} of the characters of {inputs[number]}")
        presets = [name for name in ("c4", "fineweb") if name in settings.quality.presets]
        if is_wrapped and presets:
            rules = " and ".join(presets)
            warnings.append(
                f"{told}, and {rules} {'reads' if len(presets) == 1 else 'read'} it line by line: leave "
                f"{'it' if len(presets) == 1 else 'them'} out of this input's quality"
            )
    return warnings
