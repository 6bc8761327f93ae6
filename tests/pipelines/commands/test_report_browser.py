"""The report in a browser: nothing runs, nothing is fetched, it fits a phone, and axe has nothing serious to say.

Needs Debian's chromium (or another one on the PATH); playwright drives it, and axe-playwright-python holds axe-core.
"""

import re
import shutil

import pytest

from mlm_data.dataset.dataset import Dataset
from pipelines.commands.report import make_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on the PATH: apt-get install chromium")
SIZES = {"phone": {"width": 390, "height": 844}, "desktop": {"width": 1280, "height": 900}}


@pytest.fixture(scope="module")
def file(tmp_path_factory, hostile_dataset):
    path = tmp_path_factory.mktemp("report") / "report.html"
    path.write_text(make_report(Dataset.open(hostile_dataset), title="<i>report</i>"), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture
def visit(browser, file):
    """Opens the page in a window of this size; everything that it asks for or complains of is kept."""
    contexts, said = [], []

    def opened(size="desktop", scheme="light"):
        contexts.append(browser.new_context(viewport=SIZES[size], color_scheme=scheme))
        page = contexts[-1].new_page()
        page.on("request", lambda request: said.append(request.url))
        page.on("console", lambda message: said.append(message.text))
        page.on("dialog", lambda dialog: said.append(dialog.message))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(file.as_uri())
        return page

    yield opened
    assert said == [file.as_uri()] * len(contexts)
    for context in contexts:
        context.close()


def test_nothing_of_the_corpus_runs(visit):
    page = visit()
    assert page.title() == "Dataset report: <i>report</i>"
    assert page.evaluate("document.scripts.length + document.images.length") == 0
    assert "<script>" in page.inner_text("#rows") + page.inner_text("#dropped") + page.inner_text("#sources")


@pytest.mark.parametrize(
    ("size", "scheme"), [("phone", "light"), pytest.param("desktop", "dark", marks=pytest.mark.slow)]
)
def test_axe_finds_nothing(visit, size, scheme):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(size, scheme)
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    found = Axe().run(page).response["violations"]
    assert [(one["id"], one["nodes"][0]["html"]) for one in found] == []


def test_it_fits_a_phone(visit):
    page = visit("phone")
    page.evaluate("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == SIZES["phone"]["width"]
    sizes = page.eval_on_selector_all(
        "svg text",
        """all => all.map(one => Math.hypot(one.getScreenCTM().a, one.getScreenCTM().b)
                               * parseFloat(getComputedStyle(one).fontSize))""",
    )
    assert len(sizes) > 20
    assert min(sizes) > 7.5  # CSS pixels


def test_short_names_in_tables_stay_on_one_line(visit):
    page = visit("phone")
    heights = page.eval_on_selector_all(
        "#packing > .wide tbody th, #tokens figure.list tbody th", "all => all.map(one => one.clientHeight)"
    )
    assert len(heights) > 30
    assert max(heights) < 45  # of two lines


def test_light_and_dark_are_two_pages_of_the_same_text(visit):
    light, dark = visit(scheme="light"), visit(scheme="dark")
    colours = (
        "[getComputedStyle(document.body).backgroundColor, getComputedStyle(document.querySelector('svg text')).fill]"
    )
    (paper, ink), (other_paper, other_ink) = light.evaluate(colours), dark.evaluate(colours)
    assert brightness(paper) > 0.9 > 0.5 > brightness(ink)
    assert brightness(other_paper) < 0.2 < 0.5 < brightness(other_ink)
    assert light.inner_text("main") == dark.inner_text("main")
    dark.emulate_media(media="print")
    assert dark.evaluate(colours)[0] == paper  # paper is white


def test_the_keyboard_reaches_links_tables_and_details(visit):
    page = visit("phone")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.append(page.evaluate("document.activeElement.tagName + ' ' + document.activeElement.className"))
    assert reached[0] == "A skip"
    assert {"A ", "DIV wide", "SUMMARY "} <= set(reached)
    page.focus("#lengths summary")
    page.keyboard.press("Enter")
    assert page.is_visible("#lengths table")


def test_charts_have_a_name_and_a_table_for_those_who_don_t_see_them(visit):
    page = visit()
    for figure in page.query_selector_all("figure:has(svg)"):
        assert figure.query_selector("figcaption strong").inner_text()
        assert figure.query_selector("svg").get_attribute("aria-hidden") == "true"
        assert len(figure.query_selector_all("table tbody tr")) > 0


def test_it_prints_on_sheets(visit):
    page = visit(scheme="dark")
    pdf = page.pdf(format="A4")
    assert pdf.startswith(b"%PDF")
    page.set_viewport_size({"width": 718, "height": 1000})  # A4 without margins, in CSS pixels
    page.emulate_media(media="print")
    assert page.evaluate("document.documentElement.scrollWidth") <= 718
    assert not page.is_visible("nav")


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 765
