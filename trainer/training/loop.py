"""A run: train, evaluate, checkpoint, stop. How it begins is in begin.py.

    RUN/run.json            what the run is: see record.py
    RUN/tokenizer.json      the dataset's
    RUN/log.jsonl           a line for every step, and one for every validation
    RUN/tensorboard/        the same for TensorBoard
    RUN/checkpoints/        see checkpoint.py

Everything that a step depends on is in its checkpoint or in run.json, so a run that is killed and started again goes
through the same losses, bit for bit, on the same machine: with a budget in minutes too (horizon.py). Within a process
a kernel is there or not from first to last; a run that is resumed with other kernels than it had says so.
"""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, cast

import torch
from torch import nn

from mlm_data.errors import ConfigError
from mlm_data.loading.loader import evaluation
from mlm_data.shards.format import TRAIN, VALIDATION
from trainer.config import RunSettings, phases_of
from trainer.model.arithmetic import peak_of, step_flops
from trainer.training import checkpoint as ck
from trainer.training import machine as mc
from trainer.training import parallel as pl
from trainer.training import runs
from trainer.training.agree import with_import
from trainer.training.begin import Begun, begin
from trainer.training.clock import COMPILE_STEPS, Clock
from trainer.training.data import Tensors
from trainer.training.horizon import OVERHEAD, UNDECIDED, decide, must_decide, rate_at
from trainer.training.record import exists, without_secrets, write
from trainer.training.runlog import Log, Spikes
from trainer.training.score import Score, score
from trainer.training.step import StepStats

MEASURED_STEPS = 20  # after which a budget in minutes becomes a number of steps


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
        phases = phases_of(with_import(settings))
        for number, phase in enumerate(phases):
            if settings.phases:
                say(f"phase {number}: {phase.data}")
            followed = number + 1 < len(phases) and exists(Path(phases[number + 1].out))
            with _enough_memory(phase):
                begun = begin(phase, parallel, say=say, followed=followed)
                result = _Run(phase, parallel, begun, say=say, watch=watch).train()
            if result["stopped"]:
                break
        return result


class _Run:
    def __init__(
        self,
        settings: RunSettings,
        parallel: pl.Parallel,
        begun: Begun,
        *,
        say: Callable[[str], None],
        watch: Callable[[Progress], None],
    ) -> None:
        self.settings, self.parallel, self._say, self._watch = settings, parallel, say, watch
        self.folder, self.dataset, self.machine = begun.folder, begun.dataset, begun.machine
        self.record, self.state = begun.record, begun.state
        self.model, self.optimizer, self.average = begun.model, begun.optimizer, begun.average
        self.stream, self.stepper = begun.stream, begun.stepper
        self._validate = cast(nn.Module, begun.forward.module) if parallel.kind == "ddp" else begun.forward
        self._saver = ck.Saver()
        self._saved = begun.saved
        self._log = Log(self.folder, self.state.step, wandb=settings.wandb) if parallel.leads else None
        self._clock = Clock()
        self._spikes = Spikes()
        self._rates: list[float] = []  # of the steps whose figures are still on the device
        self._last: StepStats | None = None
        self._asked = self._stop = False

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
                "settings": without_secrets(self.settings.model_dump(mode="json")),
                "versions": self.record.versions,
                "kernels": runs.computed_with(self.model),
            },
        )
        best_step = self.state.best["step"] if self.state.best else None
        self._saver.save(self.folder, checkpoint, keep=self.settings.keep, best=best_step)

    # The number of steps: see horizon.py.

    def _decide_horizon(self) -> None:
        """Turn a budget in minutes into a number of steps; written down before any step depends on it."""
        minutes, step, horizon = self.settings.budget.minutes, self.state.step, self.record.horizon
        if minutes is None or self._clock.counted < MEASURED_STEPS - COMPILE_STEPS or not must_decide(horizon, step):
            return
        per_step = self.parallel.largest(self._clock.seconds_per_step or 1.0, self.machine.device)
        seconds = self.parallel.largest(self.state.seconds, self.machine.device)
        times = {"seconds_left": minutes * 60 - seconds, "seconds_per_step": per_step}
        horizon = decide(horizon, step, **times, schedule=self.settings.schedule)
        self.record = self.record.model_copy(update={"horizon": horizon})
        if self.parallel.leads:
            write(self.folder, self.record)

    @property
    def _total(self) -> int:
        return self.record.horizon.total if self.record.horizon else UNDECIDED

    def _rate(self, step: int) -> float:
        return rate_at(self.record.horizon, step, self.settings.schedule)

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
        total = self._total if self.record.horizon else None
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
            return _reached(self.machine.precision, device)
        stated = peak_of(torch.cuda.get_device_name(device))
        return stated.flops if stated else None

    @property
    def _base_rate(self) -> float:
        optimizer = self.settings.optimizer
        return optimizer.muon_lr if optimizer.kind == "muon" else optimizer.lr

    def _ask_to_stop(self) -> None:
        self._asked = True  # may come at any moment, also while ranks agree


@cache
def _reached(precision: torch.dtype, device: torch.device) -> float:
    """What a CPU's products reach, measured once a process: it takes a second."""
    return mc.measured_peak(precision, device)


@contextmanager
def _enough_memory(settings: RunSettings) -> Iterator[None]:
    """Say what helps where the device's memory is full."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        fewer = max(1, settings.batch_rows // 2)
        raise ConfigError(
            f"batch_rows={settings.batch_rows}: the device's memory is full: use batch_rows={fewer} with twice the "
            "accumulate, or recompute=true"
        ) from error


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
