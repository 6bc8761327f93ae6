"""What training is worth, not how fast it is: losses compared on the same documents. Prints intervals; asserts nothing.

- Static planes against masks drawn afresh: does a model see the difference between eight planes and new masks every
  epoch? One plane for all epochs is the control that must differ.
- HF's ModernBERT against this trainer: the same initial weights, the same batches, the same rule of training.
"""

import json
import statistics
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from mlm_data.batches import Batch
from mlm_data.config import BuildConfig, parse_settings
from mlm_data.loader import Loader, evaluation
from mlm_data.shards.format import TRAIN
from mlm_data.shards.reader import Dataset
from pipelines.build import build
from tests.bench.report import show
from trainer import machine as mc
from trainer import runs
from trainer.config import ModelSettings, OptimizerSettings, ScheduleSettings
from trainer.data import Tensors, pieces
from trainer.evaluate import score
from trainer.export import to_hf
from trainer.optim import Optimizer
from trainer.peers import one_document_per_row
from trainer.schedule import factor
from trainer.step import Forward, Stepper

pytestmark = [pytest.mark.bench, pytest.mark.corpora, pytest.mark.filterwarnings("ignore")]
EPOCHS = 8
SEEDS = 5
STUDENT_95 = 2.776  # two-sided, 4 degrees of freedom
CPU = mc.Machine(device=torch.device("cpu"), precision=torch.float32, compile=True, deterministic=True)


def paragraphs(corpora: Path, path: Path, num_bytes: int) -> Path:
    """Paragraphs of English books, about so many bytes, each book's share from its beginning."""
    books = sorted((corpora / "en_classic_books_md").rglob("*.md"))
    share = num_bytes // len(books)
    with path.open("w") as file:
        for book in books:
            for paragraph in book.read_bytes()[:share].decode("utf-8", "replace").split("\n\n"):
                if len(paragraph) > 200:
                    file.write(json.dumps({"text": paragraph}) + "\n")
    return path


def dataset_of(path: Path, out: Path, *, seed: int = 0, **pack: object) -> Dataset:
    values = {
        "inputs": [{"path": str(path)}],
        "output": str(out),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 4096}},
        "pack": pack,
        "mask": {"planes": EPOCHS, "rate": 0.30},
        "split": {"validation": 0.25},
        "seed": seed,
    }
    build(parse_settings(BuildConfig, values, where="study"), workers=1)
    return Dataset.open(out)


class Afresh:
    """New masks for every batch, by the rule of HF's collator: each place alone, 80/10/10, never a special token."""

    def __init__(self, dataset: Dataset, seed: int, rate: float = 0.30) -> None:
        roles, vocabulary = dataset.manifest.roles, dataset.manifest.vocab_size
        special = {role for role in (roles.cls, roles.sep, roles.pad, roles.mask, roles.unk) if role >= 0}
        self._special, self._mask = np.array(sorted(special)), roles.mask
        self._ordinary = np.setdiff1d(np.arange(vocabulary), self._special)
        self._rng, self._rate = np.random.default_rng([seed, 1]), rate

    def __call__(self, batch: Batch) -> Tensors:
        ids = batch.input_ids.copy()
        count = batch.num_targets
        ids[batch.target_places[:count]] = batch.target_ids[:count]
        chosen = (self._rng.random(ids.size) < self._rate) & ~np.isin(ids, self._special)
        places = np.flatnonzero(chosen).astype(np.int32)
        truths = ids[places].astype(np.int64)
        kind = self._rng.random(places.size)
        ids[places[kind < 0.8]] = self._mask
        swapped = places[kind >= 0.9]
        ids[swapped] = self._rng.choice(self._ordinary, swapped.size)
        missing = ids.size // 2 - places.size  # a fixed number of targets, so that nothing is compiled twice
        assert missing >= 0
        places, truths = np.pad(places, (0, missing)), np.pad(truths, (0, missing), constant_values=-100)
        arrays = ids, batch.position_ids, batch.cu_seqlens, places, truths
        return Tensors(*(torch.from_numpy(array) for array in arrays))


