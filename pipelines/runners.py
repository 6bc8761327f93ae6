"""What is passed on to Beam: the runner, the workers, and every option that `premask` itself doesn't know."""

import argparse
import difflib
from collections.abc import Sequence
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions

from mlm_data.errors import ConfigError

# Named in full: `DirectRunner` would try to download another runner first.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"


def pipeline_options(beam_args: Sequence[str], *, workers: int) -> PipelineOptions:
    """Options of a pipeline: the local runner with threads, unless `beam_args` name another.

    Threads share one word table, and all that is slow releases the GIL.

    Raises:
        ConfigError: for an option that neither premask nor Beam knows.
    """
    check_beam_args(beam_args)
    args = list(beam_args)
    if not any(item == "--runner" or item.startswith("--runner=") for item in args):
        args.append(f"--runner={LOCAL_RUNNER}")
    named = {item.partition("=")[0] for item in args}
    if "--direct_num_workers" not in named:
        args.append(f"--direct_num_workers={workers}")
    if "--direct_running_mode" not in named:
        args.append(f"--direct_running_mode={'multi_threading' if workers > 1 else 'in_memory'}")
    return PipelineOptions(args)


def is_local(options: PipelineOptions) -> bool:
    """Whether the pipeline's workers live on this machine and under this process."""
    return options.view_as(StandardOptions).runner == LOCAL_RUNNER


def runs_nothing(options: PipelineOptions) -> bool:
    """Whether the runner was told only to check the pipeline (`--dry_run`) or to store it (`--template_location`)."""
    given = options.get_all_options(drop_default=True)
    return bool(given.get("dry_run") or given.get("template_location"))


def check_beam_args(beam_args: Sequence[str]) -> None:
    """Refuse options that nobody knows, instead of a warning that is easily missed."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    for kind in _all_subclasses(PipelineOptions):
        # Some classes declare the same option twice; argparse objects, and the first declaration is enough.
        try:
            kind._add_argparse_args(parser)
        except argparse.ArgumentError:
            continue
    _, unknown = parser.parse_known_args(list(beam_args))
    for item in unknown:
        name = item.partition("=")[0]
        if name.startswith("-"):
            known = [option for action in parser._actions for option in action.option_strings]
            nearest = difflib.get_close_matches(name, [*known, "--workers", "--sample", "--set"], n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"{name}: neither premask nor Beam has this option{hint}")
    if unknown:
        raise ConfigError(f"{unknown[0]}: unexpected argument: `premask build` takes one configuration file")


def _all_subclasses(kind: Any) -> list[Any]:
    found: list[Any] = [kind] if "_add_argparse_args" in vars(kind) else []
    for child in kind.__subclasses__():
        found += _all_subclasses(child)
    return found
