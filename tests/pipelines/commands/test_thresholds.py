"""`premask thresholds`: a line for each score, and one page of HTML that nothing can break out of."""

import json
from html.parser import HTMLParser

import pytest

from mlm_data.build.histograms import sample_scores
from mlm_data.config import load_config
from mlm_data.errors import StorageError
from pipelines.commands.cli import main
from pipelines.commands.thresholds_page import page
from tests.pipelines.small_corpus import settings, text, write_jsonl

HOSTILE = 'x"><script>alert(1)</script>\x1b[31m\u202e&amp;'
VOID = {"meta", "br", "rect", "line"}


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    folder = tmp_path_factory.mktemp("thresholds")
    write_jsonl(folder / "a.jsonl", range(40))
    (folder / "b.jsonl").write_text("".join(json.dumps({"text": text(n, n % 12)}) + "\n" for n in range(60)))
    inputs = [
        {"path": "a.jsonl", "name": "plain"},
        {"path": "b.jsonl", "name": HOSTILE, "quality": ["gopher_repetition", "gopher_quality", "c4", "fineweb"]},
    ]
    values = settings(folder, inputs=inputs, output="out", name=HOSTILE)
    (folder / "premask.yaml").write_text(json.dumps(values))
    return folder / "premask.yaml"


class Page(HTMLParser):
    """Checks that elements nest, and collects what there is."""

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += [(tag, *pair) for pair in attrs]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_each_input_and_score_has_a_line(config, capsys):
    assert main(["thresholds", str(config), "--sample", "100%"]) == 0
    out = capsys.readouterr().out
    assert "plain: 40 documents" in out
    assert "<= 0.3" in out
    assert ">= 50" in out
    assert not [char for char in out if not char.isprintable() and char != "\n"]
    assert 'x"><script>alert(1)</script>\\x1b[31m\\u202e&amp;: 60 documents' in out


def test_programs_get_the_counts(config, capsys):
    assert main(["thresholds", str(config), "--sample", "100%", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["plain"]["documents"] == 40
    for one in said[HOSTILE]["scores"]:
        assert sum(one["stay"]) + sum(one["go"]) == 60
        assert sum(one["go"]) == one["fails"] >= one["first"]
        assert len(one["edges"]) == len(one["stay"]) + 1
    words = next(one for one in said[HOSTILE]["scores"] if one["reason"] == "gopher_quality:too_few_words")
    assert words["thresholds"] == [50]
    assert words["fails"] > 0


def test_the_page_is_whole_and_asks_for_nothing(config, tmp_path, capsys):
    target = tmp_path / "page.html"
    assert main(["thresholds", str(config), "--html", str(target)]) == 0
    assert "pictures: " in capsys.readouterr().out
    html = target.read_text("utf-8")
    found = Page()
    found.feed(html)
    assert not found.open
    assert not {"script", "img", "link", "iframe", "object", "a"} & set(found.tags)
    assert not [item for item in found.attributes if item[1] in ("src", "href") or item[1].startswith("on")]
    assert ("meta", "content", "default-src 'none'; style-src 'unsafe-inline'") in found.attributes
    assert "http://" not in html
    assert "https://" not in html
    assert "prefers-color-scheme: dark" in html
    assert ("meta", "content", "width=device-width, initial-scale=1") in found.attributes
    assert not [char for char in html if not char.isprintable() and char != "\n"]
    assert "".join(found.texts).count('x"><script>alert(1)</script>\\x1b[31m\\u202e&amp;') >= 3  # title, heading, input


def test_who_can_t_see_the_drawings_has_labels_and_tables(config):
    found = Page()
    found.feed(page(sample_scores(load_config(config), 1.0), title="t"))
    labels = [value for tag, name, value in found.attributes if (tag, name) == ("svg", "aria-label")]
    assert len(labels) == found.tags.count("svg") == found.tags.count("table") - 1
    assert ("svg", "role", "img") in found.attributes
    assert any(
        label.startswith("Histogram of num_text_words; at least 50 (gopher_quality.min_words); ") for label in labels
    )
    assert found.tags.count("tr") > found.tags.count("svg")


def test_an_empty_sample_has_a_page(tmp_path):
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": ""}) + "\n")
    path = tmp_path / "premask.yaml"
    path.write_text(json.dumps(settings(tmp_path, inputs=[{"path": "a.jsonl", "quality": "c4"}], output="out")))
    found = Page()
    found.feed(page(sample_scores(load_config(path), 1.0), title="t"))
    assert not found.open


def test_neither_a_tokenizer_nor_an_output_is_needed(config, tmp_path, capsys):
    write_jsonl(tmp_path / "a.jsonl", range(3))
    (tmp_path / "premask.yaml").write_text("inputs: [{path: a.jsonl}]")
    assert main(["thresholds", str(tmp_path / "premask.yaml")]) == 0
    assert "3 documents" in capsys.readouterr().out
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.jsonl", "premask.yaml"]


def test_a_page_that_fails_leaves_the_old_one(config, tmp_path, monkeypatch):
    target = tmp_path / "page.html"
    target.write_text("old")

    def fails(*_, **__):
        raise StorageError("no page today")

    monkeypatch.setattr("pipelines.commands.thresholds_page.page", fails)
    assert main(["thresholds", str(config), "--html", str(target)]) == 2
    monkeypatch.undo()
    monkeypatch.setattr("os.replace", fails)
    assert main(["thresholds", str(config), "--html", str(target)]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]
    assert target.read_text() == "old"


def test_nothing_is_written_beside_the_page(config):
    assert not (config.parent / "out").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--html", "nowhere/page.html"], "no such folder"),
        (["--html", "."], "choose another place"),
        (["--sample", "0"], "must be a share such as 1% or 0.01, got '0'"),
    ],
)
def test_mistakes_are_one_line(config, capsys, words, message):
    assert main(["thresholds", str(config), *words]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
