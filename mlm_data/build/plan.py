"""PLAN: what would be read, in which units, with which tokenizer. And TRAIN, if the tokenizer is to be trained."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import rfc8785

from mlm_data import seeds
from mlm_data.build import cache
from mlm_data.build.account import list_messages, tally, unit_messages
from mlm_data.build.assets import find_assets
from mlm_data.build.context import Context
from mlm_data.build.curate import clean
from mlm_data.build.fields import absent_fields, add_counts
from mlm_data.build.progress import Stage
from mlm_data.build.split import choose_validation
from mlm_data.build.units import Plan, plan_units
from mlm_data.config import BuildConfig, TokenizerTraining
from mlm_data.dataset.forgotten import current_list
from mlm_data.dataset.gates import library_versions
from mlm_data.dataset.manifest import latest, load_manifest, tokenizer_name
from mlm_data.errors import InputError
from mlm_data.hashing import hash128, hash_bytes
from mlm_data.stores.folder import Folder
from mlm_data.text.reading import read_unit
from mlm_data.tokens.engine import Reference, from_bytes, load_tokenizer
from mlm_data.tokens.files import Note
from mlm_data.tokens.lost_letters import lost_letters, may_lose_letters
from mlm_data.tokens.reference import with_added_tokens
from mlm_data.tokens.train import ALGORITHM_VERSION as TRAINING_VERSION
from mlm_data.tokens.train import Trained, train
from mlm_data.types import Unit

BYTES_PER_PARTITION = 64 * 2**20  # of raw text, at 2 KB a document: 0.8 MB of signatures in memory, 8 of bands
MAX_PARTITIONS = 4096
TOKENIZER, TRAINING = "finding the tokenizer", "training the tokenizer"
LOOKED_AT = 8  # units whose first texts are compared with what the tokenizer's normalization makes of them


def make_plan(config: BuildConfig, *, sample: float = 1.0) -> Plan:
    """Find the inputs and cut them into units; an earlier version in the output fixes the units' size.

    Args:
        config: the build.
        sample: below 1, keep only units, chosen by hash, that add up to about this share of the bytes.
    """
    if sample >= 1:
        earlier = _earlier_plan(config)
        return plan_units(config, **earlier)
    whole = plan_units(config)
    total = sum(unit.num_bytes for unit in whole.units)
    fine = plan_units(config, unit_bytes=max(64 * 1024, int(total * sample / 4)))
    chosen: list[Unit] = []
    num_bytes = 0
    for unit in sorted(fine.units, key=_unit_hash):
        if chosen and num_bytes + unit.num_bytes / 2 > total * sample:
            break
        chosen.append(unit)
        num_bytes += unit.num_bytes
    ordered = sorted(chosen, key=lambda unit: unit.index)
    return replace(fine, units=tuple(replace(unit, index=number) for number, unit in enumerate(ordered)))


def signature_partitions(plan: Plan) -> int:
    """Into how many partitions signatures go: a power of two, by the bytes of raw text."""
    return partitions_for(sum(unit.num_bytes for unit in plan.units))


def partitions_for(num_bytes: int) -> int:
    """`signature_partitions` of so many bytes."""
    wanted = -(-num_bytes // BYTES_PER_PARTITION)
    return min(MAX_PARTITIONS, max(4, 1 << (wanted - 1).bit_length()))


def make_context(config: BuildConfig, plan: Plan, reference: Reference | None, *, run: str = "") -> Context:
    """What the workers need to know, from what the plan has found; without a tokenizer documents stay texts.

    Args:
        config: the build.
        plan: its units.
        reference: its tokenizer.
        run: what `cache.begin` has given; "": no name, and no sign is asked for when it publishes.
    """
    context = Context(
        config=config,
        tokenizer_sha256=reference.sha256 if reference else "",
        num_partitions=signature_partitions(plan),
        unit_bytes=plan.unit_bytes,
        group_modulus=plan.group_modulus,
        versions=library_versions(),
        assets=find_assets(config),
        forgotten=current_list(Folder(config.output)),
        planned=tally(unit_messages(plan.units)),
        listed=tally(list_messages(plan.units)),
        run=run,
        current=latest(Folder(config.output)) or "",
    )
    if reference:
        context.remember(reference)
    return context


def find_tokenizer(config: BuildConfig, plan: Plan, tell: Callable[[Stage], object] = lambda stage: None) -> Reference:
    """Load the tokenizer, or train it; a trained one is kept in the output's cache and stored by its hash.

    Args:
        config: the build.
        plan: its units.
        tell: is told how far the training is.
    """
    reference = read_tokenizer(config, lambda settings: _train(config, plan, settings, tell))
    folder = Folder(config.output)
    name = tokenizer_name(reference.sha256)
    if not (folder.exists(name) and folder.read(name) == reference.json_bytes):
        folder.write(name, reference.json_bytes)
    return reference


def read_tokenizer(config: BuildConfig, trainer: Callable[[TokenizerTraining], Trained]) -> Reference:
    """The tokenizer of a configuration, with its roles and markers; `trainer` makes one where it is to be trained.

    A trained one gets the markers as its last tokens: `vocab_size` counts them.
    """
    settings = config.tokenizer
    markers: dict[str, Any] = {"markers": settings.markers, "mask_markers": config.mask.markers}
    if settings.train is None:
        assert settings.path is not None, "the configuration has one of the two"
        given: dict[str, Any] = {"lowercase": settings.lowercase, "strip_accents": settings.strip_accents}
        return load_tokenizer(settings.path, settings.special, **markers, **given)
    smaller = settings.train.model_copy(update={"vocab_size": settings.train.vocab_size - len(settings.markers)})
    trained = trainer(smaller)
    reference = from_bytes(with_added_tokens(trained.json_bytes, settings.markers), settings.special, **markers)
    return replace(reference, notes=() if trained.alphabet is None else (Note("alphabet", str(trained.alphabet)),))


def training_texts(
    config: BuildConfig, units: tuple[Unit, ...], tell: Callable[[Stage], object] = lambda stage: None
) -> Iterator[pa.LargeStringArray]:
    """Cleaned texts to train a tokenizer on: all of them, or a share chosen by the documents' hashes.

    Args:
        config: the build.
        units: of its plan.
        tell: is told how much of the input is read.

    Raises:
        InputError: there is no text, since no document has a field that was asked for.
    """
    wanted = config.tokenizer.train.sample_bytes if config.tokenizer.train else 256 * 2**20
    chosen, num_bytes = [], 0
    for unit in sorted(units, key=_unit_hash):
        # Eight times more text than is wanted, from units chosen by hash; documents are chosen among it.
        if num_bytes >= 8 * wanted:
            break
        chosen.append(unit)
        num_bytes += unit.num_bytes
    share = min(1.0, wanted / max(1, num_bytes))
    fields, has_text, num_read = [], False, 0
    for unit in sorted(chosen, key=lambda unit: unit.index):
        tell(Stage(name=f"{TRAINING}: reading texts", done=num_read, total=num_bytes))
        num_read += unit.num_bytes
        input_of = {piece.source: piece.input for piece in unit.slices}
        for documents in read_unit(unit, config):
            fields.append((input_of[documents.source], documents.fields))
            texts, _ = clean(documents.table.column("text"), config, {})
            if share < 1 and len(texts):
                key = int(seeds.fold(np.uint64(config.seed), seeds.SAMPLE)) >> 1
                texts = texts.filter(pa.array(choose_validation(hash128(texts)[:, 0], share=share, seed=key)))
            if len(texts):
                has_text = True
                yield texts
    tell(Stage(name=f"{TRAINING}: choosing its tokens"))
    if not has_text and (absent := absent_fields(config, add_counts(fields))):
        raise InputError(absent[0])


def tokenizer_warnings(config: BuildConfig, plan: Plan, reference: Reference) -> list[str]:
    """What a build should say of its tokenizer; reads a little text only where there may be something to say."""
    normalizer = reference.raw_tokenizer.normalizer
    if not may_lose_letters(normalizer):
        return []
    step = max(1, len(plan.units) // LOOKED_AT)
    batches = (
        next(iter(read_unit(unit, config, batch_bytes=1 << 18)), None) for unit in plan.units[::step][:LOOKED_AT]
    )
    texts = [clean(batch.table.column("text"), config, {})[0] for batch in batches if batch is not None]
    return [str(lost) for lost in lost_letters(texts, normalizer)]


def _train(config: BuildConfig, plan: Plan, settings: TokenizerTraining, tell: Callable[[Stage], object]) -> Trained:
    parts: dict[str, Any] = {
        "algorithm": TRAINING_VERSION,
        "train": settings.model_dump(mode="json"),
        "clean": config.clean.of_text(),
        "inputs": [item.model_dump(mode="json", exclude={"path", "quality", "weight"}) for item in config.inputs],
        "slices": [
            [piece.source, piece.start, piece.end, piece.identity] for unit in plan.units for piece in unit.slices
        ],
        "versions": dict(library_versions()),
    }
    key = hashlib.sha256(rfc8785.dumps(parts)).hexdigest()
    work = Folder(config.output).join("work")
    return cache.remember_tokenizer(work, key, lambda: train(training_texts(config, plan.units, tell), settings))


def _earlier_plan(config: BuildConfig) -> dict[str, Any]:
    folder = Folder(config.output)
    if not folder.exists("LATEST"):
        return {}
    plan = load_manifest(folder).plan
    return {"unit_bytes": plan["unit_bytes"], "group_modulus": plan["group_modulus"]}


def _unit_hash(unit: Unit) -> tuple[int, int]:
    first = unit.slices[0]
    return hash_bytes(f"{first.source}\0{first.start}".encode()), unit.index
