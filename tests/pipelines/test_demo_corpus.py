import json

from pipelines import demo_corpus


def test_topics_and_docstrings_become_jsonl(tmp_path):
    written = demo_corpus.write_demo_corpus(tmp_path / "corpus.jsonl", max_bytes=900_000, workers=1)
    lines = (tmp_path / "corpus.jsonl").read_bytes().splitlines()
    documents = [json.loads(line) for line in lines]
    assert written.num_bytes == (tmp_path / "corpus.jsonl").stat().st_size <= 900_000
    assert {document["kind"] for document in documents} == {"topic", "docstring"}
    assert len({document["text"] for document in documents}) == len(documents)
    assert all(document["url"] for document in documents)


def test_a_file_that_does_not_parse_gives_nothing(tmp_path):
    path = tmp_path / "bad.py"
    path.write_bytes(b"def broken(:\n\x00")
    assert demo_corpus.docstrings(path, "bad.py") == []
    assert demo_corpus.docstrings(tmp_path / "missing.py", "missing.py") == []


def test_docstrings_of_every_level(tmp_path):
    path = tmp_path / "good.py"
    long = "word " * 30
    path.write_text(
        f'"""{long}module"""\nclass A:\n    """{long}class"""\n    def f(self):\n        """{long}method"""\n'
        'def g():\n    """short"""\n'
    )
    found = demo_corpus.docstrings(path, "good.py")
    assert [item["url"] for item in found] == ["good.py", "good.py#A", "good.py#f"]


def test_lone_surrogates_do_not_break_the_file(tmp_path):
    path = tmp_path / "odd.py"
    path.write_text('"""' + "x" * 100 + '\\ud800"""\n')
    lines = list(demo_corpus._encode(demo_corpus.docstrings(path, "odd.py"), set()))
    assert json.loads(lines[0])["text"].endswith("?")
