"""Models that users install, behind one interface: a tiny model of fastText, and a stand-in for heliport."""

import importlib.metadata
import sys
from types import SimpleNamespace

import pyarrow as pa
import pytest

from mlm_data.curation.language_peers import language_model
from mlm_data.errors import ConfigError
from tests.mlm_data.curation.fasttext_files import write_model

TEXTS = pa.array(["the\nthe the", "der der", "", "the " * 900], pa.large_string())


def said(model, texts=TEXTS):
    found = model.identify(texts)
    return [model.languages[code] for code in found.codes], found.scores.tolist()


def test_lid176(tmp_path):
    words = {"</s>": (0.0, 0.0), "the": (1.0, 0.0), "der": (0.0, 1.0)}
    path = write_model(tmp_path / "lid.bin", words, {"__label__en": (9.0, -9.0), "__label__deu": (-9.0, 9.0)})
    model = language_model("lid176", path=path)
    assert model.languages == ("und", "zxx", "de", "en")
    codes, scores = said(model)
    assert codes == ["en", "de", "und", "en"]
    assert scores[2] == 0
    assert min(scores[0], scores[1], scores[3]) > 9_900
    assert model.version.startswith("lid176 ")


def test_heliport(monkeypatch):
    """A stand-in with the two methods of heliport 1.0 that are called."""

    class Identifier:
        def get_confidence_all(self):
            return {"eng": 0.1, "hbssrp": 0.0, "deu": 0.2, "zxx": 0.0, "und": 0.0}

        def identify(self, text):
            assert "\n" not in text
            return "eng" if "the" in text else "und"

    monkeypatch.setitem(sys.modules, "heliport", SimpleNamespace(Identifier=Identifier))
    monkeypatch.setattr(importlib.metadata, "version", lambda package: "1.0")
    model = language_model("heliport")
    assert model.languages == ("und", "zxx", "de", "en", "sh")
    assert model.version == "heliport 1.0"
    assert said(model) == (["en", "und", "und", "en"], [10_000, 0, 0, 10_000])


def test_the_default():
    pytest.importorskip("py3langid")
    codes, _ = said(language_model("py3langid"), pa.array(["Where have all the flowers gone?"], pa.large_string()))
    assert codes == ["en"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "cld4"}, "there is no model 'cld4'"),
        ({"name": "lid176"}, "needs a path"),
        ({"name": "lid176", "path": "/nowhere.ftz"}, "can't read the model"),
        ({"name": "heliport", "group": True}, "only py3langid can group"),
    ],
)
def test_a_mistake(arguments, message):
    with pytest.raises(ConfigError, match=message):
        language_model(**arguments)


def test_one_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "heliport", None)
    with pytest.raises(ConfigError, match="heliport is not installed: pip install heliport"):
        language_model("heliport")
