"""A dataset with something in every section of a report, from a corpus that would like to break out of it."""

import json
from pathlib import Path

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build
from tests.pipelines.small_corpus import settings, text, write_jsonl

ATTACK = (
    "<script>document.title='owned'</script><img src=x onerror=document.title='owned'> \x1b[31m \u202e $x_1$ &amp; "
)
NAME = 'b"><script>alert(1)</script>\x1b[31m\u202e&amp;$y$'


def hostile_texts() -> list[str]:
    """Documents full of markup, escapes and marks of direction; some of them are too short, some are copies."""
    documents = [f"{ATTACK * 3}{text(number, 6)} שלום עולם 日本語" for number in range(500, 530)]
    return [*documents, documents[0], "<b>short</b>\u202e"]


def build_hostile(folder: Path, **changes: object) -> str:
    """Build it; returns the dataset's folder."""
    write_jsonl(folder / "in/a.jsonl", range(60))
    source = folder / "in/<script>alert(1)</script> & \u202e.jsonl".replace("/script", "script")
    source.write_text("".join(json.dumps({"text": one}) + "\n" for one in hostile_texts()))
    values = settings(
        folder,
        inputs=[{"path": str(folder / "in/a.jsonl"), "name": "plain"}, {"path": str(folder / "in/<*"), "name": NAME}],
        clean={"min_chars": 60, "languages": {"keep": "all"}},
        name="<i>report</i>",
    )
    return build(parse_settings(BuildConfig, values | changes, where="test")).output
