"""Through Beam's job server, as Flink and Spark are reached: the local digest in every environment, and one line."""

import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from mlm_data.build import assemble, cache, publish
from mlm_data.config import BuildConfig
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from pipelines import build as build_module
from pipelines.build import build
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON, as_in_front, job_server, wait_for, worker_pool
from tests.pipelines.small_corpus import prepared_units, settings, write_config, write_jsonl


def corpus(folder):
    write_jsonl(folder / "in/a.jsonl", range(60))
    write_jsonl(folder / "in/b.jsonl", range(30, 90))
    return parse_settings(BuildConfig, settings(folder), where="test")


@pytest.fixture(scope="module")
def local(tmp_path_factory):
    return build(corpus(tmp_path_factory.mktemp("local"))).manifest.digest


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    with job_server(tmp_path_factory.mktemp("server")) as found:
        yield found


def arguments(port, environment, config=""):
    args = ["--runner", "portable", "--job_endpoint", f"localhost:{port}", "--environment_type", environment]
    return [*args, "--shared_disk", *([f"--environment_config={config}"] if config else [])]


def test_workers_in_this_process(server, local, tmp_path):
    built = build(corpus(tmp_path), beam_args=["--runner", "portable", "--job_endpoint", f"localhost:{server[0]}"])
    assert built.manifest.digest == local


def test_a_mistake_is_what_it_was(server, tmp_path):
    config = corpus(tmp_path)
    with (tmp_path / "in/a.jsonl").open("ab") as file:
        file.write(b"{no json\n" * 20)
    with pytest.raises(BuildError, match=r"can't be read \(bad_json 20\), more than max_quarantined") as error:
        build(config, beam_args=arguments(server[0], "LOOPBACK"))
    assert "\n" not in str(error.value)


@pytest.mark.slow
def test_workers_as_processes_of_the_server(server, local, tmp_path):
    worker = f"{sys.executable} -m apache_beam.runners.worker.sdk_worker_main"
    args = arguments(server[0], "beam:env:harness_subprocess_python:v1", worker)
    assert build(corpus(tmp_path), beam_args=args).manifest.digest == local


@pytest.mark.slow
def test_workers_in_a_pool_of_their_own(server, local, tmp_path):
    config = corpus(tmp_path)
    with worker_pool(server[1]) as port:
        args = arguments(server[0], "EXTERNAL", f"localhost:{port}")
        assert build(config, beam_args=args).manifest.digest == local
        with (tmp_path / "in/a.jsonl").open("ab") as file:
            file.write(b"{no json\n" * 20)
        with pytest.raises(BuildError, match=r"can't be read \(bad_json 20\)") as error:
            build(config, beam_args=args)
        assert "\n" not in str(error.value)


@pytest.mark.slow
def test_ctrl_c_ends_a_job_that_can_t_be_cancelled_without_a_version(server, local, tmp_path):
    """Beam's job server in Python goes on with a job that it is told to cancel; but the job may not publish."""
    write_jsonl(tmp_path / "in/c.jsonl", range(200, 1400))
    corpus(tmp_path)
    with worker_pool(server[1]) as port:
        args = arguments(server[0], "EXTERNAL", f"localhost:{port}")
        command = [sys.executable, "-m", "pipelines", "build", write_config(tmp_path), *args]
        process = subprocess.Popen(
            command, cwd=ROOT, env=PYTHON, stderr=subprocess.PIPE, text=True, preexec_fn=as_in_front
        )
        wait_for(lambda: len(prepared_units(tmp_path)) >= 3)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=120)
        assert process.returncode == 130, err
        assert err.strip() == "premask: interrupted: start it again to go on"
        assert not list((tmp_path / "out" / "work" / "runs").iterdir())
        time.sleep(10)
    assert not (tmp_path / "out/LATEST").exists()
    assert build(parse_settings(BuildConfig, settings(tmp_path), where="test")).num_reused >= 3


def take_sign_away(tmp_path, config) -> None:
    (name,) = os.listdir(tmp_path / "out" / "work" / "runs")
    cache.end(Folder(config.output).join("work"), name)


def test_a_build_whose_sign_is_gone_does_nothing_more(tmp_path, monkeypatch):
    config = corpus(tmp_path)
    watcher = build_module.Watcher()
    monkeypatch.setattr(watcher, "running", lambda plan, watch: take_sign_away(tmp_path, config))
    with pytest.raises(BuildError, match="this build was interrupted, so it doesn't publish: start it again to go on"):
        build(config, watcher=watcher)
    assert prepared_units(tmp_path) == []
    assert not (tmp_path / "out/LATEST").exists()
    assert build(config).num_reused == 0


def test_a_build_whose_sign_goes_while_units_are_assembled_writes_no_further_file(tmp_path, monkeypatch):
    config = corpus(tmp_path)
    real, seen = assemble.assemble_shard, []

    def shard(*args, **named):
        if not seen:
            take_sign_away(tmp_path, config)
        seen.append(named["unit"])
        return real(*args, **named)

    monkeypatch.setattr(assemble, "assemble_shard", shard)
    with pytest.raises(BuildError, match="this build was interrupted"):
        build(config)
    assert seen
    assert not (tmp_path / "out/rows").exists()
    assert not (tmp_path / "out/LATEST").exists()
    assert build(config).num_reused > 0


def test_a_build_whose_sign_goes_at_the_last_moment_publishes_nothing(tmp_path, monkeypatch):
    config = corpus(tmp_path)
    real = publish.build_manifest

    def made(**named):
        take_sign_away(tmp_path, config)
        return real(**named)

    with monkeypatch.context() as patched:
        patched.setattr(publish, "build_manifest", made)
        with pytest.raises(BuildError, match="this build was interrupted"):
            build(config)
    assert list((tmp_path / "out/rows").iterdir())
    assert not (tmp_path / "out/LATEST").exists()
    assert build(config).num_reused > 0


def test_a_runner_that_does_not_answer_is_not_waited_for(tmp_path, monkeypatch):
    """Ctrl-C while a job runs elsewhere: it is told to end, and may not publish any more."""
    config = corpus(tmp_path)
    told = threading.Event()
    seen = []

    class Job:
        def wait_until_finish(self):
            seen.extend(os.listdir(tmp_path / "out" / "work" / "runs"))
            raise KeyboardInterrupt

        def cancel(self):
            seen.append(os.listdir(tmp_path / "out" / "work" / "runs"))
            told.set()
            threading.Event().wait(30)

    monkeypatch.setattr(build_module, "CANCEL_SECONDS", 0.1)
    monkeypatch.setattr(build_module.beam.Pipeline, "run", lambda self: Job())
    with pytest.raises(KeyboardInterrupt):
        build(config)
    assert told.is_set()
    assert len(seen[0]) == 32
    assert seen[1] == []
    assert not (tmp_path / "out/LATEST").exists()
