"""datatrove's four filters with its defaults, asked for one document at a time, as it does itself."""

from collections.abc import Callable, Sequence

import pytest

NAMES = {
    "gopher_repetition": "GopherRepetitionFilter",
    "gopher_quality": "GopherQualityFilter",
    "c4": "C4QualityFilter",
    "fineweb": "FineWebQualityFilter",
}


def load() -> dict[str, Callable[[Sequence[str]], list[str]]]:
    """For each preset a function from texts to the reasons by which datatrove drops them; `kept` keeps one."""
    filters = pytest.importorskip("datatrove.pipeline.filters")
    document = pytest.importorskip("datatrove.data").Document

    def judge(name: str) -> Callable[[Sequence[str]], list[str]]:
        judging = getattr(filters, name)()

        def reasons(texts: Sequence[str]) -> list[str]:
            said = [judging.filter(document(text=text, id="")) if text else (False, "empty") for text in texts]
            return ["kept" if answer is True else answer[1] for answer in said]

        return reasons

    return {preset: judge(name) for preset, name in NAMES.items()}
