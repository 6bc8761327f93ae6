"""Labelled texts: JSON Lines with a text and a label on each line.

{"text": "the cat sat", "label": "animal"}
{"text": "import numpy", "label": 7}            labels become strings: "7"
"""

import json
from pathlib import Path

from mlm_data.errors import InputError
from trainer.studies.numbered_lines import numbered_lines
from trainer.studies.texts import check_text


def read_labelled(path: Path, text_field: str, label_field: str) -> tuple[list[str], list[str]]:
    """Texts and labels of a file; a label is a string, a number or a truth value, and comes back as a string.

    Raises:
        InputError: if the file can't be read to its end, or a line lacks a field or has another kind of value in it.
    """
    texts, labels = [], []
    for number, line in numbered_lines(path):
        try:
            value = json.loads(line)
            text, label = value[text_field], value[label_field]
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise InputError(
                f"{path}, line {number}: expected JSON with {text_field!r} and {label_field!r}: name others with "
                "--text-field and --label-field"
            ) from error
        if not isinstance(text, str):
            raise InputError(f"{path}, line {number}: {text_field!r} is no string: name another with --text-field")
        check_text(text, where=f"{path}, line {number}: ")
        if not isinstance(label, str | int | float):
            kind = "null" if label is None else "a list" if isinstance(label, list) else "an object"
            raise InputError(
                f"{path}, line {number}: {label_field!r} is {kind}, and a label is a string or a number: label the "
                "text, leave the line out, or name another field with --label-field"
            )
        texts.append(text)
        labels.append(str(label))
    return texts, labels
