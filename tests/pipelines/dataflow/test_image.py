"""The steps of the Dockerfile in a clean virtual environment, and then the launcher, as the Flex Template runs it.

Real are the package index, pip, Beam with Google's clients, and its staging, into a bucket of an emulator. Not real:

- the metadata server of a machine of Google's, by which the launcher finds its credentials: `_Metadata` stands in;
- Dataflow. A launcher writes its job into a bucket (`--template_location`); Dataflow's service starts it from there.
"""

import http.server
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from apache_beam.portability.api import beam_runner_api_pb2

from mlm_data.stores.folder import Folder
from tests.conftest import ROOT
from tests.mlm_data.stores.emulators import BUCKET, Store, google_server
from tests.pipelines.dataflow.test_template import FOLDER, environment, instructions
from tests.pipelines.small_corpus import text

pytestmark = pytest.mark.slow
IMAGE = "us-central1-docker.pkg.dev/my-project/premask/premask:1"


@dataclass(frozen=True)
class Image:
    """What the Dockerfile makes, in other places."""

    python: Path
    work: Path  # its working folder
    environment: dict[str, str]

    def run(self, command: list[str], **more: str) -> subprocess.CompletedProcess[str]:
        environment = self.environment | more
        return subprocess.run(command, cwd=self.work, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Image:
    """Every RUN of the Dockerfile, in order, with what was copied and set before it."""
    root = tmp_path_factory.mktemp("image")
    subprocess.run([sys.executable, "-m", "venv", root / "venv"], check=True)
    tools = root / "venv/bin"
    probe = [tools / "pip", "download", "-q", "--no-deps", "--timeout=10", "--retries=0", "-d", root, "rfc8785"]
    if subprocess.run(probe, capture_output=True, check=False).returncode:
        pytest.skip("no package index can be reached: this test installs what the image holds")
    places = {"/src": str(root / "src"), "/opt/premask": str(root / "opt")}

    def here(value: str) -> str:
        for there, place in places.items():
            value = value.replace(there, place)
        return value

    ours = ("PYTHON", "PREMASK_", "NUMBA_", "VIRTUAL_ENV", "COV_CORE", "AWS_")
    known = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    known["PATH"] = f"{tools}{os.pathsep}{known['PATH']}"
    found = Image(tools / "python", root / "opt", known)
    for place in places.values():
        Path(place).mkdir()
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                _copy(ROOT / source, Path(here(target)), len(sources) > 1)
        elif name == "ENV":
            pass  # what was set so far does not matter for pip; the loops get all of it, as in the image
        elif name == "RUN":
            if "pipelines.warm" in rest:
                known.update({one: here(value) for one, value in environment().items()})
            done = found.run(["bash", "-ec", here(rest)])
            assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return found


def _copy(source: Path, target: Path, into: bool) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy(source, target / source.name if into else target)


def test_what_the_image_holds(image):
    """The Beam of the machine that starts a job; premask, installed and not beside it; compiled loops; no torch."""
    assert not (image.work.parent / "src").exists()
    code = (
        "import apache_beam as beam, google.cloud.storage, premask, pipelines as p; print(beam.__version__, p.__file__)"
    )
    done = image.run([image.python, "-c", code])
    assert done.returncode == 0, done.stderr
    version, path = done.stdout.split()
    assert version == dict(rest.split("=") for name, rest in instructions() if name == "ARG")["BEAM"]
    assert Path(path).is_relative_to(image.python.parent.parent)
    launcher = environment()["FLEX_TEMPLATE_PYTHON_PY_FILE"].partition("site-packages/")[2]
    assert (Path(path).parent.parent / launcher).is_file()
    assert list((image.work / "kernels").rglob("*.nbc"))
    assert image.run([image.python, "-c", "import torch"]).returncode != 0


class _Metadata(http.server.BaseHTTPRequestHandler):
    """A stand-in for the metadata server of Google's machines."""

    def do_GET(self) -> None:
        answers = {
            "/token": {"access_token": "token", "expires_in": 3600, "token_type": "Bearer"},
            "/universe-domain": "googleapis.com",
            "/default/": {"email": "me@my-project.iam.gserviceaccount.com", "scopes": [], "aliases": ["default"]},
        }
        path = self.path.partition("?")[0]
        value = next((value for end, value in answers.items() if path.endswith(end)), "my-project")
        found = value if isinstance(value, str) else json.dumps(value)
        self.send_response(200)
        self.send_header("Metadata-Flavor", "Google")
        self.send_header("Content-Type", "application/json" if found.startswith("{") else "text/plain")
        self.send_header("Content-Length", str(len(found)))
        self.end_headers()
        self.wfile.write(found.encode())

    def log_message(self, *_) -> None:
        pass


@pytest.fixture
def metadata() -> Iterator[dict[str, str]]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Metadata) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        yield {"GCE_METADATA_HOST": address, "GCE_METADATA_IP": address}
        server.shutdown()


