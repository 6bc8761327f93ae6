"""Extraction: the libraries' texts, in processes of their own, whatever a page does to them."""

import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

from mlm_data.config import InputSettings
from mlm_data.errors import InputError
from mlm_data.text import extract, extract_worker
from mlm_data.text.extract import LIMITS, Limits, extract_pages
from mlm_data.text.pages import Page, page_texts

SENTENCES = "<p>This is a sentence of the article, which is long enough to be taken for one, and says little. " * 5
ARTICLE = f"""<!doctype html><html><head><title>Title</title></head><body><nav><a href="/">Home</a></nav>
<article><h1>Heading</h1>{SENTENCES}<ul><li>first item</ul><img alt="no text"></article>
<div id="comments"><p>A comment</div><footer>Imprint</footer></body></html>""".encode()


@pytest.fixture(autouse=True)
def _no_workers_left():
    yield
    extract._pool.close()


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_the_main_text(extractor):
    first, empty, second = extract_pages([ARTICLE, b"", ARTICLE], extractor)
    assert first == second
    assert "This is a sentence" in first.text
    assert not {"Home", "Imprint", "no text", "A comment", "\u2022"} & set(first.text.splitlines())
    assert "no text" not in first.text
    assert empty.text == ""
    assert empty.problem is None


def test_texts_are_those_of_the_library():
    from resiliparse.extract.html2text import extract_plain_text

    expected = extract_plain_text(
        ARTICLE.decode(), main_content=True, list_bullets=False, alt_texts=False, comments=False
    )
    assert extract_pages([ARTICLE], "resiliparse")[0].text == expected


@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
@pytest.mark.parametrize(
    ("page", "why"),
    [
        (b"<div>" * 100_000 + b"text", "too_deep"),
        (b"<div>" * 500 + b"<p>x</p>" * 100_000, "too_deep"),  # not deep, but each paragraph is in all of them
        (b"<p>text" + b" " * LIMITS.page_bytes, "too_large"),
    ],
)
def test_pages_over_the_limits_are_stripped(extractor, page, why):
    (found,) = extract_pages([page], extractor)
    assert found.stripped == why
    assert found.text.split()[0] in ("text", "x")


@pytest.mark.parametrize(
    "page",
    [
        b"<table><tr><td colspan='99999999'>text<td rowspan=99999999>more</table>" * 20,
        b"<p " + b"a=b " * 100_000 + b">text",
        b"<a href=" + b"x" * 1_000_000 + b">text</a>",
        b"<b><i>text</b></i>" * 20_000,
        b"text\0\x01\xef\xbf\xbe" * 1000,
        b"<svg>" + b"<path/>" * 50_000 + b"</svg>text",
    ],
)
@pytest.mark.parametrize("extractor", ["resiliparse", "trafilatura"])
def test_hostile_pages_end(extractor, page):
    (found,) = extract_pages([page], extractor)
    assert found.problem is None


def test_spans_are_clamped():
    clamp = extract_worker.clamp_spans
    assert clamp("<td colspan=12 ROWSPAN = '12345'>") == "<td colspan=12 ROWSPAN = '99'>"
    for page in ("colspan" * 200_000, "colspan=" + " " * 1_000_000, "colspan='" * 200_000):
        assert clamp(page) == page


# A stand-in for a library, chosen by what the page says.
STUB = """
import os, signal, sys, time
from mlm_data.text import extract_worker

def stub():
    def extract(page):
        print("noise on standard output")
        if "spin" in page:
            while True: pass
        if "crash" in page: os.kill(os.getpid(), signal.SIGSEGV)
        if "memory" in page: raise MemoryError
        if "raise" in page: raise ValueError("a bug")
        if "sleep" in page: time.sleep(100)
        if "once" in page:
            name = page.split()[-1]
            if not os.path.exists(name):
                open(name, "w").close()
                os._exit(1)
        return page.upper()
    return extract

extract_worker.EXTRACTORS["resiliparse"] = stub
"""


@pytest.fixture
def stub(monkeypatch, tmp_path):
    """Workers whose extractor does what a page tells it."""
    (tmp_path / "stub_extractor.py").write_text(STUB)
    plain = subprocess.Popen

    def start(command, **options):
        code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv[1:] = {command[4:]!r}\n"
        code += "import stub_extractor\nfrom mlm_data.text import extract_worker\nextract_worker.main()"
        return plain([sys.executable, "-P", "-c", code], **options)

    monkeypatch.setattr(extract.subprocess, "Popen", start)
    return replace(LIMITS, cpu_seconds=1)


