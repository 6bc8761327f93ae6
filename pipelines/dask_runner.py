"""Beam's DaskRunner, made fit for us: a cluster that is looked at before anything moves, and few, even partitions.

What differs from Beam 2.77's (`apache_beam.runners.dask`):

- Elements are grouped in as many partitions as keep the cluster busy, PARTITIONS_A_THREAD for each of its threads, and
  keys are dealt out in turn. Beam's adds up the partitions of all inputs at each `Flatten`, and Dask's shuffle takes
  tasks in proportion to that; and by a hash of the key some workers would get twice the units of others.
- When a worker is lost, tasks that wait for a place are handed out again: Dask 2026.8 forgets to (see `Refill`).
- Without a scheduler's address a local cluster of processes is started, and ended with the build.
- Whether it answers, has workers, has our versions, and whether its workers see our files, is asked first.

It collects what a step yields before `finish_bundle`, so what is yielded there is lost (seen in
`transform_evaluator.apply_dofn_to_bundle`): our steps yield nothing there.
"""

import contextlib
import platform
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import apache_beam.runners.dask.dask_runner as beam_dask
import dask
import dask.distributed
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dask import transform_evaluator
from apache_beam.runners.dask.overrides import _GroupByKeyOnly, dask_overrides
from apache_beam.runners.runner import PipelineState
from dask.bag.core import groupby_tasks

from mlm_data.console import counted
from mlm_data.dataset.gates import library_versions
from mlm_data.errors import BuildError, ConfigError
from mlm_data.stores.folder import Folder

PARTITIONS_A_THREAD, MOST_PARTITIONS = 4, 256
CONNECT_SECONDS = 10
AGAIN = "start the build again: it goes on from the units that are prepared"

_QUIET = {
    "distributed.admin.tick.limit": "1h",  # kernels that hold the event loop are no news
    "distributed.comm.timeouts.connect": f"{CONNECT_SECONDS}s",
    "logging.distributed": "critical",
}


class Options(PipelineOptions):
    """What our runner takes beside Beam's options."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--dask_workers", type=int, default=1, help="processes of a local cluster")


class DaskRunner(beam_dask.DaskRunner):
    """Runs a pipeline on a Dask cluster."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> "Result":
        stack = contextlib.ExitStack()
        client = stack.enter_context(
            connected(options.view_as(beam_dask.DaskOptions).address, options.view_as(Options).dask_workers)
        )
        client.register_plugin(Refill())
        threads = sum(client.nthreads().values())
        partitions = max(1, min(MOST_PARTITIONS, PARTITIONS_A_THREAD * threads))
        pipeline.replace_all(dask_overrides())
        visitor: Any = self.to_dask_bag_visitor({"npartitions": partitions})
        group = lambda applied, bag_kwargs: _Group(applied, {"npartitions": partitions})  # noqa: E731
        with mock.patch.dict(transform_evaluator.TRANSLATIONS, {_GroupByKeyOnly: group}):
            pipeline.visit(visitor)
        (last,) = dask.optimize(list(visitor.bags.values())[-1])
        return Result(client, client.compute([last]), stack)


class Refill(dask.distributed.SchedulerPlugin):
    """Runs on the scheduler, and hands out what waits in its queue when a worker is lost.

    With the worker its results are lost, so what another worker was to do with them waits for them to be made again.
    Tasks without inputs are not handed out but queued, as long as that other worker seems to be busy; and Dask looks
    at its queue when a task ends (`Scheduler.remove_worker` doesn't), so that nothing ever happened again.
    """

    name = "premask-refill"
    idempotent = True  # several builds may share a cluster

    def remove_worker(self, scheduler: Any, worker: str, *, stimulus_id: str, **kwargs: Any) -> None:
        """A worker is gone, and all that follows from it is done."""
        scheduler.stimulus_queue_slots_maybe_opened(stimulus_id=stimulus_id)


class Result(beam_dask.DaskRunnerResult):
    """A running pipeline; a local cluster ends with it."""

    def __init__(self, client: Any, futures: Any, stack: contextlib.ExitStack) -> None:
        super().__init__(client, futures)
        self._stack = stack

    def wait_until_finish(self, duration: float | None = None) -> str:
        try:
            self.client.gather(self.futures)  # the digest; Beam's way wants a client for all of the process
        finally:
            self._stack.close()
        return PipelineState.DONE

    def cancel(self) -> str:
        with contextlib.suppress(Exception):
            self.client.cancel(self.futures, force=True)
        self._stack.close()
        return PipelineState.CANCELLED


class _Group(transform_evaluator.GroupByKey):
    """Keys are small integers: the n-th goes to partition n modulo their number."""

    def apply(self, input_bag: Any, side_inputs: Any = None) -> Any:
        few = min(input_bag.npartitions, self.bag_kwargs["npartitions"])
        bag = input_bag.repartition(npartitions=few) if few < input_bag.npartitions else input_bag
        return groupby_tasks(bag, _key, hash=int).map(_unwrapped)


