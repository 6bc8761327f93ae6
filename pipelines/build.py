"""The pipeline of a build, whole, and how it is run.

    units -> (SURVEY) -> PREPARE -> SELECT -> DEDUPLICATE, (NEAR DUPLICATES) -> (EVALUATIONS) -> (MIXING)
          -> ASSEMBLE -> PUBLISH

What stands in brackets is there where it is asked for; `premask clean` writes texts instead of the last two. Only names
of files, signatures and lists of documents or lines cross between the steps; never text, never tokens.
"""

import contextlib
import gc
import logging
import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import apache_beam as beam

from mlm_data import ending, errors
from mlm_data.build import account, budget, cache, status
from mlm_data.build.account import PUBLISH, REMEDY, Kind
from mlm_data.build.clean_texts import CLEANED, Output, check_folders
from mlm_data.build.context import Context
from mlm_data.build.plan import TOKENIZER, find_tokenizer, make_context, make_plan, tokenizer_warnings
from mlm_data.build.progress import Stage
from mlm_data.build.units import Plan
from mlm_data.config import BuildConfig, anchor
from mlm_data.dataset.manifest import Manifest, load_manifest
from mlm_data.dataset.publish import check_output
from mlm_data.dataset.seals import unseal
from mlm_data.memory import release
from mlm_data.stores.folder import Folder
from mlm_data.stores.places import beside
from mlm_data.tokens.engine import Reference
from mlm_data.types import Unit
from pipelines.runners import Chosen, check, choose, crowded, explain, look_at_workers, new_pipeline
from pipelines.steps import Assemble, Deduplicate, NearDuplicates, Prepare, Publish, Units

STANDARD_ERROR = 2
CANCEL_SECONDS = 20  # that a runner has to answer
LOOKED_AT = 8  # inputs that workers are asked for
PLANNING, ASKING, ROOM = "looking for the inputs", "asking the workers", "making room in the cache"


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
    overtaken: str = ""  # another version that was published there while this build ran, and is not the current one now


class Watcher:
    """Whom a build tells how far it is. This one doesn't listen."""

    def stage(self, stage: Stage) -> None:
        """What the build does now, and how far that is; told before its workers begin."""

    def planned(self, plan: Plan) -> None:
        """The inputs are found and cut into units; the tokenizer is next."""

    def found_tokenizer(self, reference: Reference, warnings: Sequence[str]) -> None:
        """The tokenizer is read or trained."""

    def running(self, plan: Plan, watch: status.Watch) -> None:
        """The tokenizer is there; the pipeline starts, and `watch` sees how far its workers are.

        Not called where the runner was told to run nothing.
        """