def test_what_a_page_may_do_to_its_process(stub, tmp_path):
    pages = [
        b"a",
        b"raise",
        b"b",
        b"spin",
        b"c",
        b"crash",
        b"d",
        b"memory",
        b"e",
        f"once {tmp_path}/flag".encode(),
        b"f",
    ]
    found = extract_pages(pages, "resiliparse", stub)
    assert [item.text for item in found[::2]] == ["A", "B", "C", "D", "E", "F"]
    assert (found[1].text, found[1].stripped, found[1].problem) == ("raise", "error", None)
    assert [item.problem for item in found[3:8:2]] == [
        ("extract_failed", "resiliparse took more than 1 seconds"),
        ("extract_failed", "resiliparse crashed"),
        ("extract_failed", "resiliparse wants too much memory"),
    ]
    assert found[9].text.startswith("ONCE")


def test_a_process_that_waits_is_killed(stub, monkeypatch):
    monkeypatch.setattr(extract, "WALL_PER_CPU", 0.2)
    (found,) = extract_pages([b"sleep"], "resiliparse", stub)
    assert found.problem == ("extract_failed", "resiliparse crashed")


def test_threads_have_a_process_each_and_share_them_later(stub):
    barrier = threading.Barrier(3)

    def work(number):
        with extract._borrow("resiliparse", stub) as worker:
            barrier.wait()
            return worker.extract(b"page %d" % number).text, worker._process.pid

    with ThreadPoolExecutor(3) as pool:
        first = list(pool.map(work, range(3)))
        second = list(pool.map(work, range(3)))
    assert [text for text, _ in first] == ["PAGE 0", "PAGE 1", "PAGE 2"]
    assert len({pid for _, pid in first}) == 3
    assert {pid for _, pid in first} == {pid for _, pid in second}


def test_an_error_between_two_pages_ends_the_process(stub):
    borrowed = extract._borrow("resiliparse", stub)
    worker = borrowed.__enter__()
    worker.extract(b"a")
    process = worker._process
    borrowed.__exit__(KeyError, None, None)
    assert process.poll() is not None


def test_a_process_that_does_not_start(monkeypatch):
    monkeypatch.setattr(extract.sys, "executable", "/bin/false")
    with pytest.raises(
        InputError, match=r"does not start: try /bin/false -P -m mlm_data.text.extract_worker resiliparse"
    ):
        extract_pages([b"a"], "resiliparse")


def test_processes_end_with_who_started_them():
    code = "import os; from mlm_data.text.extract import extract_pages, _pool; extract_pages([b'a'], 'resiliparse')\n"
    code += "print(next(iter(_pool.free.values()))[0]._process.pid, flush=True)\n"
    for end in ("", "os.kill(os.getpid(), 9)", "pid = os.fork(); pid or os._exit(len(_pool.free))"):
        done = subprocess.run([sys.executable, "-c", code + end], capture_output=True, text=True)
        assert done.returncode == (-signal.SIGKILL if "kill" in end else 0), done.stderr
        pid = int(done.stdout)
        for _ in range(100):
            if not (stat := Path(f"/proc/{pid}/stat")).exists() or stat.read_text().split()[2] == "Z":
                break
            threading.Event().wait(0.05)
        else:
            raise AssertionError("the process is still there")


def test_limits_are_part_of_who_shares_a_process():
    extract_pages([b"a"], "resiliparse")
    extract_pages([b"a"], "resiliparse", Limits(cpu_seconds=5))
    assert len(extract._pool.free) == 2


def test_pages_and_texts_together():
    pages = [
        Page(data=ARTICLE),
        Page(data=b"%PDF-1.7"),
        Page(data="caf\u00e9 <b>".encode("latin-1"), is_html=False),
        Page(data=b"<div>" * 1000 + b"deep"),
        Page(data=b"\0\1" * 50),
    ]
    found = page_texts(pages, InputSettings(path="x"))
    assert found.kept.tolist() == [0, 2, 3]
    assert found.texts.to_pylist()[1:] == ["café <b>", "deep"]
    assert [(i, reason) for i, reason, _ in found.problems] == [(1, "not_text"), (4, "not_text")]
    assert found.counts == {"stripped.too_deep": 1}
    assert page_texts(pages[:1], InputSettings(path="x", extract="none")).texts.to_pylist() == [ARTICLE.decode()]
