"""The table of runners: where a pipeline can run, what is right for us on each, and what to say of it.

It needs no Beam, so that `premask build --help` can show it at once.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

# Named in full: `DirectRunner` would try to download another runner first.
LOCAL_RUNNER = "apache_beam.runners.portability.fn_api_runner.FnApiRunner"
_HERE = ("localhost", "127.0.0.1", "::1", "[::1]")
_IMAGE = ("--environment_config IMAGE", "an image with premask, for workers on other machines")

Given = Mapping[str, str]  # options as they were given, by name, without the dashes


@dataclass(frozen=True, kw_only=True)
class Runner:
    """A place where pipelines run, and what it offers."""

    name: str
    beam: str  # Beam's name of it, or a class in full
    help: str  # a line
    options: tuple[tuple[str, str], ...] = ()  # those that one needs to know: as one writes it, what it is
    also: tuple[str, ...] = ()  # what others call it
    defaults: Callable[[Given, int], Given] = lambda given, workers: {}  # options that are not given
    needs: tuple[str, ...] = ()  # options without which it can't start
    forms: Mapping[str, tuple[str, str]] = field(default_factory=dict)  # of options: an expression, and an example
    endpoint: str = ""  # the option that names a host and a port, which must answer
    modules: tuple[str, ...] = ()  # what it imports
    extra: str = "build"  # of premask, which installs them
    program: str = ""  # what must be in PATH
    workers: str = ""  # the option that says how many threads or processes work
    is_local: bool = False  # its workers are threads of this process, or end with it
    shares_disk: Callable[[Given], bool] = lambda given: False  # workers surely see this machine's folders


def _local_defaults(given: Given, workers: int) -> Given:
    return {
        "direct_num_workers": str(workers),
        # Threads share one word table, and all that is slow releases the GIL.
        "direct_running_mode": "multi_threading" if workers > 1 else "in_memory",
    }


def _portable_defaults(given: Given, workers: int) -> Given:
    """Workers in this process, where the job server runs on this machine; one process a core elsewhere."""
    is_here = host_of(given.get("job_endpoint", "")) in _HERE
    return {"environment_type": "LOOPBACK"} if is_here and "environment_config" not in given else {}


def _flink_defaults(given: Given, workers: int) -> Given:
    # Threads of one worker share a word table; Flink's slots run in parallel.
    own = {"parallelism": str(workers), "flink_master": "[local]"}
    is_own = given.get("flink_master", "[local]") in ("[local]", "[auto]")
    return own | ({"environment_type": "LOOPBACK"} if is_own else {})


def _spark_defaults(given: Given, workers: int) -> Given:
    return {"spark_master_url": f"local[{workers}]", "spark_cores": str(workers)}


def _dask_defaults(given: Given, workers: int) -> Given:
    return {} if "dask_client_address" in given else {"dask_workers": str(workers)}


def _dataflow_defaults(given: Given, workers: int) -> Given:
    # One process for each core, which is what Beam's batch workers start, and one thread in it: kernels and tokenizers
    # are told the same by the image. 4 GB of memory for a core hold a unit of 64 MiB and its masks.
    machine = {} if "machine_type" in given else {"worker_machine_type": "n2-standard-8"}  # Beam's other name for it
    return machine | {
        "disk_size_gb": "50",
        "number_of_worker_harness_threads": "1",
        "experiments": "use_runner_v2",
    }


def _loops_back(given: Given) -> bool:
    return given.get("environment_type", "").upper() == "LOOPBACK"


RUNNERS = (
    Runner(
        name="local",
        beam=LOCAL_RUNNER,
        also=("FnApiRunner", "DirectRunner", "BundleBasedDirectRunner", LOCAL_RUNNER),
        help="threads of this process",
        options=(("--direct_running_mode multi_processing", "processes instead of threads"),),
        defaults=_local_defaults,
        workers="direct_num_workers",
        is_local=True,
        shares_disk=lambda given: True,
    ),
    Runner(
        name="dask",
        beam="pipelines.dask_runner.DaskRunner",
        also=("DaskRunner",),
        help="a Dask cluster",
        options=(("--scheduler tcp://HOST:8786", "of the cluster; without it a local one of --workers processes"),),
        defaults=_dask_defaults,
        workers="dask_workers",
        endpoint="dask_client_address",
        modules=("dask", "distributed"),
        extra="dask",
        shares_disk=lambda given: True,  # it is looked: every worker is asked whether it sees the files
    ),
    Runner(
        name="spark",
        beam="pipelines.spark_runner.PySparkRunner",
        also=("PySparkRunner",),
        help="Apache Spark through PySpark",
        options=(
            ("--spark_master_url spark://HOST:7077", "of the cluster; without it this machine"),
            ("--spark_cores N", "of the cluster that the build takes"),
        ),
        defaults=_spark_defaults,
        workers="spark_cores",
        modules=("pyspark", "beam_pyspark_runner"),
        extra="spark",
        program="java",
        shares_disk=lambda given: given.get("spark_master_url", "local").startswith("local"),
    ),
    Runner(
        name="flink",
        beam="FlinkRunner",
        also=("FlinkRunner",),
        help="Apache Flink through Beam's job server",
        options=(
            ("--flink_master HOST:8081", "of the cluster; without it a local one"),
            _IMAGE,
        ),
        defaults=_flink_defaults,
        workers="parallelism",
        endpoint="flink_master",
        program="java",
        shares_disk=_loops_back,
    ),
    Runner(
        name="portable",
        beam="PortableRunner",
        also=("PortableRunner",),
        help="any job server of Beam's, such as those of Flink and Spark",
        options=(
            ("--job_endpoint HOST:8099", "of the job server"),
            _IMAGE,
        ),
        defaults=_portable_defaults,
        needs=("job_endpoint",),
        endpoint="job_endpoint",
        shares_disk=_loops_back,
    ),
    Runner(
        name="dataflow",
        beam="DataflowRunner",
        also=("DataflowRunner",),
        help="Google Cloud Dataflow",
        options=(
            ("--project PROJECT", "of Google Cloud"),
            ("--region REGION", "such as us-central1"),
            ("--temp_location gs://BUCKET/tmp", "for Beam's own files"),
            ("--sdk_container_image IMAGE", "the image of the workers"),
        ),
        defaults=_dataflow_defaults,
        needs=("project", "region", "temp_location"),
        forms={"region": (r"[a-z]+(-[a-z]+)+\d+", "us-central1")},  # which Beam doesn't look at
        modules=("apitools",),
        extra="gcp",
    ),
)

SHARED_DISK = ("--shared_disk", "every worker sees the same folders as this machine; with buckets it is not needed")


def host_of(endpoint: str) -> str:
    """The host of an address with a port, with or without a scheme."""
    return re.sub(r"^[a-z+]+://", "", endpoint).rpartition(":")[0]


def explained() -> str:
    """The runners and the options that one needs to know, for the end of a command's help."""
    listed = [("--runner NAME", f"one of those below (default: {RUNNERS[0].name})"), SHARED_DISK]
    lines = ["where it runs:", *_lines(listed)]
    for runner in RUNNERS:
        lines += ["", f"--runner {runner.name}: {runner.help}", *_lines(runner.options)]
    return "\n".join([*lines, "", "All other options are Beam's: its pages on runners list them."])


def _lines(options: Iterable[tuple[str, str]]) -> list[str]:
    return [f"  {option:<40} {what}" for option, what in options]