def _key(item: Any) -> int:
    return item[0]


def _unwrapped(item: tuple[int, list[Any]]) -> tuple[int, list[Any]]:
    return item[0], [transform_evaluator.defenestrate(pair[1]) for pair in item[1]]


@contextlib.contextmanager
def connected(address: str | None, workers: int) -> Iterator[Any]:
    """A client of the scheduler, or of a local cluster of so many processes.

    Raises:
        ConfigError: nobody answers there, or the scheduler has no workers.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(dask.config.set(_QUIET))
        if address is None:
            cluster = dask.distributed.LocalCluster(
                n_workers=workers, threads_per_worker=1, processes=True, dashboard_address=":0", silence_logs=50
            )
            address = stack.enter_context(cluster).scheduler_address
        try:
            client = dask.distributed.Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"--scheduler {address}: no Dask scheduler answers: start one with `dask scheduler` ({error})"
            ) from error
        stack.enter_context(client)
        if not client.nthreads():
            raise ConfigError(f"--scheduler {address}: it has no workers: start some with `dask worker {address}`")
        yield client


def look(address: str, output: str, sign: str, inputs: list[str]) -> int:
    """Ask the scheduler and its workers for their versions, and the workers whether they see our files.

    Args:
        address: of the scheduler.
        output: the dataset's folder.
        sign: a file in it that is there now.
        inputs: some files to read.

    Returns:
        How many workers there are.

    Raises:
        ConfigError: nobody answers; one of them has other versions, or a worker doesn't see a file.
    """
    with connected(address, 0) as client:
        _check_versions(address, client)
        told = _ask(address, "workers", lambda: client.run(facts, output, sign, inputs))
    for worker, theirs in sorted(told.items()):
        if not theirs["sees_output"]:
            raise ConfigError(
                f"worker {worker} doesn't see what is written to output {output}: choose a folder on a disk that all "
                "machines share, or a bucket"
            )
        if theirs["lacks"]:
            raise ConfigError(
                f"worker {worker} can't read the input {theirs['lacks'][0]}: put it on a disk that all machines "
                "share, or into a bucket"
            )
    return len(told)


def describe(address: str) -> str:
    """How many workers a scheduler has, their threads, and the versions that all of them have.

    Raises:
        ConfigError: nobody answers, there are no workers, or somebody has other versions.
    """
    with connected(address, 0) as client:
        threads = client.nthreads().values()
        _check_versions(address, client)
    workers = f"{counted(len(threads), 'worker')} with {counted(sum(threads), 'thread')}"
    return f"{workers}, {', '.join(f'{name} {version}' for name, version in versions().items())}"


def _check_versions(address: str, client: Any) -> None:
    """Make sure that the scheduler, which unpacks what it is sent, and all workers have our versions.

    Raises:
        ConfigError: names the first that has another, or can't import us.
    """
    told = _ask(address, "scheduler", lambda: {f"scheduler {address}": client.run_on_scheduler(versions)})
    theirs = _ask(address, "workers", lambda: client.run(versions))
    told |= {f"worker {worker}": found for worker, found in sorted(theirs.items())}
    mine = versions()
    for who, found in told.items():
        for name, value in mine.items():
            if found.get(name) != value:
                raise ConfigError(
                    f"{who} has {name} {found.get(name)}, this machine {value}: install the same version on both"
                )


def _ask(address: str, whom: str, ask: Callable[[], dict[str, dict[str, Any]]]) -> dict[str, dict[str, Any]]:
    """What they answer, by who it is.

    Raises:
        ConfigError: one of them couldn't.
    """
    try:
        return ask()
    except Exception as error:
        why = " ".join(str(error).split())
        raise ConfigError(
            f"--scheduler {address}: its {whom} can't import premask ({why}): install the same version of "
            "premask[dask] there"
        ) from error


def versions() -> dict[str, str]:
    """Of Python, and of what a dataset's bytes depend on, in the process that is asked."""
    return {"Python": ".".join(platform.python_version_tuple()[:2]), **dict(library_versions())}


def facts(output: str, sign: str, inputs: list[str]) -> dict[str, Any]:
    """What a worker sees."""
    from mlm_data.stores.folder import file_info

    def is_there(path: str) -> bool:
        try:
            return file_info(path).is_file
        except Exception:  # whatever it is, the worker can't read it
            return False

    try:
        sees_output = Folder(output).exists(sign)
    except Exception:
        sees_output = False
    return {
        "sees_output": sees_output,
        "lacks": [path for path in inputs if not is_there(path)],
    }


def explain(error: Exception) -> BuildError | None:
    """An error of the cluster itself as one line; None for another."""
    name = type(error).__name__
    if isinstance(error, dask.distributed.KilledWorker):
        return BuildError(
            f"workers died again and again, the last was {error.last_worker.address}: out of memory? {AGAIN}"
        )
    if name in ("FutureCancelledError", "CancelledError", "CommClosedError", "TimeoutError"):
        return BuildError(f"the Dask scheduler is gone: {AGAIN}")
    return None
