"""Other models of languages that a user may install: fastText's lid.176, and heliport. Slower than the default.

Both read the same excerpts as the default model, with line feeds as spaces, one by one in Python, and hold the GIL.
Neither is a part of premask: lid.176.ftz is CC BY-SA 3.0 (Joulin et al. 2016), heliport is GPL-3 and takes 880 MB.
"""

import importlib
import importlib.metadata
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from mlm_data.curation.classifier import fasttext_labels, file_sha256, lines, load_fasttext
from mlm_data.curation.language import LanguageModel, Languages, Py3langid, cut
from mlm_data.curation.language_codes import NO_LANGUAGE, UNDETERMINED, shortest_code
from mlm_data.curation.language_kernels import SCORE_UNIT
from mlm_data.errors import ConfigError


@dataclass(frozen=True)
class _Peer:
    """A model that is asked text by text."""

    name: str
    version: str
    languages: tuple[str, ...]
    ask: Callable[[str], tuple[str, float]] = field(repr=False, compare=False)  # its own label, a score in [0, 1]

    def identify(self, texts: pa.LargeStringArray) -> Languages:
        answers = [self.ask(line) if line.strip() else (UNDETERMINED, 0.0) for line in lines(cut(texts))]
        places = {code: place for place, code in enumerate(self.languages)}
        scores = np.array([score for _, score in answers], np.float64)
        return Languages(
            codes=np.array([places[_code(label)] for label, _ in answers], np.int16),
            scores=np.floor(np.clip(scores, 0, 1) * SCORE_UNIT + 0.5).astype(np.uint16),
        )


def language_model(name: str, *, path: str | None = None, group: bool = False) -> LanguageModel:
    """The model of a name: `py3langid`, `lid176` (its file at `path`) or `heliport`.

    Args:
        group: Bosnian, Croatian and Serbian as one language; of py3langid only.

    Raises:
        ConfigError: no such model, one that isn't installed, or a file that is no model.
    """
    if name == "py3langid":
        return Py3langid(group=group)
    if group:
        raise ConfigError(f"languages: only py3langid can group languages, not {name}: set model: py3langid")
    if name == "lid176":
        if path is None:
            raise ConfigError("languages: the model lid176 needs a path to lid.176.ftz or lid.176.bin")
        return _lid176(path)
    if name == "heliport":
        return _heliport()
    raise ConfigError(f"languages: there is no model {name!r}: take py3langid, lid176 or heliport")


def _lid176(path: str) -> _Peer:
    """The score is the model's probability."""
    model = load_fasttext(path)

    def ask(line: str) -> tuple[str, float]:
        labels, chances = model.predict(line, k=1, threshold=0.0)
        return (labels[0].removeprefix("__label__"), float(chances[0])) if labels else (UNDETERMINED, 0.0)

    labels = [label.removeprefix("__label__") for label in fasttext_labels(path)]
    return _Peer("lid176", f"lid176 {file_sha256(path)}", _languages(labels), ask)


def _heliport() -> _Peer:
    """The score is 1 where heliport is surer than its own threshold of the language; below it says `und`."""
    try:
        identifier: Any = importlib.import_module("heliport").Identifier()
    except ModuleNotFoundError as error:
        raise ConfigError("heliport is not installed: pip install heliport (GPL-3, so no extra has it)") from error

    def ask(line: str) -> tuple[str, float]:
        label = identifier.identify(line)
        return label, float(label != UNDETERMINED)

    version = f"heliport {importlib.metadata.version('heliport')}"
    return _Peer("heliport", version, _languages(identifier.get_confidence_all()), ask)


def _languages(labels: Iterable[str]) -> tuple[str, ...]:
    codes = {_code(label) for label in labels} - {UNDETERMINED, NO_LANGUAGE}
    return (UNDETERMINED, NO_LANGUAGE, *sorted(codes))


def _code(label: str) -> str:
    """The code of ours for a model's label, which may have a variety of the language behind its three letters."""
    return shortest_code(label) or shortest_code(label[:3]) or label
