"""Read batches with the loader, stop, and go on at the very same place.

python examples/read_batches.py DATASET
"""

import sys
from pathlib import Path

import numpy as np

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.batches import Batch
from mlm_data.loading.loader import Loader

ROWS = 4


def describe(batch: Batch) -> str:
    """What a training step would get: its shapes are the same in every batch."""
    segments = len(np.unique(batch.cu_seqlens)) - 1
    return (
        f"{batch.input_ids.size} places in {segments} segments, {batch.num_tokens} of them no padding; "
        f"{batch.num_targets} targets in an array of {batch.target_ids.size}"
    )


def main(folder: Path) -> list[Batch]:
    """Read three batches, then the third once more, from the state that was saved before it."""
    dataset = Dataset.open(folder)
    with Loader(dataset, batch_rows=ROWS, seed=7) as batches:
        first, second = next(batches), next(batches)
        state = batches.state()  # plain values: put them into your checkpoint
        third = next(batches)
    with Loader(dataset, batch_rows=ROWS, state=state) as batches:
        again = next(batches)
    assert np.array_equal(third.input_ids, again.input_ids)
    assert np.array_equal(third.target_ids, again.target_ids)
    for number, batch in enumerate((first, second, third)):
        sys.stdout.write(f"batch {number}: {describe(batch)}\n")
    sys.stdout.write(f"state after the second: {state}\n")

    tokens = dataset.reference().tokens
    places, ids = first.target_places[:8].tolist(), first.target_ids[:8].tolist()
    shown = (f"{tokens[first.input_ids[place]]} for {tokens[token]}" for place, token in zip(places, ids, strict=True))
    sys.stdout.write(f"the first targets, what the model sees for what it must say: {', '.join(shown)}\n")
    return [first, second, third, again]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
