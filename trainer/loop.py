"""A run: begin or resume, train, evaluate, checkpoint, stop.

    RUN/run.json            settings, dataset, precision, versions, and how many steps there will be
    RUN/tokenizer.json      the dataset's
    RUN/log.jsonl           a line for every step, and one for every validation
    RUN/tensorboard/        the same for TensorBoard
    RUN/checkpoints/        see checkpoint.py

Everything that a step depends on is in its checkpoint or in run.json, so a run that is killed and started again goes
through the same losses, bit for bit, on the same machine. That includes a budget in minutes: its number of steps is
decided once from the speed of the first 20 steps, corrected once where the decay begins, and written down each time
before a step depends on it.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mlm_data.loader import Loader, evaluation
from mlm_data.shards.format import VALIDATION
from trainer import checkpoint as ck
from trainer import machine as mc
from trainer import runs
from trainer.config import RunSettings
from trainer.data import Tensors, check_rows, open_dataset, unigram_counts
from trainer.encoder import PADDED_BIAS
from trainer.evaluate import Score, score
from trainer.optim import Optimizer
from trainer.runlog import Clock, Log
from trainer.schedule import decay_start, factor
from trainer.step import Stepper, StepStats

MEASURED_STEPS = 20  # after which a budget in minutes becomes a number of steps
OVERHEAD = 1.03  # evaluation and checkpoints, as a factor on the time of steps
UNDECIDED = 10**9


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What a live line shows."""

    step: int
    total: int | None
    loss: float
    accuracy: float
    validation: Score | None
    rate: float  # factor on the learning rates
    tokens_per_second: float | None
    seconds_left: float | None


@dataclass(kw_only=True)
class State:
    """What changes from step to step besides weights and optimizer; goes into checkpoints as JSON."""

    step: int = 0
    skipped: list[int] = field(default_factory=list)
    seconds: float = 0.0  # of training, without compilation
    validation: dict[str, Any] | None = None  # the last one: step and sums
    best: dict[str, Any] | None = None  # step and loss of the best validation


