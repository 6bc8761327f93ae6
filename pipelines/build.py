"""The pipeline of a build, whole, and how it is run.

    units -> (SURVEY) -> PREPARE -> SELECT -> DEDUPLICATE, (NEAR DUPLICATES) -> (EVALUATIONS) -> (MIXING)
          -> ASSEMBLE -> PUBLISH

What stands in brackets is there where it is asked for; `premask clean` writes texts instead of the last two. Only names
of files, signatures and lists of documents or lines cross between the steps; never text, never tokens.
"""

import contextlib
import gc
import io
import logging
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from mlm_data import errors
from mlm_data.build import cache, status
from mlm_data.build.account import PUBLISH, REMEDY, Kind
from mlm_data.build.clean_texts import CLEANED, Output, check_folders
from mlm_data.build.context import Context
from mlm_data.build.plan import find_tokenizer, make_context, make_plan, tokenizer_warnings
from mlm_data.build.units import Plan
from mlm_data.config import BuildConfig
from mlm_data.dataset.manifest import Manifest, load_manifest, unseal
from mlm_data.dataset.publish import check_output
from mlm_data.stores.folder import Folder
from mlm_data.tokens.engine import Reference
from mlm_data.types import Unit
from pipelines import metrics
from pipelines.runners import is_local, pipeline_options, runs_nothing
from pipelines.steps import Assemble, Deduplicate, NearDuplicates, Prepare, Publish, Units


@dataclass(frozen=True, kw_only=True)
class Built:
    """What a build has made."""

    manifest: Manifest
    output: str  # where the dataset is: the configured place, or beside it for a sample
    num_bytes: int  # of the inputs that were read, as stored
    whole_bytes: int  # of all inputs: more than `num_bytes` for a sample
    num_units: int
    num_reused: int  # prepared units that were in the cache, and whole
    num_remade: int  # prepared units that were in the cache, but damaged


class Watcher:
    """Whom a build tells how far it is. This one doesn't listen."""

    def planned(self, plan: Plan) -> None:
        """The inputs are found and cut into units; the tokenizer is next."""

    def found_tokenizer(self, reference: Reference, warnings: Sequence[str]) -> None:
        """The tokenizer is read or trained."""

    def running(self, plan: Plan) -> None:
        """The tokenizer is there; the pipeline starts."""


def construct(
    pipeline: beam.Pipeline, units: tuple[Unit, ...], context: Context, output: Output | None = None
) -> beam.PCollection[bytes]:
    """Lay the build's steps into a pipeline; yields the digest of the version that was published.

    With an `output` documents stay texts, and are written as files.
    """
    prepared = pipeline | "Plan" >> Units(units) | "Prepare" >> Prepare(context)
    sent: tuple[Any, ...] = (prepared, prepared | "Deduplicate" >> Deduplicate(context))
    if context.config.deduplicate.near is not None:
        sent += (prepared | "NearDuplicates" >> NearDuplicates(context),)
    sent += (sent | "Assemble" >> Assemble(context, output),)
    return sent | "Publish" >> Publish(context, output)


def build(
    config: BuildConfig,
    *,
    workers: int = 1,
    beam_args: Sequence[str] = (),
    sample: float = 1.0,
    watcher: Watcher = Watcher(),
) -> Built | None:
    """Run a build to its end and return the published version.

    Every runner is asked for the same: to run. What was made stands in the dataset, not in a runner's metrics, which
    not all of them have.

    Args:
        config: what to build.
        workers: threads or processes of the local runner.
        beam_args: options that go to Beam.
        sample: below 1, build about this share of the bytes into `<output>-sample`.
        watcher: told how far it is.

    Returns:
        None where the runner was told to run nothing: `--dry_run`, `--template_location`.

    Raises:
        PremaskError: for whatever a user can mend; nothing is published then.
    """
    options = pipeline_options(beam_args, workers=workers)
    whole_bytes = make_plan(config).num_bytes if sample < 1 else 0
    if sample < 1:
        config = config.model_copy(update={"output": config.output.rstrip("/") + "-sample"})
    check_output(Folder(config.output))
    plan = make_plan(config, sample=sample)
    watcher.planned(plan)
    reference = find_tokenizer(config, plan)
    watcher.found_tokenizer(reference, tokenizer_warnings(config, plan, reference))
    context = make_context(config, plan, reference)
    metrics.reset()
    watcher.running(plan)
    run(plan.units, context, options)
    if runs_nothing(options):
        return None
    last = _last(context)
    num_bytes = sum(unit.num_bytes for unit in plan.units)
    return Built(
        manifest=load_manifest(context.folder, last["digest"]),
        output=config.output,
        num_bytes=num_bytes,
        whole_bytes=whole_bytes or num_bytes,
        num_units=last["units"],
        num_reused=last["reused"],
        num_remade=last["remade"],
    )


