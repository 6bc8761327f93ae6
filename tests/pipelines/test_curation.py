"""All of curation through whole builds: who is dropped and why, that nothing is lost, and that it stays the same."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from mlm_data import seeds
from mlm_data.config import BuildConfig
from mlm_data.curation.rules import QUALITY_REASONS
from mlm_data.curation.thresholds import (
    BEFORE_QUALITY,
    CONTAMINATED,
    EXACT_DUPLICATE,
    FORGOTTEN,
    NEAR_DUPLICATE,
    THINNED,
)
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.errors import PremaskError
from mlm_data.hashing import hash128
from mlm_data.settings import parse_settings
from mlm_data.tokens.bert import bert_settings
from pipelines.build import Built, build
from pipelines.commands.cli import main
from tests.pipelines.curated_corpus import FIRST, QUALITY, SHORT_ITEM, WEB, changed, everything, prose, write_corpus
from tests.pipelines.small_corpus import settings, write_jsonl


def run(values: dict[str, Any], **more: Any) -> Built:
    built = build(parse_settings(BuildConfig, values, where="test"), **more)
    assert built is not None
    return built


def write_texts(path: Path, texts: list[str], **fields: str) -> None:
    """One document for each text; its url is its number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps({"text": text, "url": str(i), **fields}) + "\n" for i, text in enumerate(texts)))


def documents(output: Path | str) -> list[dict[str, Any]]:
    """The documents of a dataset, with the split."""
    dataset = Dataset.open(output)
    return [
        {"split": split, **document}
        for split in ("train", "validation")
        for shard in range(dataset.num_shards(split))
        for document in dataset.shard(split, shard).documents.to_pylist()
    ]


def examples(folder: Path, digest: str) -> list[dict[str, Any]]:
    path = folder / f"out/versions/{digest}.dropped.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("curated"))


@pytest.fixture(scope="module")
def built(folder):
    return run(everything(folder))


def line_at(folder: Path, source: str, offset: int) -> dict[str, str]:
    data = (folder / source.partition("/")[2]).read_bytes()
    return json.loads(data[offset:].split(b"\n")[0])


def test_every_reason_has_a_document_of_its_own():
    """Here, and of those that this corpus can't have beside the others in the tests that are named."""
    elsewhere = {
        "shredded": "test_cut.py",
        "thinned": "test_documents_are_thinned_after_copies_are_gone",
        "forgotten": "commands/test_forget.py",
    }
    later = {EXACT_DUPLICATE, NEAR_DUPLICATE, CONTAMINATED, THINNED, FORGOTTEN, "classifier"}
    filters = {name for name in WEB if name.startswith("custom:")}
    assert {*WEB, *elsewhere} == {*BEFORE_QUALITY[1:], *later, *filters}
    assert set(QUALITY) < set(QUALITY_REASONS)  # all of them are in tests/mlm_data/curation/test_rules.py


@pytest.mark.parametrize("reason", [*WEB, *QUALITY])
def test_a_document_goes_for_exactly_this_reason_and_its_neighbour_stays(built, folder, reason):
    fates = {}
    for example in examples(folder, built.manifest.digest):
        if example["input"] in ("web", "quality"):
            fates[line_at(folder, example["source"], example["offset"])["url"]] = example["reason"]
    kept = {document["keep.url"] for document in documents(folder / "out")}
    host = "www.spam.example" if reason == "blocked_domain" else "good.example"
    assert fates[f"https://{host}/{reason}/goes"] == reason
    assert f"https://notspam.example/{reason}/stays" in kept
    assert built.manifest.ledger["documents"]["dropped"][reason] == 1


def test_nothing_else_is_dropped_and_thinned_is_what_a_weight_drops(built):
    dropped = dict(built.manifest.ledger["documents"]["dropped"])
    thinned = dropped.pop("thinned")
    assert dropped == dict.fromkeys(sorted([*WEB, *QUALITY]), 1)
    fates = built.manifest.funnel.fates
    assert fates["crawl", "en", "thinned"][0] == thinned
    assert fates["crawl", "en", "kept"][0] == 10 - thinned


