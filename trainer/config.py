"""What a training run is: frozen, checked settings, and the recipes as plain functions.

A run's settings come from three places, later ones win: a recipe (`tiny`, `small`, `base`, `large`, `adapt`), a YAML
file, and `--set field=value`. `resolve` joins them and raises one `ConfigError` with one line for all that is wrong.
"""

import difflib
import json
import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from mlm_data.config import Settings, apply_overrides, parse_settings, read_yaml
from mlm_data.errors import ConfigError


class ModelSettings(Settings):
    """The encoder's shape (ModernBERT, Warner et al. 2024, sec. 2.1 and table 4)."""

    layers: int = Field(default=4, ge=1, le=256)
    width: int = Field(default=256, ge=8)
    heads: int = Field(default=4, ge=1)
    intermediate: int = Field(default=512, ge=8)  # of GeGLU: its input matrix has twice as many rows
    global_every: int = Field(default=3, ge=1)  # layer i sees the whole segment iff i % global_every == 0
    window: int = Field(default=64, ge=1)  # the other layers see |i - j| <= window
    rope_theta: float = Field(default=160_000.0, gt=1)
    local_rope_theta: float = Field(default=10_000.0, gt=1)
    norm_eps: float = Field(default=1e-5, gt=0)

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
    muon_lr: float = Field(default=0.02, gt=0)
    muon_momentum: float = Field(default=0.95, ge=0, lt=1)
    muon_decay: float = Field(default=0.01, ge=0)
    lr: float = Field(default=3e-3, gt=0)  # AdamW's
    betas: tuple[Annotated[float, Field(ge=0, lt=1)], Annotated[float, Field(ge=0, lt=1)]] = (0.9, 0.98)
    eps: float = Field(default=1e-8, gt=0)
    decay: float = Field(default=0.01, ge=0)  # AdamW's, on matrices; norms, biases and embeddings have none
    clip: float = Field(default=1.0, gt=0)  # largest norm of the mean gradient


class ScheduleSettings(Settings):
    """Factor on the learning rates. wsd: warm-up, stable, decay over the last `decay_share` of the steps."""

    kind: Literal["wsd", "linear", "cosine"] = "wsd"
    shape: Literal["linear", "1-sqrt"] = "linear"  # of wsd's decay
    warmup_steps: int = Field(default=40, ge=0)
    decay_share: float = Field(default=0.5, ge=0, le=1)
    floor: float = Field(default=0.0, ge=0, lt=1)  # factor at the end


class BudgetSettings(Settings):
    """When training ends: exactly one of the three."""

    steps: int | None = Field(default=None, ge=1)
    tokens: float | None = Field(default=None, gt=0)  # token places
    minutes: float | None = Field(default=None, gt=0)  # steps follow from the speed measured in the first 20

    @model_validator(mode="after")
    def _one(self) -> "BudgetSettings":
        given = [name for name in ("steps", "tokens", "minutes") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"give exactly one of steps, tokens and minutes, got {', '.join(given) or 'none'}")
        return self


class MixSettings(Settings):
    """Another dataset to draw micro-batches from: same tokenizer, same length."""

    data: str
    weight: float = Field(default=1.0, gt=0)  # micro-batches for each one of `data`


class PhaseSettings(Settings):
    """What one phase changes; the rest is as in the run."""

    data: str
    tokens: float = Field(gt=0)  # token places
    planes: tuple[int, ...] | None = None
    batch_rows: int | None = Field(default=None, ge=1)
    rope_theta: float | None = Field(default=None, gt=1)
    lr_factor: float = Field(default=1.0, gt=0)  # on all learning rates
    schedule: Literal["constant", "decay"] | ScheduleSettings = "constant"  # decay: from the first step to the floor


