"""The program of the Flex Template: plans a build, starts its job on Dataflow, and ends without waiting for it.

    gcloud dataflow flex-template run NAME --parameters config=gs://bucket/premask.yaml,output=gs://bucket/datasets/web

What the template itself does not know (`--project`, `--region`, `--temp_location`, ...) comes from Dataflow's launcher
and goes to Beam. Whatever has to be planned, and a tokenizer that is to be trained, is done here, before the job.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlm_data.command import one_line
from mlm_data.config import BuildConfig, load_config
from mlm_data.errors import ConfigError, PremaskError
from mlm_data.stores.folder import Folder, read_input

# One process for each core, which is what Beam's batch workers start, and one thread in it: kernels and tokenizers are
# told the same by the image. 4 GB of memory for a core hold a unit of 64 MiB and its masks.
DEFAULTS = (
    "--runner=DataflowRunner",
    "--worker_machine_type=n2-standard-8",
    "--disk_size_gb=50",
    "--number_of_worker_harness_threads=1",
    "--experiments=use_runner_v2",
)


def make_parser() -> argparse.ArgumentParser:
    """What the template's parameters are; a test compares it with `template_metadata.json`."""
    parser = argparse.ArgumentParser(prog="premask-dataflow", allow_abbrev=False)
    parser.add_argument("--config", required=True, help="the build's YAML file, a URI")
    parser.add_argument("--output", help="where the dataset goes; default: what the file says")
    parser.add_argument("--overrides", default="", help="FIELD=VALUE, several with ; between them")
    return parser


def with_defaults(given: Sequence[str]) -> list[str]:
    """Beam's options, with ours where none is given.

    >>> with_defaults(["--disk_size_gb", "200", "--machine_type=n2-standard-4"])[2:]
    ['--machine_type=n2-standard-4', '--runner=DataflowRunner', '--number_of_worker_harness_threads=1', \
'--experiments=use_runner_v2']
    """
    names = {item.partition("=")[0] for item in given}
    if "--machine_type" in names:  # Beam's other name for it
        names.add("--worker_machine_type")
    return [*given, *(item for item in DEFAULTS if item.partition("=")[0] not in names)]


def read_config(location: str, output: str | None, overrides: Sequence[str]) -> BuildConfig:
    """The build's configuration, from a bucket.

    Raises:
        ConfigError: it can't be right, or names places that workers can't reach.
        InputError: there is no such file.
    """
    given = [*overrides, *([f"output={output}"] if output else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / location.rpartition("/")[2]
        path.write_bytes(read_input(location))
        config = load_config(path, given)
    places = {"output": config.output} | {f"inputs.{i}.path": item.path for i, item in enumerate(config.inputs)}
    for name, place in places.items():
        if "://" not in place or place.startswith("file://"):
            raise ConfigError(f"{name}: {place}: workers of Dataflow can't reach it: name a bucket, such as gs://...")
    return config


def launch(config: BuildConfig, beam_args: Sequence[str]) -> None:
    """Plan a build, and start its job: the runner is asked to run, and nobody waits.

    Raises:
        PremaskError: for whatever a user can mend.
    """
    import apache_beam as beam
    from apache_beam.options.pipeline_options import PipelineOptions

    from mlm_data.build.plan import find_tokenizer, make_context, make_plan
    from mlm_data.dataset.publish import check_output
    from pipelines.build import construct
    from pipelines.runners import check_beam_args

    check_beam_args(beam_args)
    check_output(Folder(config.output))
    plan = make_plan(config)
    context = make_context(config, plan, find_tokenizer(config, plan))
    try:
        pipeline = beam.Pipeline(options=PipelineOptions(list(beam_args)))
    except ValueError as error:  # Beam's words for an option that can't be right
        raise ConfigError(str(error)) from error
    construct(pipeline, plan.units, context)
    pipeline.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Start the job; 2 and one line for a mistake."""
    logging.getLogger().setLevel(logging.INFO)
    options, rest = make_parser().parse_known_args(argv)
    try:
        overrides = [item.strip() for item in options.overrides.split(";") if item.strip()]
        launch(read_config(options.config, options.output, overrides), with_defaults(rest))
    except PremaskError as error:
        sys.stderr.write(f"premask-dataflow: {one_line(str(error))}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