def construct(
    pipeline: beam.Pipeline | beam.pvalue.PBegin,
    units: tuple[Unit, ...],
    context: Context,
    output: Output | None = None,
) -> beam.PCollection[bytes]:
    """Lay the build's steps into a pipeline; yields the digest of the version that was published.

    With an `output` documents stay texts, and are written as files.
    """
    planned = pipeline | "Plan" >> Units(units, context)
    prepared = planned | "Prepare" >> Prepare(context)
    sent: tuple[Any, ...] = (prepared, prepared | "Deduplicate" >> Deduplicate(context))
    if context.config.deduplicate.near is not None:
        sent += (prepared | "NearDuplicates" >> NearDuplicates(context),)
    sent += (sent | "Assemble" >> Assemble(context, output),)
    if account.LIST.takes_part(context):
        sent += (planned,)  # its reports
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
        workers: threads or processes on this machine.
        beam_args: the runner and its options: see `runners`.
        sample: below 1, build about this share of the bytes into `<output>-sample`.
        watcher: told how far it is.

    Returns:
        None where the runner was told to run nothing: `--dry_run`, `--template_location`.

    Raises:
        PremaskError: for whatever a user can mend; nothing is published then.
    """
    chosen = choose(beam_args, workers=workers)
    if sample < 1:
        config = config.model_copy(update={"output": beside(config.output, "-sample")})
    check_output(Folder(config.output))
    check(chosen, config, [config.output])
    output, config = config.output, _anywhere(config, chosen)
    name = "" if chosen.runs_nothing else cache.new_name()
    with _followed(config, name, chosen, watcher) as told:
        told.stage(Stage(name=PLANNING))
        whole_bytes = make_plan(config).num_bytes if sample < 1 else 0
        cache.clear_output(Folder(config.output))
        plan = make_plan(config, sample=sample)
        _planned(plan, chosen, workers, watcher, told)
        with _allowed(config, plan, chosen, name, told):
            told.stage(Stage(name=TOKENIZER))
            reference = find_tokenizer(config, plan, told.stage)
            watcher.found_tokenizer(reference, tokenizer_warnings(config, plan, reference))
            context = make_context(config, plan, reference, run=name)
            told.stage(Stage(name=ROOM))
            budget.make_room(plan.units, context)
            release()
            _show(watcher, plan, context, chosen)
            told.stage(None)
            run(plan.units, context, chosen)
            if chosen.runs_nothing:
                return None
            budget.tidy(context)
            last = _last(context)
            told.added_up(last.get("totals"))
    num_bytes = sum(unit.num_bytes for unit in plan.units)
    return Built(
        manifest=load_manifest(context.folder, last["digest"]),
        output=output,
        num_bytes=num_bytes,
        whole_bytes=whole_bytes or num_bytes,
        num_units=last["units"],
        num_reused=last["reused"],
        num_remade=last["remade"],
        overtaken=last.get("overtaken", ""),
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
    chosen = choose(beam_args, workers=workers)
    check_folders(config.output, output.dropped)
    check(chosen, config, filter(None, (config.output, output.dropped)))
    config = _anywhere(config, chosen)
    name = "" if chosen.runs_nothing else cache.new_name()
    with _followed(config, name, chosen, watcher) as told:
        told.stage(Stage(name=PLANNING))
        for place in filter(None, (config.output, output.dropped)):
            cache.clear_output(Folder(place))
        plan = make_plan(config, sample=sample)
        _planned(plan, chosen, workers, watcher, told)
        with _allowed(config, plan, chosen, name, told):
            context = make_context(config, plan, None, run=name)
            told.stage(Stage(name=ROOM))
            budget.make_room(plan.units, context)
            _show(watcher, plan, context, chosen)
            told.stage(None)
            run(plan.units, context, chosen, output)
            if chosen.runs_nothing:
                return None
            budget.tidy(context)
            told.added_up(_last(context).get("totals"))
    return unseal(context.folder.read(CLEANED), f"{config.output}/{CLEANED}")


def _planned(plan: Plan, chosen: Chosen, workers: int, watcher: Watcher, told: status.Told) -> None:
    """Tell of the plan, with a warning where workers would wait for cores."""
    warning = crowded(chosen, workers)
    watcher.planned(replace(plan, warnings=(*plan.warnings, warning)) if warning else plan)
    told.planned(len(plan.units), sum(unit.num_bytes for unit in plan.units))


def _show(watcher: Watcher, plan: Plan, context: Context, chosen: Chosen) -> None:
    """Let somebody watch the pipeline, if it runs."""
    if not chosen.runs_nothing:
        num_bytes = sum(unit.num_bytes for unit in plan.units)
        watcher.running(plan, status.Watch(context, units=len(plan.units), num_bytes=num_bytes))


def run(units: tuple[Unit, ...], context: Context, chosen: Chosen, output: Output | None = None) -> None:
    """Run the pipeline; an error that a worker raised comes out as what it was, on every runner.

    Raises:
        PremaskError: for whatever a user can mend.
        KeyboardInterrupt: at Ctrl-C; the job is cancelled, and may no longer publish.
    """
    pipeline = new_pipeline(chosen)
    construct(pipeline, units, context, output)
    result = None
    with _workers_quiet(), _few_collections():
        try:
            result = pipeline.run()
            if not chosen.runs_nothing:
                result.wait_until_finish()
        except errors.PremaskError as error:
            raise type(error)(_without_step(str(error))) from error
        except KeyboardInterrupt:
            _cancel(result, context)
            raise
        except Exception as error:
            raise explain(chosen, error) or _original(error) from error


def _anywhere(config: BuildConfig, chosen: Chosen) -> BuildConfig:
    """The configuration for workers that run in other folders than this process: paths from the root on."""
    return config if chosen.runner.is_local else anchor(config, Path.cwd())


def _cancel(result: Any, context: Context) -> None:
    """End a job somewhere else, or at least keep it from publishing; a runner that doesn't answer is not waited for."""
    with contextlib.suppress(errors.PremaskError, OSError):
        cache.end(context.work, context.run)

    def cancel() -> None:
        with contextlib.suppress(Exception):
            result.cancel()

    if result is not None:
        thread = threading.Thread(target=cancel, daemon=True)
        thread.start()
        thread.join(CANCEL_SECONDS)


