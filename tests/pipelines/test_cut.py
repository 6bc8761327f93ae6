"""Evaluations cut out of texts, through whole builds, `clean`, `try`, `plan` and `funnel`."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
import zstandard

from mlm_data.config import BuildConfig
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.settings import parse_settings
from pipelines.build import Built, build
from pipelines.commands.cli import main
from tests.pipelines.curated_corpus import ITEM, SHORT_ITEM, prose
from tests.pipelines.small_corpus import settings

COMMON = "to be or not to be that is the question said the prince of denmark"
MENU = "Home and About and Contact and Imprint of our house"


BEFORE, BEHIND = "Question of a test: ", "? It is all of it so"  # 20 characters each: what the window takes
ITEM_WORDS = ITEM.split()
DRESSED = "PURPLE\nbishops -- juggle: wärm <teapots>"

# name -> (text, what is left of it with a window of 20), beside neighbours that no item touches.
TEXTS: dict[str, tuple[str, str | None]] = {
    "neighbour": (prose(1), prose(1)),
    "whole": (ITEM, ""),
    "middle": (f"{prose(2)}\n\n{BEFORE}{ITEM}{BEHIND}\n\n{prose(3)}", f"{prose(2)}\n\n{prose(3)}"),
    "dressed": (f"{prose(4)}\n\n{BEFORE}{DRESSED}{BEHIND}", prose(4)),
    "too short": (f"Some words that stay here, before them: {ITEM} and few behind.", "Some words that stay"),
    "overlapping": (f"{prose(5)}\n\n{BEFORE}{ITEM} and {SHORT_ITEM}", prose(5)),
    "quotation": (f"{prose(6)} {COMMON}.", f"{prose(6)} {COMMON}."),
    "nearly": (f"{prose(7)} {' '.join(ITEM_WORDS[:12])}.", f"{prose(7)} {' '.join(ITEM_WORDS[:12])}."),
    "shredded": (" ".join(f"{prose(100 + i)} {SHORT_ITEM}." for i in range(4)), None),
    "not shredded": (" ".join(f"{prose(200 + i)} {SHORT_ITEM}." for i in range(3)), None),
    "copy": (f"{prose(5)}\n\n{BEFORE}{ITEM} and {SHORT_ITEM}", prose(5)),  # of "overlapping"
    "menu": (f"{prose(8)}\n{BEFORE}{' '.join(ITEM_WORDS[:9])}\n{MENU}\n{' '.join(ITEM_WORDS[9:])}", prose(8)),
}
KEPT = {"neighbour", "middle", "dressed", "overlapping", "quotation", "nearly", "not shredded", "menu"}
DROPPED = {"empty": 1, "too_short": 1, "shredded": 1, "exact_duplicate": 1}


def write_corpus(folder: Path) -> dict[str, Any]:
    """The texts above as `tests`, quotations and others as `others`, evaluations, and a configuration."""
    (folder / "eval").mkdir(parents=True)
    lines = [json.dumps({"text": text, "name": name}) + "\n" for name, (text, _) in TEXTS.items()]
    (folder / "tests.jsonl").write_text("".join(lines))
    others = [f"{prose(300 + number)} {COMMON}." for number in range(4)]
    others += [f"{MENU}\n{prose(400 + number)}" for number in range(40)]
    lines = [json.dumps({"text": text, "name": f"other {i}"}) + "\n" for i, text in enumerate(others)]
    (folder / "others.jsonl.gz").write_bytes(gzip.compress("".join(lines).encode(), mtime=0))
    (folder / "eval/1.jsonl").write_text(json.dumps({"question": ITEM, "answers": [SHORT_ITEM, "yes it is"]}) + "\n")
    (folder / "eval/2.txt").write_text(f"{COMMON}\n\n{' '.join(ITEM_WORDS[2:])} and {SHORT_ITEM}\n")
    (folder / "eval/empty.txt").write_text("")
    return settings(
        folder,
        inputs=[
            {"path": str(folder / "others.jsonl.gz"), "name": "others", "keep_fields": ["name"]},
            {"path": str(folder / "tests.jsonl"), "name": "tests", "keep_fields": ["name"]},
        ],
        unit_bytes=2_000,
        clean={"min_chars": 30},
        deduplicate={"lines": {"min_chars": 20, "max_copies": 3}},
        decontaminate={"against": str(folder / "eval/*"), "action": "cut", "window": 20, "max_cuts": 3,
                       "max_documents": 4},
    )  # fmt: skip


def run(values: dict[str, Any], **more: Any) -> Built:
    built = build(parse_settings(BuildConfig, values, where="test"), **more)
    assert built is not None
    return built


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cut")
    values = write_corpus(folder)
    (folder / "premask.yaml").write_text(json.dumps(values))
    return folder, values


@pytest.fixture(scope="module")
def built(corpus):
    return run(corpus[1])


@pytest.fixture(scope="module")
def cleaned(corpus, tmp_path_factory):
    """name -> text, of what stays; name -> reason, of what goes."""
    out = tmp_path_factory.mktemp("cleaned")
    argv = ["clean", str(corpus[0] / "premask.yaml"), "--out", str(out / "kept"), "--dropped", str(out / "dropped")]
    assert main([*argv, "--workers", "1"]) == 0
    found = []
    for name in ("kept", "dropped"):
        rows = []
        for path in sorted((out / name / "documents").iterdir()):
            data = zstandard.ZstdDecompressor().stream_reader(path.read_bytes()).read()
            rows += [json.loads(line) for line in data.decode().split("\n") if line]
        found.append({row["name"]: row for row in rows})
    return found


def test_what_is_left_of_each_text(cleaned):
    kept, dropped = cleaned
    assert {name for name in kept if not name.startswith("other")} == KEPT
    assert {name: row["reason"] for name, row in dropped.items()} == {
        "whole": "empty",
        "too short": "too_short",
        "shredded": "shredded",
        "copy": "exact_duplicate",
    }
    for name, (_, left) in TEXTS.items():
        if left is not None:
            assert (kept | dropped)[name]["text"] == left
    assert kept["not shredded"]["scores"]["evaluation_cuts"] == 3
    assert dropped["shredded"]["scores"]["evaluation_cuts"] == 4


def test_no_run_is_left_in_what_stays_but_quotations(cleaned):
    texts = [" ".join(row["text"].lower().split()) for row in cleaned[0].values()]
    assert not any(SHORT_ITEM in text for text in texts)
    runs = [" ".join(ITEM_WORDS[i : i + 13]) for i in range(len(ITEM_WORDS) - 12)]
    assert not any(run in text for text in texts for run in runs)
    assert sum(COMMON in text for text in texts) == 5


def test_an_item_that_a_cut_line_parted_goes_too(cleaned):
    """The menu stands within the item, and is cut as a copy of lines first."""
    assert cleaned[0]["menu"]["text"] == prose(8)


def test_the_ledger_balances_and_says_what_was_cut(built, corpus, cleaned):
    ledger, funnel = built.manifest.ledger, built.manifest.funnel
    assert ledger["documents"]["dropped"] == DROPPED
    assert ledger["documents"]["read"] == len(TEXTS) + 44 == ledger["documents"]["kept"] + 4
    assert sum(counts[2] for counts in funnel.fates.values()) == ledger["tokens"]["tokenized"]
    rows = [*cleaned[0].values(), *cleaned[1].values()]
    lost = sum(row["scores"]["evaluation_chars"] for row in rows)
    cuts = sum(row["scores"]["evaluation_cuts"] for row in rows)
    assert {name: count for name, count in funnel.changes.items() if "evaluations" in name} == {
        "characters cut from tests as evaluations": lost,
        "documents of tests with evaluations cut": 9,
        "evaluations cut from tests": cuts,
    }
    assert lost > 9 * len(SHORT_ITEM)
    assert cuts == 7 + 4 + 3
    assert check_dataset(str(corpus[0] / "out")).ok


def test_each_file_of_evaluations_is_reported(built):
    first, second, empty = built.manifest.ledger["evaluations"]
    assert first == {"file": "1.jsonl", "items": 3, "too_short": 1, "too_common": 0, "checked": 2, "found": 2,
                     "documents": 7}  # fmt: skip
    assert (second["items"], second["too_common"], second["checked"], second["found"]) == (2, 1, 1, 1)
    assert (empty["file"], empty["items"]) == ("empty.txt", 0)


def test_ids_are_those_of_the_uncut_texts(built, corpus, tmp_path):
    values = write_corpus(tmp_path)
    uncut = run(values | {"decontaminate": None})

    def ids(output: str) -> dict[str, bytes]:
        dataset = Dataset.open(output)
        shards = [(s, i) for s in ("train", "validation") for i in range(dataset.num_shards(s))]
        rows = [row for split, i in shards for row in dataset.shard(split, i).documents.to_pylist()]
        return {row["keep.name"]: row["id"] for row in rows}

    before, after = ids(uncut.output), ids(built.output)
    assert after.items() <= before.items()
    assert before.keys() - after.keys() == {"whole", "too short", "shredded"}


@pytest.mark.parametrize(
    ("workers", "beam_args"),
    [
        (2, []),
        (1, ["--direct_runner_bundle_repeat=2"]),
        pytest.param(2, ["--direct_running_mode=multi_processing"], marks=pytest.mark.slow),
    ],
    ids=["threads", "every bundle twice", "processes"],
)
def test_the_digest_does_not_depend_on_the_runner_or_the_folder(built, tmp_path, workers, beam_args):
    again = run(write_corpus(tmp_path), workers=workers, beam_args=beam_args)
    assert again.manifest.digest == built.manifest.digest


def test_what_is_made_again_after_a_change(built, corpus, tmp_path):
    values = write_corpus(tmp_path)
    (tokenizer,) = Path(built.output).glob("tokenizer/*.json")
    values["tokenizer"] = {"path": str(tokenizer)}
    first = run(values)

    def again(**changes: Any) -> Built:
        return run(values | {"decontaminate": values["decontaminate"] | changes})

    assert again(max_cuts=2).num_reused == first.num_units
    assert again(max_cuts=2).manifest.ledger["documents"]["dropped"]["shredded"] == 2
    assert again(window=21).num_reused == 0
    # No run is a quotation any more: units that hold it are made again, the others not.
    assert 0 < again(max_documents=100).num_reused < first.num_units
    path = tmp_path / "eval/2.txt"
    path.write_text(path.read_text() + "another item that stands nowhere in these documents\n")
    assert again().num_reused == 0


def test_try_shows_what_is_cut(corpus, tmp_path, capsys):
    path = tmp_path / "one.txt"
    path.write_text(TEXTS["middle"][0])
    assert main(["try", str(corpus[0] / "premask.yaml"), str(path), "--input", "1", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    change = found["changes"][-1]
    assert (change["step"], change["kinds"]) == ("decontaminate", {"cuts": 1})
    assert change["lines"] == [[f"{BEFORE}{ITEM}{BEHIND}", ""]]
    assert (found["text"], found["reason"]) == (TEXTS["middle"][1], "kept")
    path.write_text(TEXTS["shredded"][0])
    assert main(["try", str(corpus[0] / "premask.yaml"), str(path), "--input", "1"]) == 0
    out = capsys.readouterr().out
    assert "it would be dropped: shredded" in out
    assert "cuts: 4" in out


def test_plan_and_funnel_count_what_is_cut(built, corpus, capsys):
    assert main(["plan", str(corpus[0] / "premask.yaml")]) == 0
    out = capsys.readouterr().out
    assert "evaluations cut from tests" in out
    assert "shredded" in out
    assert main(["funnel", str(corpus[0] / "out")]) == 0
    out = capsys.readouterr().out
    assert "documents of tests with evaluations cut" in out
    assert "decontaminate.cut" in out


def test_evaluations_that_no_document_holds_are_warned_of(tmp_path, capsys):
    values = write_corpus(tmp_path)
    (tmp_path / "eval.txt").write_text("not one of all these documents holds such an item\n")
    values["decontaminate"] = {"against": str(tmp_path / "eval.txt"), "action": "cut"}
    built = run(values)
    assert not any("evaluations" in name for name in built.manifest.funnel.changes)
    assert main(["funnel", built.output]) == 0
    assert "decontaminate is on and has cut nothing" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("decontaminate", "said"),
    [
        ({"action": "cut", "share": 0.3}, "share means something with action: drop only"),
        ({"window": 10}, "window means something with action: cut only"),
        ({"action": "drop", "max_cuts": 1}, "max_cuts means something with action: cut only"),
        ({"action": "mask"}, "action"),
    ],
)
def test_settings_of_the_other_action_are_refused(tmp_path, capsys, decontaminate, said):
    values = write_corpus(tmp_path)
    values["decontaminate"] = {"against": str(tmp_path / "eval/*")} | decontaminate
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(tmp_path / "premask.yaml"), "--workers", "1"]) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert said in lines[0]


def test_evaluations_without_an_item_are_refused(tmp_path, capsys):
    values = write_corpus(tmp_path)
    values["decontaminate"] = {"against": str(tmp_path / "eval/empty.txt"), "action": "cut"}
    (tmp_path / "premask.yaml").write_text(json.dumps(values))
    assert main(["build", str(tmp_path / "premask.yaml"), "--workers", "1"]) == 2
    assert "no item in" in capsys.readouterr().err
