"""A dataset's life, command by command, as a user types it: what one says, the next one takes."""

import json
from pathlib import Path

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.derive.forget import whole_documents
from mlm_data.derive.version import shards_of
from pipelines.commands import cli as premask
from tests.mlm_data.derive.test_purge import traces
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
    values = settings(tmp_path, inputs=inputs, deduplicate={"near": {}})
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    return User(tmp_path, capsys)


ADDED, COPIES = (
    300,
    {3: 900, 300: 901},
)  # a text of the added file; texts of which it has near copies, and their numbers


def write_more(path: Path) -> None:
    """Ten new texts, a near copy of an old text, and one of a new text."""
    write_jsonl(path, range(ADDED, ADDED + 10))
    with path.open("a", encoding="utf-8") as file:
        for number, copy in COPIES.items():
            file.write(json.dumps({"text": text(number) + " Again.", "url": f"u{copy}"}) + "\n")


def sought(datasets: list[Dataset], numbers: set[int]) -> dict:
    """What shows some texts, for `traces`: the texts, their ids of tokens, and names of documents."""
    ids, names = {}, set()
    own = {f"u{number}": number for number in numbers}
    for dataset in datasets:
        for shard in shards_of(dataset):
            tokens, offsets, *_ = whole_documents(shard, dataset.reference())
            for place, line in enumerate(shard.documents.select(["id", "id_field"]).to_pylist()):
                if line["id_field"] in own:
                    ids[own[line["id_field"]]] = tokens[offsets[place] : offsets[place + 1]]
                    names |= {line["id"], line["id"].hex().encode()}
    return {"texts": {number: text(number) for number in numbers - {*COPIES.values()}}, "ids": ids, "names": names}


def test_a_datasets_life(user):
    out, run = user.folder / "out", user.folder / "run"

    # build it, name it
    user.types("build", user.folder / "premask.yaml")
    first = user.asks("verify", out)["digest"]
    user.types("tag", out, "v1")

    # more files come: what is nearly there already stays out
    write_more(user.folder / "in/more.jsonl")
    added = user.asks("add", out, user.folder / "in/more.jsonl")
    assert added["parent"] == first
    assert added["added"]["documents"]["kept"] == 10
    assert added["added"]["documents"]["dropped"] == {"near_duplicate": 2}
    user.types("tag", out, "more")

    # build it again with other inputs; what is the difference?
    write_jsonl(user.folder / "in/c.jsonl", range(200, 220))
    user.types("build", user.folder / "premask.yaml")
    user.types("tag", out, "v2")
    for old, number in (("v1", 30), ("more", 20)):
        found = user.asks("diff", f"{out}@{old}", f"{out}@v2")
        documents = found["documents"]
        assert documents["added"]["documents"] - documents["removed"]["documents"] == number
        assert documents["removed"]["documents"] <= len(COPIES)  # of two near copies another one may stay

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

    # files for another trainer and for people, in the dataset's own folder; a report, a card
    exported = [user.asks("export", out, "--to", kind, "--detokenize") for kind in ("parquet", "jsonl")]
    assert all(Path(made["folder"]).is_relative_to(out / "exports") for made in exported)
    user.types("report", out, "--out", out / "reports/books.html")
    assert 'license: "cc-by-4.0"' in user.types("card", out, "--license", "cc-by-4.0")

    # somebody wants two texts gone, and a near copy of one: they are in every version, and in the cache
    gone = {number, ADDED, COPIES[ADDED]}
    wanted = sought([Dataset.open(f"{out}@{name}") for name in ("more", "v2")], gone)
    assert len(wanted["ids"]) == 2, "the one, and of two near copies the one that stayed"
    before = traces(out, **wanted)
    assert {"rows", "documents", "signatures", "work", "versions"} <= {one.split("/")[0] for one in before}
    assert list(out.glob("exports/**/*.jsonl*"))
    (user.folder / "ids.txt").write_text("".join(f"u{number}\n" for number in gone))
    said = user.asks("forget", out, "--ids", user.folder / "ids.txt", "--purge")
    assert said["forgotten"]["documents"] == 2
    assert added["digest"] in said["purged"]["versions"]
    assert set(said["purged"]["tags"]) >= {"more", "long"}
    assert said["left_to_you"]["inputs"] == [str(user.folder / "in/*.jsonl")]
    assert traces(out, **wanted) == set()
    assert not list(out.glob("exports/**/*.*")) + list(out.rglob("*.html")), "they may show the texts in any form"

    # who comes for what is gone is told, in one line
    line = f"{said['digest'][:16]} takes its place"
    for words in (["verify", f"{out}@long"], ["inspect", f"{out}@more"], ["where", out, "--doc", "u1", "--run", run]):
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
    walked = "build tag add diff remask repack run which-docs where export report card forget gc verify"
    assert set(user.ran) >= set(walked.split())


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
