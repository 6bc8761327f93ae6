"""How often a document that stays is in the dataset: weights of inputs, and shares that `mixing` evens out.

A weight of 2.5 means two copies of each document and a third of every other one, chosen by its hash; 0.3 keeps three of
ten. Copies have numbers, so that each has masks of its own; they share the document's side of the split.

Mixing. Groups of n_g tokens get shares in proportion to n_g ** temperature; mmBERT (Marone et al. 2025) anneals the
temperature. Shares say nothing of a sum, so this one is kept: as many tokens as before. A group is repeated at most
`max_repeats` times; what it can't give, the others give in proportion.

    n = 900, 100    temperature 0.5: shares 0.75, 0.25 of 1,000    weights 0.833, 2.5
"""

from collections.abc import Mapping

import numpy as np
import pyarrow as pa
from jaxtyping import Int64, Integer

from mlm_data import seeds
from mlm_data.build.context import Context
from mlm_data.build.curate import languages_of
from mlm_data.build.prepare import document_ids
from mlm_data.build.records import PreparedUnit
from mlm_data.build.select import input_numbers
from mlm_data.config import BuildConfig, MixingSettings
from mlm_data.kernels import kernel
from mlm_data.stores.places import public

BILLION = 1_000_000_000  # weights are compared in billionths


def input_names(config: BuildConfig) -> tuple[str, ...]:
    """How inputs are called: by `name`, else by the end of the path; with a number where two would be the same."""
    names: list[str] = []
    for item in config.inputs:
        name = item.name or "/".join(public(item.path).rstrip("/").rsplit("/", 2)[-2:])
        names.append(name if name not in names else f"{name} ({len(names)})")
    return tuple(names)


def repeats(
    table: pa.Table,
    kept: Int64[np.ndarray, " kept"],
    copy: Int64[np.ndarray, " documents"],
    prepared: PreparedUnit,
    context: Context,
    weights: Mapping[str, float],
) -> tuple[Int64[np.ndarray, " kept"], int]:
    """(how often each of the kept documents of a unit is in the dataset, the most that any document can be)."""
    config = context.config
    own = np.array([item.weight for item in config.inputs])
    most = most_copies(config, weights)
    if (own == 1).all() and not weights:
        return np.ones(len(kept), np.int64), 1
    weight = own[input_numbers(table, prepared)[kept]]
    if config.mixing is not None and weights:
        names, codes = groups(table, prepared, context)
        weight = weight * np.array([weights.get(name, np.nan) for name in names])[codes[kept]]
        assert not np.isnan(weight).any(), "every group of a document that stays has a weight"
    units = np.round(weight * BILLION).astype(np.int64)
    key = np.uint64(seeds.fold(np.uint64(config.seed), seeds.WEIGHT))
    times = np.empty(len(kept), np.int64)
    _repeat(document_ids(table)[kept], copy[kept], units, key, times)
    return times, most


def most_copies(config: BuildConfig, weights: Mapping[str, float]) -> int:
    """How often a document can be in the dataset."""
    return int(np.ceil(max(item.weight for item in config.inputs) * max([1.0, *weights.values()])))


def groups(
    table: pa.Table, prepared: PreparedUnit, context: Context
) -> tuple[tuple[str, ...], Integer[np.ndarray, " documents"]]:
    """(names of the groups that `mixing` evens out, the place of each document's one in them): languages or inputs."""
    if context.config.mixing is not None and context.config.mixing.by == "language":
        return languages_of(context.config), table.column("language").to_numpy()
    return input_names(context.config), input_numbers(table, prepared)


def mix(tokens: Mapping[str, int], settings: MixingSettings) -> dict[str, float]:
    """The weight of each group, from the tokens that it has.

    >>> {name: round(weight, 3) for name, weight in mix({"en": 900, "de": 100}, MixingSettings()).items()}
    {'de': 2.5, 'en': 0.833}
    """
    left = {name: count for name, count in sorted(tokens.items()) if count}
    total = float(sum(left.values()))
    weights: dict[str, float] = {}
    while left:
        powers = {name: float(count) ** settings.temperature for name, count in left.items()}
        scale = total / sum(powers.values())
        found = {name: scale * powers[name] / count for name, count in left.items()}
        over = [name for name, weight in found.items() if weight > settings.max_repeats]
        if not over:
            weights |= found
            break
        for name in over:
            weights[name] = settings.max_repeats
            total -= settings.max_repeats * left.pop(name)
        if total <= 0:
            weights |= dict.fromkeys(left, 0.0)
            break
    return {name: round(weight, 9) for name, weight in sorted(weights.items())}


@kernel
def _repeat(ids, copies, units, key, times):
    """Whole copies, and one more where the document's draw is below the fraction."""
    for i in range(len(units)):
        whole = units[i] // BILLION
        rest = units[i] - whole * BILLION
        draw = seeds.draw(seeds.fold(key, ids[i, 0]), np.uint64(copies[i]))
        chance = seeds.below(draw, np.uint64(BILLION))
        times[i] = whole + (np.int64(chance) < rest)
