"""Every runner has its row, and what can't work is refused in one line before the first file is read."""

import socket
import subprocess
import sys

import pytest
from apache_beam.options.pipeline_options import SetupOptions

from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from pipelines import runner_table, runners
from pipelines.commands.cli import main
from tests.conftest import ROOT
from tests.pipelines.clusters import PYTHON
from tests.pipelines.small_corpus import refused, settings, write_config, write_jsonl


@pytest.fixture
def folder(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    return tmp_path


def config_of(folder, **changes):
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


@pytest.fixture
def endpoint():
    """A port of this machine where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_names_of_ours_and_of_beam():
    found = {name: runners.find_runner(name).name for runner in runners.RUNNERS for name in (runner.name, *runner.also)}
    assert set(found.values()) == {"local", "dask", "spark", "flink", "portable", "dataflow"}
    assert runners.find_runner("directrunner").name == "local"
    assert runners.find_runner("FNAPIRUNNER").name == "local"


def test_defaults_are_right_for_us_and_give_way_to_what_is_given():
    chosen = runners.choose([], workers=3)
    assert chosen.given == {"direct_num_workers": "3", "direct_running_mode": "multi_threading"}
    assert runners.choose([], workers=1).given["direct_running_mode"] == "in_memory"
    chosen = runners.choose(["--direct_running_mode", "multi_processing", "--runner=DirectRunner"], workers=2)
    assert chosen.given == {"direct_running_mode": "multi_processing", "direct_num_workers": "2"}
    here = runners.choose(["--runner", "portable", "--job_endpoint=localhost:1"], workers=1)
    assert here.given["environment_type"] == "LOOPBACK"
    far = runners.choose(["--runner", "portable", "--job_endpoint=far:1"], workers=1)
    assert "environment_type" not in far.given
    own = runners.choose(["--runner", "flink"], workers=4)
    assert own.given == {"parallelism": "4", "flink_master": "[local]", "environment_type": "LOOPBACK"}


@pytest.mark.parametrize("runner", runners.RUNNERS, ids=lambda runner: runner.name)
def test_what_help_says_of_a_runner_is_understood(runner):
    """Each option that it names is known, to us or to Beam."""
    missing = [name for name in runner.modules if not runners.importlib.util.find_spec(name)]
    if missing and "." in runner.beam:
        pytest.skip(f"{missing[0]} is not installed")
    words = [word for option, _ in runner.options for word in option.replace(" N", " 2").split()]
    text = runner_table.explained()
    assert f"--runner {runner.name}: {runner.help}" in text
    assert all(option in text and what in text for option, what in runner.options)
    if runner.modules and "." in runner.beam:
        runners.importlib.import_module(runner.beam.rpartition(".")[0])
    ours = {"--scheduler": "--dask_client_address"}
    runners.check_beam_args([ours.get(word, word) for word in words])


def test_help_of_what_runs_pipelines_lists_the_runners_and_needs_no_beam(capsys):
    for command in ("build", "clean"):
        assert main([command, "--help"]) == 0
        shown = capsys.readouterr().out
        assert "--runner dask: a Dask cluster\n  --scheduler tcp://HOST:8786 " in shown
        assert "--shared_disk" in shown
    code = (
        "import sys; from pipelines.commands.cli import main; main(['build', '--help'])\n"
        "print('apache_beam' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=PYTHON, capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("False\n")


def test_how_many_work_is_known_but_for_a_cluster(endpoint):
    def number(*args: str, workers: int = 3) -> int:
        return runners.choose(list(args), workers=workers).num_workers

    assert number() == 3
    assert number("--direct_num_workers=2") == 2
    assert number("--runner=flink") == 3
    assert number("--runner=flink", "--parallelism=8", f"--flink_master={endpoint}") == 8
    assert number("--runner=portable", f"--job_endpoint={endpoint}") == 0


def test_no_pickle_of_the_program_goes_to_workers():
    def saves(*args):
        return runners.choose(list(args), workers=1).options.view_as(SetupOptions).save_main_session

    assert saves() is False
    assert saves("--save_main_session") is True


def test_a_scheduler_is_dask_s_client_address():
    pytest.importorskip("distributed", reason="premask[dask] is not installed")
    chosen = runners.choose(["--runner", "dask", "--scheduler", "tcp://h:8786"], workers=2)
    assert chosen.given == {"dask_client_address": "tcp://h:8786"}
    assert (chosen.num_workers, runners.choose(["--runner", "dask"], workers=2).num_workers) == (0, 2)
    with pytest.raises(ConfigError, match="only --runner dask has one"):
        runners.choose(["--scheduler", "tcp://h:8786"], workers=2)


@pytest.mark.parametrize(
    ("args", "told"),
    [
        (["--runner", "spakr"], "--runner spakr: no such runner: did you mean spark?"),
        (["--runner", "x"], "there are local, dask, spark, flink, portable, dataflow"),
        (["--direct_running_mode=fast"], "invalid choice: 'fast'"),
        (["--direct_num_workers"], "expected one argument"),
        (["--runner", "portable"], "--runner portable needs --job_endpoint"),
        (["--runner", "portable", "--job_endpoint", "localhost"], "--job_endpoint localhost: must be HOST:PORT"),
        (
            ["--runner", "portable", "--job_endpoint", "localhost:1"],
            "--job_endpoint localhost:1: nobody answers there: ",
        ),
    ],
)
def test_what_can_t_work_is_one_line_before_anything_is_read(folder, capsys, args, told):
    line = refused(capsys, "build", write_config(folder), *args)
    assert told in line
    assert not (folder / "out").exists()


DATAFLOW = {"runner": "dataflow", "project": "my-project", "region": "us-central1", "temp_location": "gs://bucket/tmp"}


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"project": "Bad_Project"}, "--runner dataflow: Invalid Project ID (Bad_Project)"),
        ({"project": "p"}, "--runner dataflow: Invalid Project ID (p)"),
        ({"region": ""}, "--runner dataflow needs --region"),
        ({"region": "us-central1-a"}, "--region us-central1-a: must look like us-central1"),
        ({"temp_location": "bucket/tmp"}, "Invalid GCS path (bucket/tmp), given for the option: temp_location"),
        ({"job_name": "Bad name"}, "--runner dataflow: Invalid job_name (Bad name)"),
        ({"worker_machine_type": "n2", "num_workers": "x"}, "argument --num_workers: invalid int value: 'x'"),
    ],
)
@pytest.mark.parametrize("sample", [[], ["--sample", "50%"]])
def test_what_beam_says_of_its_options_is_one_line_before_anything_is_read(
    folder, capsys, monkeypatch, changes, told, sample
):
    """Also where a sample is asked for, whose whole is planned first."""
    real = runners.importlib.util.find_spec
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: name == "apitools" or real(name))
    monkeypatch.setattr("pipelines.build.make_plan", lambda *_, **__: pytest.fail("something was read"))
    args = [f"--{name}" if value is None else f"--{name}={value}" for name, value in (DATAFLOW | changes).items()]
    monkeypatch.setattr("pipelines.build.check_output", lambda _: None)  # asks the bucket
    config = write_config(folder, inputs=[{"path": "gs://bucket/*.jsonl"}], output="gs://bucket/out")
    line = refused(capsys, "build", config, *args, *sample)
    assert told in line


def test_places_that_workers_can_t_reach(folder, endpoint):
    args = ["--runner=portable", f"--job_endpoint={endpoint}", "--environment_type=EXTERNAL"]
    chosen = runners.choose([*args, "--environment_config=far:1"], workers=1)
    config = config_of(folder)
    with pytest.raises(ConfigError, match=r"^output .*/out: workers of --runner portable can't reach a folder of this"):
        runners.check(chosen, config, [config.output])
    with pytest.raises(
        ConfigError, match=r"^inputs\.0\.path .*\.jsonl: workers of --runner portable can't read a file"
    ):
        runners.check(chosen, config, ["gs://bucket/out"])
    shared = runners.choose([*args, "--environment_config=far:1", "--shared_disk"], workers=1)
    runners.check(shared, config, [config.output])
    inputs = config_of(folder, inputs=[{"path": "s3://b/*.txt"}])
    runners.check(chosen, inputs, ["gs://bucket/out"])


def test_dataflow_takes_no_folder_of_this_machine(folder, monkeypatch):
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: True)
    place = ["--project=my-project", "--region=us-central1", "--temp_location=gs://bucket/t", "--shared_disk"]
    config = config_of(folder)
    with pytest.raises(
        ConfigError, match="workers of --runner dataflow can't reach a folder of this machine: use a bucket"
    ):
        runners.check(runners.choose(["--runner=dataflow", *place], workers=1), config, [config.output])
    with pytest.raises(ConfigError, match="--runner dataflow needs --region, --temp_location"):
        runners.check(runners.choose(["--runner=dataflow", "--project=p"], workers=1), config, [config.output])


def test_workers_elsewhere_need_an_image(folder, endpoint, monkeypatch):
    monkeypatch.setattr(runners.socket, "create_connection", lambda *_, **__: socket.socket())
    chosen = runners.choose(["--runner=portable", "--job_endpoint=far:8099"], workers=1)
    with pytest.raises(ConfigError, match="workers need an image with premask: name it with --environment_config"):
        runners.check(chosen, config_of(folder, inputs=[{"path": "s3://b/*"}]), ["s3://b/out"])


def test_a_library_that_is_not_there(monkeypatch):
    real = runners.importlib.util.find_spec
    monkeypatch.setattr(runners.importlib.util, "find_spec", lambda name: None if name == "pyspark" else real(name))
    with pytest.raises(
        ConfigError, match=r"^--runner spark: pyspark is not installed: pip install 'premask\[spark\]'$"
    ):
        runners.choose(["--runner", "spark"], workers=1)


def test_a_mistake_on_a_worker_process_is_one_line(folder, capfd):
    """Processes of the local runner write to standard error themselves."""
    with (folder / "in/a.jsonl").open("ab") as file:
        file.write(b"{no json\n" * 20)
    config = write_config(folder)
    capfd.readouterr()
    assert main(["build", config, "--workers", "2", "--direct_running_mode=multi_processing"]) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert "bad_json" in line


def test_more_workers_than_cores_are_warned_of(folder, capsys, monkeypatch):
    monkeypatch.setattr(runners, "num_cores", lambda: 2)
    assert runners.crowded(runners.choose([], workers=2), 2) == ""
    assert runners.crowded(runners.choose(["--runner=dask"], workers=8), 8) == ""
    path = write_config(folder)
    assert main(["build", str(path), "--workers", "3"]) == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "warning" in line]
    assert said == [
        "warning: 3 workers on 2 cores: they wait for each other, and each takes memory: --workers 2 is not slower"
    ]