def test_an_example_of_a_near_duplicate_names_what_stayed_instead(built, folder):
    (example,) = [one for one in examples(folder, built.manifest.digest) if one["reason"] == "near_duplicate"]
    source, _, offset = example["kept"].rpartition(" at ")
    assert line_at(folder, source, int(offset))["text"] == FIRST["near_duplicate"]


def test_the_funnel_adds_up_to_the_ledger(built, folder):
    ledger, funnel = built.manifest.ledger, built.manifest.funnel
    by_reason = funnel.by("reason")
    (kept, _, kept_tokens) = by_reason.pop(("kept",))
    counts = ledger["documents"]
    assert {reason: found[0] for (reason,), found in by_reason.items()} == counts["dropped"]
    assert kept + counts["repeated"] == counts["kept"] == len(documents(folder / "out"))
    assert sum(found[0] for found in funnel.fates.values()) == counts["read"]
    tokens = ledger["tokens"]
    assert {reason: found[2] for (reason,), found in by_reason.items() if found[2]} == tokens["dropped"]
    assert kept_tokens + tokens["repeated"] == tokens["in_rows"]
    assert sum(found[2] for found in funnel.fates.values()) == tokens["tokenized"]
    assert counts["read"] + counts["repeated"] == counts["kept"] + sum(counts["dropped"].values())


def test_what_cleaning_has_changed_is_counted(built):
    changes = built.manifest.funnel.changes
    assert (changes["email replaced"], changes["phone replaced"]) == (1, 1)
    menu = "Home and About and Contact and Imprint of our house"
    assert changes["characters cut as copies of lines"] == (24 - 5) * (len(menu) + 1)
    assert changes["characters cut by the lines of refinedweb"] > 0


def test_the_evaluations_are_reported(built):
    (report,) = built.manifest.ledger["evaluations"]
    assert report == {
        "file": "evaluation.jsonl", "items": 3, "too_short": 1, "too_common": 0, "checked": 2, "found": 1,
        "documents": 1,
    }  # fmt: skip


def test_the_dataset_is_sound_and_vouches_for_its_examples(built, folder, tmp_path):
    report = check_dataset(str(folder / "out"))
    assert report.problems == ()
    shutil.copytree(folder / "out", tmp_path / "out")
    path = tmp_path / f"out/versions/{built.manifest.digest}.dropped.jsonl"
    path.write_text(path.read_text().replace("near_duplicate", "near_duplicatf"))
    assert any("dropped.jsonl" in line for line in check_dataset(str(tmp_path / "out")).problems)


LOOSER = {
    "min_chars": 300,
    "languages": {"keep": ["en", "de"], "min_score": 0.01},
    "max_words_removed": 0.5,
    "classifier": {"label": "__label__hq", "min": 0.3},
}


def other_thresholds(folder: Path) -> dict[str, Any]:
    """`everything` with every threshold changed."""
    values = everything(folder)
    clean = values["clean"] | LOOSER
    clean["classifier"] = clean["classifier"] | {"path": values["clean"]["classifier"]["path"]}
    quality = [
        {"gopher_repetition": {"max_repeated_lines": None}},
        {"gopher_quality": {"min_words": 20}},
        {"c4": {"min_sentences": 1, "curly_bracket": False}},
        {"fineweb": {"max_short_lines": 0.5}},
        {"by_language": False},
    ]
    weights = (0.5, 1.0, 2.5, 1.0, 2.0)
    inputs = [item | {"weight": weight} for item, weight in zip(values["inputs"], weights, strict=True)]
    inputs[1]["quality"] = quality
    return values | {
        "inputs": inputs,
        "clean": clean,
        "deduplicate": values["deduplicate"] | {"exact": False, "near": {"bands": 28, "rows": 4, "verify": 0.5}},
        "decontaminate": values["decontaminate"] | {"share": 0.1, "max_documents": 3},
        "mixing": {"by": "language", "temperature": 0.3},
    }


