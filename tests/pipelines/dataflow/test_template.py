"""The Flex Template, offline: its parameters, its image, and a launcher that starts a job and waits for nothing."""

import importlib.metadata
import importlib.util
import json
import re
import shlex
from pathlib import Path
from unittest import mock

import pytest

from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError
from mlm_data.settings import parse_settings
from pipelines.dataflow import launcher
from pipelines.runners import choose
from tests.conftest import ROOT
from tests.pipelines.small_corpus import settings, write_config, write_jsonl

FOLDER = ROOT / "pipelines/dataflow"
METADATA = json.loads((FOLDER / "template_metadata.json").read_text())
ARGS = [
    "--runner=DataflowRunner",
    "--project=my-project",
    "--region=us-central1",
    "--temp_location=gs://my-bucket/tmp",
    "--staging_location=gs://my-bucket/staging",
]
EXAMPLES = {
    "config": "gs://bucket/premask.yaml",
    "output": "gs://bucket/datasets/web",
    "overrides": "mask.rate=0.15;seed=1",
}


def instructions() -> list[tuple[str, str]]:
    """(instruction, the rest) of the Dockerfile, with continued lines joined and without comments."""
    text = re.sub(r"^#.*\n", "", (FOLDER / "Dockerfile").read_text(), flags=re.M)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [tuple(line.split(maxsplit=1)) for line in lines if line]


def environment() -> dict[str, str]:
    found = {}
    for name, rest in instructions():
        if name == "ENV":
            found |= dict(item.split("=", 1) for item in shlex.split(rest))
    return found


def test_the_metadata_has_the_launchers_parameters():
    actions = {action.dest: action for action in launcher.make_parser()._actions if action.dest != "help"}
    assert [one["name"] for one in METADATA["parameters"]] == list(actions)
    for one in METADATA["parameters"]:
        assert one.get("isOptional", False) == (not actions[one["name"]].required), one["name"]
        assert one["label"]
        assert one["helpText"].endswith((".", "seed=1"))
        assert set(one) <= {"name", "label", "helpText", "isOptional", "regexes"}
        for pattern in one["regexes"]:
            assert re.fullmatch(pattern, EXAMPLES[one["name"]])
            assert not re.fullmatch(pattern, "two\nlines")
    assert {"name", "description", "parameters"} == set(METADATA)


@pytest.fixture
def installed(monkeypatch):
    """As if Google's clients were there: a job is made here, and never sent."""
    real = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name == "apitools" or real(name))


@pytest.mark.usefixtures("installed")
def test_defaults_give_way_to_what_is_given():
    assert choose(ARGS, workers=1).given["worker_machine_type"] == "n2-standard-8"
    given = choose([*ARGS, "--disk_size_gb", "200", "--machine_type=n2-standard-4"], workers=1).given
    assert given["disk_size_gb"] == "200"
    assert "worker_machine_type" not in given
    assert (given["number_of_worker_harness_threads"], given["experiments"]) == ("1", "use_runner_v2")


def test_versions_are_those_of_the_machine_that_starts_a_job():
    arguments = dict(rest.split("=") for name, rest in instructions() if name == "ARG")
    assert arguments["BEAM"] == importlib.metadata.version("apache-beam")
    assert f"apache-beam=={arguments['BEAM']}" in (ROOT / "constraints.txt").read_text()
    bases = [rest for name, rest in instructions() if name == "FROM"]
    assert bases[0].startswith("apache/beam_python3.11_sdk:")
    assert "python311-template-launcher-base" in bases[1]
    assert bases[-1] == "python:3.11-slim"
    assert 'requires-python = ">=3.11"' in (ROOT / "pyproject.toml").read_text()


def test_what_is_copied_is_there_and_not_ignored():
    ignored = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert ignored[0] == "*"
    copied = []
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            copied += rest.split()[:-1]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert f"!{path}" in ignored, path


