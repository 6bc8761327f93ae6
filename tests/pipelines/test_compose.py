"""The steps in other people's pipelines, in Python and in Beam YAML."""

import json
import subprocess
import sys
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.transforms.display import DisplayData

from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import ConfigError
from pipelines import steps
from pipelines.compose import Build, CleanTexts
from pipelines.runner_table import LOCAL_RUNNER
from tests.conftest import ROOT
from tests.pipelines.small_corpus import write_config, write_jsonl


@pytest.fixture
def config(tmp_path):
    write_jsonl(tmp_path / "in/a.jsonl", range(60))
    return Path(write_config(tmp_path))


def test_a_dataset_in_somebodys_pipeline_and_what_waits_for_it(config):
    with beam.Pipeline(LOCAL_RUNNER) as pipeline:
        digest = pipeline | "Dataset" >> Build(str(config), overrides=["mask.rate=0.2"])
        noted = config.parent / "noted.txt"
        _ = digest | "Note" >> beam.Map(lambda data: noted.write_bytes(data))
    dataset = Dataset.open(config.parent / "out")
    assert noted.read_text() == dataset.digest
    assert dataset.manifest.config["mask"]["rate"] == [0.2, 0.2]


def test_texts_alone(config):
    with beam.Pipeline(LOCAL_RUNNER) as pipeline:
        _ = pipeline | "Texts" >> CleanTexts(str(config), output=str(config.parent / "cleaned"))
    cleaned = json.loads((config.parent / "cleaned/cleaned.json").read_text())
    assert cleaned["ledger"]["documents"]["kept"] == 60
    assert cleaned["reused"] == 0


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_beam_yaml(config):
    """As a person runs it: the provider file is included, and the pipeline is nothing but YAML."""
    description = {
        "pipeline": {
            "transforms": [{"type": "PremaskBuild", "config": {"config": str(config), "overrides": ["seed=7"]}}]
        },
        "providers": [{"include": str(ROOT / "pipelines/beam_providers.yaml")}],
    }
    path = config.parent / "pipeline.yaml"
    path.write_text(json.dumps(description))
    command = [
        sys.executable,
        "-m",
        "apache_beam.yaml.main",
        f"--yaml_pipeline_file={path}",
        f"--runner={LOCAL_RUNNER}",
    ]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    assert Dataset.open(config.parent / "out").manifest.config["seed"] == 7


def test_display_data_says_what_is_built(config):
    shown = DisplayData.create_from(Build(str(config), overrides=["seed=1"])).items
    assert {item.key: item.value for item in shown} == {"config": str(config), "overrides": "seed=1"}


def test_each_part_of_the_graph_says_which_step_it_is(config):
    pipeline = beam.Pipeline(LOCAL_RUNNER)
    _ = pipeline | Build(str(config))
    shown = set()
    for one in pipeline.to_runner_api().components.transforms.values():
        for item in one.display_data:
            shown.add(beam_runner_api_pb2.LabelledPayload.FromString(item.payload).string_value)
    assert {"PREPARE", "SELECT", "DEDUPLICATE", "ASSEMBLE", "PUBLISH"} <= shown


def test_a_mistake_is_told_when_the_transform_is_applied(config):
    with pytest.raises(ConfigError, match=r"mask\.rate"), beam.Pipeline(LOCAL_RUNNER) as pipeline:
        _ = pipeline | Build(str(config), overrides=["mask.rate=7"])


def test_each_step_is_public_and_documented():
    for step in (steps.Units, steps.Prepare, steps.Deduplicate, steps.NearDuplicates, steps.Assemble, steps.Publish):
        assert issubclass(step, beam.PTransform)
        assert step.__doc__
        assert step.expand.__annotations__["return"] is steps.Messages
