"""Filter documents by a function of your own: what `clean.custom` calls, and how to name it.

    python examples/filter_documents.py FOLDER

`is_in_force` gets a batch of documents and says of each whether it stays. The corpus is a small code of law, in which
some sections are empty shells: a heading, "Repealed.", and the act that did it.
"""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from mlm_data.config import BuildConfig
from mlm_data.settings import parse_settings
from pipelines.build import build

MODULE = Path(__file__).stem if __name__ == "__main__" else __name__
EMPTY_SHELL = r"\A[^\n]*\n\[?(Repealed|Expired|Transferred)\.?\]?\n"  # the line below the heading says no more
SUBJECTS = ("bridges", "ferries", "canals", "markets", "libraries", "gardens", "schools", "harbours", "mills", "wells")


def is_in_force(batch: pa.RecordBatch) -> pa.Array:
    """True for sections that say more than that they were repealed, expired or moved.

    Args:
        batch: `text`, the cleaned text; `id_field`, where the input names one; and each of its `keep_fields` by name.
    """
    return pc.invert(pc.match_substring_regex(batch["text"], EMPTY_SHELL))


def write_corpus(file: Path) -> None:
    """JSON Lines: for each subject a section that holds, and one that was repealed."""
    sections = []
    for number, subject in enumerate(SUBJECTS, start=1):
        duties = " ".join(
            f"The keeper of the {subject} shall write down {what} in the book of the town."
            for what in ("each visit", "each payment", "each repair", "what was lost and found")
        )
        sections.append({"id": f"{number}-1", "text": f"Books of the {subject}.\n{duties}"})
        history = f"Act {number} of the year 19{number:02d} of the council of the town, section {number + 3}"
        sections.append({"id": f"{number}-2", "text": f"Fees of the {subject}.\nRepealed.\n{history}; {history}."})
    file.write_text("".join(json.dumps(section) + "\n" for section in sections), encoding="utf-8")


def main(folder: Path) -> Path:
    """Write a corpus into `folder`, build a dataset of what `is_in_force` keeps, and return the dataset's folder."""
    folder.mkdir(parents=True, exist_ok=True)
    write_corpus(folder / "code.jsonl")
    values = {
        "inputs": [{"path": str(folder / "code.jsonl"), "id_field": "id"}],
        "output": str(folder / "dataset"),
        "tokenizer": {"train": {"kind": "wordpiece", "vocab_size": 256}},
        "clean": {"custom": [f"{MODULE}:is_in_force"]},
        "pack": {"sequence_length": 64},
        "split": {"validation": 0},
    }
    built = build(parse_settings(BuildConfig, values, where="this script"))
    assert built is not None  # it is where a runner is told to run nothing
    ledger = built.manifest.ledger["documents"]
    sys.stdout.write(f"read {ledger['read']}, kept {ledger['kept']}, dropped {ledger['dropped']}\n")
    return folder / "dataset"


if __name__ == "__main__":
    main(Path(sys.argv[1]))
