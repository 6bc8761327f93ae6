"""What training is worth, not how fast it is: losses compared on the same documents. Prints intervals; asserts nothing.

- Static planes against masks drawn afresh: does a model see the difference between eight planes and new masks every
  epoch? One plane for all epochs is the control that must differ.
- HF's ModernBERT against this trainer: the same initial weights, the same batches, the same rule of training.
"""

import hashlib
import json
import os
import shutil
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice, product
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from mlm_data.config import BuildConfig
from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader, evaluation
from mlm_data.settings import parse_settings
from mlm_data.shards.format import TRAIN
from pipelines.build import build
from tests.bench.report import show
from trainer.config import ModelSettings, OptimizerSettings, ScheduleSettings
from trainer.hf.weights import to_hf
from trainer.studies.peers import one_document_per_row
from trainer.training import machine as mc
from trainer.training import runs
from trainer.training.data import Tensors, target_chunks
from trainer.training.optim import Optimizer
from trainer.training.schedule import factor
from trainer.training.score import Score, score
from trainer.training.step import Forward, Stepper

pytestmark = [pytest.mark.bench, pytest.mark.corpora, pytest.mark.filterwarnings("ignore")]
SHAPE = ModelSettings(layers=2, width=64, heads=2, intermediate=128)
CALM = OptimizerSettings(kind="adamw", lr=4e-3)
CONSTANT = ScheduleSettings(decay_share=0, warmup_steps=100)
TO_ZERO = ScheduleSettings(kind="linear", warmup_steps=0)
FRESH = "fresh masks"
STUDENT_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}  # two-sided, by the number of pairs
CPU = mc.Machine(device=torch.device("cpu"), precision=torch.float32, compile=True, deterministic=True)


@dataclass(frozen=True, kw_only=True)
class Study:
    """Sizes of the study of masks: under an hour on one core, calm enough to tell hundredths of a nat.

    A model from scratch knows only how frequent tokens are for its first thousand steps. When it leaves that plateau,
    and how many of its heads do, is chance: two runs that differ in the draw of their masks alone ended 0.1 nats apart.
    So each seed has a trunk, trained on other paragraphs until it is past the plateau, and all arms begin with its
    weights and its optimizer's state.
    """

    epochs: int = 8
    seeds: int = 5
    static: tuple[int, ...] = (8, 1, 4, 2)  # numbers of planes; the first is the question, one plane the control
    num_bytes: int = 2_460_000  # of text, both splits; the trunk has as much again, of other paragraphs
    validation: float = 0.67  # large, so that the choice of held-out targets is no part of the noise
    vocab_size: int = 2048
    length: int = 128
    rows: int = 8  # of a step
    rate: float = 0.30
    trunk_steps: int = 2000
    shape: ModelSettings = SHAPE
    optimizer: OptimizerSettings = CALM
    begin: float = 0.5  # factor on the learning rate where the arms begin; from there it falls to zero

    @property
    def planes_of_seed(self) -> int:
        """Planes that one seed has for itself: the static ones, and as many as epochs that are read once each."""
        return max(self.static) + self.epochs

    def planes(self, arm: str, seed: int) -> list[str]:
        """The planes that an arm's epochs cycle through. Fewer static planes are the first of the more."""
        first = seed * self.planes_of_seed
        if arm == FRESH:
            first, count = first + max(self.static), self.epochs
        else:
            count = int(arm.split()[0])
        return [str(first + number) for number in range(count)]

    @property
    def arms(self) -> list[str]:
        return [FRESH, *(f"{count} plane" + "s" * (count > 1) for count in self.static)]


def paragraphs(corpora: Path, path: Path, num_bytes: int, *, part: int = 0) -> Path:
    """Paragraphs of English books, about so many bytes: each book's first share, or a later part of that size."""
    books = sorted((corpora / "en_classic_books_md").rglob("*.md"))
    share = num_bytes // len(books)
    with path.open("w") as file:
        for book in books:
            text = book.read_bytes()[part * share : (part + 1) * share].decode("utf-8", "replace").replace("\r\n", "\n")
            for paragraph in text.split("\n\n"):
                if len(paragraph) > 200:
                    file.write(json.dumps({"text": paragraph}) + "\n")
    return path