def validation_loss(dataset: Dataset, planes: list[str], seed: int, *, afresh: bool) -> float:
    """Train a small model for EPOCHS epochs; its loss on the evaluation plane."""
    rows, length = 16, dataset.manifest.sequence_length
    shape = ModelSettings(layers=2, width=128, heads=2, intermediate=256)
    model = runs.make_model(shape, dataset.manifest.vocab_size, length, CPU, rows=rows)
    model.initialize(torch.Generator().manual_seed(seed))
    mc.compile_parts(model)
    forward = Forward(model)
    stepper = Stepper(forward, Optimizer(model, OptimizerSettings(kind="muon")), table_rows=1)
    total = EPOCHS * dataset.num_rows(TRAIN) // rows
    schedule = ScheduleSettings(warmup_steps=20, decay_share=0.5)
    fresh = Afresh(dataset, seed)
    with Loader(dataset, planes=planes, batch_rows=rows, seed=seed) as loader:
        for step in range(total):
            batch = next(loader)
            tensors = fresh(batch) if afresh else Tensors.of(batch, CPU.device)
            stepper.run([tensors], factor(step, total, schedule))
            stepper.read()
    held_out = evaluation(dataset, rows)
    return score(forward, held_out, target_size=held_out.target_size, device=CPU.device).loss


def test_static_planes_against_fresh_masks(corpora, tmp_path):
    mc.prepare(CPU)
    text = paragraphs(corpora, tmp_path / "text.jsonl", 400_000)
    losses: dict[str, list[float]] = {"fresh masks": [], "8 planes": [], "1 plane": []}
    for seed in range(SEEDS):
        dataset = dataset_of(text, tmp_path / f"data{seed}", seed=seed, sequence_length=128)
        planes = dataset.planes(TRAIN)
        losses["fresh masks"].append(validation_loss(dataset, planes[:1], seed, afresh=True))
        losses["8 planes"].append(validation_loss(dataset, planes, seed, afresh=False))
        losses["1 plane"].append(validation_loss(dataset, planes[:1], seed, afresh=False))
        print(f"seed {seed}: " + ", ".join(f"{name} {values[-1]:.4f}" for name, values in losses.items()), flush=True)
    tokens = dataset.manifest.splits[TRAIN]["num_tokens"]
    rows = []
    for name, values in losses.items():
        apart = [one - other for one, other in zip(values, losses["fresh masks"], strict=True)]
        margin = STUDENT_95 * statistics.stdev(apart) / SEEDS**0.5
        rows.append((name, f"{statistics.mean(values):.4f}", f"{statistics.mean(apart):+.4f}", f"± {margin:.4f}"))
    title = f"loss on the evaluation plane after {EPOCHS} epochs of {tokens:,} tokens, 2 x 128, {SEEDS} paired seeds"
    show(title, ("masks", "nats", "apart from fresh masks", "95 % interval"), rows, packages=("torch",))


def rows_of(dataset: Dataset, planes: list[str], rows: int, count: int, seed: int) -> Iterator[dict]:
    """Batches with one document in each row, as HF wants them."""
    length = dataset.manifest.sequence_length
    with Loader(dataset, planes=planes, batch_rows=rows, seed=seed) as loader:
        for _ in range(count):
            yield one_document_per_row(next(loader), rows, length, dataset.manifest.roles)[0]


