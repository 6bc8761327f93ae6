"""The peers of the bench: HF's ModernBERT and BERT, as people use them and at their best.

Each peer differs from the one before in one thing (`LADDER`), so that the ratios between them say what it brings:
eager float32 on padded rows -> the precision of this machine -> compiled -> rows without padding -> the head at
targets only. All train by the same rule as ours: AdamW, clipped gradients, 15 to 30 % of the places as targets.

The eager ones get their batches as people make them, from documents as lists of ids, by HF's collator, which pads and
draws masks in every step; on a GPU, where other processes would do it meanwhile, and for the compiled ones batches are
made beforehand. So on a CPU the ratio of compilation has the collator's time in it.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import torch
from tokenizers import Tokenizer

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from mlm_data.tokens.reference import special_tokens
from mlm_data.types import IGNORED
from trainer.config import RunSettings
from trainer.training import machine as mc

Batches = Callable[[int], dict[str, torch.Tensor]]  # the n-th batch, as HF's models take it
STEPS = 2  # of each peer in each round

EAGER = "HF ModernBERT, eager, float32, padded"
EAGER_LOW = "HF ModernBERT, eager, bfloat16, padded"
COMPILED = "HF ModernBERT, compiled, padded"
FULL = "HF ModernBERT, compiled, full rows"
SPARSE = "HF ModernBERT, compiled, full rows, head at targets"
SPARSE_PADDED = "HF ModernBERT, compiled, padded, head at targets"
BERT = "HF BERT, eager, float32, padded"
# What changes from one to the next; the precision step is there where this machine's is not float32.
LADDER = (
    ("", EAGER),
    ("bfloat16", EAGER_LOW),
    ("compilation", COMPILED),
    ("no padding", FULL),
    ("head at targets only", SPARSE),
)


class Kind(NamedTuple):
    """What makes a peer."""

    bert: bool = False  # or ModernBERT
    compiled: bool = False
    low: bool = False  # bf16, where this machine's products are
    full: bool = False  # rows without padding
    sparse: bool = False  # the head at targets only


KINDS = {
    EAGER: Kind(),
    EAGER_LOW: Kind(low=True),
    COMPILED: Kind(low=True, compiled=True),
    FULL: Kind(low=True, compiled=True, full=True),
    SPARSE: Kind(low=True, compiled=True, full=True, sparse=True),
    SPARSE_PADDED: Kind(low=True, compiled=True, sparse=True),
    BERT: Kind(bert=True),
}


@dataclass(kw_only=True)
class Peer:
    """One way to train, and its seconds for each step."""

    name: str
    step: Callable[[int], None]  # the n-th batch
    useful: list[int]  # useful tokens of each batch
    ours: list[int]  # this trainer's
    seconds: list[list[float]] = field(default_factory=list)  # rounds x steps
    beside: list[list[float]] = field(default_factory=list)  # this trainer's, right before

    def rate(self, number: int) -> float:
        """Useful tokens per second in a round."""
        return _tokens(self.useful, number) / sum(self.seconds[number])

    def lead(self, number: int) -> float:
        """How many times as fast this trainer was right before it in a round."""
        return _tokens(self.ours, number) / sum(self.beside[number]) / self.rate(number)


def _tokens(useful: list[int], number: int) -> int:
    """Of a round."""
    return sum(useful[(number * STEPS + step) % len(useful)] for step in range(STEPS))


def make_peers(
    dataset: Dataset,
    settings: RunSettings,
    machine: mc.Machine,
    batches: list,
    useful: list[int],
    wanted: Sequence[str] = (),
) -> list[Peer]:
    """The peers, on the documents of these batches.

    Args:
        wanted: only peers whose name holds one of these texts; by default all.

    Raises:
        ConfigError: if transformers is not installed, or no peer is wanted.
    """
    try:
        import transformers
    except ImportError as error:
        raise ConfigError(
            "bench: the peers need transformers: pip install 'premask[bench]', or use --no-peers"
        ) from error
    manifest, length = dataset.manifest, dataset.manifest.sequence_length
    shape, roles = settings.model, manifest.roles
    common: dict[str, Any] = {
        "vocab_size": -(-manifest.vocab_size // 64) * 64,
        "hidden_size": shape.width,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "intermediate_size": shape.intermediate,
        "pad_token_id": roles.pad,
        "max_position_embeddings": max(512, length),
    }
    specials: dict[str, Any] = {
        "cls_token_id": roles.cls,
        "sep_token_id": roles.sep,
        "bos_token_id": None,
        "eos_token_id": None,
    }

    def model(kind: Kind) -> torch.nn.Module:
        if kind.bert:
            return transformers.BertForMaskedLM(transformers.BertConfig(**common))
        config = transformers.ModernBertConfig(**common, **specials, sparse_prediction=kind.sparse)
        return transformers.ModernBertForMaskedLM(config)

    def ready(found: list[dict[str, torch.Tensor]]) -> Batches:
        tensors = [{name: tensor.to(machine.device) for name, tensor in batch.items()} for batch in found]
        return lambda number: tensors[number % len(tensors)]

    def collated(found: list[dict[str, torch.Tensor]]) -> Batches:
        collate, texts = hf_collator(dataset, length), [documents(batch) for batch in found]
        return lambda number: collate(texts[number % len(texts)])

    alone = [one_document_per_row(batch, settings.batch_rows, length, roles) for batch in batches]
    padded, useful_padded = [one for one, _ in alone], [count for _, count in alone]
    full = [_as_rows(batch, settings.batch_rows, length) for batch in batches]
    low = machine.precision == torch.bfloat16

    def make(name: str, kind: Kind) -> Peer:
        as_people_do = not kind.compiled and machine.device.type == "cpu"
        found = (collated if as_people_do else ready)(full if kind.full else padded)
        step = _training(model(kind).to(machine.device), found, machine, low=low and kind.low, compiled=kind.compiled)
        return Peer(name=name, step=step, useful=useful if kind.full else useful_padded, ours=useful)

    names = [name for name in KINDS if low or name != EAGER_LOW]
    chosen = [name for name in names if not wanted or any(text in name for text in wanted)]
    if not chosen:
        raise ConfigError(f"bench: no peer's name holds {' or '.join(wanted)}: they are {'; '.join(names)}")
    return [make(name, KINDS[name]) for name in chosen]


def hf_collator(dataset: Dataset, length: int) -> Callable[[list[dict[str, list[int]]]], dict[str, torch.Tensor]]:
    """HF's collator for masked language models, with the dataset's tokenizer and rate; pads to rows of `length`."""
    import transformers

    manifest, data = dataset.manifest, dataset.tokenizer()
    special = special_tokens(data, manifest.tokenizer["roles"]).model_dump(exclude_none=True)
    return transformers.DataCollatorForLanguageModeling(
        transformers.PreTrainedTokenizerFast(
            tokenizer_object=Tokenizer.from_str(data.decode()),
            **{f"{role}_token": token for role, token in special.items()},
        ),
        mlm_probability=manifest.config["mask"]["rate"][0],
        pad_to_multiple_of=length,
    )


def documents(batch: dict[str, torch.Tensor]) -> list[dict[str, list[int]]]:
    """A padded batch's documents without masks, as lists of ids: what a collator is given."""
    whole = torch.where(batch["labels"] >= 0, batch["labels"], batch["input_ids"])
    sizes = batch["attention_mask"].sum(1).tolist()
    return [{"input_ids": row[:size]} for row, size in zip(whole.tolist(), sizes, strict=True)]


