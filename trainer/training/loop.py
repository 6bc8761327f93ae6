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
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import nn

from mlm_data.loading.loader import evaluation
from mlm_data.shards.format import TRAIN, VALIDATION
from trainer.config import RunSettings, phases_of
from trainer.model.encoder import PADDED_BIAS
from trainer.studies.arithmetic import peak_of, step_flops
from trainer.studies.evaluate import Score, score
from trainer.training import checkpoint as ck
from trainer.training import graphs, runs
from trainer.training import machine as mc
from trainer.training import parallel as pl
from trainer.training.data import Stream, Tensors, check_rows, check_vocabulary, open_dataset, unigram_counts
from trainer.training.optim import Average, Optimizer
from trainer.training.runlog import COMPILE_STEPS, Clock, Log, Spikes
from trainer.training.schedule import decay_start, factor
from trainer.training.step import Forward, Stepper, StepStats

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
    rate: float  # learning rate: Muon's where there is one, else AdamW's
    tokens_per_second: float | None
    seconds_left: float | None
    mfu: float | None = None  # useful operations by the GPU's stated peak, or by the CPU's measured one


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

    With phases, every phase is a run in a folder of its own, RUN/phase-0, RUN/phase-1, ..., that begins with the
    weights and the optimizer's state of the phase before; those that are finished are passed over.

    Raises:
        PremaskError: for anything a user can mend.
    """
    with pl.joined(settings) as parallel:
        if not parallel.leads:
            say, watch = (lambda _: None), (lambda _: None)
        result: dict[str, Any] = {}
        for number, phase in enumerate(phases_of(runs.with_import(settings))):
            if settings.phases:
                say(f"phase {number}: {phase.data}")
            result = _Run(phase, parallel, say=say, watch=watch).train()
            if result["stopped"]:
                break
        return result


class _Run:
    def __init__(
        self,
        settings: RunSettings,
        parallel: pl.Parallel,
        *,
        say: Callable[[str], None],
        watch: Callable[[Progress], None],
    ) -> None:
        self.settings, self.parallel, self._say, self._watch = settings, parallel, say, watch
        self.folder = Path(settings.out)
        self.dataset = open_dataset(settings.data)
        check_rows(self.dataset, settings.batch_rows * parallel.world)
        check_vocabulary(self.dataset)
        self.facts = runs.begin(self.folder, settings, self.dataset, world=parallel.world)
        parallel.wait()  # until all have looked, before one writes
        if self.facts["horizon"] is None:
            self.facts["horizon"] = self._fixed_horizon()
        self.machine = mc.choose(settings, precision=self.facts["precision"], parallel=parallel)
        self.facts["precision"] = str(self.machine.precision).removeprefix("torch.")
        graphs.check(settings, self.machine.device, parallel.world)
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
        self.model.recompute = settings.recompute
        found, notes = ck.latest(self.folder)
        for note in notes:
            say(note)
        resumed = found if found and "loader" in found.state else None  # an imported model has no step behind it
        if resumed:
            runs.load_weights(self.model, resumed.model, where=self.folder)
        begun_from = resumed or self._begin(found)
        if self.machine.compile:
            mc.compile_parts(self.model)
        forward = pl.wrap(Forward(self.model), self.model.blocks, parallel)
        self.optimizer = Optimizer(self.model, settings.optimizer, parallel)
        self.average = Average(self.optimizer.parameters, settings.ema, self.optimizer) if settings.ema else None
        if begun_from is not None and "run" in begun_from.state:
            self.optimizer.load_state(begun_from.optimizer)
            if self.average:
                self.average.load_state(begun_from.optimizer)
        self.state = State()
        if resumed:
            self.state = State(**resumed.state["run"])
            torch.set_rng_state(torch.tensor(resumed.state["rng"], dtype=torch.uint8))
            say(f"resumed from step {resumed.step}")
        place = resumed.state["loader"] if resumed else None
        if self.facts.get("former") and (place is None or place[0]["digest"] != self.dataset.digest):
            done = resumed.step if resumed else 0
            self.facts["former"][-1]["until"] = done
            say(f"from step {done + 1} on with dataset {self.dataset.digest[:16]}, from its beginning")
            place = None
        on_gpu = self.machine.device.type == "cuda"
        self.stream = Stream(self.dataset, settings, state=place, parallel=parallel, short=on_gpu)
        self.facts["mix"] = self.stream.digests[1:]
        if parallel.leads:
            runs.write(self.folder, self.facts, self.dataset.tokenizer())
        kind = graphs.GraphStepper if settings.cuda_graphs else Stepper
        self.stepper = kind(forward, self.optimizer, table_rows=settings.log_every, parallel=parallel)
        self._validate = cast(nn.Module, forward.module) if parallel.kind == "ddp" else forward
        self._saver = ck.Saver()
        self._saved = self.state.step if resumed else None  # step of the newest checkpoint; the same on all ranks
        self._log = Log(self.folder, self.state.step, wandb=settings.wandb) if parallel.leads else None
        self._clock = Clock()
        self._spikes = Spikes()
        self._rates: list[float] = []  # of the steps whose figures are still on the device
        self._last: StepStats | None = None
        self._asked = self._stop = False

    def _begin(self, imported: ck.Checkpoint | None) -> ck.Checkpoint | None:
        """First weights: drawn, imported, or those at the end of another run, which comes back with its state."""
        other = None
        if imported is not None:
            source = imported
            self._say(f"starting from the imported weights of {self.facts['imported']}")
        elif self.settings.start is not None:
            source = other = runs.last_checkpoint(Path(self.settings.start), self.facts["tokenizer"])
            self._say(f"starting from {self.settings.start}, step {other.step}")
        else:
            self._draw_weights()
            return None
        runs.load_weights(self.model, source.model, where=self.folder)
        return other

    def _draw_weights(self) -> None:
        """Draw the weights; the output bias starts as the logarithm of the unigram frequencies."""
        self.model.initialize(torch.Generator(self.machine.device).manual_seed(self.settings.seed))
        counts = unigram_counts(self.dataset) + 1.0
        bias = torch.full_like(self.model.decoder_bias, PADDED_BIAS)
        bias[: counts.size] = torch.from_numpy(np.log(counts / counts.sum())).to(bias)
        with torch.no_grad():
            self.model.decoder_bias.copy_(bias)

    def _checkpoint(self) -> None:
        self._read_stats()
        self._saved = self.state.step
        seen, best = self.state.validation, self.state.best
        if seen and seen["step"] == self.state.step:  # the best of those that are kept, so of those with a checkpoint
            loss = seen["loss_sum"] / max(1, seen["targets"])
            if best is None or loss < best["loss"]:
                self.state.best = {"step": self.state.step, "loss": loss}
        optimizer = self.optimizer.state()
        if self.average:
            optimizer |= self.average.state()
        model = pl.whole(dict(self.model.named_parameters()))
        if not self.parallel.leads:
            return
        checkpoint = ck.Checkpoint(
            step=self.state.step,
            model=model,
            optimizer=optimizer,
            state={
                "run": dict(vars(self.state)),
                "loader": self.stream.state(),
                "rng": torch.get_rng_state().tolist(),
                "settings": self.settings.model_dump(mode="json"),
                "versions": self.facts["versions"],
            },
        )
        best_step = self.state.best["step"] if self.state.best else None
        self._saver.save(self.folder, checkpoint, keep=self.settings.keep, best=best_step)

    # The number of steps.

    def _fixed_horizon(self) -> dict[str, int] | None:
        total = self.settings.total_steps(self.dataset.manifest.sequence_length, world=self.parallel.world)
        if total is None:
            return None
        return {"total": total, "begin": decay_start(total, self.settings.schedule), "corrections": 0, "since": 0}

    def _decide_horizon(self) -> None:
        """Turn a budget in minutes into a number of steps; written down before any step depends on it."""
        minutes, step, horizon = self.settings.budget.minutes, self.state.step, self.facts["horizon"]
        if minutes is None or self._clock.counted < MEASURED_STEPS - COMPILE_STEPS:
            return
        since = horizon.get("since", 0) if horizon else step
        correct = horizon is not None and not horizon["corrections"] and since < step == horizon["begin"]
        if horizon is not None and not correct:
            return
        per_step = self.parallel.largest(self._clock.seconds_per_step or 1.0, self.machine.device)
        seconds = self.parallel.largest(self.state.seconds, self.machine.device)
        total = step + max(1, int((minutes * 60 - seconds) / (OVERHEAD * per_step)))
        begin = step if correct else decay_start(total, self.settings.schedule)
        self.facts["horizon"] = {"total": total, "begin": begin, "corrections": int(correct), "since": since}
        if self.parallel.leads:
            runs.write(self.folder, self.facts)

    @property
    def _total(self) -> int:
        return self.facts["horizon"]["total"] if self.facts["horizon"] else UNDECIDED

    def _rate(self, step: int) -> float:
        horizon = self.facts["horizon"]
        if horizon is None or step < horizon.get("since", 0):  # not decided yet when this step was first run
            return factor(step, UNDECIDED, self.settings.schedule, begin=UNDECIDED)
        return factor(step, horizon["total"], self.settings.schedule, begin=horizon["begin"])

    # Training.

    def train(self) -> dict[str, Any]:
        """Steps until the end, or until SIGTERM; see the module's docstring."""
        settings, state = self.settings, self.state
        if self.machine.compile and state.step < self._total:
            self._say("compiling: about half a minute, the first time")
        try:
            with _on_sigterm(self._ask_to_stop):
                while state.step < self._total and not self._stops():
                    count = settings.micro_batches(state.step)
                    batches = [Tensors.of(self.stream.next(), self.machine.device) for _ in range(count)]
                    self._rates.append(self._rate(state.step))
                    self.stepper.run(batches, self._rates[-1])
                    if self.average:
                        self.average.update(self.stepper.last_skip)
                    state.step += 1
                    self._after_step()
                if state.step != self._saved:
                    self._checkpoint()
        finally:
            self._saver.wait()
            self.stream.close()
            if self._log:
                self._log.close()
        self.parallel.wait()
        if self._stop:
            self._say(f"stopped at step {state.step}: start it again to go on")
        return {"stopped": self._stop, "total": self._total} | vars(state)

    def _stops(self) -> bool:
        """Whether a rank was asked to stop; ranks agree where they read figures anyway."""
        if self.parallel.world == 1:
            self._stop = self._asked
        elif self._early() or self.state.step % self.settings.log_every == 0:
            self._stop = self.parallel.largest(float(self._asked), self.machine.device) > 0
        return self._stop

    def _early(self) -> bool:
        return self.state.step <= MEASURED_STEPS

    def _after_step(self) -> None:
        settings, state = self.settings, self.state
        early = self._early()
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
            if self._log:
                self._log.step(number, one, rate)
            if one.skipped:
                self.state.skipped.append(number)
                self._say(f"step {number}: the gradient is not finite: skipped")
            elif self._spikes.sees(one.loss_sum / max(1, one.targets)):
                self._say(f"step {number}: the loss jumped: see premask-train which-docs {self.folder} {number}")
            self._last = one
        self._rates.clear()

    def _evaluate(self) -> None:
        self._read_stats()
        if self.dataset.num_rows(VALIDATION) == 0:
            return
        ranks = {"rank": self.parallel.rank, "world_size": self.parallel.world}
        with self.average.applied() if self.average else nullcontext():
            result = score(
                self._validate,
                evaluation(self.dataset, self.settings.batch_rows, **ranks),
                target_size=self.stream.target_size,
                device=self.machine.device,
                max_rows=self.settings.evaluate_rows,
                parallel=self.parallel,
            )
        sums = {"loss_sum": result.loss_sum, "hits": result.hits, "targets": result.targets}
        self.state.validation = {"step": self.state.step, **sums}
        if self._log:
            self._log.validation(self.state.step, result)

    def _show(self) -> None:
        state, last = self.state, self._last
        per_step = self._clock.seconds_per_step
        total = self.facts["horizon"] and self._total
        seen = state.validation
        targets = max(1, last.targets) if last else 1
        rows = self.settings.rows_at(max(0, state.step - 1)) * self.parallel.world
        places = rows * self.dataset.manifest.sequence_length
        self._watch(
            Progress(
                step=state.step,
                total=total,
                loss=last.loss_sum / targets if last else 0.0,
                accuracy=last.hits / targets if last else 0.0,
                validation=Score(**{name: seen[name] for name in ("loss_sum", "hits", "targets")}) if seen else None,
                rate=self._base_rate * self._rate(max(0, state.step - 1)),
                tokens_per_second=places / per_step if per_step else None,
                seconds_left=(total - state.step) * per_step * OVERHEAD if total and per_step else None,
                mfu=self._mfu(targets, per_step) if per_step else None,
            )
        )

    def _mfu(self, targets: int, seconds: float) -> float | None:
        """Share of the peak, where that is known; rows count as one segment of their mean length."""
        if self._peak is None:
            return None
        manifest = self.dataset.manifest
        facts = manifest.splits[TRAIN]
        per_row = max(1, round(facts["num_segments"] / facts["num_rows"]))
        mean = round(facts["num_tokens"] / facts["num_rows"] / per_row)
        rows = self.settings.rows_at(max(0, self.state.step - 1))
        numbers = {"vocab_size": manifest.vocab_size, "targets": targets // self.parallel.world}
        flops = step_flops(self.model.shape, lengths=[mean] * (per_row * rows), **numbers)
        return sum(flops.values()) / seconds / self._peak

    @cached_property
    def _peak(self) -> float | None:
        """Operations per second: of a GPU what its maker states, of a CPU what its matrix products reach."""
        device = self.machine.device
        if device.type != "cuda":
            return mc.measured_peak(self.machine.precision, device)
        stated = peak_of(torch.cuda.get_device_name(device))
        return stated.flops if stated else None

    @property
    def _base_rate(self) -> float:
        optimizer = self.settings.optimizer
        return optimizer.muon_lr if optimizer.kind == "muon" else optimizer.lr

    def _ask_to_stop(self) -> None:
        self._asked = True  # may come at any moment, also while ranks agree


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