def test_kernels_are_compiled_for_the_workers_after_all_that_decides_where_and_for_what():
    names = [f"{name} {rest}" for name, rest in instructions()]
    warm = next(i for i, line in enumerate(names) if "python -m pipelines.warm" in line)
    assert any("NUMBA_CACHE_DIR" in line for line in names[:warm])
    assert any("NUMBA_CPU_NAME" in line and "NUMBA_CPU_FEATURES" in line for line in names[:warm])
    assert any("pip install" in line and "rm -rf /src" in line for line in names[:warm])
    assert not any("NUMBA" in line or "pip install" in line for line in names[warm + 1 :])
    folder = next(rest for name, rest in instructions() if name == "WORKDIR")
    assert not folder.startswith("/src")


def test_the_image_starts_as_a_worker_and_names_the_launcher():
    assert instructions()[-1] == ("ENTRYPOINT", '["/opt/apache/beam/boot"]')
    path = environment()["FLEX_TEMPLATE_PYTHON_PY_FILE"]
    assert (ROOT / path.partition("site-packages/")[2]) == Path(launcher.__file__)
    assert {name for name, _ in instructions()} <= {"ARG", "FROM", "COPY", "RUN", "ENV", "WORKDIR", "ENTRYPOINT"}
    for name, rest in instructions():
        if name == "RUN" and "pip install" in rest:
            assert "--no-cache-dir" in rest
            assert "-c /src/constraints.txt" in rest


@pytest.mark.usefixtures("installed")
def test_the_launcher_runs_the_pipeline_and_waits_for_nothing(tmp_path, monkeypatch):
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    config = parse_settings(BuildConfig, settings(tmp_path), where="test")
    result = mock.Mock()
    ran = []
    monkeypatch.setattr("apache_beam.Pipeline.run", lambda self: ran.append(self) or result)
    launcher.launch(config, ARGS)
    assert len(ran) == 1
    assert result.mock_calls == []
    (pipeline,) = ran
    labels = set(pipeline.applied_labels)
    assert {"Plan", "Prepare", "Deduplicate", "Assemble", "Publish"} <= labels
    with pytest.raises(ConfigError, match="Invalid Project ID"):
        launcher.launch(config, [*ARGS, "--project=p"])


@pytest.mark.usefixtures("installed")
def test_each_stage_boundary_carries_a_number_and_bytes(tmp_path, monkeypatch):
    """What is shuffled: keys are whole numbers, values are messages; no pickle, and one shuffle for each step."""
    write_jsonl(tmp_path / "in/a.jsonl", range(40))
    config = parse_settings(BuildConfig, settings(tmp_path), where="test")
    ran = []
    monkeypatch.setattr("apache_beam.Pipeline.run", lambda self: ran.append(self))
    launcher.launch(config, ARGS)
    components = ran[0].to_runner_api().components
    shuffles = [one for one in components.transforms.values() if one.spec.urn == "beam:transform:group_by_key:v1"]
    assert len(shuffles) == len(["PREPARE", "SELECT", "DEDUPLICATE", "ASSEMBLE", "PUBLISH"])
    for one in shuffles:
        (name,) = one.inputs.values()
        coder = components.coders[components.pcollections[name].coder_id]
        assert coder.spec.urn == "beam:coder:kv:v1"
        key, value = (components.coders[inner].spec.urn for inner in coder.component_coder_ids)
        assert (key, value) == ("beam:coder:varint:v1", "beam:coder:bytes:v1")


def test_places_that_workers_cannot_reach_are_refused(tmp_path):
    path = Path(write_config(tmp_path))
    with pytest.raises(ConfigError, match="workers of --runner dataflow can't reach a folder"):
        launcher.read_config(str(path), None, [])
    write_config(tmp_path, inputs=[{"path": "gs://b/x/*.jsonl"}])
    config = launcher.read_config(str(path), "gs://b/out", ["mask.rate=0.2"])
    assert (config.output, config.mask.rate) == ("gs://b/out", 0.2)


def test_a_mistake_is_one_line_and_exit_code_2(tmp_path, capsys):
    assert launcher.main(["--config", str(tmp_path / "none.yaml")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert err.startswith("premask-dataflow: ")
