"""What a training run is: frozen, checked settings, and where they come from.

A run's settings come from three places, later ones win: a recipe (`tiny`, `small`, `base`, `large`, `adapt`), a YAML
file, and `--set field=value`. `resolve` joins them and raises one `ConfigError` with one line for all that is wrong.
"""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlm_data.settings import Settings, apply_overrides, parse_settings, read_yaml
from trainer.recipes import recipe


class ModelSettings(Settings):
    """The encoder's shape (ModernBERT, Warner et al. 2024, sec. 2.1 and table 4)."""

    layers: int = Field(default=4, ge=1, le=256)
    """Blocks, one after the other. At most 256: a larger number is a slip."""

    width: int = Field(default=256, ge=8)
    """Numbers that stand for one token place, written D."""

    heads: int = Field(default=4, ge=1)
    """Attention heads. width / heads must be a multiple of 8, for the kernels' vectors; 64 is usual."""

    intermediate: int = Field(default=512, ge=8)
    """Width inside the feed-forward part (GeGLU). Its input matrix has twice as many rows."""

    global_every: int = Field(default=3, ge=1)
    """Layer i sees its whole segment if i mod this is 0; the others see a window. 3 is ModernBERT's."""

    window: int = Field(default=64, ge=1)
    """How many places to each side a local layer sees: |i - j| <= window. 64 is ModernBERT's."""

    rope_theta: float = Field(default=160_000.0, gt=1)
    """Base of the rotary positions in global layers. 160,000 is ModernBERT's, for rows of up to 8,192."""

    local_rope_theta: float = Field(default=10_000.0, gt=1)
    """Base of the rotary positions in local layers. 10,000 is ModernBERT's."""

    norm_eps: float = Field(default=1e-5, gt=0)
    """Added to the variance in each layer norm, so that nothing is divided by 0."""

    @model_validator(mode="after")
    def _divides(self) -> "ModelSettings":
        if self.width % self.heads or (self.width // self.heads) % 8:
            raise ValueError(
                f"width / heads must be a multiple of 8, got {self.width} / {self.heads}: "
                f"use heads={max(1, self.width // 64)}"
            )
        return self

    @property
    def head_dim(self) -> int:
        return self.width // self.heads


class OptimizerSettings(Settings):
    """Muon (Jordan et al. 2024) on the blocks' matrices and AdamW elsewhere, or AdamW alone."""

    kind: Literal["muon", "adamw"] = "muon"
    """`muon` takes the blocks' matrices and leaves the rest to AdamW; `adamw` takes all. Muon learns more in the same
    time on small models; the recipes for GPUs use AdamW."""

    muon_lr: float = Field(default=0.02, gt=0)
    """Muon's learning rate. 0.02 did better than 0.03 with 32 rows a step on the demo's model."""

    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    """Share of the old direction that each step of Muon keeps."""

    muon_decay: float = Field(default=0.01, ge=0)
    """Muon's weight decay, times its learning rate."""

    lr: float = Field(default=3e-3, gt=0)
    """AdamW's learning rate, for all that Muon does not take."""

    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    """AdamW's averages: of gradients, and of their squares. ModernBERT's."""

    eps: float = Field(default=1e-8, gt=0)
    """Added to AdamW's denominator, so that nothing is divided by 0."""

    decay: float = Field(default=0.01, ge=0)
    """AdamW's weight decay on matrices, times its learning rate. Norms, biases and embeddings have none."""

    clip: float = Field(default=1.0, gt=0)
    """Largest norm of the mean gradient; a larger one is scaled down to it. 1 is usual."""


class ScheduleSettings(Settings):
    """Factor on the learning rates. wsd: warm-up, stable, decay over the last `decay_share` of the steps."""

    kind: Literal["wsd", "linear", "cosine"] = "wsd"
    """How the factor on the learning rates goes: `wsd` is warm-up, stable, decay; `linear` and `cosine` fall from the
    warm-up on."""

    shape: Literal["linear", "1-sqrt"] = "linear"
    """Of the decay of `wsd`: along a line, or as 1 - sqrt(share done), as in ModernBERT."""

    warmup_steps: int = Field(default=40, ge=0)
    """Steps in which the factor rises from 0 to 1. 40 suits runs of minutes; the recipe `base` takes 2,000."""

    decay_share: float = Field(default=0.5, ge=0, le=1)
    """Share of all steps that the decay of `wsd` takes, at the end. Half suits runs of minutes; the recipe `base` takes
    0.1."""

    floor: float = Field(default=0.0, ge=0, lt=1)
    """The factor at the end."""


class BudgetSettings(Settings):
    """When training ends: exactly one of the three."""

    steps: int | None = Field(default=None, ge=1)
    """Train for so many steps."""

    tokens: float | None = Field(default=None, gt=0)
    """Train for so many token places, padding and special tokens included."""

    minutes: float | None = Field(default=None, gt=0)
    """Train for so many minutes; the number of steps follows from the speed of the first 20. Compilation does not
    count."""

    @model_validator(mode="after")
    def _one(self) -> "BudgetSettings":
        given = [name for name in ("steps", "tokens", "minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, tokens and minutes, got {', '.join(given) or 'none'}")
        return self


class MixSettings(Settings):
    """Another dataset to draw micro-batches from: same tokenizer, same length."""

    data: str
    """The other dataset's folder."""

    weight: float = Field(default=1.0, gt=0)
    """Micro-batches from here for each one of the run's own `data`."""


class PhaseSettings(Settings):
    """What one phase changes; the rest is as in the run."""

    data: str
    """The phase's dataset. Another sequence length than before is allowed."""

    tokens: float = Field(gt=0)
    """Token places that the phase trains for."""

    planes: tuple[int, ...] | None = None
    """Which planes to read, as in the run. None: all of them."""

    batch_rows: int | None = Field(default=None, ge=1)
    """Rows of a micro-batch. None: as in the run. Longer rows want fewer."""

    rope_theta: float | None = Field(default=None, gt=1)
    """Base of the rotary positions in global layers from here on. None: as in the run."""

    lr_factor: float = Field(default=1.0, gt=0)
    """Factor on all learning rates."""

    schedule: Literal["constant", "decay"] | ScheduleSettings = "constant"
    """`constant`, or `decay` from the first step to the floor, or a whole schedule."""


class RunSettings(Settings):
    """One run, whole."""

    recipe: str = "tiny"
    """The recipe that the other settings start from: `tiny`, `small`, `base`, `large` or `adapt`."""

    data: str
    """A dataset's folder; `folder@v1.2` or `folder@3f9a1c` for the version with this tag or digest."""

    out: str
    """The run's folder. Started again with the same folder, the run goes on."""

    planes: tuple[int, ...] | None = None
    """Which training planes to read, in this order, epoch by epoch. None: all in turn."""

    model: ModelSettings = ModelSettings()
    """The encoder's shape. That of an imported model wins over it."""

    optimizer: OptimizerSettings = OptimizerSettings()
    """What changes the weights."""

    schedule: ScheduleSettings = ScheduleSettings()
    """How the learning rates rise and fall."""

    budget: BudgetSettings
    """When training ends."""

    batch_rows: int = Field(default=32, ge=1)
    """Rows of one micro-batch, on each rank: what is in memory at once."""

    accumulate: int | dict[int, int] = 1
    """Micro-batches of one step. Or a ramp: `{0: 1, 200: 2}` means two from step 200 on."""

    mix: tuple[MixSettings, ...] = ()
    """More datasets to draw micro-batches from. The run's own `data` has weight 1."""

    phases: tuple[PhaseSettings, ...] = ()
    """Runs one after the other, each with its own data and budget; each begins where the one before ended."""

    start: str | None = None
    """Begin with the weights and the optimizer's state of this run."""

    changed_data: Literal["refuse", "take"] = "refuse"
    """What happens where `data` has another digest than when the run began: `refuse`, or `take` it from its first row.
    """

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Decay of a moving average of the weights, such as 0.999. The average is what is evaluated, filled with and
    exported. None: there is none."""

    seed: int = Field(default=0, ge=0, lt=2**63)
    """Of the first weights and the order of rows. Below 2^63, so that it is a signed 64-bit integer."""

    parallel: Literal["auto", "ddp", "fsdp"] = "auto"
    """How several ranks work together: `ddp` copies the model, `fsdp` shards it. `auto` is ddp."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where to train. `auto` takes a GPU if there is one."""

    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of matrix products. `auto` measures when the run begins and takes the faster, or what $PREMASK_PRECISION says."""

    compile: Literal["auto", "on", "off"] = "auto"
    """Whether torch compiles the model. `auto`: where a C++ compiler is there. Uncompiled it is slower."""

    cuda_graphs: bool = False
    """Record forward and backward once and replay them, on one GPU: one launch instead of hundreds. It helps small
    steps."""

    recompute: bool = False
    """Activation checkpointing: a third more work, and the memory of one block instead of all."""

    wandb: str | None = None
    """Project of Weights & Biases to log to besides. It needs the package wandb. None: not at all."""

    deterministic: bool | None = None
    """Whether two equal runs give equal bits on one machine. None: on CPUs yes, on GPUs no."""

    log_every: int = Field(default=20, ge=1)
    """Steps between two lines of the log. Reading the figures makes a GPU wait, so not each step."""

    evaluate_every: int = Field(default=200, ge=1)
    """Steps between two evaluations on the validation split."""

    evaluate_rows: int = Field(default=512, ge=1)
    """Rows of the validation split to evaluate on while training, at most. `premask-train eval` takes all."""

    checkpoint_every: int = Field(default=200, ge=1)
    """Steps between two checkpoints: what a crash may cost."""

    keep: int = Field(default=3, ge=1)
    """Newest checkpoints that stay on disk. The best one by validation loss stays besides."""

    @field_validator("out")
    @classmethod
    def _is_here(cls, value: str) -> str:
        if "://" in value:
            raise ValueError(f"must be a folder on this machine, got {value}")
        return value

    @field_validator("accumulate")
    @classmethod
    def _ramp(cls, value: int | dict[int, int]) -> int | dict[int, int]:
        ramp = value if isinstance(value, dict) else {0: value}
        if 0 not in ramp or min(ramp) < 0 or min(ramp.values()) < 1:
            raise ValueError(f"give a number, or a ramp that begins at step 0, such as {{0: 1, 200: 2}}, got {value}")
        return value

    def micro_batches(self, step: int) -> int:
        """Micro-batches of the step after `step` steps."""
        if isinstance(self.accumulate, int):
            return self.accumulate
        return self.accumulate[max(first for first in self.accumulate if first <= step)]

    def rows_at(self, step: int) -> int:
        """Rows of one rank in the step after `step` steps."""
        return self.batch_rows * self.micro_batches(step)

    def total_steps(self, length: int, *, world: int = 1) -> int | None:
        """Steps of the budget with rows of `length` on `world` ranks; None for a budget in minutes."""
        if self.budget.steps is not None or self.budget.minutes is not None:
            return self.budget.steps
        left = self.budget.tokens or 0
        borders = sorted(self.accumulate) if isinstance(self.accumulate, dict) else [0]
        for border, end in zip(borders, [*borders[1:], None], strict=True):
            places = self.rows_at(border) * world * length
            needed = math.ceil(left / places)
            if end is None or border + needed <= end:
                return border + needed
            left -= (end - border) * places
        raise AssertionError


def resolve(
    *,
    recipe_name: str | None = None,
    file: str | Path | None = None,
    values: Mapping[str, Any] | None = None,
    overrides: Iterable[str] = (),
    defaults: Mapping[str, Any] | None = None,
) -> RunSettings:
    """Join recipe, YAML file, plain values and overrides into one checked `RunSettings`.

    A budget of the user replaces the recipe's, whichever unit it is in. Where no recipe is named, it is that of the run
    which is in `out` already (after an import: `adapt`), else `tiny`.

    Raises:
        ConfigError: for an unknown recipe or field, or a value that can't be right.
    """
    chosen = read_yaml(file) if file is not None else {}
    chosen = apply_overrides(_merge(chosen, values or {}), overrides)
    name = recipe_name or chosen.get("recipe") or _recipe_of(chosen.get("out")) or "tiny"
    merged = _merge(dict(defaults or {}) | recipe(str(name)), chosen | {"recipe": name})
    if isinstance(chosen.get("budget"), dict) and chosen["budget"]:
        merged["budget"] = chosen["budget"]
    where = str(file) if file is not None else f"recipe {name}"
    return parse_settings(RunSettings, merged, where=where)


def _recipe_of(out: Any) -> str | None:
    """The recipe of the run in a folder; None where there is none, or it can't be read: who opens the run says so."""
    try:
        return json.loads((Path(out) / "run.json").read_bytes())["settings"]["recipe"]
    except (OSError, ValueError, TypeError, KeyError):
        return None


def phases_of(settings: RunSettings) -> list[RunSettings]:
    """The phases of a run as runs of their own, each beginning where the one before ended; without any, itself."""
    if not settings.phases:
        return [settings]
    runs = []
    for number, phase in enumerate(settings.phases):
        schedule = phase.schedule
        if not isinstance(schedule, ScheduleSettings):
            warm = settings.schedule.warmup_steps if number == 0 else 0
            shape = settings.schedule.model_dump() | {"warmup_steps": warm, "kind": "wsd"}
            share = 1.0 if schedule == "decay" else 0.0
            schedule = ScheduleSettings(**shape | {"decay_share": share})
        optimizer = settings.optimizer.model_copy(
            update={
                "lr": settings.optimizer.lr * phase.lr_factor,
                "muon_lr": settings.optimizer.muon_lr * phase.lr_factor,
            }
        )
        model = settings.model
        if phase.rope_theta is not None:
            model = model.model_copy(update={"rope_theta": phase.rope_theta})
        changes = {
            "data": phase.data,
            "out": f"{settings.out}/phase-{number}",
            "start": f"{settings.out}/phase-{number - 1}" if number else settings.start,
            "planes": phase.planes,
            "batch_rows": phase.batch_rows or settings.batch_rows,
            "budget": BudgetSettings(tokens=phase.tokens),
            "schedule": schedule,
            "optimizer": optimizer,
            "model": model,
            "phases": (),
        }
        runs.append(settings.model_copy(update=changes))
    return runs


def _merge(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    merged = dict(below)
    for key, value in above.items():
        inner = merged.get(key)
        merged[key] = _merge(inner, value) if isinstance(inner, dict) and isinstance(value, Mapping) else value
    return merged