def dataset_of(path: Path, out: Path, **more: object) -> Dataset:
    """Build a dataset, unless it is there already. `more`: fields of the configuration besides input and output."""
    if not out.exists():
        beside = out.with_name(out.name + ".part")
        shutil.rmtree(beside, ignore_errors=True)
        values = {"inputs": [{"path": str(path)}], "output": str(beside), **more}
        build(parse_settings(BuildConfig, values, where="study"), workers=1)
        beside.rename(out)
    return Dataset.open(out)


class Notes:
    """Results that outlive the process: one JSON line for each finished run, which is then not repeated."""

    def __init__(self, path: Path) -> None:
        self._path = path
        lines = path.read_text().splitlines() if path.exists() else []
        self._known = {line["run"]: line for line in map(json.loads, lines)}

    def get(self, run: str) -> float | None:
        return self._known[run]["loss"] if run in self._known else None

    @property
    def targets(self) -> int:
        """Held-out targets, which all runs share."""
        return next(iter(self._known.values()))["targets"]

    def put(self, run: str, loss: float, *, targets: int) -> None:
        self._known[run] = {"run": run, "loss": loss, "targets": targets}
        with self._path.open("a") as file:
            file.write(json.dumps(self._known[run]) + "\n")


class Trial:
    """One model, compiled once, trained again for every seed and arm."""

    def __init__(self, study: Study, dataset: Dataset, other: Dataset, folder: Path) -> None:
        self._study, self._dataset, self._other, self._folder = study, dataset, other, folder
        self.model = runs.make_model(study.shape, dataset.manifest.vocab_size, study.length, CPU, rows=study.rows)
        self._forward = Forward(self.model)
        mc.compile_parts(self.model)
        self._held_out = evaluation(dataset, study.rows)
        self.steps = study.epochs * dataset.num_rows(TRAIN) // study.rows

    def train(self, planes: list[str], seed: int, name: str) -> Score:
        """Train with these planes in turn; the score on the evaluation plane of the whole validation split.

        First weights, optimizer's state and order of rows follow from the seed alone, so runs of one seed differ in
        nothing but their masks.
        """
        study = self._study
        weights, state = self.trunk(seed)
        with torch.no_grad():
            for key, parameter in self.model.named_parameters():
                parameter.copy_(weights[key])
        optimizer = Optimizer(self.model, study.optimizer)
        optimizer.load_state(state)
        factors = [study.begin * factor(step, self.steps, TO_ZERO) for step in range(self.steps)]
        self._run(self._dataset, planes, seed, name, optimizer, factors)
        held_out = self._held_out
        return score(self._forward, held_out, target_size=held_out.target_size, device=CPU.device)

    def trunk(self, seed: int) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
        """Weights and optimizer's state of a seed after training on other paragraphs; made once, kept in a file."""
        file = self._folder / f"trunk-{seed}.safetensors"
        if not file.exists():
            self.model.initialize(torch.Generator().manual_seed(seed))
            optimizer = Optimizer(self.model, self._study.optimizer)
            factors = [factor(step, self._study.trunk_steps, CONSTANT) for step in range(self._study.trunk_steps)]
            self._run(self._other, self._other.planes(TRAIN), seed, f"trunk, seed {seed}", optimizer, factors)
            tensors = {f"weight/{key}": parameter.detach() for key, parameter in self.model.named_parameters()}
            tensors |= {f"state/{key}": value for key, value in optimizer.state().items()}
            save_file(tensors, file.with_suffix(".part"))
            file.with_suffix(".part").rename(file)
        found: dict[str, dict[str, torch.Tensor]] = {"weight": {}, "state": {}}
        for name, value in load_file(file).items():
            kind, key = name.split("/", 1)
            found[kind][key] = value
        return found["weight"], found["state"]

    def _run(
        self, dataset: Dataset, planes: list[str], seed: int, name: str, optimizer: Optimizer, factors: list[float]
    ) -> None:
        start, every = time.monotonic(), len(factors) // 8
        stepper = Stepper(self._forward, optimizer, table_rows=every)
        with Loader(dataset, planes=planes, batch_rows=self._study.rows, seed=seed) as loader:
            for step, rate in enumerate(factors, 1):
                stepper.run([Tensors.of(next(loader), CPU.device)], rate)
                if step % every == 0:
                    stats = stepper.read()
                    loss = sum(row.loss_sum for row in stats) / sum(row.targets for row in stats)
                    spent = time.monotonic() - start
                    print(f"  {name}: step {step} of {len(factors)}, loss {loss:.4f}, {spent:.0f} s", flush=True)


