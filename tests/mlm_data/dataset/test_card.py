"""The card: a header that the Hub reads, nothing invented, and no name that Markdown or YAML would take for its own."""

import shutil

import pytest
from huggingface_hub import DatasetCard
from ruamel.yaml import YAML

from mlm_data.dataset.card import card, card_header, found_languages, plain, size_category
from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.funnel import Funnel
from mlm_data.dataset.publish import check_output
from tests.synthetic import make_dataset

HOSTILE = 'x"|`: <script>alert(1)</script>\x1b[31m\u202e\n---\n# *a* ![b](c) & [d]'


@pytest.fixture
def dataset(tmp_path) -> Dataset:
    return Dataset.open(make_dataset(tmp_path / "data", num_rows=40, validation_rows=9, shard_rows=10))


def with_funnel(dataset, fates):
    """The version, as if its documents had had these fates."""
    ledger = {**dataset.manifest.ledger, "funnel": Funnel(fates=fates).to_dict()}
    manifest = type(dataset.manifest)(**{**vars(dataset.manifest), "ledger": ledger})
    return Dataset(dataset.folder, manifest, dataset.files)


def test_the_hub_reads_the_header(dataset):
    fates = {("a", "en", "kept"): (60, 6, 600), ("a", "de", "kept"): (39, 4, 390), ("a", "la", "kept"): (1, 1, 5)}
    text = card(with_funnel(dataset, fates), name="Books of ours", license_id="cc-by-4.0")
    data = DatasetCard(text).data
    assert data.pretty_name == "Books of ours"
    assert data.license == "cc-by-4.0"
    assert data.language == ["en", "de"]  # Latin has less than a hundredth of the tokens
    assert data.task_categories == ["fill-mask"]
    assert data.size_categories == ["n<1K"]
    assert "premask" in data.tags
    assert data.configs[0]["config_name"] == "rows"


def test_what_nobody_knows_is_not_said(dataset):
    header = card_header(dataset, name="books")
    assert not {"license", "language"} & set(header)
    text = card(dataset, name="books")
    assert "license" not in text
    assert "language:" not in text
    assert "| input |" not in text  # there is no funnel
    assert dataset.digest in text


def test_codes_that_are_given_replace_those_that_were_found(dataset):
    found = with_funnel(dataset, {("a", "en", "kept"): (1, 1, 1)})
    assert card_header(found, name="n", languages=["nl"])["language"] == ["nl"]


def test_undetermined_and_no_language_are_none(dataset):
    fates = {("a", code, "kept"): (10, 10, 10) for code in ("und", "zxx", "", "no", "not a code")}
    manifest = with_funnel(dataset, fates).manifest
    assert found_languages(manifest) == ["no"]
    text = card(with_funnel(dataset, fates), name="n")
    assert DatasetCard(text).data.language == ["no"]  # YAML 1.1 would read it as false without its marks


def test_hostile_names_stay_names(dataset):
    text = card(with_funnel(dataset, {(HOSTILE, HOSTILE, HOSTILE): (3, 3, 3), (HOSTILE, "en", "kept"): (1, 1, 1)}),
                name=HOSTILE)  # fmt: skip
    header, body = text.split("\n---\n", 1)
    assert YAML(typ="safe").load(header.removeprefix("---\n"))["pretty_name"].startswith('x"|`: <script>')
    assert "<script" not in body
    assert "\n---" not in body.replace("|---", "")
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    widths = {line.count("|") for line in body.splitlines() if line.startswith("| x&#34;")}
    assert widths == {5}


def test_datasets_reads_the_folder_by_its_card(dataset, tmp_path):
    from datasets import load_dataset

    (tmp_path / "data/README.md").write_text(card(dataset, name="books"))
    check_output(dataset.folder)  # a build takes the folder still
    found = load_dataset(str(tmp_path / "data"), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in found.items()} == {"train": 40, "validation": 9}
    assert found["train"][17]["tokens"] == dataset.row("train", 17, planes=()).tokens.tolist()


def test_a_version_of_many_files_lists_none(dataset, monkeypatch):
    monkeypatch.setattr("mlm_data.dataset.card.MOST_FILES", 3)
    assert "configs" not in card_header(dataset, name="books")


def test_sizes_are_those_of_the_hub():
    names = [size_category(10**power) for power in range(2, 13)]
    assert names == [
        "n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M", "1M<n<10M", "10M<n<100M", "100M<n<1B", "1B<n<10B",
        "10B<n<100B", "100B<n<1T", "n>1T",
    ]  # fmt: skip


def test_long_names_are_cut():
    assert len(plain("a" * 1000)) == 101


def test_the_card_moves_with_the_folder(dataset, tmp_path):
    text = card(dataset, name="books")
    shutil.copytree(tmp_path / "data", tmp_path / "copy")
    assert card(Dataset.open(tmp_path / "copy"), name="books") == text
    assert str(tmp_path) not in text
