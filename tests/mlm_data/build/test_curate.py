"""What prepared units depend on, and what cleaning and scoring do to a batch."""

import json

import pyarrow as pa
import pytest

from mlm_data.build.curate import curate, filter_source, load_filter, score_fields
from mlm_data.build.plan import make_context, make_plan
from mlm_data.build.prepare import key_parts, prepare_unit
from mlm_data.config import BuildConfig
from mlm_data.errors import ConfigError, InputError
from mlm_data.hashing import hash128
from mlm_data.settings import parse_settings
from mlm_data.text.reading import read_unit
from tests.pipelines.curated_corpus import everything, prose, write_corpus


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("curate"))


def config_of(folder, **changes):
    return parse_settings(BuildConfig, everything(folder, **changes), where="test")


def keys(config):
    plan = make_plan(config)
    context = make_context(config, plan, None)
    return [key_parts(unit, context) for unit in plan.units]


def changed(folder, path, value):
    """`everything` with one value changed; a path leads through mappings and lists."""
    values = everything(folder)
    inner = values
    for name in path[:-1]:
        if isinstance(inner, dict) and inner.get(name) in (True, None):
            inner[name] = {}
        inner = inner[name]
    inner[path[-1]] = value
    return parse_settings(BuildConfig, values, where="test")


NEAR, LINES = ("deduplicate", "near"), ("deduplicate", "lines")

DECIDE = [
    (("clean", "min_chars"), 7),
    (("clean", "max_words_removed"), 0.5),
    (("clean", "languages", "keep"), "all"),
    (("clean", "languages", "min_score"), 0.9),
    (("clean", "classifier", "min"), 0.9),
    (("inputs", 1, "quality"), [{"gopher_repetition": {"max_top_2_gram": 0.1}}, "gopher_quality", "c4", "fineweb"]),
    (("inputs", 1, "quality"), ["gopher_repetition", {"gopher_quality": {"min_words": None}}, "c4", "fineweb"]),
    (("inputs", 1, "quality"), ["gopher_repetition", "gopher_quality", {"c4": {"min_sentences": 1}}, "fineweb"]),
    (("inputs", 1, "quality"), ["gopher_repetition", "gopher_quality", "c4", {"fineweb": {"max_short_lines": 0.1}}]),
    (("inputs", 0, "weight"), 9),
    (("inputs", 0, "weight"), 0.1),
    (("deduplicate", "exact"), False),
    ((*NEAR, "verify"), 0.9),
    (NEAR, {"bands": 8, "rows": 14}),
    (("decontaminate", "share"), 0.9),
    (("decontaminate", "max_documents"), 1),
    (("mixing",), {"by": "source"}),
    (("mask", "rate"), 0.15),
    (("split", "validation"), 0.5),
]
SCORE = [
    (("clean", "fix_encoding"), False),
    (("clean", "privacy"), ["email"]),
    (("clean", "languages", "group"), True),
    (("clean", "lines"), ["refinedweb", "c4"]),
    (("clean", "domains", "field"), "host"),
    (("clean", "classifier", "label"), "__label__lq"),
    (("clean", "custom"), ["tests.pipelines.own_filters:length"]),
    (("inputs", 1, "quality"), ["gopher_repetition", "gopher_quality", "c4"]),
    (("inputs", 1, "quality"), ["gopher_repetition", "gopher_quality", {"c4": {"javascript_lines": False}}, "fineweb"]),
    (("inputs", 1, "quality"), ["gopher_repetition", "gopher_quality", "c4", {"fineweb": {"short_line_chars": 9}}]),
    ((*NEAR, "ngram"), 3),
    (NEAR, {"bands": 8}),
    (("decontaminate", "ngram"), 8),
]


@pytest.mark.parametrize(("path", "value"), DECIDE)
def test_what_decides_over_stored_scores_is_in_no_key(folder, path, value):
    assert keys(changed(folder, path, value)) == keys(config_of(folder))


