"""On an engine of its own, with its scheduler, shuffle and executors: the local digest, and one line."""

import shutil
import subprocess
import sys

import pytest

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON
from tests.pipelines.small_corpus import settings, write_config, write_jsonl

pytest.importorskip("pyspark", reason="premask[spark] is not installed")
pytest.importorskip("beam_pyspark_runner", reason="beam-pyspark-runner is not installed (with --no-deps)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("java") is None, reason="no java in PATH: Spark needs one"),
]


def run(folder):
    """`premask build` on Spark with two executors of one core: two more processes on this machine."""
    options = ["--runner", "spark", "--workers", "2", "--spark_master_url", "local-cluster[2,1,1024]"]
    command = [sys.executable, "-m", "pipelines", "build", write_config(folder), *options]
    return subprocess.run(command, cwd=ROOT, env=PYTHON, capture_output=True, text=True, timeout=600)


def test_the_digest_is_the_local_one_and_a_mistake_is_one_line(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    write_jsonl(tmp_path / "in/b.jsonl", range(30, 90))
    done = run(tmp_path)
    assert done.returncode == 0, done.stderr
    local = build(parse_settings(BuildConfig, settings(tmp_path), where="test"))
    assert local.num_reused == local.num_units
    assert f"digest {local.manifest.digest}" in done.stdout
    with (tmp_path / "in/a.jsonl").open("ab") as file:
        file.write(b"{no json\n" * 20)
    failed = run(tmp_path)
    assert failed.returncode == 2
    (line,) = failed.stderr.strip().splitlines()
    assert "can't be read (bad_json 20)" in line
