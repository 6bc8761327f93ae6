"""Where a pipeline runs: what is chosen of the table of runners, and what is checked before anything moves.

    premask build premask.yaml --workers 8                               local: threads of this process
    ... --runner dask --scheduler tcp://host:8786                        a Dask cluster; without --scheduler a local one
    ... --runner flink --flink_master host:8081                          through Beam's job server, which is Java
    ... --runner spark --spark_master_url spark://host:7077              PySpark
    ... --runner portable --job_endpoint host:8099                       any job server of Beam's
    ... --runner dataflow --project P --region R --temp_location gs://bucket/tmp

What `premask` itself doesn't know is an option of Beam's. Two options are ours: `--scheduler`, and `--shared_disk`,
which says that all workers see the same folders as this machine.
"""

import argparse
import contextlib
import difflib
import importlib
import importlib.util
import re
import shutil
import socket
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, SetupOptions

from mlm_data.command import num_cores
from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError, PremaskError
from pipelines.runner_table import RUNNERS, Given, Runner, host_of

CONNECT_SECONDS = 5


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """A runner with its options."""

    runner: Runner
    given: Given  # all options, defaults of ours among them
    options: PipelineOptions
    says_shared: bool  # --shared_disk

    @property
    def num_workers(self) -> int:
        """Threads or processes that were asked for; 0 where nobody knows, as with those of a cluster."""
        given = self.given.get(self.runner.workers, "")
        return int(given) if given.isdecimal() else 0

    @property
    def runs_nothing(self) -> bool:
        """Whether it was told only to check the pipeline (`--dry_run`) or to store it (`--template_location`)."""
        found = self.options.get_all_options(drop_default=True)
        return bool(found.get("dry_run") or found.get("template_location"))


def choose(beam_args: Sequence[str], *, workers: int) -> Chosen:
    """The runner that options name, `local` if none, with all of its options.

    Args:
        beam_args: what the command itself doesn't know.
        workers: threads or processes, where they are on this machine.

    Raises:
        ConfigError: an unknown runner or option, or a value that an option can't have.
    """
    own = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    own.add_argument("--runner", default="local")
    own.add_argument("--scheduler")
    own.add_argument("--shared_disk", "--shared-disk", action="store_true")
    try:
        mine, rest = own.parse_known_args(list(beam_args))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    runner = find_runner(mine.runner)
    if mine.scheduler is not None:
        if runner.name != "dask":
            raise ConfigError(f"--scheduler {mine.scheduler}: only --runner dask has one")
        rest.append(f"--dask_client_address={mine.scheduler}")
    if missing := [name for name in runner.modules if not importlib.util.find_spec(name)]:
        raise ConfigError(f"--runner {runner.name}: {missing[0]} is not installed: {_install(runner, missing[0])}")
    if runner.modules and "." in runner.beam:
        importlib.import_module(runner.beam.rpartition(".")[0])  # declares its options
    given = _given(rest)
    defaults = {name: value for name, value in runner.defaults(given, workers).items() if name not in given}
    args = [f"--runner={runner.beam}", *rest, *(f"--{name}={value}" for name, value in defaults.items())]
    check_beam_args(args)
    options = PipelineOptions(args)
    if not {"save_main_session", "no_save_main_session"} & set(given):
        # Workers import what they run. Else Beam would send them a pickle of whatever program has started the build.
        options.view_as(SetupOptions).save_main_session = False
    return Chosen(
        runner=runner,
        given={**given, **defaults},
        options=options,
        says_shared=mine.shared_disk,
    )


def crowded(chosen: Chosen, workers: int) -> str:
    """A warning where there are more workers on this machine than cores for them; "" where there are not."""
    cores = num_cores()
    if not chosen.runner.is_local or workers <= cores:
        return ""
    return (
        f"{workers} workers on {cores} core{'s' * (cores > 1)}: they wait for each other, and each takes memory: "
        f"--workers {cores} is not slower"
    )


