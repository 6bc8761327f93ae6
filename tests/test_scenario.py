"""A dataset's life, command by command, as a user types it: what one says, the next one takes.

Two commands have their places marked: `add` after the first tag, `export` before `forget`.
"""

import json
from pathlib import Path

import pytest

from pipelines.commands import cli as premask
from tests.pipelines.small_corpus import settings, text, write_jsonl
from trainer.commands import cli as trainer

SMALL_MODEL = ["layers=2", "width=32", "heads=2", "intermediate=32"]
SMALL_RUN = ["batch_rows=4", "compile=off", "precision=float32", "budget.steps=2", "schedule.warmup_steps=1"]


class User:
    """Types commands, and keeps what they print."""

    def __init__(self, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.folder, self._capsys = folder, capsys
        self.ran: list[str] = []

    def types(self, *words: object, code: int = 0, program=premask) -> str:
        self._capsys.readouterr()
        found = program.main([str(word) for word in words])
        said = self._capsys.readouterr()
        assert found == code, said.err
        self.ran.append(str(words[0]))
        return said.out + said.err

    def asks(self, *words: object) -> dict:
        """With --json."""
        return json.loads(self.types(*words, "--json"))


@pytest.fixture
def user(tmp_path, capsys, monkeypatch) -> User:
    monkeypatch.setenv("MALLOC_TRIM_THRESHOLD_", "1000000")  # else a run begins again in another process with it
    write_jsonl(tmp_path / "in/a.jsonl", range(80))
    write_jsonl(tmp_path / "in/b.jsonl", range(100, 130))
    inputs = [{"path": str(tmp_path / "in/*.jsonl"), "id_field": "url"}]
    (tmp_path / "premask.yaml").write_text(json.dumps(settings(tmp_path, inputs=inputs)))
    return User(tmp_path, capsys)


def holds(folder: Path, one: str) -> set[str]:
    """Files with some text in them."""
    return {
        str(path.relative_to(folder))
        for path in folder.rglob("*")
        if path.is_file() and one.encode() in path.read_bytes()
    }


def test_a_datasets_life(user):
    out, run = user.folder / "out", user.folder / "run"

    # build it, name it
    user.types("build", user.folder / "premask.yaml")
    first = user.asks("verify", out)["digest"]
    user.types("tag", out, "v1")

    # here: premask add OUT in/more.jsonl, tag v2

    # build it again with other inputs; what is the difference?
    write_jsonl(user.folder / "in/c.jsonl", range(200, 220))
    user.types("build", user.folder / "premask.yaml")
    user.types("tag", out, "v2")
    found = user.asks("diff", f"{out}@v1", f"{out}@v2")
    assert found["documents"]["added"]["documents"] == 20
    assert found["documents"]["removed"]["documents"] == 0

    # other masks, other rows, from the same tokens
    remasked = user.asks("remask", out, "--rate", "0.15", "--planes", 2)
    assert remasked["mask"]["rate"] == [0.15, 0.15]
    repacked = user.asks("repack", out, "--length", 128)
    assert (repacked["parent"], repacked["sequence_length"]) == (remasked["digest"], 128)
    user.types("tag", out, "long")

    # train two steps on it, and ask what was in them
    overrides = [*(f"model.{one}" for one in SMALL_MODEL), *SMALL_RUN]
    sets = [word for one in overrides for word in ("--set", one)]
    user.types("run", "--recipe", "tiny", "--data", f"{out}@long", "--out", run, *sets, program=trainer)
    lines = json.loads(user.types("which-docs", out, "--run", run, "--step", 2, "--json"))
    one = lines[0]
    where = user.types("where", out, "--doc", one["id"], "--run", run)
    assert "2" in where
    number = int(next(doc["url"] for doc in read_all(user.folder / "in") if is_it(doc, one))[1:])

    # here: premask export OUT --to parquet

    # a person wants it gone: it is in every version, and in the cache
    assert holds(out, f"u{number}\n") or holds(out, f"u{number}")
    (user.folder / "ids.txt").write_text(f"u{number}\n")
    said = user.asks("forget", out, "--ids", user.folder / "ids.txt", "--purge")
    assert said["forgotten"]["documents"] == 1
    assert first in said["purged"]["versions"]
    assert set(said["purged"]["tags"]) >= {"long"}
    assert said["left_to_you"]["inputs"] == [str(user.folder / "in/*.jsonl")]
    assert holds(out, one["id"]) == holds(out, text(number)[:40]) == set()

    # who comes for what is gone is told, in one line
    line = f"{said['digest'][:16]} takes its place"
    for words in (["verify", f"{out}@long"], ["inspect", f"{out}@v1"], ["where", out, "--doc", "u1", "--run", run]):
        told = user.types(*words, code=2)
        assert line in told
        assert told.strip().count("\n") == 0
    assert line in user.types("log", out)
    for data in (f"{out}@long", out):
        told = user.types("run", "--recipe", "tiny", "--data", data, "--out", run, *sets, code=2, program=trainer)
        assert "purged on" in told
        assert line in told

    # nothing is left over, and what stays is sound
    assert user.asks("gc", out, "--dry-run", "--force")["kinds"].keys() <= {"work"}
    user.types("gc", out, "--force")
    assert user.asks("verify", out)["sound"]
    assert user.asks("where", out, "--doc", "u1")
    assert set(user.ran) >= {"build", "tag", "diff", "remask", "repack", "run", "which-docs", "where", "forget", "gc"}


def read_all(folder: Path) -> list[dict]:
    """All documents of the input, with their file and offset."""
    found = []
    for path in sorted(folder.glob("*.jsonl")):
        offset = 0
        for line in path.read_bytes().splitlines(keepends=True):
            found.append(json.loads(line) | {"source": path.name, "offset": offset})
            offset += len(line)
    return found


def is_it(document: dict, line: dict) -> bool:
    return (document["source"], document["offset"]) == (line["source"], line["offset"])
