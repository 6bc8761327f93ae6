"""`premask report`: a page that holds what a version says of itself, and nothing that can get out of a corpus."""

import json
import re
import shutil
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.dataset.names import set_tag
from pipelines.commands import report_charts
from pipelines.commands.cli import main
from pipelines.commands.report import make_report
from pipelines.commands.report_page import Speller
from tests.mlm_data.dataset.test_statistics import words_tokenizer
from tests.synthetic import make_dataset

VOID = {"meta", "br", "wbr"}
SECTIONS = (
    "funnel", "sources", "lengths", "packing", "masks", "tokens", "unknown", "rows", "dropped", "configuration",
    "lineage",
)  # fmt: skip
ALLOWED = set(
    """html head meta title style body main a header h1 h2 h3 p code dl div dt dd nav ul li section figure figcaption
    strong span svg g path text defs clippath rect use details summary table caption thead tbody tr th td bdi wbr
    article mark del""".split()
)


class Page(HTMLParser):
    """Checks that elements nest, and collects what there is, by section."""

    def __init__(self, text: str):
        super().__init__()
        self.open, self.tags, self.attributes, self.ids = [], set(), [], []
        self.section, self.texts = "", {}
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.add(tag)
        self.attributes += [(tag, *pair) for pair in attrs]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag == "section":
            self.section = dict(attrs)["id"]

    def handle_endtag(self, tag):
        assert self.open.pop() == tag
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        self.texts[self.section] = self.texts.get(self.section, "") + data


@pytest.fixture(scope="module")
def dataset(hostile_dataset) -> str:
    return hostile_dataset


@pytest.fixture(scope="module")
def text(dataset) -> str:
    return make_report(Dataset.open(dataset), title="<i>report</i>")


def test_the_page_is_whole_and_asks_for_nothing(text):
    page = Page(text)
    assert page.tags <= ALLOWED
    assert len(page.ids) == len(set(page.ids))
    for _, name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("href", "src", "xlink:href"):
            assert value.startswith("#")
            assert value[1:] in page.ids
        assert "url(" not in (value or "") or value.startswith("url(#")
    assert "default-src 'none'" in text
    assert "@import" not in text


def test_nothing_of_a_corpus_is_markup_or_moves_the_direction(text):
    page = Page(text)
    told = "".join(page.texts.values())
    assert "<script>" in told
    assert "\\u202e" in told
    assert "\\x1b" in told
    assert not [char for char in text if not char.isprintable() and char != "\n"]
    assert "<script" not in text.lower()
    assert "<img" not in text.lower()
    assert "<i>report</i>" in page.texts[""]


def test_figures_are_those_of_the_manifest(dataset, text):
    manifest, sections = Dataset.open(dataset).manifest, Page(text).texts
    documents = manifest.ledger["documents"]
    assert documents["dropped"]["exact_duplicate"] == 1
    for section, wanted in {
        "": [manifest.digest, f"{documents['kept']:,}"],
        "funnel": ["dropped: exact_duplicate", "dropped: too_short", "deduplicate.exact", f"{documents['read']:,}"],
        "sources": ["plain/a.jsonl" if "plain/a.jsonl" in text else "a.jsonl", "en"],
        "packing": [f"{manifest.splits['train']['num_rows']:,}", "validation"],
        "masks": ["Plane 0 (train)", "Plane evaluation (validation)", "None failed", "hidden, start of a word"],
        "tokens": [f"{manifest.ledger['tokens']['in_rows']:,} content tokens"],
        "unknown": [f"{manifest.unknown.unknown:,} of"],
        "rows": ["train row", "validation row", "[masked: "],
        "dropped": ["too_short", "<b>short</b>"],
        "configuration": ["mask.rate", "[0.3, 0.3]", manifest.tokenizer["sha256"]],
        "lineage": [manifest.digest[:12], "build", "No version was before it"],
    }.items():
        for piece in wanted:
            assert piece in sections[section], (section, piece)