def folder_for(study: object, tmp_path: Path) -> Path:
    """Where a study keeps datasets and finished runs; other sizes are another study, with a folder of its own.

    In PREMASK_STUDIES, so that a study that was interrupted goes on; without it, in pytest's folder.
    """
    sizes = hashlib.sha256(repr(study).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("PREMASK_STUDIES", tmp_path)) / sizes
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def ever_hidden(dataset: Dataset, planes: list[str]) -> float:
    """Share of the training tokens that are a target in one of these planes: the masks of an arm, made visible.

    K independent planes of rate r hide 1 - (1 - r)^K of the maskable places; a plane that came twice would show here.
    """
    count = 0
    for index in range(dataset.num_shards(TRAIN)):
        shard = dataset.shard(TRAIN, index)
        for parts in zip(*(shard.masks(plane) for plane in planes), strict=True):
            hidden = np.bitwise_or.reduce([masks.targets for masks in parts])
            count += int(np.bitwise_count(hidden).sum())
    return count / dataset.manifest.splits[TRAIN]["num_tokens"]


def test_static_planes_against_fresh_masks(corpora, tmp_path):
    """Eight epochs with K static planes, for K = 8, 4, 2 and 1, against new masks in every epoch.

    All arms follow one rule: exactly floor(rate x maskable) targets in each row, 80/10/10. Fresh masks are planes that
    no other arm reads, one for each epoch. In eight epochs eight planes are read once each, too, so what they differ
    by is the noise of the study; fewer planes tell what reading a mask again costs.
    """
    study = Study()
    folder = folder_for(study, tmp_path)
    mc.prepare(CPU)
    dataset = dataset_of(
        paragraphs(corpora, folder / "text.jsonl", study.num_bytes),
        folder / "data",
        tokenizer={"train": {"kind": "wordpiece", "vocab_size": study.vocab_size}},
        pack={"sequence_length": study.length},
        mask={"planes": study.seeds * study.planes_of_seed, "rate": study.rate},
        split={"validation": study.validation},
    )
    tokenizer = folder / "tokenizer.json"
    tokenizer.write_bytes(dataset.tokenizer())
    other = dataset_of(
        paragraphs(corpora, folder / "other.jsonl", study.num_bytes, part=1),
        folder / "other",
        tokenizer={"path": str(tokenizer)},
        pack={"sequence_length": study.length},
        mask={"planes": 4, "rate": study.rate},
    )
    notes, trial = Notes(folder / "runs.jsonl"), Trial(study, dataset, other, folder)
    for arms in (study.arms[:3], study.arms[3:]):  # the question and its control first: a study may be interrupted
        for seed, arm in product(range(study.seeds), arms):
            run = f"{arm}, seed {seed}"
            if notes.get(run) is None:
                result = trial.train(study.planes(arm, seed), seed, run)
                notes.put(run, result.loss, targets=result.targets)
            print(f"{run}: {notes.get(run):.4f}", flush=True)
    losses = {arm: [notes.get(f"{arm}, seed {seed}") for seed in range(study.seeds)] for arm in study.arms}
    rows = []
    for arm in study.arms:
        apart = [one - other for one, other in zip(losses[arm], losses[FRESH], strict=True)]
        mean, margin = interval(apart)
        hidden = ever_hidden(dataset, study.planes(arm, 0))
        seeds = ", ".join(f"{value:+.4f}" for value in apart)
        rows.append(
            (arm, f"{hidden:.0%}", f"{statistics.mean(losses[arm]):.4f}", f"{mean:+.4f}", f"± {margin:.4f}", seeds)
        )
    num, targets = dataset.manifest.splits[TRAIN]["num_tokens"], notes.targets
    title = f"{targets:,} held-out targets, {study.epochs} epochs of {num:,} tokens, {study.seeds} paired seeds"
    columns = ("masks", "ever hidden", "nats", "apart from fresh", "95 % interval", "by seed")
    show(title, columns, rows, packages=("torch",))