def find_runner(name: str) -> Runner:
    """The runner of this name, ours or Beam's, in any case.

    Raises:
        ConfigError: there is none.
    """
    for runner in RUNNERS:
        if name.lower() in {known.lower() for known in (runner.name, *runner.also)}:
            return runner
    known = [runner.name for runner in RUNNERS]
    nearest = difflib.get_close_matches(name.lower(), known, n=1)
    hint = f"did you mean {nearest[0]}?" if nearest else f"there are {', '.join(known)}"
    raise ConfigError(f"--runner {name}: no such runner: {hint}")


def check(chosen: Chosen, config: BuildConfig, outputs: Iterable[str]) -> None:
    """Refuse what can't work, before the first file is read.

    Args:
        chosen: the runner.
        config: the build.
        outputs: folders that workers write to.

    Raises:
        ConfigError: what `check_start` says, or a place that workers can't reach.
    """
    _check_given(chosen)
    runner, given = chosen.runner, chosen.given
    shares_disk = runner.shares_disk(given) or (chosen.says_shared and runner.name != "dataflow")
    if not shares_disk:
        _check_reach(runner, given, config, outputs)
    new_pipeline(chosen)  # the last: on Dataflow, Beam asks the bucket


def _check_reach(runner: Runner, given: Given, config: BuildConfig, outputs: Iterable[str]) -> None:
    check_places(runner, config, outputs)
    if runner.name in ("flink", "portable") and "environment_type" not in given and "environment_config" not in given:
        raise ConfigError(
            f"--runner {runner.name}: workers need an image with premask: name it with --environment_config, "
            "or say how they start with --environment_type"
        )


def check_start(chosen: Chosen) -> None:
    """Refuse a runner that can't start.

    Raises:
        ConfigError: a missing option or program, an option that Beam refuses, or an endpoint where nobody answers.
    """
    _check_given(chosen)
    new_pipeline(chosen)


def _check_given(chosen: Chosen) -> None:
    runner, given = chosen.runner, chosen.given
    if missing := [f"--{name}" for name in runner.needs if not given.get(name)]:
        raise ConfigError(f"--runner {runner.name} needs {', '.join(missing)}")
    for name, (form, example) in runner.forms.items():
        if not re.fullmatch(form, given.get(name, example)):
            raise ConfigError(f"--{name} {given[name]}: must look like {example}")
    if runner.program and shutil.which(runner.program) is None:
        raise ConfigError(
            f"--runner {runner.name}: no {runner.program} in PATH: install it, e.g. openjdk-17-jre-headless"
        )
    if not chosen.runs_nothing and (endpoint := given.get(runner.endpoint, "")):
        _answers(f"--{_ours(runner.endpoint)}", endpoint)


def new_pipeline(chosen: Chosen) -> beam.Pipeline:
    """An empty pipeline. Beam looks at its options here: at projects, regions, names of jobs and places in buckets.

    Raises:
        ConfigError: Beam's words for an option that can't be right.
    """
    try:
        return beam.Pipeline(options=chosen.options)
    except Exception as error:
        if not isinstance(error, ValueError) and not type(error).__module__.startswith("google."):
            raise
        said = [line.strip() for line in str(error).splitlines() if line.strip() and "validations errors" not in line]
        raise ConfigError(f"--runner {chosen.runner.name}: {' '.join(said)}") from error


def check_places(runner: Runner, config: BuildConfig, outputs: Iterable[str]) -> None:
    """Refuse what lies on this machine, for workers that run on others.

    Raises:
        ConfigError: an output or an input that they can't reach.
    """
    advice = "use a bucket (gs://, s3://)"
    if runner.name != "dataflow":
        advice += ", or say --shared_disk if every worker sees this machine's folders"
    for output in outputs:
        if is_local_path(output):
            raise ConfigError(
                f"output {output}: workers of --runner {runner.name} can't reach a folder of this machine: {advice}"
            )
    for number, item in enumerate(config.inputs):
        if is_local_path(item.path):
            raise ConfigError(
                f"inputs.{number}.path {item.path}: workers of --runner {runner.name} can't read a file of this "
                f"machine: {advice}"
            )