def test_other_thresholds_read_and_tokenize_nothing_again(built, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    values = other_thresholds(folder) | {"output": str(tmp_path / "copy/out")}
    again = run(values)
    assert again.manifest.digest != built.manifest.digest
    assert (again.num_reused, again.num_remade) == (again.num_units, 0)
    assert check_dataset(again.output).ok


@pytest.mark.parametrize(
    ("workers", "beam_args"),
    [
        (2, []),
        (1, ["--direct_runner_bundle_repeat=2"]),
        (2, ["--direct_running_mode=multi_processing"]),
    ],
    ids=["threads", "every bundle twice", "processes"],
)
def test_the_digest_does_not_depend_on_the_runner_or_the_folder(built, tmp_path, workers, beam_args):
    again = run(everything(write_corpus(tmp_path / "elsewhere")), workers=workers, beam_args=beam_args)
    assert again.manifest.digest == built.manifest.digest


def test_the_digest_is_the_same_after_half_of_the_cache_is_gone_or_damaged(built, folder, tmp_path):
    shutil.copytree(folder, tmp_path / "copy")
    work = tmp_path / "copy/out/work"
    files = sorted(path for path in work.rglob("*") if path.is_file())
    assert len(files) > 12
    for path in files[::3]:
        path.unlink()
    for number, path in enumerate(files[1::3]):
        data = bytearray(path.read_bytes())
        data[number * 997 % len(data)] ^= 4
        path.write_bytes(data)
    for name in ("LATEST", "versions", "rows", "masks", "documents"):
        path = tmp_path / "copy/out" / name
        path.unlink() if path.is_file() else shutil.rmtree(path)
    again = run(everything(folder) | {"output": str(tmp_path / "copy/out")})
    assert 0 < again.num_remade < again.num_units
    assert again.manifest.digest == built.manifest.digest


# Who stays.


def fates(folder: Path, *inputs: str, **changes: Any) -> tuple[dict[str, set[str]], Built]:
    """What became of each document, by its url: reasons, and "kept" for as often as it is in the dataset."""
    paths = [{"path": str(folder / name), "keep_fields": ["url"], "name": name[0]} for name in inputs]
    values = settings(folder, inputs=paths, unit_bytes=5_000, clean={"min_chars": 1}, split={"validation": 0})
    built = run(values | changes)
    found: dict[str, set[str]] = {}
    for document in documents(folder / "out"):
        found.setdefault(document["keep.url"], set()).add("kept")
    path = folder / f"out/versions/{built.manifest.digest}.dropped.jsonl"
    for line in path.read_text().splitlines() if path.exists() else ():
        example = json.loads(line)
        url = line_at(folder, example["source"], example["offset"])["url"]
        found.setdefault(url, set()).add(example["reason"])
    assert check_dataset(str(folder / "out")).ok
    return found, built


def lines_of(path: Path, **texts: str) -> None:
    path.write_text("".join(json.dumps({"text": text, "url": url}) + "\n" for url, text in texts.items()))


def test_what_quality_drops_is_never_the_copy_that_stays(tmp_path):
    """The first of the copies, in an input with a preset that it fails; the others in one without."""
    short = prose(1, 1)
    lines_of(tmp_path / "a.jsonl", a_exact=short, a_near=changed(2, 0) + " {", fill=prose(50))
    lines_of(tmp_path / "b.jsonl", b_exact=short, b_near=changed(2, 1), b_again=changed(2, 0) + " {")
    inputs = [
        {"path": str(tmp_path / "a.jsonl"), "keep_fields": ["url"], "name": "a", "quality": ["gopher_quality", "c4"]},
        {"path": str(tmp_path / "b.jsonl"), "keep_fields": ["url"], "name": "b"},
    ]
    found, _ = fates(tmp_path, inputs=inputs, deduplicate={"near": True})
    assert found == {
        "a_exact": {"gopher_quality:too_few_words"},
        "a_near": {"c4:too_few_sentences"} if "c4:too_few_sentences" in found["a_near"] else {"c4:curly_bracket"},
        "fill": {"kept"},
        "b_exact": {"kept"},
        "b_near": {"kept"} if "kept" in found["b_near"] else {"near_duplicate"},
        "b_again": {"kept"} if "kept" in found["b_again"] else {"near_duplicate"},
    }
    assert ("kept" in found["b_near"]) + ("kept" in found["b_again"]) == 1


def test_of_each_family_one_stays_whatever_the_rules_that_find_it(tmp_path):
    """Twelve families of exact and near copies over three inputs; each keeps one document, each text has its say."""
    generator = np.random.default_rng(4)
    rows: list[list[tuple[str, str]]] = [[], [], []]
    for family in range(12):
        kinds = [changed(family, 0), changed(family, 1), changed(family, 2), changed(family, 0) + " Again."]
        members = [*kinds, kinds[0], kinds[1]]
        for member, place in enumerate(generator.integers(0, 3, len(members))):
            rows[place].append((f"{family}.{member}", members[member]))
    for name, some in zip("abc", rows, strict=True):
        generator.shuffle(some)
        lines_of(tmp_path / f"{name}.jsonl", **dict(some))
    found, built = fates(tmp_path, "a.jsonl", "b.jsonl", "c.jsonl", deduplicate={"near": True})
    kept = sorted(int(url.partition(".")[0]) for url, names in found.items() if "kept" in names)
    assert kept == list(range(12))
    dropped = built.manifest.ledger["documents"]["dropped"]
    assert sum(dropped.values()) == 12 * 5
    assert set(dropped) == {"exact_duplicate", "near_duplicate"}


@pytest.mark.parametrize(
    ("first", "second", "stays"),
    [
        ({"x": changed(1, 0)}, {"y": changed(1, 0) + " And longer."}, "x"),  # the order of inputs
        ({"x": changed(1, 0), "y": changed(1, 0) + " And longer."}, {}, "y"),  # the longer
        ({"x": changed(1, 0), "y": changed(1, 0)}, {"z": changed(1, 0)}, "z"),  # of equal texts the reading order
    ],
    ids=["input", "length", "reading order"],
)
def test_who_stays(tmp_path, first, second, stays):
    lines_of(tmp_path / "z.jsonl", **first, one=prose(70))
    lines_of(tmp_path / "a.jsonl", **second, other=prose(71))  # its units come first, its input does not
    found, _ = fates(tmp_path, "z.jsonl", "a.jsonl", deduplicate={"near": True})
    assert {url for url, names in found.items() if "kept" in names} == {stays, "one", "other"}


def test_equally_long_near_duplicates_stay_by_id(tmp_path):
    one, other = changed(1, 0), changed(1, 0).replace("years", "yearz")
    lines_of(tmp_path / "a.jsonl", x=one, y=other, fill=prose(70))
    fates(tmp_path, "a.jsonl", deduplicate={"near": True})
    kept = [document for document in documents(tmp_path / "out") if document["keep.url"] != "fill"]
    (example,) = examples(tmp_path, Dataset.open(tmp_path / "out").manifest.digest)
    assert len(kept) == 1
    ids = [np.frombuffer(value, "<u8").tolist() for value in (kept[0]["id"], bytes.fromhex(example["id"]))]
    assert ids[0] < ids[1]


def test_fifty_thousand_equal_short_texts_beside_a_near_one(tmp_path):
    text = "the river and the stone and the house"
    lines_of(tmp_path / "a.jsonl", x=text, y=prose(1))
    with (tmp_path / "a.jsonl").open("a") as file:
        file.write((json.dumps({"text": text, "url": "z"}) + "\n") * 50_000)
    tokenizer = {"train": {"kind": "characters", "vocab_size": 100}}
    changes = {"unit_bytes": 2**30, "deduplicate": {"exact": False, "near": True}, "tokenizer": tokenizer}
    _, built = fates(tmp_path, "a.jsonl", **changes)
    assert built.manifest.ledger["documents"]["dropped"] == {"near_duplicate": 50_000}


# Weights and shares.


def copies(folder: Path) -> dict[str, list[tuple[int, str]]]:
    found: dict[str, list[tuple[int, str]]] = {}
    for document in documents(folder / "out"):
        found.setdefault(document["id"].hex(), []).append((document["copy"], document["split"]))
    return {id_: sorted(some) for id_, some in found.items()}


@pytest.mark.parametrize("exact", [True, False])
@pytest.mark.parametrize("weight", [0.5, 1.5, 2.5])
def test_a_weight_is_how_often_a_document_is_there(tmp_path, weight, exact):
    write_jsonl(tmp_path / "a.jsonl", [*range(100), *range(10)])
    inputs = [{"path": str(tmp_path / "a.jsonl"), "weight": weight}]
    built = run(settings(tmp_path, inputs=inputs, split={"validation": 0.3}, deduplicate={"exact": exact}))
    found = copies(tmp_path)
    counts = built.manifest.ledger["documents"]
    kept = counts["kept"]
    texts = 100 if exact else 110
    assert abs(kept - weight * texts) < 15
    assert counts["read"] + counts.get("repeated", 0) == kept + sum(counts["dropped"].values())
    assert counts.get("repeated", 0) == (kept - texts + counts["dropped"].get("thinned", 0))
    for some in found.values():
        assert len({split for _, split in some}) == 1
        assert len({copy for copy, _ in some}) == len(some)
        if exact:
            assert {len(some)} <= {int(weight), int(weight) + 1}
    assert check_dataset(str(tmp_path / "out")).ok


def test_who_is_thinned_follows_from_the_seed_and_the_text_alone(tmp_path):
    """Not from the file, the order, the units, or what else there is."""
    write_jsonl(tmp_path / "a.jsonl", range(100))
    write_jsonl(tmp_path / "b/one.jsonl", reversed(range(40, 100)))
    write_jsonl(tmp_path / "b/two.jsonl", range(40))
    write_jsonl(tmp_path / "c.jsonl", range(200, 250))

    def kept(*names: str, **changes: Any) -> set[bytes]:
        inputs = [
            {"path": str(tmp_path / name), "weight": weight} for name, weight in zip(names, (0.3, 1), strict=False)
        ]
        run(settings(tmp_path, inputs=inputs) | changes)
        return {document["id"] for document in documents(tmp_path / "out") if document["source"] != "c.jsonl"}

    first = kept("a.jsonl")
    texts = [json.loads(line)["text"] for line in (tmp_path / "a.jsonl").read_text().splitlines()]
    key = seeds.fold(np.uint64(0), seeds.WEIGHT)
    billion = np.uint64(1_000_000_000)
    expected = set()
    for one in hash128(pa.array(texts, pa.large_string())):
        draw = seeds.draw(np.uint64(seeds.fold(np.uint64(key), one[0])), np.uint64(0))
        if int(seeds.below(np.uint64(draw), billion)) < 300_000_000:
            expected.add(one.tobytes())
    assert first == expected
    assert 15 < len(first) < 45
    assert kept("b/*.jsonl", "c.jsonl", unit_bytes=3_000) == first
    assert kept("a.jsonl", seed=1) != first


def test_documents_are_thinned_after_copies_are_gone(tmp_path):
    """A copy in an input that keeps all doesn't take the place of what another input's weight leaves out."""
    first = {f"a{number}": prose(number) for number in range(40)}
    near = {f"near{number}": changed(number + 500, 0) + " And so on." for number in range(20)}
    lines_of(tmp_path / "a.jsonl", **first, **near)
    again = {f"b{number}": prose(number) for number in range(40)}
    lines_of(
        tmp_path / "b.jsonl", **again, **{f"c{number}": changed(number + 500, 1) for number in range(20)}, x=prose(99)
    )
    inputs = [
        {"path": str(tmp_path / "a.jsonl"), "keep_fields": ["url"], "weight": 0.5},
        {"path": str(tmp_path / "b.jsonl"), "keep_fields": ["url"]},
    ]
    built = run(settings(tmp_path, inputs=inputs, clean={"min_chars": 1}, deduplicate={"near": True}))
    kept = {document["keep.url"] for document in documents(tmp_path / "out")}
    counts = built.manifest.ledger["documents"]["dropped"]
    assert counts == {"exact_duplicate": 40, "near_duplicate": 20, "thinned": 60 - (len(kept) - 1)}
    assert {name for name in kept if name not in first | near} == {"x"}
    assert 15 < len(kept) < 47
    thinned = [name for name, reason in built.manifest.funnel.by("input", "reason") if reason == "thinned"]
    assert len(thinned) == 1
    assert thinned[0].endswith("a.jsonl")


def test_copies_have_masks_of_their_own(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", range(40))
    inputs = [{"path": str(tmp_path / "a.jsonl"), "weight": 3}]
    run(settings(tmp_path, inputs=inputs, split={"validation": 0}, pack={"sequence_length": 512}))
    dataset = Dataset.open(tmp_path / "out")
    hidden: dict[str, list[bytes]] = {}
    for row in range(dataset.num_rows("train")):
        view = dataset.row("train", row)
        targets = np.zeros(len(view.tokens), np.bool_)
        targets[view.planes["000"].targets if "000" in view.planes else next(iter(view.planes.values())).targets] = True
        for segment in view.segments:
            if segment.start == 0:
                hidden.setdefault(segment.id, []).append(targets[segment.place : segment.place + 20].tobytes())
    assert sum(len(set(some)) == 3 for some in hidden.values()) > 35


def mixed(tmp_path, by, **mixing):
    """Sixty English documents and six German ones, each language an input."""
    german = "Der Fluss fließt langsam durch die grüne Ebene, und am Abend sitzen die Leute vor ihren Häusern."
    write_texts(tmp_path / "a.jsonl", [prose(number) for number in range(60)])
    write_texts(tmp_path / "b.jsonl", [f"{german} Nummer {number} {german} {german}" for number in range(6)])
    inputs = [{"path": str(tmp_path / "a.jsonl")}, {"path": str(tmp_path / "b.jsonl"), "name": "de"}]
    values = settings(tmp_path, inputs=inputs, clean={"languages": {}}, split={"validation": 0})
    built = run(values | {"mixing": {"by": by, **mixing}})
    fates = built.manifest.funnel.by("language" if by == "language" else "input", "reason")
    return built, fates, "de"


@pytest.mark.parametrize("by", ["language", "source"])
@pytest.mark.parametrize("most", [4.0, 1.5])
def test_shares_are_evened_out_as_by_hand(tmp_path, by, most):
    plain, fates, _ = mixed(tmp_path, by, temperature=1)
    sizes = {name: tokens for (name, reason), (_, _, tokens) in fates.items() if reason == "kept"}
    assert plain.manifest.ledger["documents"]["kept"] == 66
    built, _, small = mixed(tmp_path, by, temperature=0.5, max_repeats=most)
    (large,) = set(sizes) - {small}
    total = sizes[large] + sizes[small]
    share = sizes[small] ** 0.5 / (sizes[small] ** 0.5 + sizes[large] ** 0.5)
    wanted_small = min(share * total / sizes[small], most)
    wanted_large = (total - wanted_small * sizes[small]) / sizes[large]
    counts = {"small": 0, "large": 0}
    for document in documents(tmp_path / "out"):
        counts["small" if document["source"].startswith("de") else "large"] += 1
    assert abs(counts["small"] / 6 - wanted_small) <= 1
    assert abs(counts["large"] / 60 - wanted_large) < 0.1
    assert check_dataset(built.output).ok


# Lines, private data, evaluations.


def test_whole_lines_are_cut_in_reading_order_and_ids_stay(tmp_path):
    """The menu is cut from the third document on, not where it is a part of a line; blank lines are no duplicates."""
    menu = "Home | About | Contact us | Imprint"
    bodies = [f"{prose(number)}\n\nSo much for {number}." for number in range(6)]
    whole = [f"{menu}\n{body}\n {menu}\t" if number < 4 else f"{menu} {body}" for number, body in enumerate(bodies)]
    write_texts(tmp_path / "a.jsonl", whole[:3])
    write_texts(tmp_path / "b.jsonl", whole[3:])
    inputs = [{"path": str(tmp_path / f"{name}.jsonl"), "keep_fields": ["url"]} for name in "ab"]
    values = settings(tmp_path, inputs=inputs, split={"validation": 0})
    run(values)
    uncut = {document["id"] for document in documents(tmp_path / "out")}
    built = run(values | {"deduplicate": {"lines": {"min_chars": 30, "max_copies": 3}}})
    assert {document["id"] for document in documents(tmp_path / "out")} == uncut
    # Eight menus in four documents, three stay: the fourth to the eighth go, each with a line feed.
    changes = built.manifest.funnel.changes
    assert 5 * (len(menu) + 1) <= changes["characters cut as copies of lines"] <= 5 * (len(menu) + 3)


def own_tokenizer(folder: Path, *special: str) -> str:
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *special]
    letters = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*letters, *(f"##{letter}" for letter in letters), *"[]<>.,|_@:-"]
    vocabulary = {name: i for i, name in enumerate([*names, *pieces])}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(bert_settings(vocabulary, names, lowercase=True)))
    return str(path)


