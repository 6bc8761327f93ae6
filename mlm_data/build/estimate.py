"""What a build would read and make, found out without writing anything."""

import shutil
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlm_data.build import cache
from mlm_data.build.fields import absent_fields, add_counts, hexadecimal_fields
from mlm_data.build.forecast import (
    Judged,
    forecast,
    forecast_warnings,
    judge_documents,
    read_runs,
    sample_context,
    slices_by_input,
)
from mlm_data.build.plan import make_context, make_plan, read_tokenizer
from mlm_data.build.prepare import count_ids, key_parts, unit_key
from mlm_data.build.units import Plan
from mlm_data.config import BuildConfig
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.unknown import Unknown, count_unknown
from mlm_data.errors import FormatError, InputError
from mlm_data.rows.packing import cut_documents, pack
from mlm_data.rows.unicode_scripts import SCRIPTS, text_scripts
from mlm_data.stores.folder import Folder
from mlm_data.text.blocks import TRUNCATED
from mlm_data.tokens.engine import Engine, Reference, make_engine
from mlm_data.tokens.files import Note
from mlm_data.tokens.lost_letters import lost_letters
from mlm_data.tokens.train import train
from mlm_data.types import Encoded, FieldCounts, id_type

PROBE_BYTES = 2 * 2**20  # of text that is really tokenized, spread over PROBE_RUNS places
PROBE_RUNS = 8  # places that it comes from; each input has one at least


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """A plan, and what a probe of its units says of the whole."""

    plan: Plan
    reference: Reference | None  # None: it is to be trained
    engine: Engine
    num_bytes: int
    num_tokens: int  # expected in all
    probe_bytes: int
    probe_documents: int
    probe_tokens: int  # of the documents that stay
    probe_funnel: Funnel  # what would become of the probe's documents, copies aside
    probe_fullness: float  # of the rows that the probe would fill
    probe_seconds: float
    probe_unknown: Unknown  # what the tokenizer could not say
    notes: tuple[Note, ...]  # how the tokenizer came to be so; of one that is to be trained, for the probe
    warnings: tuple[str, ...]

    def disk_bytes(self, config: BuildConfig) -> int:
        """Expected size of the published files: tokens and word starts once, and each plane."""
        id_bytes = np.dtype(id_type(self.vocab_size(config))).itemsize
        swapped = config.mask.random_share + config.mask.keep_share
        planes = sum(1 / 8 + rate * swapped * (2 + id_bytes) for rate in config.mask.rates)
        return round(self.num_tokens / max(0.01, self.probe_fullness) * (id_bytes + 1 / 8 + planes))

    def vocab_size(self, config: BuildConfig) -> int:
        if self.reference is not None:
            return self.reference.vocab_size
        return config.tokenizer.train.vocab_size if config.tokenizer.train else 0


def estimate(config: BuildConfig) -> Estimate:
    """Plan a build and tokenize a little of it.

    A tokenizer that is still to be trained is trained on the probe alone, for this estimate.
    """
    plan = make_plan(config)
    probe = _probe(config, plan)
    texts = [batch.texts for batch in probe.judged]
    if plan.warnings and not any(map(len, texts)):
        raise InputError(f"no document that was looked at can be read: {'; '.join(plan.warnings)}")
    used = read_tokenizer(config, lambda settings: train(iter(texts), settings))
    reference = used if config.tokenizer.train is None else None
    engine = make_engine(used, config.tokenizer.engine)
    started = time.perf_counter()
    kept = [batch.kept for batch in probe.judged]
    encoded = [engine.encode(batch) for batch in kept]
    seconds = time.perf_counter() - started
    unknown = _unknown(kept, [batch.documents.source for batch in probe.judged], encoded, used.roles.unk)
    too_many = unknown.failure(config.tokenizer.max_unknown)
    told = [f"the build will fail: {too_many}" if too_many else unknown.warning()]
    found = forecast(probe.judged, config)
    total = sum(unit.num_bytes for unit in plan.units)
    return Estimate(
        plan=plan,
        reference=reference,
        engine=engine,
        num_bytes=total,
        num_tokens=_num_tokens(config, plan, probe, encoded),
        probe_bytes=sum(probe.num_bytes.values()),
        probe_documents=sum(map(len, texts)),
        probe_tokens=sum(len(item.ids) for item in encoded),
        probe_funnel=found,
        probe_fullness=_fullness(config, encoded, used.roles.num_specials),
        probe_seconds=seconds,
        probe_unknown=unknown,
        notes=used.notes,
        warnings=(
            *plan.warnings,
            *_field_warnings(config, probe),
            *probe.broken,
            *forecast_warnings(probe.judged, config, found),
            *filter(None, told),
            *map(str, lost_letters(texts, used.raw_tokenizer.normalizer)),
            *_written_out(used, texts),
            *_disk_warnings(config, total),
        ),
    )