class RunSettings(Settings):
    """One run, whole."""

    recipe: str = "tiny"
    data: str  # a dataset's folder, or folder@digest
    out: str
    planes: tuple[int, ...] | None = None  # default: all training planes in turn, epoch by epoch
    model: ModelSettings = ModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    schedule: ScheduleSettings = ScheduleSettings()
    budget: BudgetSettings
    batch_rows: int = Field(default=32, ge=1)  # rows of one micro-batch, of each rank
    accumulate: int | dict[int, int] = 1  # micro-batches per step; or a ramp, {0: 1, 200: 2}: from step 200 on two
    mix: tuple[MixSettings, ...] = ()  # more datasets; `data` itself has weight 1
    phases: tuple[PhaseSettings, ...] = ()  # one after the other, each with its own data and budget
    start: str | None = None  # begin with the weights and the optimizer's state of this run
    changed_data: Literal["refuse", "take"] = "refuse"  # `data` has another digest than before: take it from its start
    ema: float | None = Field(default=None, gt=0, lt=1)  # decay of an average of the weights, used to evaluate and fill
    seed: int = Field(default=0, ge=0, lt=2**63)
    parallel: Literal["auto", "ddp", "fsdp"] = "auto"  # with several ranks; auto: ddp
    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "float32", "bfloat16"] = "auto"  # of matrix products; auto: the faster
    compile: Literal["auto", "on", "off"] = "auto"  # auto: where a C++ compiler is there
    cuda_graphs: bool = False  # record forward and backward once, and replay them: one launch instead of hundreds
    recompute: bool = False  # activation checkpointing: a third more work, the memory of one block for that of all
    wandb: str | None = None  # project of Weights & Biases to log to besides; needs the package wandb
    deterministic: bool | None = None  # default: on CPUs yes, on GPUs no
    log_every: int = Field(default=20, ge=1)  # steps between two reads of the device's counters
    evaluate_every: int = Field(default=200, ge=1)
    evaluate_rows: int = Field(default=512, ge=1)  # of the validation split, at most, while training
    checkpoint_every: int = Field(default=200, ge=1)
    keep: int = Field(default=3, ge=1)  # checkpoints; the best by validation loss stays besides

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


def tiny() -> dict[str, Any]:
    """4 x 256: learns well in four minutes on two cores. Needs a vocabulary of about 8,192 and L = 128."""
    return {
        "model": {"layers": 4, "width": 256, "heads": 4, "intermediate": 512},
        "optimizer": {"kind": "muon"},
        "budget": {"minutes": 4.0},
        "batch_rows": 32,
    }


def small() -> dict[str, Any]:
    """6 x 256: half an hour to a day on a CPU."""
    return {
        "model": {"layers": 6, "width": 256, "heads": 4, "intermediate": 512},
        "optimizer": {"kind": "muon"},
        "budget": {"minutes": 20.0},
        "batch_rows": 16,
    }


def base() -> dict[str, Any]:
    """ModernBERT-base: 22 x 768, 149 million parameters with its vocabulary. Wants a GPU."""
    return {
        "model": {"layers": 22, "width": 768, "heads": 12, "intermediate": 1152},
        "optimizer": {"kind": "adamw", "lr": 8e-4, "decay": 1e-5, "eps": 1e-6},
        "schedule": {"shape": "1-sqrt", "decay_share": 0.1, "warmup_steps": 2000},
        "budget": {"tokens": 1e10},
        "batch_rows": 96,
        "log_every": 50,
        "checkpoint_every": 2000,
        "evaluate_every": 2000,
    }


def large() -> dict[str, Any]:
    """ModernBERT-large: 28 x 1024, 395 million parameters with its vocabulary. Wants several GPUs."""
    return base() | {
        "model": {"layers": 28, "width": 1024, "heads": 16, "intermediate": 2624},
        "optimizer": {"kind": "adamw", "lr": 5e-4, "decay": 1e-5, "eps": 1e-6},
        "batch_rows": 56,
    }


def adapt() -> dict[str, Any]:
    """Go on from an imported model on text of another kind, without forgetting the old. The default after `import`.

    The rates of training from scratch throw away what the model knows. On a toy model whose loss on its old text was
    5.10 nats, 120 steps on other text made it 6.43 at Muon's rate of 0.02, and 5.68 with AdamW at 2e-4. So AdamW alone,
    for Muon's updates have one size whatever the gradient; half of that rate, in the range that work on domains has
    used (Gururangan et al. 2020, sec. 3.1: up to 5e-4 with 2,048 texts a step; here steps are smaller); a warm-up,
    because an imported model comes without Adam's moments, and the first estimates of them are noise; and a line to
    zero. A larger `optimizer.lr` learns the new text faster and forgets more: evaluate on both.
    """
    return {
        "optimizer": {"kind": "adamw", "lr": 1e-4, "decay": 1e-5, "eps": 1e-6},
        "schedule": {"kind": "linear", "warmup_steps": 100},
        "budget": {"minutes": 20.0},
        "batch_rows": 16,
    }


RECIPES: dict[str, Callable[[], dict[str, Any]]] = {
    "tiny": tiny,
    "small": small,
    "base": base,
    "large": large,
    "adapt": adapt,
}


def recipe(name: str) -> dict[str, Any]:
    """A recipe's values by name.

    Raises:
        ConfigError: names the nearest known recipe.
    """
    if name not in RECIPES:
        nearest = difflib.get_close_matches(name, RECIPES, n=1, cutoff=0.4)
        hint = f"did you mean {nearest[0]!r}?" if nearest else f"known: {', '.join(RECIPES)}"
        raise ConfigError(f"unknown recipe {name!r}: {hint}")
    return {"recipe": name} | RECIPES[name]()


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