@pytest.mark.parametrize("special", [(), ("|||EMAIL_ADDRESS|||",)])
def test_private_data_becomes_the_tokenizer_s_placeholder_where_it_has_one(tmp_path, special):
    texts = [prose(number) for number in range(10)]
    texts[3] += " Write to jane.doe@mail.example today, or to joe@mail.example."
    write_texts(tmp_path / "a.jsonl", texts)
    inputs = [{"path": str(tmp_path / "a.jsonl"), "keep_fields": ["url"]}]
    tokenizer = {"path": own_tokenizer(tmp_path, *special), "markers": list(special)}
    values = settings(tmp_path, inputs=inputs, tokenizer=tokenizer, split={"validation": 0})
    built = run(values | {"clean": {"privacy": ["email"]}, "pack": {"sequence_length": 2048}})
    assert built.manifest.funnel.changes == {"email replaced": 2}
    dataset = Dataset.open(tmp_path / "out")
    names = dataset.reference().tokens
    tokens = [names[id_] for row in range(dataset.num_rows("train")) for id_ in dataset.row("train", row).tokens]
    said = "".join(token.removeprefix("##") for token in tokens)
    assert "jane" not in said
    assert said.count(special[0] if special else "<email>") == 2
    assert check_dataset(built.output).ok


def test_evaluations_whole_short_items_shares_and_what_is_too_common(tmp_path):
    long = " ".join(f"word{i}" for i in range(20))  # eight runs of 13 words
    common = "to be or not to be that is the question said the prince of denmark"
    write_texts(
        tmp_path / "a.jsonl",
        [
            f"{prose(1)} {SHORT_ITEM.title()}!",
            f"{prose(2)} {' '.join(SHORT_ITEM.split()[:4])}.",
            f"{prose(3)} {' '.join(long.split()[:16])}.",
            f"{prose(4)} {' '.join(long.split()[:15])}.",
            *[f"{prose(number)} {common}." for number in range(10, 15)],
            f"{prose(1)} {SHORT_ITEM.title()}!",
        ],
    )
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval/1.jsonl").write_text(json.dumps({"q": SHORT_ITEM, "a": ["yes it is", long]}) + "\n")
    (tmp_path / "eval/2.txt").write_text(
        f"{common}\n\nnothing of this item stands in any of the documents at all here\n"
    )
    changes = {"decontaminate": {"against": str(tmp_path / "eval/*"), "max_documents": 4}}
    found, built = fates(tmp_path, "a.jsonl", **changes)
    assert {url for url, names in found.items() if "contaminated" in names} == {"0", "2"}
    assert found["9"] == {"exact_duplicate"}
    assert built.manifest.ledger["evaluations"] == [
        {"file": "1.jsonl", "items": 3, "too_short": 1, "too_common": 0, "checked": 2, "found": 2, "documents": 2},
        {"file": "2.txt", "items": 2, "too_short": 0, "too_common": 1, "checked": 1, "found": 0, "documents": 0},
    ]  # fmt: skip
    eager, _ = fates(tmp_path, "a.jsonl", decontaminate=changes["decontaminate"] | {"share": 0.375})
    assert "contaminated" in eager["3"]


