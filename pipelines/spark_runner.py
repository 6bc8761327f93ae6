"""Apache Spark through PySpark: beam-pyspark-runner 0.0.3, made fit for us.

What differs from it: the master is `--spark_master_url`, the session ends with the build, and elements are grouped in
as many partitions as keep the cores busy. Spark runs what was lost with an executor again by itself.

The package pins versions of Beam and PySpark that are years old; it works with those of today, and is installed with
`pip install --no-deps beam-pyspark-runner==0.0.3`.
"""

import os
import sys
from typing import Any

from apache_beam.options.pipeline_options import PipelineOptions
from beam_pyspark_runner import pyspark_runner
from pyspark.sql import SparkSession

PARTITIONS_A_CORE = 2


class Options(PipelineOptions):
    """What our runner takes beside Beam's options."""

    @classmethod
    def _add_argparse_args(cls, parser: Any) -> None:
        parser.add_argument("--spark_cores", type=int, default=1, help="cores that the master gives us, about")


class PySparkRunner(pyspark_runner.PySparkRunner):
    """Runs a pipeline on Spark."""

    def run_pipeline(self, pipeline: Any, options: PipelineOptions) -> Any:
        given = options.get_all_options()
        master = given["spark_master_url"]
        partitions = PARTITIONS_A_CORE * options.view_as(Options).spark_cores
        builder = (
            SparkSession.builder.master(master)
            .config("spark.default.parallelism", partitions)
            .config("spark.ui.enabled", "false")
            .config("spark.ui.showConsoleProgress", "false")
            .config("spark.log.level", "ERROR")
        )
        if master.startswith("local"):  # executors on this machine: the same Python, with the same modules
            os.environ["PYSPARK_PYTHON"] = sys.executable
            builder = builder.config("spark.executorEnv.PYTHONPATH", os.pathsep.join(filter(None, sys.path)))
        session = builder.getOrCreate()
        try:
            return super().run_pipeline(pipeline, options)  # takes the session that is there
        finally:
            session.stop()
