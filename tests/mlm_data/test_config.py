"""One line for each mistake in a configuration, naming the field, the value and the remedy."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlm_data.config import BuildConfig, CleanSettings, MaskSettings, PackSettings, anchor, load_config, semantic
from mlm_data.errors import ConfigError
from mlm_data.settings import apply_overrides, parse_settings, parse_yaml

MINIMAL = {"inputs": [{"path": "a/*.md"}], "output": "out", "tokenizer": {"train": {"vocab_size": 1000}}}

EXAMPLE = """
name: books
inputs:
  - path: corpus/**/*.md           # globs
    documents: file
  - path: gs://bucket/web/*.jsonl.zst
    text_field: text
    id_field: url
    keep_fields: [date, licence]
output: datasets/books
tokenizer: {path: tokenizer.json, special: {mask: "<mask>"}}
clean: {unicode: NFC, min_chars: 100}
deduplicate: {exact: true}
pack: {sequence_length: 512, long_documents: split}
mask: {planes: 4, kind: token, rate: 0.30, mask_share: 0.8, random_share: 0.1, keep_share: 0.1}
split: {validation: 0.01, by: licence}
"""


def parse(**values):
    return parse_settings(BuildConfig, MINIMAL | values, where="premask.yaml")


def test_the_example_of_the_readme(tmp_path):
    (tmp_path / "premask.yaml").write_text(EXAMPLE)
    config = load_config(tmp_path / "premask.yaml")
    assert config.name == "books"
    assert config.inputs[0].path == f"{tmp_path.resolve()}/corpus/**/*.md"
    assert config.inputs[1].path == "gs://bucket/web/*.jsonl.zst"
    assert config.inputs[1].keep_fields == ("date", "licence")
    assert config.output == f"{tmp_path.resolve()}/datasets/books"
    assert config.tokenizer.path == f"{tmp_path.resolve()}/tokenizer.json"
    assert config.tokenizer.special.mask == "<mask>"
    assert config.mask.rates == (0.3,) * 4


def test_defaults():
    config = parse()
    assert config.clean == CleanSettings(unicode="NFC", min_chars=100, bad_bytes="quarantine")
    assert (config.pack.sequence_length, config.pack.segments_per_row) == (512, 16)
    assert PackSettings(sequence_length=128).segments_per_row == 8
    assert PackSettings(max_segments=3).segments_per_row == 3
    assert config.split.validation == 0.01
    with pytest.raises(ValueError, match="frozen"):
        config.name = "other"


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"mask": {"rate": 0}}, "mask.rate: must be above 0 and at most 0.95, got 0: 0.15 and 0.30 are usual"),
        (
            {"mask": {"kind": "ngram"}},
            "mask: kind is ngram: say how many tokens a run has, the k of your k-mers: ngram: 6",
        ),
        ({"mask": {"ngram": 6}}, "mask: ngram is 6, and kind is token: set kind: ngram, or leave ngram out"),
        ({"mask": {"rate": 1.5}}, "mask.rate: must be above 0 and at most 0.95, got 1.5: 0.15 and 0.30 are usual"),
        ({"mask": {"rate": [0.1, 0.2]}}, "mask: rate has 2 values for 4 planes: give one for each"),
        ({"mask": {"mask_share": 0.9}}, "mask: mask_share + random_share + keep_share must be 1, got 1.1"),
        (
            {"pack": {"sequence_length": 100}},
            "pack.sequence_length: must be a multiple of 8 between 16 and 65536, got 100: use 96 or 104",
        ),
        (
            {"pack": {"sequence_length": 8}},
            "pack.sequence_length: must be a multiple of 8 between 16 and 65536, got 8: use 16",
        ),
        ({"maks": {}}, "unknown field 'maks': did you mean 'mask'?"),
        ({"mask": {"rates": 0.1}}, "unknown field 'mask.rates': did you mean 'rate'?"),
        ({"tokenizer": {"train": {"vocab": 9}}}, "unknown field 'tokenizer.train.vocab': did you mean 'vocab_size'?"),
        (
            {"inputs": [{"path": "x", "textfield": "t"}]},
            "unknown field 'inputs.0.textfield': did you mean 'text_field'?",
        ),
        ({"inputs": [{}]}, "'inputs.0.path' is missing"),
        ({"cache": {"zzz": 1}}, "unknown field 'cache.zzz': known here: identity, max_bytes"),
        ({"inputs": []}, "inputs: tuple should have at least 1 item after validation, not 0, got []"),
        (
            {"tokenizer": {}},
            "tokenizer: give either `path` (a tokenizer.json) or `train` (kind, vocab_size), and not both",
        ),
        ({"split": {"by": "url"}}, "split.by: 'url' is neither document, source nor one of keep_fields"),
        ({"split": {"validation": 1}}, "split.validation: input should be less than 1, got 1"),
        ({"clean": {"unicode": "NFD"}}, "clean.unicode: input should be 'NFC' or 'none', got 'NFD'"),
        ({"seed": -1}, "seed: input should be greater than or equal to 0, got -1"),
        ({"output": 3}, "output: input should be a valid string, got 3"),
    ],
)
def test_each_mistake_is_one_line(values, message):
    with pytest.raises(ConfigError) as error:
        parse(**values)
    assert str(error.value) == f"premask.yaml: {message}"


def test_several_mistakes_are_told_together():
    with pytest.raises(ConfigError) as error:
        parse(seed=-1, maks={})
    assert str(error.value).count("; ") == 1


def test_missing_fields():
    with pytest.raises(ConfigError, match=r"'inputs' is missing; 'output' is missing; 'tokenizer' is missing"):
        parse_settings(BuildConfig, {}, where="x")


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", r"x, line 1: not valid YAML"),
        ("a: 1\n b: 2", r"x, line 2: not valid YAML"),
        ("- 1\n", "expected `field: value` lines, got a list"),
        ("a: 1\na: 2\n", "not valid YAML"),
        ("just words", "got a str"),
    ],
)
def test_what_is_no_yaml(text, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        parse_yaml(text, where="x")
    assert "\n" not in str(error.value)


def test_yaml_is_1_2_and_plain():
    assert parse_yaml("a: no\nb: 010\nc: [x]\nd: {e: null}", where="x") == {
        "a": "no",
        "b": 10,
        "c": ["x"],
        "d": {"e": None},
    }
    assert parse_yaml("", where="x") == {}
    with pytest.raises(ConfigError):
        parse_yaml("a: !!python/object/apply:os.system ['true']", where="x")


def test_files_that_can_not_be_read(tmp_path):
    with pytest.raises(ConfigError, match=r"none\.yaml: can't read the configuration: No such file"):
        load_config(tmp_path / "none.yaml")
    (tmp_path / "latin.yaml").write_bytes(b"name: caf\xe9")
    with pytest.raises(ConfigError, match="it is not UTF-8"):
        load_config(tmp_path / "latin.yaml")
    with pytest.raises(ConfigError, match="can't read the configuration"):
        load_config(tmp_path)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("mask.rate=0.15", ("mask", "rate"), 0.15),
        ("name=a=b", ("name",), "a=b"),
        ("inputs.0.path=x", ("inputs", 0, "path"), "x"),
        ("inputs.0.keep_fields=[a, b]", ("inputs", 0, "keep_fields"), ["a", "b"]),
        ("deduplicate.exact=false", ("deduplicate", "exact"), False),
        ("pack.max_segments=null", ("pack", "max_segments"), None),
        ("tokenizer={path: t.json}", ("tokenizer",), {"path": "t.json"}),
    ],
)
def test_overrides(override, path, value):
    found = apply_overrides(MINIMAL, [override])
    for part in path:
        found = found[part]
    assert found == value
    assert MINIMAL["inputs"] == [{"path": "a/*.md"}]


def test_later_overrides_win(tmp_path):
    (tmp_path / "a.yaml").write_text(EXAMPLE)
    config = load_config(tmp_path / "a.yaml", ["mask.planes=2", "mask.planes=3", "output=/data/x"])
    assert (config.mask.planes, config.output) == (3, "/data/x")


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        ("mask.rate", "write it as field=value"),
        ("=3", "write it as field=value"),
        ("inputs.1.path=x", "'1' is no index of a list of 1"),
        ("inputs.x=x", "'x' is no index of a list of 1"),
        ("mask.rate=[", "not valid YAML"),
    ],
)
def test_overrides_that_make_no_sense(override, problem):
    with pytest.raises(ConfigError, match=problem) as error:
        apply_overrides(MINIMAL, [override])
    assert f"--set {override}" in str(error.value)


def test_anchoring_leaves_absolute_paths_and_uris():
    config = parse(inputs=[{"path": "/abs/*"}, {"path": "s3://b/*", "name": "n"}, {"path": "rel/*"}])
    anchored = anchor(config, Path("/home"))
    assert [item.path for item in anchored.inputs] == ["/abs/*", "s3://b/*", "/home/rel/*"]
    assert anchored.output == "/home/out"


def test_the_digest_does_not_see_names_places_and_workers():
    one = parse()
    two = parse(
        name="other",
        output="elsewhere",
        inputs=[{"path": "b/*.md"}],
        cache={"identity": "content"},
        compression="zstd",
        unit_bytes=4096,
        max_quarantined=0.5,
        tokenizer={"train": {"vocab_size": 1000}, "engine": "huggingface"},
        mask={"rate": [0.3] * 4},
        pack={"max_segments": 16},
    )
    assert semantic(one) == semantic(two)


@pytest.mark.parametrize(
    "values",
    [
        {"seed": 1},
        {"clean": {"min_chars": 99}},
        {"clean": {"bad_bytes": "replace"}},
        {"mask": {"rate": 0.15}},
        {"mask": {"planes": 3}},
        {"pack": {"sequence_length": 256}},
        {"pack": {"long_documents": "truncate"}},
        {"split": {"by": "source"}},
        {"deduplicate": {"exact": False}},
        {"inputs": [{"path": "a", "documents": "line"}]},
        {"inputs": [{"path": "a", "name": "n"}]},
    ],
)
def test_the_digest_sees_what_changes_the_bytes(values):
    assert semantic(parse(**values)) != semantic(parse())


def test_a_threshold_is_no_part_of_a_key_and_all_else_is():
    everything = {
        "fix_encoding": True,
        "privacy": ["email"],
        "languages": {"keep": ["en"], "min_score": 0.5},
        "lines": ["c4"],
        "max_words_removed": 0.05,
        "domains": {"drop": "hosts"},
        "classifier": {"path": "m.bin", "label": "hq", "min": 0.1},
        "custom": ["a:b"],
    }
    settings = CleanSettings.model_validate(everything)
    values = settings.without_thresholds()
    assert set(CleanSettings.model_fields) == {*values, *CleanSettings.THRESHOLDS}
    assert values["languages"] == {"model": "py3langid", "group": False}
    assert values["classifier"] == {"label": "hq"}
    assert values["domains"] == {"field": "url"}
    assert set(settings.of_text()) == {"unicode", "bad_bytes", "fix_encoding", "privacy", "lines"}


def test_what_is_younger_than_datasets_is_in_no_dump_where_it_is_not_used():
    assert CleanSettings().without_thresholds() == {"unicode": "NFC", "bad_bytes": "quarantine"}
    assert CleanSettings().of_text() == {"unicode": "NFC", "bad_bytes": "quarantine"}
    full = semantic(parse())
    assert full["deduplicate"] == {"exact": True}
    assert not {"decontaminate", "mixing"} & set(full)
    assert "weight" not in full["inputs"][0]


@given(st.lists(st.floats(0.001, 0.95), min_size=1, max_size=8))
def test_rates_are_one_for_each_plane(rates):
    assert MaskSettings(planes=len(rates), rate=tuple(rates)).rates == tuple(rates)


@pytest.mark.parametrize(
    ("train", "problem"),
    [
        ({"kind": "bpe", "strip_accents": True}, "strip_accents is for wordpiece, and kind is bpe"),
        ({"kind": "characters", "strip_accents": True}, "strip_accents is for wordpiece, and kind is characters"),
        ({"kind": "bpe", "coverage": 0.99}, "coverage is 0.99, and kind bpe spells every text"),
        ({"coverage": 0}, "train.coverage: input should be greater than 0, got 0"),
        ({"coverage": 1.5}, "train.coverage: input should be less than or equal to 1, got 1.5"),
        ({"kind": "chars"}, "characters"),
    ],
)
def test_training_that_contradicts_itself(train, problem):
    with pytest.raises(ConfigError, match=problem):
        parse(tokenizer={"train": train})


@pytest.mark.parametrize(
    ("train", "coverage"),
    [({}, 0.9995), ({"kind": "unigram"}, 0.9995), ({"kind": "characters"}, 1.0), ({"coverage": 0.9}, 0.9)],
)
def test_the_coverage_follows_the_kind(train, coverage):
    training = parse(tokenizer={"train": train}).tokenizer.train
    assert training.alphabet_coverage == coverage
    assert training.strip_accents is False


@pytest.mark.parametrize("setting", ["lowercase", "strip_accents"])
def test_case_and_accents_of_a_vocab_txt_are_in_its_digest_already(setting):
    own = {"path": "vocab.txt"}
    assert semantic(parse(tokenizer=own | {setting: False})) == semantic(parse(tokenizer=own))
    assert setting not in semantic(parse(tokenizer=own))["tokenizer"]
    with pytest.raises(ConfigError, match=rf"{setting} is for a vocab.txt, .*: set train.{setting}"):
        parse(tokenizer={"train": {}, setting: True})


def test_the_digest_of_a_byte_level_tokenizer_is_as_ever():
    known = {"kind", "vocab_size", "lowercase", "sample_bytes"}
    assert set(semantic(parse(tokenizer={"train": {"kind": "bpe"}}))["tokenizer"]["train"]) == known
    assert set(semantic(parse())["tokenizer"]["train"]) == known | {"strip_accents", "coverage"}


def test_storage_is_said_once_for_all_uris_and_changes_no_digest():
    values = {
        "inputs": [{"path": "s3://b/*"}, {"path": "rel/*", "name": "n"}],
        "output": "gs://anonymous@c/out?region=x",
    }
    plain = parse(**values)
    config = parse(**values, storage={"endpoint": "http://h:1", "region": "eu", "anonymous": True})
    anchored = anchor(config, Path("/home"))
    assert anchored.inputs[0].path == "s3://anonymous@b/*?endpoint_override=h:1&scheme=http&region=eu"
    assert anchored.inputs[1].path == "/home/rel/*"
    assert anchored.output == "gs://anonymous@c/out?region=x&endpoint_override=h:1&scheme=http"
    assert semantic(anchored) == semantic(plain)