@contextlib.contextmanager
def _allowed(config: BuildConfig, plan: Plan, chosen: Chosen, name: str, told: status.Told) -> Iterator[None]:
    """The build of this name may publish until this ends; workers have been asked whether they see that.

    "": nobody waits for the job, and it may publish whenever it runs.
    """
    if not name:
        yield
        return
    work = Folder(config.output).join("work")
    try:
        cache.begin(work, name)
        told.stage(Stage(name=ASKING))
        step = max(1, len(plan.units) // LOOKED_AT)
        paths = [unit.slices[0].path for unit in plan.units[::step]]
        if number := look_at_workers(chosen, config.output, f"work/{cache.sign(name)}", paths):
            told.has_workers(number)
        yield
    finally:
        with contextlib.suppress(errors.PremaskError, OSError):
            cache.end(work, name)


def _followed(
    config: BuildConfig, name: str, chosen: Chosen, watcher: Watcher
) -> contextlib.AbstractContextManager[status.Told]:
    """Let `premask status` see the build of this name, and the watcher what it does."""
    work, runner = Folder(config.output).join("work"), chosen.runner.name
    return status.followed(work, name, runner=runner, workers=chosen.num_workers, listener=watcher.stage)


def _last(context: Context) -> dict[str, Any]:
    """What PUBLISH has noted of this build.

    Raises:
        BuildError: nothing: a runner that says it is done, though nothing came to its last step.
    """
    last = cache.noted(context.work, context.run)
    if not last:
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
    """Keep what workers and engines print on standard error from hiding the one line that matters.

    Threads write to Python's `sys.stderr`, processes that we start to the file behind it. What they wrote is shown
    after all if the error is none that a user can mend.
    """
    loggers = [logging.getLogger(name) for name in ("apache_beam", "distributed", "py4j")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    sys.stderr.flush()
    real = os.dup(STANDARD_ERROR)
    with tempfile.TemporaryFile() as written:
        os.dup2(written.fileno(), STANDARD_ERROR)
        is_told = False
        try:
            with (
                open(os.dup(written.fileno()), "w", buffering=1, errors="replace") as text,
                contextlib.redirect_stderr(text),
            ):
                yield
        except (errors.PremaskError, KeyboardInterrupt):
            raise
        except BaseException:
            is_told = True
            raise
        finally:
            if not ending.signalled():  # then threads that go on have nothing to say
                os.dup2(real, STANDARD_ERROR)
            os.close(real)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            if is_told:
                written.seek(0)
                sys.stderr.write(written.read().decode(errors="replace"))


def _original(error: Exception) -> Exception:
    """The `PremaskError` that a worker's traceback ends with; runners pass on its text alone."""
    found = re.findall(r"mlm_data\.errors\.(\w+): (.*)", str(error))
    if not found:
        return error
    name, message = found[-1]
    return getattr(errors, name, errors.BuildError)(_without_step(message))


def _without_step(message: str) -> str:
    return re.sub(r"( \[while running '[^']*'\])+$", "", message)
