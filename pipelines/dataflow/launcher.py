"""The program of the Flex Template: plans a build, starts its job on Dataflow, and ends without waiting for it.

    gcloud dataflow flex-template run NAME --parameters config=gs://bucket/premask.yaml,output=gs://bucket/datasets/web

What the template itself does not know (`--project`, `--region`, `--temp_location`, ...) comes from Dataflow's launcher
and goes to Beam; what is right for us beside it is in `runners`. Whatever has to be planned, and a tokenizer that is to
be trained, is done here, before the job.
"""

import argparse
import logging
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from mlm_data.command import one_line
from mlm_data.config import BuildConfig, load_config
from mlm_data.errors import PremaskError
from mlm_data.stores.folder import Folder, read_input


def make_parser() -> argparse.ArgumentParser:
    """What the template's parameters are; a test compares it with `template_metadata.json`."""
    parser = argparse.ArgumentParser(prog="premask-dataflow", allow_abbrev=False)
    parser.add_argument("--config", required=True, help="the build's YAML file, a URI")
    parser.add_argument("--output", help="where the dataset goes; default: what the file says")
    parser.add_argument("--overrides", default="", help="FIELD=VALUE, several with ; between them")
    return parser


def read_config(location: str, output: str | None, overrides: Sequence[str]) -> BuildConfig:
    """The build's configuration, from a bucket.

    Raises:
        ConfigError: it can't be right, or names places that workers can't reach.
        InputError: there is no such file.
    """
    from pipelines.runners import check_places, find_runner

    given = [*overrides, *([f"output={output}"] if output else [])]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / location.rpartition("/")[2]
        path.write_bytes(read_input(location))
        config = load_config(path, given)
    check_places(find_runner("dataflow"), config, [config.output])
    return config


def launch(config: BuildConfig, beam_args: Sequence[str]) -> None:
    """Plan a build, and start its job: the runner is asked to run, and nobody waits.

    Raises:
        PremaskError: for whatever a user can mend.
    """
    from mlm_data.build.plan import find_tokenizer, make_context, make_plan
    from mlm_data.dataset.publish import check_output
    from pipelines.build import construct
    from pipelines.runners import check_start, choose, new_pipeline

    chosen = choose(["--runner=dataflow", *beam_args], workers=1)
    check_start(chosen)
    pipeline = new_pipeline(chosen)
    check_output(Folder(config.output))
    plan = make_plan(config)
    context = make_context(config, plan, find_tokenizer(config, plan))
    construct(pipeline, plan.units, context)
    pipeline.run()


def main(argv: Sequence[str] | None = None) -> int:
    """Start the job; 2 and one line for a mistake."""
    logging.getLogger().setLevel(logging.INFO)
    options, rest = make_parser().parse_known_args(argv)
    try:
        overrides = [item.strip() for item in options.overrides.split(";") if item.strip()]
        launch(read_config(options.config, options.output, overrides), rest)
    except PremaskError as error:
        sys.stderr.write(f"premask-dataflow: {one_line(str(error))}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