def interval(values: list[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval by Student's t; nothing is known from one value."""
    if len(values) < 2:
        return values[0], float("inf")
    return statistics.mean(values), STUDENT_95[len(values)] * statistics.stdev(values) / len(values) ** 0.5


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
    places, truths = next(target_chunks(whole, rows * length // 2))  # filled up: one shape for all batches
    return whole._replace(target_places=places, target_ids=truths)


def test_the_same_loss_as_hf(corpora, tmp_path):
    """300 steps of this trainer and of HF's ModernBERT, from the same weights, on the same batches, by the same rule.

    A document a row, because HF's attention on a CPU knows no borders inside a row. The held-out targets are the
    same, too, so what the losses differ by is the order of float32 sums.
    """
    transformers = pytest.importorskip("transformers")
    mc.prepare(CPU)
    rows, length, steps, held_out_rows = 8, 256, 300, 640
    folder = folder_for(("hf", rows, length, steps), tmp_path)
    dataset = dataset_of(
        paragraphs(corpora, folder / "text.jsonl", 4_500_000),
        folder / "data",
        tokenizer={"train": {"kind": "wordpiece", "vocab_size": 4096}},
        pack={"sequence_length": length},
        mask={"planes": 1, "rate": 0.30},
        split={"validation": 0.2},
    )
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
    settings = OptimizerSettings(kind="adamw", lr=1e-3)  # at 2e-3 the two were 0.01 nats apart after 100 steps
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
    schedule, planes, start = ScheduleSettings(warmup_steps=30), dataset.planes(TRAIN), time.monotonic()
    furthest = 0.0  # between the training losses of one step
    for step, batch in enumerate(rows_of(dataset, planes, rows, steps, seed=0)):
        rate = factor(step, steps, schedule)
        stepper.run([flat(batch)], rate)
        stats = stepper.read()[0]
        for group in optimizer.param_groups:
            group["lr"] = settings.lr * rate
        optimizer.zero_grad()
        loss = compiled(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(hf.parameters(), settings.clip)
        optimizer.step()
        ours, theirs = stats.loss_sum / stats.targets, loss.item()
        furthest = max(furthest, abs(ours - theirs))
        if step % 25 == 0 or step == steps - 1:
            spent = time.monotonic() - start
            print(f"step {step}: premask {ours:.5f}, HF {theirs:.5f}, {spent:.0f} s", flush=True)
    sums = np.zeros(3)
    for held_out in islice(evaluation(dataset, rows), held_out_rows // rows):
        batch, _ = one_document_per_row(held_out, rows, length, roles)
        if len(batch["input_ids"]) < rows:
            continue
        tensors = flat(batch)
        targets = int((tensors.target_ids >= 0).sum())
        mine, _ = forward(tensors, tensors.target_places, tensors.target_ids, gradient=False)  # the compiled shape
        with torch.no_grad():
            sums += [mine.item(), hf(**batch).loss.item() * targets, targets]
    ours, theirs = sums[:2] / sums[2]
    table = [
        ("premask", f"{ours:.5f}"),
        ("HF ModernBERT", f"{theirs:.5f}"),
        ("apart", f"{ours - theirs:+.5f}"),
        ("largest difference of a step's training loss", f"{furthest:.5f}"),
    ]
    title = f"loss on {int(sums[2]):,} held-out targets after {steps} steps of {rows * length:,} places, 6 x 256"
    show(title, ("", "nats"), table, packages=("torch", "transformers"))