def flat(batch: dict[str, torch.Tensor]) -> Tensors:
    """The same batch for this trainer: padding is a segment of its own."""
    rows, length = batch["input_ids"].shape
    sizes = batch["attention_mask"].sum(1)
    inside = torch.arange(length).expand(rows, length)
    positions = torch.where(inside < sizes[:, None], inside, inside - sizes[:, None])
    starts = torch.arange(rows) * length
    borders = torch.unique(torch.cat([starts, starts + sizes, torch.tensor([rows * length])]))
    borders = torch.nn.functional.pad(borders, (0, 2 * rows + 1 - len(borders)), value=rows * length)
    labels = batch["labels"].reshape(-1)
    places = torch.nonzero(labels >= 0)[:, 0]
    ids = batch["input_ids"].reshape(-1).int()
    whole = Tensors(ids, positions.reshape(-1).int(), borders.int(), places.int(), labels[places])
    places, truths = next(pieces(whole, rows * length // 2))  # filled up: one shape for all batches
    return whole._replace(target_places=places, target_ids=truths)


def test_the_same_loss_as_hf(corpora, tmp_path):
    transformers = pytest.importorskip("transformers")
    mc.prepare(CPU)
    rows, length, steps = 16, 256, 300
    text = paragraphs(corpora, tmp_path / "text.jsonl", 12_000_000)
    dataset = dataset_of(text, tmp_path / "data", sequence_length=length)
    manifest = dataset.manifest
    shape = ModelSettings(layers=6, width=256, heads=4, intermediate=512)
    model = runs.make_model(shape, manifest.vocab_size, length, CPU, rows=rows)
    model.initialize(torch.Generator().manual_seed(0))
    roles = manifest.roles
    config = transformers.ModernBertConfig(
        vocab_size=manifest.vocab_size,
        hidden_size=shape.width,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        intermediate_size=shape.intermediate,
        pad_token_id=roles.pad,
        cls_token_id=roles.cls,
        sep_token_id=roles.sep,
        bos_token_id=None,
        eos_token_id=None,
        max_position_embeddings=512,
        sparse_prediction=True,
    )
    hf = transformers.ModernBertForMaskedLM(config)
    weights = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    left = hf.load_state_dict(to_hf(weights, manifest.vocab_size), strict=False)
    assert not left.unexpected_keys
    assert set(left.missing_keys) <= {"decoder.weight"}  # tied
    settings = OptimizerSettings(kind="adamw", lr=1e-3)
    mc.compile_parts(model)
    forward = Forward(model)
    stepper = Stepper(forward, Optimizer(model, settings), table_rows=1)
    decayed = [parameter for parameter in hf.parameters() if parameter.ndim == 2]
    embedding = hf.get_input_embeddings().weight
    decayed = [parameter for parameter in decayed if parameter is not embedding]
    chosen = {id(parameter) for parameter in decayed}
    others = [parameter for parameter in hf.parameters() if id(parameter) not in chosen]
    optimizer = torch.optim.AdamW(
        [{"params": decayed, "weight_decay": settings.decay}, {"params": others, "weight_decay": 0.0}],
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        fused=True,
    )
    compiled = torch.compile(hf)
    schedule, planes = ScheduleSettings(warmup_steps=30), dataset.planes(TRAIN)
    for step, batch in enumerate(rows_of(dataset, planes, rows, steps, seed=0)):
        rate = factor(step, steps, schedule)
        stepper.run([flat(batch)], rate)
        ours = stepper.read()[0]
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate
        optimizer.zero_grad()
        loss = compiled(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hf.parameters(), settings.clip)
        optimizer.step()
        if step % 50 == 0 or step == steps - 1:
            print(f"step {step}: premask {ours.loss_sum / ours.targets:.5f}, HF {loss.item():.5f}", flush=True)
    sums = np.zeros(3)
    with torch.no_grad():
        for held_out in islice(evaluation(dataset, rows), 40):
            batch, _ = one_document_per_row(held_out, rows, length, roles)
            if len(batch["input_ids"]) < rows:
                continue
            targets = int((batch["labels"] >= 0).sum())
            tensors = flat(batch)
            mine, _ = forward(tensors, tensors.target_places, tensors.target_ids)
            sums += [mine.item(), hf(**batch).loss.item() * targets, targets]
    ours, theirs = sums[:2] / sums[2]
    table = [("premask", f"{ours:.5f}"), ("HF ModernBERT", f"{theirs:.5f}"), ("apart", f"{ours - theirs:+.5f}")]
    title = f"loss on {int(sums[2]):,} held-out targets after {steps} steps of {rows * length:,} places, 6 x 256"
    show(title, ("", "nats"), table, packages=("torch", "transformers"))
