"""What the commands that make versions from versions show."""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mlm_data.dataset.manifest import Manifest

if TYPE_CHECKING:
    from mlm_data.dataset.dataset import Dataset


def open_parent(location: str) -> "tuple[Dataset, str | None]":
    """The version to work from, and the one that is current as it is chosen; None: LATEST is gone.

    What is asked later may be a newer one: it would be taken for what the new version was made from, and be undone.
    """
    from mlm_data.dataset.dataset import Dataset
    from mlm_data.dataset.manifest import latest
    from mlm_data.dataset.names import find_version

    folder, digest = find_version(location)
    current = latest(folder)
    return Dataset.open(folder, digest or current), current


@contextlib.contextmanager
def progress_bar(verb: str, what: str = "shards") -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; yields a function to be told (shards done, all shards), or of whatever it counts."""
    from rich.progress import BarColumn, Progress, TextColumn

    from mlm_data.console import Terminal

    columns = TextColumn(verb), BarColumn(), TextColumn("{task.completed} of {task.total} " + what)
    terminal = Terminal(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bars:
        task = bars.add_task("", total=None)
        yield lambda done, total: bars.update(task, completed=done, total=total)


def say_version(
    parent: Manifest,
    manifest: Manifest,
    location: str,
    *,
    current: str | None,
    as_json: bool,
    more: Mapping[str, Any] = {},
) -> None:
    """Which version there is now, and what it holds; `current` is the one before, `more` is for the JSON alone."""
    from mlm_data.console import Terminal, counted, shown

    terminal, masks = Terminal(), manifest.config["mask"]
    if as_json:
        terminal.data(
            {
                "digest": manifest.digest,
                "parent": parent.digest,
                "is_new": manifest.digest != parent.digest,
                "sequence_length": manifest.sequence_length,
                "rows": {split: facts["num_rows"] for split, facts in manifest.splits.items()},
                "mask": dict(masks),
                **more,
            }
        )
        return
    if manifest.digest == parent.digest:
        terminal.say(f"{shown(location)}: nothing would change: this is version {manifest.digest[:16]} already")
        if current not in {None, manifest.digest}:
            terminal.say(f"it is the current version now, instead of {current[:16]}")
        return
    rates = sorted(set(masks["rate"]), reverse=True)
    terminal.say(f"digest {manifest.digest}", style="bold")
    terminal.say(
        f"rows of {manifest.sequence_length}: {manifest.splits['train']['num_rows']:,} for training, "
        f"{manifest.splits['validation']['num_rows']:,} for validation; {counted(manifest.num_planes, 'plane')}: "
        f"{masks['kind']}, rates {', '.join(f'{rate:g}' for rate in rates)}"
    )
    terminal.say(f"made from {parent.digest[:16]}, which stays readable")


def say_overtaken(digest: str, location: str) -> None:
    """That another command has published while this one worked from no version, and is not the current one now."""
    from mlm_data.console import Terminal, shown

    Terminal().say(
        f"another command has published {digest[:16]} there meanwhile; LATEST names this one now: read the other as "
        f"{shown(location)}@{digest[:16]}"
    )
