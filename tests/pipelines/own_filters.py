"""Filters as a user might write them, good ones and bad ones."""

import time
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc


def is_no_recipe(batch: pa.RecordBatch) -> pa.Array:
    """True where nobody preheats an oven."""
    return pc.invert(pc.match_substring(batch["text"], "preheat the oven"))


def length(batch: pa.RecordBatch) -> list[int]:
    """A score: it is stored, and drops nothing."""
    return [len(text) for text in batch["text"].to_pylist()]


def raises(batch: pa.RecordBatch) -> list[bool]:
    """Can't take one of the documents."""
    if any("preheat the oven" in text for text in batch["text"].to_pylist()):
        raise KeyError("oven\nand more")
    return [True] * batch.num_rows


def too_few(batch: pa.RecordBatch) -> list[bool]:
    return [True] * (batch.num_rows - 1)


def nulls(batch: pa.RecordBatch) -> list[bool | None]:
    return [None] * batch.num_rows


def words(batch: pa.RecordBatch) -> list[str]:
    return ["yes"] * batch.num_rows


def mutates(batch: pa.RecordBatch) -> list[bool]:
    """Prints, and scribbles over what it was given."""
    print("\x1b[31mlooking at", batch.num_rows)
    for column in batch.columns:
        for buffer in column.buffers():
            if buffer is not None and buffer.is_mutable:
                memoryview(buffer).cast("B")[:] = b"x" * buffer.size
    return [True] * batch.num_rows


nothing = 3


def held(batch: pa.RecordBatch) -> list[bool]:
    """Drops nothing; a document that says `hold until PATH` is looked at only once that path is there."""
    for text in batch["text"].to_pylist():
        if text.startswith("hold until "):
            gate = Path(text.removeprefix("hold until ").partition("\n")[0])
            while not gate.exists():
                time.sleep(0.01)
    return [True] * batch.num_rows