@pytest.fixture
def bucket(monkeypatch) -> Iterator[Store]:
    """Text and a configuration, in a bucket."""
    with google_server() as store:
        store.enter(monkeypatch)
        lines = "".join(json.dumps({"text": text(number)}) + "\n" for number in range(60))
        Folder(store.uri("in")).write("a.jsonl", lines.encode())
        config = {
            "name": "web",
            "inputs": [{"path": store.uri("in/*.jsonl")}],
            "output": store.uri("elsewhere"),
            "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 300}},
            "pack": {"sequence_length": 64},
        }
        Folder(store.uri("config")).write("premask.yaml", json.dumps(config).encode())
        yield store


def test_the_launcher_stages_a_job(image, metadata, bucket):
    job_object = "staging/template_launches/1/job_object"
    # What Dataflow's launcher gives: our parameters, those of gcloud, and where the job is to be written.
    command = [
        *(str(image.python), str(_launcher(image))),
        f"--config={bucket.uri('config/premask.yaml')}",
        f"--output={bucket.uri('out')}",
        "--overrides=mask.rate=0.2;seed=1",
        *("--runner=DataflowRunner", "--project=my-project", "--region=us-central1", "--job_name=premask-1"),
        f"--temp_location={bucket.uri('tmp')}",
        f"--staging_location={bucket.uri('staging')}",
        f"--template_location={bucket.uri(job_object)}",
        f"--sdk_container_image={IMAGE}",
    ]
    done = image.run(command, **metadata, **bucket.environment)
    assert done.returncode == 0, done.stderr
    files = dict(Folder(f"gs://{BUCKET}").walk())
    staged = sorted(name.rpartition("/")[2] for name in files if name.startswith("staging/premask-1."))
    assert staged == ["pipeline.pb", "submission_environment_dependencies.txt"]  # and no pickle of a main session
    job = json.loads(Folder(f"gs://{BUCKET}").read(job_object))
    assert (job["name"], job["type"]) == ("premask-1", "JOB_TYPE_BATCH")
    (pool,) = job["environment"]["workerPools"]
    assert (pool["machineType"], pool["diskSizeGb"], pool["numThreadsPerWorker"]) == ("n2-standard-8", 50, 1)
    assert [one["containerImage"] for one in pool["sdkHarnessContainerImages"]] == [IMAGE]
    options = job["environment"]["sdkPipelineOptions"]["options"]
    assert options["pipelineUrl"].endswith("/pipeline.pb")
    graph = beam_runner_api_pb2.Pipeline.FromString(
        Folder(f"gs://{BUCKET}").read(options["pipelineUrl"].removeprefix(f"gs://{BUCKET}/"))
    )
    names = {one.unique_name for one in graph.components.transforms.values()}
    assert {"Plan", "Prepare", "Deduplicate", "Assemble", "Publish"} <= names
    # The tokenizer was trained before the job; nothing is built, and nothing is where the file said.
    assert any(name.startswith("out/tokenizer/") for name in files)
    assert not any(name.startswith(("elsewhere/", "out/rows/", "out/LATEST")) for name in files)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"--project": "Bad_Project"}, "Invalid Project ID (Bad_Project)"),
        ({"--region": "us-central1-a"}, "--region us-central1-a: must look like us-central1"),
        ({"--config": f"gs://{BUCKET}/config/none.yaml"}, "config/none.yaml"),
    ],
)
def test_a_mistake_is_one_line_of_the_launchers_log_and_no_job(image, metadata, bucket, changes, told):
    given = {
        "--config": bucket.uri("config/premask.yaml"),
        "--runner": "DataflowRunner",
        "--project": "my-project",
        "--region": "us-central1",
        "--temp_location": bucket.uri("tmp"),
        "--staging_location": bucket.uri("staging"),
        "--template_location": bucket.uri("staging/job_object"),
    } | changes
    command = [str(image.python), str(_launcher(image)), *(f"{name}={value}" for name, value in given.items())]
    done = image.run(command, **metadata, **bucket.environment)
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("premask-dataflow: ")]
    assert told in line
    assert "Traceback" not in done.stderr
    assert not [name for name, _ in Folder(bucket.uri("staging")).walk()]


def _launcher(image: Image) -> Path:
    name = environment()["FLEX_TEMPLATE_PYTHON_PY_FILE"].partition("site-packages/")[2]
    (site,) = (image.python.parent.parent / "lib").glob("python*/site-packages")
    assert (ROOT / name).parent == FOLDER
    return site / name