def test_a_row_s_targets_are_marked(dataset, text):
    opened = Dataset.open(dataset)
    total = opened.num_rows("train")
    rows = [opened.row("train", number) for number in sorted({(2 * place + 1) * total // 6 for place in range(3)})]
    rows.append(opened.row("validation", opened.num_rows("validation") // 2))
    marks = re.findall(r'<mark class="(\w+)"><span', text)
    targets = [view.planes[plane] for view, plane in zip(rows, ["0", "0", "0", "evaluation"], strict=True)]
    swaps = [(view.tokens[place], token) for view, plane in zip(rows, targets, strict=True)
             for place, token in plane.swaps.items()]  # fmt: skip
    assert len(marks) == sum(plane.targets.size for plane in targets)
    assert marks.count("same") == sum(token == other for token, other in swaps)
    assert marks.count("other") == sum(token != other for token, other in swaps)
    assert marks.count("other")


def test_a_report_is_the_same_each_time(dataset, text):
    assert make_report(Dataset.open(dataset), title="<i>report</i>") == text


def test_colours_come_from_the_page(text):
    for svg in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        assert not re.findall(r"(?<!&)#[0-9a-f]{3,6}\b(?![\w-])", svg)
        assert "font-family" not in svg
    assert "var(--bar)" in text


@pytest.mark.slow
def test_versions_from_versions(hostile_dataset, tmp_path):
    dataset = str(shutil.copytree(hostile_dataset, tmp_path / "out"))
    first = Dataset.open(dataset).digest
    set_tag(Dataset.open(dataset).folder, "v1", first)
    ids = tmp_path / "ids.txt"
    ids.write_text(Dataset.open(dataset).shard("train", 0).documents["id"][0].as_py().hex() + "\n")
    for words in (
        ["remask", dataset, "--rate", "0.3,0.15,0.05,0.1,0.2", "--kind", "whole_word"],
        ["repack", dataset, "--length", "128"],
        ["forget", dataset, "--ids", str(ids)],
    ):
        assert main(words) == 0
        assert main(["report", dataset, "--out", str(tmp_path / "page.html")]) == 0
        page = Page((tmp_path / "page.html").read_text())
        digest = Dataset.open(dataset).digest
        assert digest in page.texts[""]
        assert f"made by {words[0]}" in page.texts[""]
        assert first[:12] in page.texts["lineage"]
        assert "v1" in page.texts["lineage"]
        assert "Plane 0 (train)" in page.texts["masks"]
    assert "are those of the build" in page.texts["funnel"]
    assert "forgotten" in page.texts["funnel"]
    assert main(["report", f"{dataset}@v1", "--out", str(tmp_path / "page.html")]) == 0
    assert first in (tmp_path / "page.html").read_text()


def test_what_a_version_lacks_is_named(tmp_path):
    path = make_dataset(
        tmp_path / "data", num_rows=4, validation_rows=0, vocab_size=100, tokenizer=words_tokenizer(100)
    )
    sections = Page(make_report(Dataset.open(path), title="data")).texts
    assert "keeps no counts by input" in sections["funnel"]
    assert "Nobody looked for languages" in sections["sources"]
    assert "keeps no audit" in sections["masks"]
    assert "keeps no counts of unknown tokens" in sections["unknown"]
    assert "keeps no examples" in sections["dropped"]


def test_many_planes_and_sources_make_no_long_page(tmp_path):
    path = make_dataset(
        tmp_path / "data", num_rows=80, validation_rows=0, shard_rows=2, vocab_size=100, planes=40,
        rate=tuple(number / 100 for number in range(10, 50)), tokenizer=words_tokenizer(100),
    )  # fmt: skip
    text = make_report(Dataset.open(path), title="data")
    assert len(text) < 400_000
    assert "and 10 more" in Page(text).texts["sources"]
    assert "Plane 3 (train)" in text
    assert "Plane 4 (train)" not in text


def test_the_command_writes_the_file_whole_or_not_at_all(dataset, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["report", dataset]) == 0
    (name,) = [path.name for path in tmp_path.iterdir()]
    assert name == f"out-{Dataset.open(dataset).digest[:12]}.html"
    assert name in capsys.readouterr().out
    assert main(["report", str(tmp_path / "nowhere")]) == 2
    (tmp_path / "file").write_text("")
    assert main(["report", dataset, "--out", str(tmp_path / "file/page.html")]) == 2
    assert len(list(tmp_path.iterdir())) == 2
    assert capsys.readouterr().err.count("\n") == 2


def test_without_matplotlib_one_line_says_how_to_get_it(dataset, tmp_path, monkeypatch, capsys):
    class Absent:
        def find_spec(self, name, path=None, target=None):
            if name.partition(".")[0] == "matplotlib":
                raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    for name in [name for name in sys.modules if name.partition(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "meta_path", [Absent(), *sys.meta_path])
    assert main(["report", dataset, "--out", str(tmp_path / "page.html")]) == 2
    assert capsys.readouterr().err == "premask: matplotlib is not installed: pip install 'premask[report]'\n"
    assert not list(tmp_path.iterdir())


def test_charts_escape_names_and_never_read_them_as_mathematics():
    draw = report_charts.bars(["<b>$x^2$ 1.23456</b>\u202e", "日本語"], [3, 1], labels=["3", "1"])
    made = report_charts.svg(draw, name="a b", height=1)
    assert "&lt;b&gt;$x^2$ 1.23456&lt;/b&gt;" in made
    assert "日本語" in made
    assert "\u202e" not in made
    assert report_charts.svg(draw, name="a b", height=1) == made


def test_bytes_of_a_character_appear_with_the_token_that_completes_them(tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    from mlm_data.tokens.reference import from_roles

    names = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "Ġthe", "Ã", "©", "Ċ"]
    made = Tokenizer(models.BPE({name: number for number, name in enumerate(names)}, [], unk_token="[UNK]"))
    made.add_special_tokens(names[:5])
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    roles = {"cls": 2, "sep": 3, "pad": 0, "mask": 4, "unk": 1}
    spell = Speller(from_roles(made.to_str().encode(), roles))
    spell.begin()
    assert [spell.word(token, starts=True) for token in (5, 6, 7, 8)] == [
        (" ", "the"), ("", ""), ("", "é"), ("", "\n"),
    ]  # fmt: skip
    assert (spell.alone(5), spell.alone(6)) == ("the", "�")
    assert spell.is_special(2)
    assert not spell.is_special(1)


def test_the_card_is_printed_or_written(hostile_dataset, tmp_path, capsys):
    dataset = str(shutil.copytree(hostile_dataset, tmp_path / "out"))
    assert main(["remask", dataset, "--rate", "0.2"]) == 0  # its name is the build's
    capsys.readouterr()
    assert main(["card", dataset, "--license", "cc-by-4.0"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('---\npretty_name: "<i>report</i>"\nlanguage: ["en"]\nlicense: "cc-by-4.0"\n')
    assert "<script" not in printed.split("\n---\n", 1)[1]
    out = Path(dataset) / "README.md"
    assert main(["card", dataset, "--license", "cc-by-4.0", "--out", str(out)]) == 0
    assert out.read_text() == printed
    assert main(["card", dataset, "--language", "en,english"]) == 2
    assert main(["card", dataset, "--license", "Not One"]) == 2
    assert json.dumps("english")[1:-1] in capsys.readouterr().err