@pytest.mark.parametrize(("path", "value"), SCORE)
def test_what_scores_depend_on_is_in_the_keys(folder, path, value):
    if value == "host":
        values = everything(folder)
        values["inputs"][0]["keep_fields"] = ["url", "host"]
        before = parse_settings(BuildConfig, values, where="test")
        values["clean"]["domains"]["field"] = "host"
        after = parse_settings(BuildConfig, values, where="test")
    else:
        before, after = config_of(folder), changed(folder, path, value)
    assert all(one != other for one, other in zip(keys(after), keys(before), strict=True)) or path[0] == "inputs"
    assert keys(after) != keys(before)


@pytest.mark.parametrize("name", ["hosts.txt", "evaluation.jsonl", "hq.bin"])
def test_the_bytes_of_files_are_in_the_keys_and_not_their_places(folder, tmp_path, name):
    other = write_corpus(tmp_path / "other")
    inputs = everything(folder)["inputs"]
    before = keys(config_of(folder))
    assert keys(config_of(other, inputs=inputs)) == before
    data = (other / name).read_bytes()
    changed_data = data.replace(b"spam", b"ham").replace(b"golden", b"silver")
    (other / name).write_bytes(changed_data if name != "hq.bin" else data[:-1] + bytes([data[-1] ^ 1]))
    assert keys(config_of(other, inputs=inputs)) != before


def test_ids_and_scores_are_those_of_the_uncut_text(tmp_path):
    text = f"{prose(1)}\n\n[12]\n{prose(2)}\nmenu"
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    values = {"inputs": [{"path": str(tmp_path / "a.jsonl"), "quality": "fineweb"}], "output": str(tmp_path / "o")}
    values |= {"tokenizer": {"path": "none"}, "clean": {"lines": ["refinedweb"]}}
    config = parse_settings(BuildConfig, values, where="test")
    plan = make_plan(config)
    (documents,) = read_unit(plan.units[0], config)
    curated = curate(documents, 0, make_context(config, plan, None))
    assert curated.texts.to_pylist() == [f"{prose(1)}\n\n{prose(2)}"]
    assert (curated.ids == hash128(pa.array([text], pa.large_string()))).all()
    assert curated.columns["fineweb.num_lines"].to_pylist() == [4]
    assert curated.columns["words_removed"].to_pylist() == [2]
    assert curated.counts["characters cut by the lines of refinedweb"] == len("\n[12]") + len("\nmenu")


def test_every_score_has_a_column_and_nothing_else_has(folder):
    config = config_of(folder)
    plan = make_plan(config)
    context = make_context(config, plan, None)
    names = [field.name for field in score_fields(config)]
    assert len(set(names)) == len(names)
    for unit in plan.units:
        numbers = {piece.source: piece.input for piece in unit.slices}
        for documents in read_unit(unit, config):
            curated = curate(documents, numbers[documents.source], context)
            assert set(curated.columns) <= set(names)
            assert {len(column) for column in curated.columns.values()} == {documents.table.num_rows}
    assert score_fields(parse_settings(BuildConfig, everything(folder, clean={}, deduplicate={}, decontaminate=None) | {
        "inputs": [{"path": "a"}]}, where="test")) == []  # fmt: skip


def test_a_prepared_unit_is_the_same_twice(folder, tmp_path):
    for name in ("one", "two"):
        config = config_of(folder, output=str(tmp_path / name), deduplicate={"near": True})
        plan = make_plan(config)
        context = make_context(config, plan, None)
        prepared = [prepare_unit(unit, context) for unit in plan.units]
        contents = {unit.content for unit in prepared}
        assert not any(unit.reused for unit in prepared)
        if name == "one":
            first = contents
    assert contents == first


def test_filters_are_found_in_the_current_folder(tmp_path, monkeypatch):
    (tmp_path / "filters_of_a_test.py").write_text("def keep(batch):\n    return [True] * batch.num_rows\n")
    with pytest.raises(ConfigError, match="start where Python finds it"):
        load_filter("filters_of_a_test:keep")
    monkeypatch.chdir(tmp_path)
    assert load_filter("filters_of_a_test:keep")(pa.record_batch({"text": ["a"]})) == [True]
    assert b"def keep" in filter_source("filters_of_a_test:keep")


