"""The budget of the cache: what a build leaves in `work/` for the next one.

    before    where `cache.max_bytes` is set, and more is there: what was used longest ago goes, but none of the units
              of the plan. So a build that goes on after a crash finds all that it has made.
    after     `cache.max_bytes` holds for everything, this build's units included; without it as much may stay as
              this build has used, and once more.

While it runs, a build keeps what it has made, so at its peak `work/` holds the budget and what this build makes: 0.9
bytes for a byte of raw text, and 0.1 more where near duplicates are looked for.
"""

from collections.abc import Sequence

from mlm_data.build import cache
from mlm_data.build.context import Context
from mlm_data.build.prepare import key_parts, unit_key
from mlm_data.types import Unit


def make_room(units: Sequence[Unit], context: Context) -> None:
    """Before a build: keep the budget, if there is one."""
    limit = context.config.cache.max_bytes
    if limit is None or context.config.is_surveyed:  # then a unit's key is known only when all texts were looked at
        return
    if sum(entry.num_bytes for entry in cache.entries(context.work)) > limit:
        keys = {unit_key(key_parts(unit, context)) for unit in units}
        cache.evict(context.work, limit, keep=keys)


def tidy(context: Context) -> None:
    """After a build that has published, while its sign is still there."""
    limit = context.config.cache.max_bytes
    if limit is not None:
        cache.evict(context.work, limit, besides=context.run)
        return
    start = context.work.changed(cache.sign(context.run))
    used = sum(entry.num_bytes for entry in cache.entries(context.work) if entry.used >= start)
    cache.evict(context.work, 2 * used)