# Mistakes, and texts that want to harm.


def refused(folder: Path, capsys, **changes: Any) -> str:
    """Build by the command; it ends with exit code 2 and one line, which is returned."""
    path = folder / "premask.yaml"
    path.write_text(json.dumps(settings(folder, **({"inputs": [{"path": str(folder / "a.jsonl")}]} | changes))))
    capsys.readouterr()
    code = main(["build", str(path), "--workers", "1"])
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert not (folder / "out/LATEST").exists()
    return lines[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("tests.pipelines.own_filters:raises", "raised KeyError"),
        ("tests.pipelines.own_filters:too_few", "answered 2 values of bool with 0 nulls for 3 documents"),
        ("tests.pipelines.own_filters:nulls", "3 nulls"),
        ("tests.pipelines.own_filters:words", "3 values of string"),
        ("tests.pipelines.own_filters:nothing", "is a int, not a function"),
        ("tests.pipelines.own_filters:missing", "no attribute 'missing'"),
        ("nowhere.filters:a", "No module named 'nowhere'"),
        ("no_colon", "no_colon"),
    ],
)
def test_a_bad_filter_of_the_user_s_is_one_line(tmp_path, capsys, name, said):
    write_texts(tmp_path / "a.jsonl", [prose(1), f"{prose(2)} preheat the oven", prose(3)])
    line = refused(tmp_path, capsys, clean={"custom": [name]})
    assert said in line
    assert name in line
    if "raises" in name:
        second = len((tmp_path / "a.jsonl").read_text().splitlines()[0]) + 1
        assert f"a.jsonl at {second}:" in line


