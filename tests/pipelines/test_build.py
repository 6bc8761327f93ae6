"""The whole pipeline on small inputs: what is in the dataset, and that it is always the same dataset."""

import json
import os
import shutil
from pathlib import Path

import apache_beam as beam
import numpy as np
import pyarrow as pa
import pytest

from mlm_data.build import cache
from mlm_data.build.estimate import estimate
from mlm_data.build.plan import find_tokenizer, make_context, make_plan
from mlm_data.config import BuildConfig
from mlm_data.dataset.check import check_dataset
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.manifest import load_manifest
from mlm_data.dataset.verify import verify
from mlm_data.errors import BuildError
from mlm_data.settings import parse_settings
from mlm_data.stores.folder import Folder
from mlm_data.tokens.bert import bert_settings
from mlm_data.tokens.reference import from_bytes
from pipelines.build import _anywhere, build, construct
from pipelines.runners import choose
from tests.pipelines.small_corpus import kill_midway, prepared_units, settings, text, write_jsonl


def config_of(folder, **changes) -> BuildConfig:
    return parse_settings(BuildConfig, settings(folder, **changes), where="test")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """Three files; documents 5 to 9 stand twice, one is too short."""
    folder = tmp_path_factory.mktemp("corpus")
    write_jsonl(folder / "in/a.jsonl", range(60))
    write_jsonl(folder / "in/b.jsonl", [*range(100, 140), *range(5, 10)])
    (folder / "in/c.jsonl").write_text(json.dumps({"text": "too short", "url": "x"}) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(corpus):
    return build(config_of(corpus), workers=1)


def copy_of(corpus, folder):
    shutil.copytree(corpus / "in", folder / "in")
    return folder


def test_the_ledger_says_what_became_of_each_document(built):
    documents = built.manifest.ledger["documents"]
    assert documents["read"] == 106
    assert documents["dropped"] == {"exact_duplicate": 5, "too_short": 1}
    assert documents["kept"] == 100
    tokens = built.manifest.ledger["tokens"]
    assert tokens["tokenized"] == tokens["in_rows"] + sum(tokens["dropped"].values())


def test_the_rows_hold_the_texts(built, corpus):
    """Every kept document can be read back, token by token, from the rows."""
    dataset = Dataset.open(corpus / "out")
    reference = find_tokenizer(config_of(corpus), make_plan(config_of(corpus)))
    tokenizer = reference.raw_tokenizer
    wanted = {}
    for number in [*range(60), *range(100, 140)]:
        ids = tokenizer.encode(text(number), add_special_tokens=False).ids
        wanted[tuple(ids)] = number
    found = {}
    for split in ("train", "validation"):
        for row in range(dataset.num_rows(split)):
            view = dataset.row(split, row)
            for segment in view.segments:
                content = view.tokens[segment.place + 1 : segment.place + segment.length - 1]
                found.setdefault(segment.id, {})[segment.start] = content.tolist()
    texts = {tuple(id_ for start in sorted(pieces) for id_ in pieces[start]) for pieces in found.values()}
    assert texts == set(wanted)


def test_sources_and_offsets_lead_back_to_the_bytes(built, corpus):
    dataset = Dataset.open(corpus / "out")
    for segment in dataset.where("train", 0):
        line = (corpus / "in" / segment.source).read_bytes()[segment.offset :].split(b"\n")[0]
        assert json.loads(line)["text"].startswith(text(int(json.loads(line)["url"][1:]))[:20])


@pytest.mark.parametrize(
    ("workers", "beam_args"),
    [
        (2, []),
        (1, ["--direct_runner_bundle_repeat=2"]),
        (2, ["--direct_running_mode=multi_processing"]),
    ],
    ids=["threads", "every bundle twice", "processes"],
)
def test_the_digest_does_not_depend_on_the_runner(built, corpus, tmp_path, workers, beam_args):
    again = build(config_of(copy_of(corpus, tmp_path)), workers=workers, beam_args=beam_args)
    assert again.manifest.digest == built.manifest.digest


def test_the_digest_depends_on_what_the_dataset_says(built, corpus, tmp_path):
    copy_of(corpus, tmp_path)
    masked = build(config_of(tmp_path, mask={"planes": 2, "rate": 0.2}))
    assert masked.manifest.digest != built.manifest.digest
    named = build(config_of(tmp_path, name="another"))
    assert named.manifest.digest == built.manifest.digest
    assert named.num_reused == named.num_units > 1


def test_a_changed_threshold_prepares_nothing_again(built, corpus, tmp_path):
    copy_of(corpus, tmp_path)
    build(config_of(tmp_path))
    strict = build(config_of(tmp_path, clean={"min_chars": 650}))
    assert strict.num_reused == strict.num_units
    assert strict.manifest.ledger["documents"]["dropped"]["too_short"] > 1


def test_prepared_units_that_were_damaged_are_made_again(corpus, tmp_path):
    copy_of(corpus, tmp_path)
    first = build(config_of(tmp_path))
    prepared = prepared_units(tmp_path)
    prepared[0].write_bytes(b"")
    prepared[1].write_bytes(prepared[1].read_bytes()[:-100])
    flip_a_bit(prepared[2], 5000)
    again = build(config_of(tmp_path))
    assert (again.num_reused, again.num_remade) == (again.num_units - 3, 3)
    assert again.manifest.digest == first.manifest.digest


def flip_a_bit(path, place):
    data = bytearray(path.read_bytes())
    data[place % len(data)] ^= 1 << (place % 8)
    path.write_bytes(data)


def stamps(folder):
    """Which file it is, and when it was written, of every file of the shards."""
    paths = [
        path for name in ("rows", "masks", "documents", "signatures") for path in (folder / "out" / name).iterdir()
    ]
    return {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in paths}


def test_what_was_assembled_is_assembled_again_only_where_it_is_damaged(corpus, tmp_path):
    copy_of(corpus, tmp_path)
    config = config_of(tmp_path, unit_bytes=1500)
    first = build(config)
    before = stamps(tmp_path)
    assert build(config).manifest.digest == first.manifest.digest
    assert stamps(tmp_path) == before
    results = {path: path.read_text() for path in (tmp_path / "out" / "work" / "assembled").iterdir()}
    assert len(results) == first.num_units
    rows, masks, documents, signatures = (
        min(path for path in before if path.parent.name == name)
        for name in ("rows", "masks", "documents", "signatures")
    )
    rows.unlink()
    flip_a_bit(masks, 1000)
    documents.write_bytes(documents.read_bytes()[:-1])
    signatures.write_bytes(b"")
    damaged = {rows, masks, documents, signatures}
    hurt = [result for result in results if any(path.stem in results[result] for path in damaged)]
    flipped = next(result for result in results if result not in hurt)
    flip_a_bit(flipped, 50)
    assert build(config).manifest.digest == first.manifest.digest
    assert verify(Folder(str(tmp_path / "out"))).problems == ()
    after = stamps(tmp_path)
    assert after.keys() == before.keys()
    changed = {path for path in before if after[path] != before[path]}
    assert damaged <= changed
    assert changed == {path for path in before for result in (*hurt, flipped) if path.stem in results[result]}
    assert len(hurt) + 1 < len(results)


@pytest.mark.parametrize(
    "change",
    [{"mask": {"planes": 3}}, {"pack": {"sequence_length": 32}}, {"seed": 1}, {"split": {"validation": 0.2}}],
)
def test_what_was_assembled_otherwise_is_not_taken(corpus, tmp_path, change):
    copy_of(corpus, tmp_path / "a")
    build(config_of(tmp_path / "a"))
    there = build(config_of(tmp_path / "a", **change)).manifest.digest
    copy_of(corpus, tmp_path / "b")
    assert there == build(config_of(tmp_path / "b", **change)).manifest.digest
    for name in (f"versions/{there}.json", f"versions/{there}.files.arrow"):
        assert (tmp_path / "a/out" / name).read_bytes() == (tmp_path / "b/out" / name).read_bytes()


@pytest.mark.slow
def test_a_flipped_bit_in_the_cache_never_changes_the_dataset(corpus, tmp_path):
    """At 200 random places of `work/`, one at a time, with shards and manifest made anew."""
    copy_of(corpus, tmp_path)
    config = config_of(tmp_path)
    digest = build(config).manifest.digest
    random = np.random.default_rng(0)
    remade = 0
    for _ in range(200):
        files = sorted(path for path in (tmp_path / "out/work").rglob("*") if path.is_file())
        sizes = np.cumsum([path.stat().st_size for path in files])
        place = int(random.integers(sizes[-1]))
        index = int(np.searchsorted(sizes, place, side="right"))
        flip_a_bit(files[index], place)
        for name in ("LATEST", "versions", "rows", "masks", "documents", "signatures", "tokenizer"):
            path = tmp_path / "out" / name
            path.unlink() if path.is_file() else shutil.rmtree(path)
        again = build(config)
        assert again.manifest.digest == digest, files[index]
        remade += again.num_remade
    assert remade > 100


def test_a_runner_that_only_checks_the_pipeline_builds_nothing(corpus, tmp_path, monkeypatch):
    """As Dataflow's --dry_run: no job, no metrics, no manifest."""
    copy_of(corpus, tmp_path)
    monkeypatch.setattr(beam.Pipeline, "run", lambda self: None)
    assert build(config_of(tmp_path), beam_args=["--dry_run=True"]) is None
    assert not (tmp_path / "out/LATEST").exists()


def test_a_runner_without_metrics_is_as_good_as_any(corpus, tmp_path, monkeypatch):
    """As Beam's DaskRunner, whose result raises NotImplementedError."""
    from apache_beam.runners.portability.fn_api_runner.fn_runner import RunnerResult

    def none(self):
        raise NotImplementedError("collecting metrics will come later!")

    monkeypatch.setattr(RunnerResult, "metrics", none)
    copy_of(corpus, tmp_path)
    assert build(config_of(tmp_path)).manifest.ledger["documents"]["kept"] == 100


def test_a_field_that_one_input_gains_gives_all_units_its_column(tmp_path):
    write_jsonl(tmp_path / "a/a.jsonl", range(40))
    write_jsonl(tmp_path / "b/b.jsonl", range(100, 140), lang="en")
    inputs = [{"path": str(tmp_path / "a/*.jsonl")}, {"path": str(tmp_path / "b/*.jsonl")}]
    build(config_of(tmp_path, inputs=inputs))
    inputs[1]["keep_fields"] = ["lang"]
    built = build(config_of(tmp_path, inputs=inputs))
    assert built.manifest.ledger["documents"]["kept"] == 80
    documents = Dataset.open(tmp_path / "out").shard("train", 0).documents
    assert set(documents.column("keep.lang").to_pylist()) == {None}


def test_copies_are_kept_on_request_and_masked_differently(corpus, tmp_path):
    copy_of(corpus, tmp_path)
    kept = build(config_of(tmp_path, deduplicate={"exact": False}))
    assert kept.manifest.ledger["documents"]["kept"] == 105
    dataset = Dataset.open(tmp_path / "out")
    tables = [
        dataset.shard(split, index).documents
        for split in ("train", "validation")
        for index in range(dataset.num_shards(split))
    ]
    copies = np.concatenate([table.column("copy").to_numpy() for table in tables])
    assert sorted(copies.tolist()) == [0] * 100 + [1] * 5


def test_a_killed_build_goes_on_where_it_was(corpus, tmp_path):
    """SIGKILL in the middle; the next build reuses what was prepared and gives the same digest."""
    folder = copy_of(corpus, tmp_path)
    write_jsonl(folder / "in/d.jsonl", range(200, 1400))
    whole = shutil.copytree(folder, tmp_path / "whole")
    digest = build(config_of(whole)).manifest.digest

    config = folder / "premask.yaml"
    config.write_text(json.dumps(settings(folder)))
    kill_midway(config, prepared=12, workers=1)
    again = build(config_of(folder))
    assert again.num_reused >= 10
    assert again.manifest.digest == digest


def test_only_deterministic_coders_cross(corpus):
    """No pickle between the steps: every coder of the pipeline is bytes, varint, tuples and iterables of them."""
    config = config_of(corpus)
    plan = make_plan(config)
    context = make_context(config, plan, find_tokenizer(config, plan))
    pipeline = beam.Pipeline(runner="apache_beam.runners.portability.fn_api_runner.FnApiRunner")
    construct(pipeline, plan.units, context)
    components = pipeline.to_runner_api().components

    def urns(coder_id):
        coder = components.coders[coder_id]
        return {coder.spec.urn}.union(*(urns(inner) for inner in coder.component_coder_ids))

    allowed = {f"beam:coder:{name}:v1" for name in ("bytes", "varint", "kv", "iterable")}
    found = {item.unique_name: urns(item.coder_id) for item in components.pcollections.values()}
    assert len(found) > 10
    assert {name: used for name, used in found.items() if not used <= allowed} == {}


def test_prepared_units_are_arrow_files_that_anyone_can_read(built, corpus):
    table = pa.ipc.open_file(prepared_units(corpus)[0]).read_all()
    assert {"id", "source", "offset", "num_chars", "tokens", "word_starts"} <= set(table.schema.names)


def test_the_manifest_can_be_found_again(built, corpus):
    assert load_manifest(Folder(corpus / "out")) == built.manifest


def test_one_of_forty_thousand_equal_texts_is_kept(tmp_path):
    """Copies are counted beyond 16 bits, through the whole pipeline."""
    (tmp_path / "in").mkdir()
    line = json.dumps({"text": text(1)}) + "\n"
    (tmp_path / "in/equal.jsonl").write_text(line * 40_000)
    write_jsonl(tmp_path / "in/other.jsonl", range(2, 30))
    built = build(config_of(tmp_path, unit_bytes=2**30, tokenizer={"train": {"kind": "wordpiece", "vocab_size": 300}}))
    documents = built.manifest.ledger["documents"]
    assert documents["dropped"] == {"exact_duplicate": 39_999}
    assert documents["kept"] == 29


def test_more_copies_than_the_format_can_count_share_the_last_number(tmp_path):
    (tmp_path / "in").mkdir()
    (tmp_path / "in/equal.jsonl").write_text((json.dumps({"text": "one two three"}) + "\n") * 33_000)
    changes = {"deduplicate": {"exact": False}, "clean": {"min_chars": 1}, "split": {"validation": 0}}
    assert build(config_of(tmp_path, unit_bytes=2**30, **changes)).manifest.ledger["documents"]["kept"] == 33_000
    copies = Dataset.open(tmp_path / "out").shard("train", 0).documents.column("copy").to_numpy()
    assert copies.min() == 0
    assert copies.max() == 32_767
    assert (copies == 32_767).sum() == 33_000 - 32_767


@pytest.fixture
def marked(tmp_path):
    """Twenty documents with markers written out in them, one of them a token of the trained tokenizer."""
    (tmp_path / "in").mkdir()
    lines = [json.dumps({"text": f"[DRUG] {text(i)} <num> mg of [DRUG]."}) + "\n" for i in range(20)]
    (tmp_path / "in/a.jsonl").write_text("".join(lines))
    return tmp_path


@pytest.mark.parametrize("hidden", [False, True])
def test_markers_stay_whole_and_are_hidden_on_request(marked, hidden):
    tokenizer = {"train": {"kind": "wordpiece", "vocab_size": 300}, "markers": ["[DRUG]", "<num>"]}
    changes = {"tokenizer": tokenizer, "mask": {"planes": 4, "rate": 0.5, "markers": hidden}}
    manifest = build(config_of(marked, **changes)).manifest
    assert manifest.vocab_size <= 300
    dataset = Dataset.open(marked / "out")
    drug, number = (dataset.reference().tokens.index(marker) for marker in tokenizer["markers"])
    rows = [dataset.row(split, row) for split in ("train", "validation") for row in range(dataset.num_rows(split))]
    tokens = np.concatenate([row.tokens for row in rows])
    assert (tokens == drug).sum() == 40
    assert (tokens == number).sum() == 20
    targets = np.concatenate(
        [row.tokens[plane.targets] for row in rows for name, plane in row.planes.items() if name != "evaluation"]
    )
    assert np.isin(targets, [drug, number]).any() == hidden
    assert check_dataset(str(marked / "out")).ok


def test_the_plan_warns_of_markers_that_are_cut_into_pieces(marked):
    reference = from_bytes(bert_with_special("[DRUG]"))
    (marked / "tokenizer.json").write_bytes(reference.json_bytes)
    config = config_of(marked, tokenizer={"path": str(marked / "tokenizer.json")})
    (warning,) = [line for line in estimate(config).warnings if "[DRUG]" in line]
    assert warning == (
        "[DRUG] stands written out in 20 of the probed documents and is cut into pieces there: to keep it whole, set "
        'tokenizer.markers: ["[DRUG]"]'
    )
    kept = config_of(marked, tokenizer={"path": str(marked / "tokenizer.json"), "markers": ["[DRUG]"]})
    assert not [line for line in estimate(kept).warnings if "[DRUG]" in line]


def bert_with_special(token):
    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", token]
    pieces = "abcdefghijklmnopqrstuvwxyz0123456789"
    pieces = [*pieces, *(f"##{piece}" for piece in pieces), *"[]<>.,"]
    vocabulary = {name: i for i, name in enumerate([*names, *pieces])}
    return json.dumps(bert_settings(vocabulary, names, lowercase=True)).encode()


@pytest.fixture
def half_spelled(tmp_path):
    """A tokenizer of Latin letters, and documents that begin in Greek."""
    (tmp_path / "in").mkdir()
    greek = " ".join(["\u03b1\u03b2"] * 800)
    lines = [{"text": text(i)} for i in range(20)] + [{"text": f"{greek} {text(i)}"} for i in range(20, 40)]
    (tmp_path / "in/a.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (tmp_path / "tokenizer.json").write_bytes(bert_with_special("[X]"))
    return tmp_path


def test_text_that_the_tokenizer_can_t_say_ends_the_build(half_spelled):
    config = config_of(half_spelled, tokenizer={"path": str(half_spelled / "tokenizer.json")})
    with pytest.raises(BuildError, match=r"are \[UNK\], more than tokenizer.max_unknown = 0.25 allows .Greek "):
        build(config)
    assert not (half_spelled / "out/LATEST").exists()
    (warning,) = [line for line in estimate(config).warnings if "[UNK]" in line]
    assert warning.startswith("the build will fail: ")


def test_text_that_the_tokenizer_can_t_say_is_accounted_for(half_spelled):
    tokenizer = {"path": str(half_spelled / "tokenizer.json"), "max_unknown": 1}
    manifest = build(config_of(half_spelled, tokenizer=tokenizer)).manifest
    dataset = Dataset.open(half_spelled / "out")
    in_rows = sum(
        (dataset.row(split, row).tokens == manifest.roles.unk).sum()
        for split in ("train", "validation")
        for row in range(dataset.num_rows(split))
    )
    assert manifest.unknown.unknown == in_rows > 0
    assert manifest.unknown.tokens == manifest.ledger["tokens"]["in_rows"]
    assert manifest.unknown.by_script["Greek"][0] >= 2000
    assert manifest.unknown.by_source == {"a.jsonl": (manifest.unknown.tokens, in_rows)}
    assert "Greek" in manifest.unknown.warning()
    assert check_dataset(str(half_spelled / "out")).ok


def test_a_budget_of_the_cache_is_kept(corpus, tmp_path):
    """What the build before has made goes first; without room for anything, the next build makes all units again."""
    first = build(config_of(copy_of(corpus, tmp_path / "in")))
    work = Folder(first.output).join("work")
    size = sum(entry.num_bytes for entry in cache.entries(work))
    for path in Path(first.output, "work/prepared").iterdir():
        os.utime(path, (1e9, 1e9))
    limited = {"cache": {"max_bytes": size}, "clean": {"bad_bytes": "replace"}}
    second = build(config_of(tmp_path / "in", **limited))
    assert second.num_reused == 0
    assert sum(entry.num_bytes for entry in cache.entries(work)) <= size
    again = build(config_of(tmp_path / "in", **limited))
    assert (again.num_reused, again.manifest.digest) == (again.num_units, second.manifest.digest)
    none = build(config_of(tmp_path / "in", **limited | {"cache": {"max_bytes": 0}}))
    assert (none.num_reused, none.manifest.digest) == (none.num_units, second.manifest.digest)  # it needed them
    assert cache.entries(work) == []
    assert build(config_of(tmp_path / "in", **limited)).num_reused == 0


def test_workers_in_other_folders_get_every_path_from_the_root_on(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = config_of(Path(), decontaminate={"against": "items.txt"})
    assert _anywhere(config, choose([], workers=1)) is config
    found = _anywhere(config, choose(["--runner=portable", "--job_endpoint=localhost:1"], workers=1))
    assert (found.inputs[0].path, found.output) == (str(tmp_path / "in/*.jsonl"), str(tmp_path / "out"))
    assert found.decontaminate.against == (str(tmp_path / "items.txt"),)