def train(
    settings: RunSettings,
    *,
    say: Callable[[str], None] = lambda _: None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> dict[str, Any]:
    """Begin a run, or go on with it where its last checkpoint is. Returns the final state as plain types.

    Raises:
        PremaskError: for anything a user can mend.
    """
    return _Run(settings, say=say, watch=watch).train()


class _Run:
    def __init__(self, settings: RunSettings, *, say: Callable[[str], None], watch: Callable[[Progress], None]) -> None:
        self.settings, self._say, self._watch = settings, say, watch
        self.folder = Path(settings.out)
        self.dataset = open_dataset(settings.data)
        check_rows(self.dataset, settings.batch_rows)
        self.places_per_step = settings.batch_rows * settings.accumulate * self.dataset.manifest.sequence_length
        self.facts = runs.begin(self.folder, settings, self.dataset)
        if self.facts["horizon"] is None:
            self.facts["horizon"] = self._fixed_horizon()
        self.machine = mc.choose(settings, precision=self.facts["precision"])
        self.facts["precision"] = str(self.machine.precision).removeprefix("torch.")
        for note in self.machine.notes:
            say(note)
        mc.prepare(self.machine)
        manifest = self.dataset.manifest
        self.model = runs.make_model(
            runs.shape_of(self.folder, self.facts),
            manifest.vocab_size,
            manifest.sequence_length,
            self.machine,
            rows=settings.batch_rows,
        )
        found, notes = ck.latest(self.folder)
        for note in notes:
            say(note)
        self.state = State()
        if found is None:
            self._draw_weights()
        self.optimizer = Optimizer(self.model, settings.optimizer)
        resumed = found is not None and "loader" in found.state  # an imported model has no step behind it
        if resumed:
            self._restore(found)
        elif found is not None:
            self.model.load_state_dict(found.model)
            say(f"starting from the imported weights of {self.facts['imported']}")
        runs.write(self.folder, self.facts, self.dataset.tokenizer())
        self.loader = Loader(
            self.dataset,
            planes=settings.planes,
            batch_rows=settings.batch_rows,
            seed=None if resumed else settings.seed,
            state=found.state["loader"] if resumed else None,
            prefetch=2,
        )
        self.target_size = max(self.loader.target_sizes)
        self.stepper = Stepper(self.model, self.optimizer, table_rows=settings.log_every)
        if self.machine.compile:
            mc.compile_parts(self.model)
        self._log = Log(self.folder, self.state.step)
        self._clock = Clock()
        self._rates: list[float] = []  # of the steps whose figures are still on the device
        self._last: StepStats | None = None
        self._stop = False

    def _draw_weights(self) -> None:
        """Draw the weights; the output bias starts as the logarithm of the unigram frequencies."""
        self.model.initialize(torch.Generator(self.machine.device).manual_seed(self.settings.seed))
        counts = unigram_counts(self.dataset) + 1.0
        bias = torch.full_like(self.model.decoder_bias, PADDED_BIAS)
        bias[: counts.size] = torch.from_numpy(np.log(counts / counts.sum())).to(bias)
        with torch.no_grad():
            self.model.decoder_bias.copy_(bias)

    def _restore(self, found: ck.Checkpoint) -> None:
        self.model.load_state_dict(found.model)
        self.optimizer.load_state(found.optimizer)
        self.state = State(**found.state["run"])
        torch.set_rng_state(torch.tensor(found.state["rng"], dtype=torch.uint8))
        self._say(f"resumed from step {found.step}")

    def _checkpoint(self) -> None:
        self._read_stats()
        checkpoint = ck.Checkpoint(
            step=self.state.step,
            model=self.model.state_dict(),
            optimizer=self.optimizer.state(),
            state={
                "run": vars(self.state),
                "loader": self.loader.state(),
                "rng": torch.get_rng_state().tolist(),
                "versions": self.facts["versions"],
            },
        )
        ck.save(self.folder, checkpoint)
        ck.prune(self.folder, keep=self.settings.keep, best=self.state.best and self.state.best["step"])

    # The number of steps.

    def _fixed_horizon(self) -> dict[str, int] | None:
        budget = self.settings.budget
        if budget.minutes is not None:
            return None
        total = budget.steps or max(1, round((budget.tokens or 0) / self.places_per_step))
        return {"total": total, "begin": decay_start(total, self.settings.schedule), "corrections": 0}

    def _decide_horizon(self) -> None:
        """Turn a budget in minutes into a number of steps; written down before any step depends on it."""
        minutes, step, horizon = self.settings.budget.minutes, self.state.step, self.facts["horizon"]
        if minutes is None or self._clock.counted < MEASURED_STEPS - 5:
            return
        left = max(1, int((minutes * 60 - self.state.seconds) / (OVERHEAD * (self._clock.seconds_per_step or 1.0))))
        if horizon is None:
            total = step + left
            self.facts["horizon"] = {
                "total": total,
                "begin": decay_start(total, self.settings.schedule),
                "corrections": 0,
            }
        elif not horizon["corrections"] and step == horizon["begin"]:
            self.facts["horizon"] = {"total": step + left, "begin": step, "corrections": 1}
        else:
            return
        runs.write(self.folder, self.facts)

    @property
    def _total(self) -> int:
        return self.facts["horizon"]["total"] if self.facts["horizon"] else UNDECIDED

    def _rate(self) -> float:
        begin = self.facts["horizon"]["begin"] if self.facts["horizon"] else UNDECIDED
        return factor(self.state.step, self._total, self.settings.schedule, begin=begin)

    # Training.

    def train(self) -> dict[str, Any]:
        settings, state = self.settings, self.state
        if self.machine.compile and state.step < self._total:
            self._say("compiling: about half a minute, the first time")
        with _on_sigterm(self._ask_to_stop):
            while state.step < self._total and not self._stop:
                batches = [Tensors.of(next(self.loader), self.machine.device) for _ in range(settings.accumulate)]
                self._rates.append(self._rate())
                self.stepper.run(batches, self._rates[-1])
                state.step += 1
                self._after_step()
            if state.step not in ck.steps(self.folder):
                self._checkpoint()
        if self._stop:
            self._say(f"stopped at step {state.step}: start it again to go on")
        self.loader.close()
        self._log.close()
        return {"stopped": self._stop, "total": self._total} | vars(state)

    def _after_step(self) -> None:
        settings, state = self.settings, self.state
        early = state.step <= MEASURED_STEPS
        if early or state.step % settings.log_every == 0:
            self._read_stats()
        state.seconds += self._clock.step()
        self._decide_horizon()
        last = state.step >= self._total
        if last or state.step % settings.evaluate_every == 0:
            self._evaluate()
        if last or early or state.step % settings.log_every == 0:
            self._show()
        if last or state.step % settings.checkpoint_every == 0:
            self._checkpoint()
        state.seconds += self._clock.other()

    def _read_stats(self) -> None:
        """Move the figures of the last steps from the device to the log."""
        stats = self.stepper.read()
        first = self.state.step - len(stats) + 1
        for number, (one, rate) in enumerate(zip(stats, self._rates, strict=True), start=first):
            self._log.step(number, one, rate)
            if one.skipped:
                self.state.skipped.append(number)
                self._say(f"step {number}: the gradient is not finite: skipped")
            self._last = one
        self._rates.clear()

    def _evaluate(self) -> None:
        self._read_stats()
        if self.dataset.num_rows(VALIDATION) == 0:
            return
        result = score(
            self.model,
            evaluation(self.dataset, self.settings.batch_rows),
            target_size=self.target_size,
            device=self.machine.device,
            max_rows=self.settings.evaluate_rows,
        )
        self.state.validation = {
            "step": self.state.step,
            "loss_sum": result.loss_sum,
            "hits": result.hits,
            "targets": result.targets,
        }
        if self.state.best is None or result.loss < self.state.best["loss"]:
            self.state.best = {"step": self.state.step, "loss": result.loss}
        self._log.validation(self.state.step, result)

    def _show(self) -> None:
        state, last = self.state, self._last
        per_step = self._clock.seconds_per_step
        total = self.facts["horizon"] and self._total
        seen = state.validation
        targets = max(1, last.targets) if last else 1
        self._watch(
            Progress(
                step=state.step,
                total=total,
                loss=last.loss_sum / targets if last else 0.0,
                accuracy=last.hits / targets if last else 0.0,
                validation=Score(**{name: seen[name] for name in ("loss_sum", "hits", "targets")}) if seen else None,
                rate=self._rate() if state.step < self._total else 0.0,
                tokens_per_second=self.places_per_step / per_step if per_step else None,
                seconds_left=(total - state.step) * per_step * OVERHEAD if total and per_step else None,
            )
        )

    def _ask_to_stop(self) -> None:
        self._stop = True


@contextmanager
def _on_sigterm(act: Callable[[], None]) -> Iterator[None]:
    """While inside, SIGTERM calls `act` instead of ending the process. Only in the main thread; else no change."""
    try:
        before = signal.signal(signal.SIGTERM, lambda *_: act())
    except ValueError:
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