def look_at_workers(chosen: Chosen, output: str, sign: str, inputs: Sequence[str]) -> int:
    """Ask the workers themselves whether they can do the build, where a runner lets us.

    Args:
        chosen: the runner.
        output: the dataset's folder.
        sign: a file that is there now.
        inputs: some of the files to read.

    Returns:
        How many have answered; 0 where they can't be asked.

    Raises:
        ConfigError: they can't.
    """
    address = chosen.given.get("dask_client_address")
    if chosen.runner.name == "dask" and address is not None:
        from pipelines import dask_runner

        return dask_runner.look(address, output, sign, list(inputs))
    return 0


def describe_workers(chosen: Chosen) -> str:
    """What the workers are, in a few words; "" where a runner has none yet, or doesn't tell.

    Raises:
        ConfigError: they can't run a build.
    """
    address = chosen.given.get("dask_client_address")
    if chosen.runner.name == "dask" and address is not None:
        from pipelines import dask_runner

        return dask_runner.describe(address)
    return ""


def explain(chosen: Chosen, error: Exception) -> PremaskError | None:
    """An error of the runner itself as what a user can mend; None for another."""
    if chosen.runner.name == "dask":
        from pipelines import dask_runner

        return dask_runner.explain(error)
    return None


def is_local_path(location: str) -> bool:
    """Whether a path or URI is of this machine's disk."""
    return "://" not in location or location.startswith("file://")


def check_beam_args(beam_args: Sequence[str]) -> None:
    """Refuse options that nobody knows, instead of a warning that is easily missed.

    Raises:
        ConfigError: names the nearest known one, or the value that an option can't have.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    for kind in _all_subclasses(PipelineOptions):
        # Some classes declare the same option twice; argparse objects, and the first declaration is enough.
        with contextlib.suppress(argparse.ArgumentError):
            kind._add_argparse_args(parser)
    try:
        _, unknown = parser.parse_known_args(list(beam_args))
    except argparse.ArgumentError as error:
        raise ConfigError(str(error)) from error
    for item in unknown:
        name = item.partition("=")[0]
        if name.startswith("-"):
            known = [option for action in parser._actions for option in action.option_strings]
            ours = ["--workers", "--sample", "--set", "--scheduler", "--shared_disk"]
            nearest = difflib.get_close_matches(name, [*known, *ours], n=1)
            hint = f": did you mean {nearest[0]}?" if nearest else ""
            raise ConfigError(f"{name}: neither premask nor Beam has this option{hint}")
    if unknown:
        raise ConfigError(f"{unknown[0]}: unexpected argument: `premask build` takes one configuration file")


def _all_subclasses(kind: Any) -> list[Any]:
    found: list[Any] = [kind] if "_add_argparse_args" in vars(kind) else []
    for child in kind.__subclasses__():
        found += _all_subclasses(child)
    return found


def _given(args: Sequence[str]) -> dict[str, str]:
    """Options by name; `--name value` and `--name=value` are one, and a flag is "true"."""
    found: dict[str, str] = {}
    for place, item in enumerate(args):
        if item.startswith("--"):
            name, equals, value = item[2:].partition("=")
            following = args[place + 1] if place + 1 < len(args) else "--"
            found[name] = value if equals else ("true" if following.startswith("--") else following)
    return found


def _install(runner: Runner, missing: str) -> str:
    # Its own pins would bring an old Beam.
    alone = "pip install --no-deps beam-pyspark-runner==0.0.3"
    return alone if missing == "beam_pyspark_runner" else f"pip install 'premask[{runner.extra}]'"


def _ours(option: str) -> str:
    return "scheduler" if option == "dask_client_address" else option


def _answers(option: str, endpoint: str) -> None:
    """Make sure that somebody listens there.

    Raises:
        ConfigError: nobody does, or it is no host and port.
    """
    if endpoint.startswith("["):  # Flink's [local] and [auto]
        return
    host, port = host_of(endpoint), endpoint.rpartition(":")[2].rstrip("/")
    if not host or not port.isdecimal():
        raise ConfigError(f"{option} {endpoint}: must be HOST:PORT")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigError(f"{option} {endpoint}: nobody answers there: {error}") from error