def test_a_filter_that_prints_and_scribbles_harms_nothing(tmp_path):
    write_texts(tmp_path / "a.jsonl", [prose(number) for number in range(20)])
    _, plain = fates(tmp_path, "a.jsonl")
    ids = {document["id"] for document in documents(tmp_path / "out")}
    clean = {"min_chars": 1, "custom": ["tests.pipelines.own_filters:mutates"]}
    _, built = fates(tmp_path, "a.jsonl", clean=clean)
    assert {document["id"] for document in documents(tmp_path / "out")} == ids
    assert built.manifest.ledger["tokens"] == plain.manifest.ledger["tokens"]


def test_a_changed_list_or_evaluation_is_noticed_in_the_same_process(tmp_path):
    write_texts(tmp_path / "a.jsonl", [f"{prose(number)} {SHORT_ITEM}" for number in range(3)])
    (tmp_path / "hosts.txt").write_text("other.example\n")
    (tmp_path / "eval.txt").write_text("this is another item altogether\n")
    changes = {
        "clean": {"domains": {"drop": str(tmp_path / "hosts.txt")}},
        "decontaminate": {"against": str(tmp_path / "eval.txt")},
    }
    assert fates(tmp_path, "a.jsonl", **changes)[1].manifest.ledger["documents"]["kept"] == 3
    (tmp_path / "eval.txt").write_text(f"{SHORT_ITEM}\n")
    with pytest.raises(PremaskError):
        fates(tmp_path, "a.jsonl", **changes)
    (tmp_path / "eval.txt").write_text("this is another item altogether\n")
    (tmp_path / "hosts.txt").write_text("1\n")
    assert fates(tmp_path, "a.jsonl", **changes)[0]["1"] == {"blocked_domain"}