def test_a_list_that_changes_while_a_build_runs(folder, tmp_path):
    other = write_corpus(tmp_path / "other")
    config = config_of(other)
    plan = make_plan(config)
    context = make_context(config, plan, None)
    (other / "hosts.txt").write_text("another.example\n")
    (unit,) = [unit for unit in plan.units if unit.slices[0].source.startswith("quality")]
    with pytest.raises(InputError, match=r"hosts\.txt: changed while the build ran"):
        prepare_unit(unit, context)


CUT = {"action": "cut"}


@pytest.mark.parametrize(
    ("changes", "is_in_the_key"),
    [({"max_cuts": 3}, False), ({"max_documents": 3}, False), ({"window": 199}, True), ({"ngram": 12}, True)],
)
def test_what_a_cut_text_depends_on_is_in_the_keys(folder, changes, is_in_the_key):
    """How common a run may be is in them by what the survey answers: see `prepare_unit`."""
    against = everything(folder)["decontaminate"]
    before = keys(config_of(folder, decontaminate=against | CUT))
    assert (keys(config_of(folder, decontaminate=against | CUT | changes)) != before) is is_in_the_key
    assert keys(config_of(folder)) != before


def test_evaluations_that_are_cut_are_in_the_keys(folder, tmp_path):
    other = write_corpus(tmp_path / "other")
    inputs = everything(folder)["inputs"]
    against = everything(other)["decontaminate"] | CUT
    before = keys(config_of(other, inputs=inputs, decontaminate=against))
    path = other / "evaluation.jsonl"
    path.write_bytes(path.read_bytes().replace(b"golden", b"silver"))
    assert keys(config_of(other, inputs=inputs, decontaminate=against)) != before


def test_scores_and_ids_are_those_of_the_text_before_evaluations_are_cut(folder):
    config = config_of(folder, decontaminate=everything(folder)["decontaminate"] | CUT | {"window": 0})
    plan = make_plan(config)
    context, plain = make_context(config, plan, None), config_of(folder)
    before = make_context(plain, make_plan(plain), None)
    num_cut = 0
    for unit in plan.units:
        numbers = {piece.source: piece.input for piece in unit.slices}
        for documents in read_unit(unit, config):
            number = numbers[documents.source]
            cut, whole = curate(documents, number, context), curate(documents, number, before)
            assert (cut.ids == whole.ids).all()
            same = cut.columns.keys() & whole.columns.keys()
            assert {"sketch", "head", "language", "classifier"} <= same
            assert all(cut.columns[name].equals(whole.columns[name]) for name in same)
            cuts = cut.columns["evaluation_cuts"].to_pylist()
            lost = cut.columns["evaluation_chars"].to_pylist()
            for one, other, number_of, chars in zip(
                cut.texts.to_pylist(), whole.texts.to_pylist(), cuts, lost, strict=True
            ):
                assert len(other) - len(one) == chars
                assert (chars > 0) == (number_of > 0)
                num_cut += number_of
    assert num_cut == 2  # the one that `drop` drops, and its neighbour, which holds less than `share` of the item


def test_a_text_that_holds_no_evaluation_is_left_as_it_is(tmp_path):
    """A line that went leaves the indentation of the next one behind, which only a cut of an evaluation mends."""
    question = "does any of the documents hold a question of this kind"
    texts = [f"[12]\n  {prose(1)}", f"[12]\n  {prose(1)}\n\n{question}"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "eval.txt").write_text(question)
    values = {"inputs": [{"path": str(tmp_path / "a.jsonl")}], "output": str(tmp_path / "o")}
    values |= {"tokenizer": {"path": "none"}, "clean": {"lines": ["refinedweb"]}}
    values |= {"decontaminate": {"against": str(tmp_path / "eval.txt"), "action": "cut", "window": 0}}
    config = parse_settings(BuildConfig, values, where="test")
    plan = make_plan(config)
    (documents,) = read_unit(plan.units[0], config)
    curated = curate(documents, 0, make_context(config, plan, None))
    assert curated.texts.to_pylist() == [f"  {prose(1)}", prose(1)]
    assert curated.columns["evaluation_cuts"].to_pylist() == [0, 1]
    assert curated.columns["evaluation_chars"].to_pylist() == [0, len(f"  \n\n{question}")]