def _training(
    model: torch.nn.Module, batches: Batches, machine: mc.Machine, *, low: bool, compiled: bool
) -> Callable[[int], None]:
    """One step of training on the n-th batch."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, fused=True)
    forward = torch.compile(model) if compiled and machine.compile else model

    def step(number: int) -> None:
        batch = batches(number)
        optimizer.zero_grad()
        with torch.autocast(machine.device.type, torch.bfloat16, enabled=low):
            loss = forward(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def _as_rows(batch: Any, rows: int, length: int) -> dict[str, torch.Tensor]:
    """Packed rows as HF would get them: documents concatenated, attention across their borders."""
    labels = np.full(rows * length, IGNORED, np.int64)
    labels[batch.target_places[: batch.num_targets]] = batch.target_ids[: batch.num_targets]
    ids = batch.input_ids.astype(np.int64)
    return {
        "input_ids": torch.from_numpy(ids.reshape(rows, length)),
        "labels": torch.from_numpy(labels.reshape(rows, length)),
    }


def one_document_per_row(batch: Any, rows: int, length: int, roles: Any) -> tuple[dict[str, torch.Tensor], int]:
    """The batch's first documents, each in a row of its own, padded to the full length."""
    flat = _as_rows(batch, rows, length)
    ids, labels = flat["input_ids"].reshape(-1), flat["labels"].reshape(-1)
    borders = np.unique(batch.cu_seqlens)
    segments = [slice(a, b) for a, b in pairwise(borders.tolist()) if batch.input_ids[a] != roles.pad]
    segments = segments[:rows]
    shape = (len(segments), length)
    result = {
        "input_ids": torch.full(shape, roles.pad),
        "labels": torch.full(shape, IGNORED),
        "attention_mask": torch.zeros(shape, dtype=torch.int64),
    }
    useful = 0
    for row, piece in enumerate(segments):
        size = piece.stop - piece.start
        result["input_ids"][row, :size] = ids[piece]
        result["labels"][row, :size] = labels[piece]
        result["attention_mask"][row, :size] = 1
        useful += size - roles.num_specials
    return result, useful
