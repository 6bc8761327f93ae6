"""The recipes: settings to start from, as plain functions, and the one by a name."""

import difflib
from collections.abc import Callable
from typing import Any

from mlm_data.errors import ConfigError


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