def clean(
    config: BuildConfig,
    output: Output,
    *,
    workers: int = 1,
    beam_args: Sequence[str] = (),
    sample: float = 1.0,
    watcher: Watcher = Watcher(),
) -> dict[str, Any] | None:
    """Write the cleaned documents into `config.output`; arguments as for `build`.

    Returns:
        What `cleaned.json` says; None where the runner was told to run nothing.

    Raises:
        PremaskError: for whatever a user can mend.
    """
    options = pipeline_options(beam_args, workers=workers)
    check_folders(config.output, output.dropped)
    plan = make_plan(config, sample=sample)
    watcher.planned(plan)
    context = make_context(config, plan, None)
    metrics.reset()
    watcher.running(plan)
    run(plan.units, context, options, output)
    if runs_nothing(options):
        return None
    _last(context)
    return unseal(context.folder.read(CLEANED), f"{config.output}/{CLEANED}")


def run(units: tuple[Unit, ...], context: Context, options: PipelineOptions, output: Output | None = None) -> None:
    """Run the pipeline; an error that a worker raised comes out as what it was."""
    pipeline = beam.Pipeline(options=options)
    construct(pipeline, units, context, output)
    with (
        _followed(units, context, options),
        _workers_quiet() if is_local(options) else contextlib.nullcontext(),
        _few_collections(),
    ):
        try:
            result = pipeline.run()
            if not runs_nothing(options):
                result.wait_until_finish()
        except errors.PremaskError as error:
            raise type(error)(_without_step(str(error))) from error
        except Exception as error:
            raise _original(error) from error


def _followed(
    units: tuple[Unit, ...], context: Context, options: PipelineOptions
) -> contextlib.AbstractContextManager[None]:
    """Let `premask status` see the build, unless nobody waits for its end."""
    if runs_nothing(options):
        return contextlib.nullcontext()
    named = options.get_all_options()
    return status.followed(
        context,
        units=len(units),
        num_bytes=sum(unit.num_bytes for unit in units),
        runner="local" if is_local(options) else str(named.get("runner")),
        workers=int(named.get("direct_num_workers") or 0),
    )


def _last(context: Context) -> dict[str, Any]:
    """What PUBLISH has noted of this build.

    Raises:
        BuildError: nothing: a runner that says it is done, though nothing came to its last step.
    """
    last = cache.read_last(context.work)
    if last.get("run") != context.run:
        raise errors.BuildError(f"{PUBLISH.border(Kind.RESULT)}: nothing has arrived: {REMEDY}")
    return last


@contextlib.contextmanager
def _few_collections() -> Iterator[None]:
    """Keep the garbage collector from walking over all that was there before, again and again.

    Beam alone is more than a hundred thousand objects, and a full collection stops every worker thread.
    """
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


@contextlib.contextmanager
def _workers_quiet() -> Iterator[None]:
    """Keep the tracebacks that Beam's local workers print from hiding the one line that matters.

    What they wrote is shown after all if the error is none that a user can mend.
    """
    logger = logging.getLogger("apache_beam")
    level, written = logger.level, io.StringIO()
    logger.setLevel(logging.CRITICAL)
    try:
        with contextlib.redirect_stderr(written):
            yield
    except errors.PremaskError:
        raise
    except Exception:
        sys.stderr.write(written.getvalue())
        raise
    finally:
        logger.setLevel(level)


def _original(error: Exception) -> Exception:
    """The `PremaskError` that a worker's traceback ends with; runners pass on its text alone."""
    found = re.findall(r"mlm_data\.errors\.(\w+): (.*)", str(error))
    if not found:
        return error
    name, message = found[-1]
    return getattr(errors, name, errors.BuildError)(_without_step(message))


def _without_step(message: str) -> str:
    return re.sub(r"( \[while running '[^']*'\])+$", "", message)
