"""On a real Dask cluster: the local digest, whoever is killed; and one line for whatever goes wrong."""

import contextlib
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from mlm_data.config import BuildConfig
from mlm_data.dataset.seals import unseal
from mlm_data.errors import BuildError, ConfigError
from mlm_data.settings import parse_settings
from pipelines.build import build
from pipelines.commands.cli import main
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON, another_network, dask_cluster, wait_for
from tests.pipelines.small_corpus import prepared_units, settings, write_config, write_jsonl

pytest.importorskip("distributed", reason="premask[dask] is not installed")
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning")


def corpus(folder, documents=160):
    """Files with copies in each other: 226 copies of 563 were lost where signatures travelled at a bundle's end."""
    fields = {"year": "1850", "author": "nobody"}
    write_jsonl(folder / "in/a.jsonl", range(documents), **fields)
    write_jsonl(folder / "in/b.jsonl", range(documents // 2, documents * 2), **fields)
    return parse_settings(BuildConfig, settings(folder, **inputs(folder)), where="test")


def inputs(folder):
    """They have fields, in another order than that of their names."""
    return {"inputs": [{"path": str(folder / "in/*.jsonl"), "keep_fields": ["year", "author"]}]}


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    """The digest of the local runner."""
    built = build(corpus(tmp_path_factory.mktemp("local")))
    assert built.manifest.ledger["documents"]["dropped"] == {"exact_duplicate": 80}
    return built.manifest.digest


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    with dask_cluster(tmp_path_factory.mktemp("cluster")) as found:
        yield found


def build_and_kill(folder, victim, prepared, seconds=0.0, *, assembled=0, frozen=0.0, **changes):
    """`premask build` as a process, on a cluster one of whose processes is killed once so many units are prepared and
    assembled, or so many seconds after that. Before it dies it stands still for `frozen` seconds.

    Returns:
        (exit code, what it printed, its errors)
    """
    with dask_cluster(folder / "logs") as cluster:
        config = write_config(folder, **inputs(folder), **changes)
        command = [sys.executable, "-m", "pipelines", "build", config, *cluster.args]
        process = subprocess.Popen(
            command, cwd=ROOT, env=PYTHON, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        wait_for(lambda: len(prepared_units(folder)) >= prepared)
        wait_for(lambda: len(list((folder / "out" / "work" / "assembled").glob("*.json"))) >= assembled)
        time.sleep(seconds)
        if frozen:
            victim(cluster).send_signal(signal.SIGSTOP)
            time.sleep(frozen)
        assert process.poll() is None, "the build ended before anything was killed"
        cluster.processes.kill(victim(cluster))
        out, err = process.communicate(timeout=300)
    return process.returncode, out, err


def test_the_digest_is_the_local_one(cluster, local, tmp_path):
    config = corpus(tmp_path)
    built = build(config, beam_args=cluster.args)
    assert built.manifest.digest == local
    assert built.num_reused == 0
    assert not list((tmp_path / "out" / "work" / "runs").iterdir())
    again = build(config, beam_args=cluster.args)
    assert (again.manifest.digest, again.num_reused) == (local, again.num_units)


def test_a_mistake_on_a_worker_is_what_it_was(cluster, tmp_path):
    config = corpus(tmp_path)
    with (tmp_path / "in/a.jsonl").open("ab") as file:
        file.write(b"{no json\n" * 100)
    with pytest.raises(BuildError, match=r"can't be read \(bad_json 100\), more than max_quarantined") as error:
        build(config, beam_args=cluster.args)
    assert "\n" not in str(error.value)
    assert "while running" not in str(error.value)


def test_workers_are_asked_what_they_see(cluster, tmp_path):
    from pipelines import dask_runner

    config = corpus(tmp_path)
    sign, inputs = "premask.yaml", [str(tmp_path / "in/a.jsonl")]
    (tmp_path / sign).write_text("")
    assert dask_runner.look(cluster.address, str(tmp_path), sign, inputs) == len(cluster.workers)
    with pytest.raises(
        ConfigError, match=r"worker tcp://.* doesn't see what is written to output .*elsewhere: choose a"
    ):
        dask_runner.look(cluster.address, str(tmp_path / "elsewhere"), sign, inputs)
    with pytest.raises(ConfigError, match=r"worker tcp://.* can't read the input .*none\.jsonl: put it on a disk"):
        dask_runner.look(cluster.address, str(tmp_path), sign, [*inputs, str(tmp_path / "none.jsonl")])
    assert config.output


@pytest.mark.parametrize("who", ["scheduler", "worker"])
def test_whoever_has_other_versions_is_named(cluster, monkeypatch, capsys, who):
    """The scheduler unpacks what it is sent, so it is asked, too."""
    from dask.distributed import Client

    from pipelines import dask_runner

    old = dask_runner.versions() | {"numpy": "1.0"}
    ask = {"scheduler": "run_on_scheduler", "worker": "run"}[who]
    monkeypatch.setattr(Client, ask, lambda *args: old if who == "scheduler" else {"tcp://far:1": old})
    line = rf"{who} tcp://.*:\d+ has numpy 1\.0, this machine {np.__version__}: install the same version on both"
    with pytest.raises(ConfigError, match=line):
        dask_runner.look(cluster.address, "out", "sign", [])
    assert main(["doctor", *cluster.args]) == 1
    assert re.search(line, capsys.readouterr().out)


def test_doctor_says_what_the_workers_are(cluster, capsys):
    assert main(["doctor", *cluster.args]) == 0
    said = capsys.readouterr().out
    assert "dask: 2 workers with 2 threads, Python 3." in said
    assert f"numpy {np.__version__}" in said


def test_workers_that_cannot_import_us_are_refused(cluster, monkeypatch):
    """As an older version would, which has no such function."""
    from pipelines import dask_runner

    monkeypatch.setattr(dask_runner, "versions", len)  # needs an argument
    with pytest.raises(ConfigError, match=r"its scheduler can't import premask \(.*\): install the same version of"):
        dask_runner.describe(cluster.address)


def test_nobody_logs_what_nobody_asked_for(cluster, tmp_path):
    build(corpus(tmp_path), beam_args=cluster.args)
    for process in (cluster.scheduler, *cluster.workers):
        log = cluster.processes.log(process)
        assert "INFO" in log
        assert "apitools" not in log


def test_a_scheduler_without_workers(tmp_path, capsys):
    config = corpus(tmp_path)
    with dask_cluster(tmp_path / "logs", workers=0) as alone:
        with pytest.raises(ConfigError, match="it has no workers: start"):
            build(config, beam_args=alone.args)
        assert main(["doctor", *alone.args]) == 1
    assert f"it has no workers: start some with `dask worker {alone.address}`" in capsys.readouterr().out


@pytest.mark.slow
def test_a_worker_in_another_network(local, tmp_path):
    """Nothing goes over this machine's own address: the scheduler and one worker are here, the other one is not."""
    with contextlib.ExitStack() as stack:
        try:
            host, there = stack.enter_context(another_network())
        except OSError as error:
            pytest.skip(f"no network namespace can be made: {error}")
        cluster = stack.enter_context(dask_cluster(tmp_path / "logs", host=host, within=[there]))
        config = corpus(tmp_path)
        assert build(config, beam_args=cluster.args).manifest.digest == local
        logs = [cluster.processes.log(worker) for worker in cluster.workers]
        addresses = [re.search(r"Start worker at: +tcp://([0-9.]+):", log)[1] for log in logs]
        assert addresses[0] == host[:-1] + "2"
        assert addresses[1] != addresses[0]
        told = (tmp_path / "out" / "work" / "status").glob("*.json")
        states = [unseal(path.read_bytes(), path.name) for path in told]
        assert len(states) >= 3  # of the build and of each worker


@pytest.mark.slow
def test_a_local_cluster_of_processes(local, tmp_path):
    assert build(corpus(tmp_path), workers=2, beam_args=["--runner", "dask"]).manifest.digest == local


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_time_and_nothing_else(local, tmp_path):
    """SIGKILL in the middle: its tasks are done by the other one."""
    corpus(tmp_path)
    code, out, err = build_and_kill(tmp_path, lambda cluster: cluster.workers[0], 3)
    assert code == 0, err
    assert f"digest {local}" in out


@pytest.mark.parametrize(
    "seconds", [0.3, *(pytest.param(late, marks=pytest.mark.slow) for late in (0.0, 0.1, 0.2, 0.6))]
)
def test_a_worker_that_is_killed_when_all_units_are_prepared(local, tmp_path, seconds):
    """Some steps have had the lost messages, and others get those of the second attempt, which finds the units."""
    units = build(corpus(tmp_path / "local")).num_units
    corpus(tmp_path)
    code, out, err = build_and_kill(tmp_path, lambda cluster: cluster.workers[0], units, seconds)
    assert code == 0, err
    assert f"digest {local}" in out


def test_a_worker_that_is_killed_when_the_other_waits_for_its_results(local, tmp_path):
    """The other seems to be busy, so Dask queued what was to be made again, and never looked at the queue."""
    units = build(corpus(tmp_path / "local")).num_units
    corpus(tmp_path)
    code, out, err = build_and_kill(tmp_path, lambda cluster: cluster.workers[0], units, 0.3, frozen=2.0)
    assert code == 0, err
    assert f"digest {local}" in out


@pytest.mark.slow
@pytest.mark.parametrize(("seconds", "assembled"), [(0.5, 0), (1.0, 0), (0.0, 1), (0.0, 9)])
def test_a_worker_that_is_killed_while_near_duplicates_are_found_or_units_assembled(tmp_path, seconds, assembled):
    """All that the steps after PREPARE have sent is lost with the worker, and made again."""
    changes = {
        "deduplicate": {"near": True, "lines": {"min_chars": 20, "max_copies": 3}},
        "mixing": {"by": "source", "temperature": 0.5},
    }
    folder = tmp_path / "local"
    corpus(folder)
    whole = build(parse_settings(BuildConfig, settings(folder, **inputs(folder), **changes), where="test"))
    corpus(tmp_path)
    code, out, err = build_and_kill(
        tmp_path, lambda cluster: cluster.workers[0], whole.num_units, seconds, assembled=assembled, **changes
    )
    assert code == 0, err
    assert f"digest {whole.manifest.digest}" in out


@pytest.mark.slow
def test_a_scheduler_that_is_killed_is_one_line_and_the_next_start_goes_on(local, tmp_path):
    config = corpus(tmp_path)
    code, _, err = build_and_kill(tmp_path, lambda cluster: cluster.scheduler, 5)
    assert code == 2, err
    (line,) = [line for line in err.splitlines() if line.startswith("premask: ")]
    assert line == err.strip()
    assert re.search("the Dask scheduler is gone: start the build again: it goes on from the units that are", line)
    assert not (tmp_path / "out/LATEST").exists()
    again = build(config)
    assert again.num_reused >= 5
    assert again.manifest.digest == local