def explain(config: BuildConfig, found: Estimate) -> list[tuple[int, str]]:
    """For each unit, whether its prepared file is there, or which part of its key changed."""
    if found.reference is None:
        return [(unit.index, "the tokenizer is to be trained: that decides") for unit in found.plan.units]
    context = make_context(config, found.plan, found.reference)
    known = {key: _parts(context.work, key) for key in cache.keys(context.work)}
    by_source = {tuple(item["source"] for item in parts["slices"]): parts for parts in known.values() if parts}
    answers = []
    for unit in found.plan.units:
        parts = key_parts(unit, context)
        if known.get(unit_key(parts)):
            answers.append((unit.index, "prepared: will be reused"))
            continue
        earlier = by_source.get(tuple(item["source"] for item in parts["slices"]))
        if earlier is None:
            answers.append((unit.index, "new: no unit of these files was prepared before"))
        else:
            changed = [name for name in parts if parts[name] != earlier.get(name)]
            survey = "prepared before: what the survey finds in all texts decides"
            answers.append((unit.index, f"will be redone: changed: {', '.join(changed)}" if changed else survey))
    return answers


def _parts(work: Folder, key: str) -> dict[str, Any]:
    """Empty where the unit is damaged: it will be made again."""
    try:
        facts = cache.check_unit(work, key)
    except FormatError:
        return {}
    return facts["parts"] if facts else {}


@dataclass(frozen=True, kw_only=True)
class _Probe:
    """A little of each input, read, cleaned and judged."""

    judged: list[Judged]
    num_bytes: Mapping[int, int]  # that were read, by the number of the input
    fields: Mapping[int, FieldCounts]  # by the number of the input
    broken: list[str]  # a line for each compressed file that breaks off


def _probe(config: BuildConfig, plan: Plan) -> _Probe:
    context = sample_context(config)
    judged: list[Judged] = []
    fields: list[tuple[int, FieldCounts]] = []
    broken: list[str] = []
    read: Counter[int] = Counter()
    inputs = slices_by_input(plan)
    for number, pieces in inputs.items():
        runs = max(1, PROBE_RUNS // len(inputs))
        for documents in read_runs(pieces, config, runs=runs, num_bytes=max(1, PROBE_BYTES // len(inputs))):
            fields.append((number, documents.fields))
            broken += [
                f"{item.source} breaks off: at {item.offset}: {item.detail}: download it again, or set max_truncated"
                for item in documents.quarantined
                if item.reason == TRUNCATED
            ]
            read[number] += documents.num_bytes_read
            if documents.table.num_rows:
                judged.append(judge_documents(documents, number, context))
    return _Probe(judged=judged, num_bytes=dict(read), fields=add_counts(fields), broken=broken)


def _num_tokens(config: BuildConfig, plan: Plan, probe: _Probe, encoded: list[Encoded]) -> int:
    """Each input has as many tokens for its bytes as its part of the probe, as often as its weight says."""
    tokens: Counter[int] = Counter()
    for batch, item in zip(probe.judged, encoded, strict=True):
        tokens[batch.input] += len(item.ids)
    return round(
        sum(
            tokens[number] / max(1, probe.num_bytes.get(number, 0))
            * sum(piece.num_bytes for piece in pieces)
            * config.inputs[number].weight
            for number, pieces in slices_by_input(plan).items()
        )
    )  # fmt: skip


def _unknown(texts: list[pa.LargeStringArray], sources: list[str], encoded: list[Encoded], unk: int) -> Unknown:
    total = Unknown()
    for batch, source, ids in zip(texts, sources, encoded, strict=True):
        total += count_unknown(
            np.diff(ids.offsets),
            count_ids(ids, unk),
            text_scripts(batch),
            np.zeros(len(batch), np.int64),
            script_names=SCRIPTS,
            source_names=[source],
        )
    return total


def _written_out(reference: Reference, texts: list[pa.LargeStringArray]) -> list[str]:
    """Special tokens without a role that stand in the texts: they become pieces there, unless they are markers."""
    with_role = {reference.tokens[number] for number in vars(reference.roles).values() if isinstance(number, int)}
    found = []
    for token in sorted(set(reference.specials) - with_role):
        count = sum(pc.sum(pc.match_substring(batch, token)).as_py() or 0 for batch in texts)
        if count:
            found.append(
                f"{token} stands written out in {count} of the probed documents and is cut into pieces there: to keep "
                f'it whole, set tokenizer.markers: ["{token}"]'
            )
    return found


def _field_warnings(config: BuildConfig, probe: _Probe) -> list[str]:
    absent = absent_fields(config, probe.fields)
    return [f"{line}, or the build fails (looked at a sample)" for line in absent] + hexadecimal_fields(probe.fields)


def _fullness(config: BuildConfig, encoded: list[Any], num_specials: int) -> float:
    rows = places = 0
    length = config.pack.sequence_length
    for item in encoded:
        segments = cut_documents(
            item.offsets,
            item.word_starts,
            capacity=length - num_specials,
            long_documents=config.pack.long_documents,
        )
        lengths = segments.length + num_specials
        packing = pack(lengths, sequence_length=length, max_segments=config.pack.segments_per_row)
        rows += len(packing.row_offsets) - 1
        places += int(lengths.sum())
    return places / (rows * length) if rows else 1.0


def _disk_warnings(config: BuildConfig, total: int) -> list[str]:
    folder = Folder(config.output)
    if not folder.is_local:
        return []
    import os

    place = folder.path()
    while not os.path.isdir(place):
        place = os.path.dirname(place)
    free = shutil.disk_usage(place).free
    # Prepared units and shards take about as much as the text itself.
    if free < 2 * total:
        return [f"{free / 1e9:.1f} GB are free for the output; up to {2 * total / 1e9:.1f} GB may be needed"]
    return []
