"""Build a dataset from Python: the same as `premask build`, with the settings as plain values.

python examples/build_a_dataset.py FOLDER
"""

import calendar
import json
import sys
from pathlib import Path

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build

CITIES = ("Oslo", "Lima", "Cairo", "Quito", "Hanoi", "Accra", "Turin", "Perth", "Osaka", "Delhi")
MONTHS = calendar.month_name[1:]


def write_corpus(file: Path) -> None:
    """JSON Lines: a document for each city and month, and one document twice."""
    texts = []
    for number, month in enumerate(MONTHS):
        sentence = f"In {month} the trains to {{city}} run every {number + 2} minutes. "
        texts += [sentence.format(city=city) * (3 + number % 4) for city in CITIES]
    lines = (json.dumps({"text": text, "url": f"timetable/{number}"}) for number, text in enumerate([*texts, texts[0]]))
    file.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main(folder: Path) -> Path:
    """Write a corpus into `folder`, build a dataset beside it, and return the dataset's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "timetable.jsonl")
    values = {
        "inputs": [{"path": str(folder / "timetable.jsonl"), "id_field": "url"}],
        "output": str(folder / "dataset"),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 256}},
        "pack": {"sequence_length": 64},
        "mask": {"planes": 3, "rate": 0.30},
        "split": {"validation": 0.1, "by": "document"},
    }
    built = build(parse_settings(BuildConfig, values, where="this script"))
    assert built is not None  # it is where a runner is told to run nothing
    ledger = built.manifest.ledger["documents"]
    sys.stdout.write(f"read {ledger['read']}, kept {ledger['kept']}, dropped {ledger['dropped']}\n")
    sys.stdout.write(f"digest {built.manifest.digest}\n")
    return folder / "dataset"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