def test_special_tokens_written_out_in_texts_stay_text(tmp_path):
    texts = [f"[CLS] {prose(number)} [SEP] [MASK] <EMAIL> [PAD] here." for number in range(12)]
    write_texts(tmp_path / "a.jsonl", [*texts, texts[0]])
    clean = {"min_chars": 1, "privacy": ["email"], "languages": {}, "lines": ["c4", "refinedweb"]}
    _, built = fates(tmp_path, "a.jsonl", clean=clean, deduplicate={"near": True})
    assert built.manifest.ledger["documents"]["read"] == 13


def test_an_input_all_of_whose_documents_are_dropped_is_no_mistake_beside_another(tmp_path):
    write_texts(tmp_path / "a.jsonl", [prose(number) for number in range(5)])
    write_texts(tmp_path / "b.jsonl", ["", "", ""])
    _, built = fates(tmp_path, "a.jsonl", "b.jsonl", deduplicate={"near": True})
    assert built.manifest.ledger["documents"]["dropped"] == {"empty": 3}


def test_where_everything_is_dropped_one_line_says_why(tmp_path, capsys):
    write_texts(tmp_path / "a.jsonl", [prose(number) for number in range(5)])
    line = refused(tmp_path, capsys, clean={"languages": {"keep": ["de"]}})
    assert "other_language 5" in line


def test_what_curation_needs_is_asked_for(tmp_path, capsys):
    write_texts(tmp_path / "a.jsonl", [prose(1)])
    (tmp_path / "hosts.txt").write_text("a.example\n")
    line = refused(tmp_path, capsys, clean={"domains": {"drop": str(tmp_path / "hosts.txt")}})
    assert "keep_fields: [url]" in line
    assert "clean.languages" in refused(tmp_path, capsys, mixing={"by": "language"})
