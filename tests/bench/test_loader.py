"""Loader against Hugging Face's collator: tokens a second on one core, the same rows, one run."""

import platform
import time

import numpy as np
import pytest

from mlm_data.dataset.dataset import Dataset
from mlm_data.loading.loader import Loader
from mlm_data.shards.writer import write_shard
from mlm_data.stores.folder import Folder
from mlm_data.types import PlaneMasks, Rows
from tests.bench.datasets import VOCAB, documents_table, publish_shards
from tests.synthetic import ROLES, TOKENIZER

RATE, NUM_SHARDS, SEGMENTS = 0.3, 16, 4
OURS, PEERS = 32_000_000, 2_000_000  # tokens to measure with


def write_large(folder: Folder, length: int, rows_per_shard: int, tokenizer: bytes = TOKENIZER) -> None:
    """A dataset of random tokens, drawn by the shard: 4 segments a row, 30 % targets, a fifth of them swaps."""
    rng = np.random.default_rng(0)
    size, shards = length // SEGMENTS, []
    segment_lengths = np.full(rows_per_shard * SEGMENTS, size, np.int32)
    budget = int((length - 2 * SEGMENTS) * RATE)
    for unit in range(NUM_SHARDS):
        tokens = rng.integers(5, VOCAB, (rows_per_shard, length), dtype=np.uint16)
        tokens[:, ::size], tokens[:, size - 1 :: size] = ROLES.cls, ROLES.sep
        priority = rng.random(tokens.shape, dtype=np.float32) + (tokens < 5) * np.float32(2)
        targets = np.zeros(tokens.shape, bool)
        np.put_along_axis(targets, np.argpartition(priority, budget, axis=1)[:, :budget], True, axis=1)
        row, place = np.nonzero(targets & (rng.random(tokens.shape, dtype=np.float32) < 0.2))
        masks = PlaneMasks(
            targets=np.packbits(targets, axis=1, bitorder="little"),
            swap_offsets=np.searchsorted(row, np.arange(rows_per_shard + 1)).astype(np.int32),
            swap_places=place.astype(np.uint16),
            swap_tokens=rng.integers(5, VOCAB, place.size, dtype=np.uint16),
        )
        count = segment_lengths.size
        keys = rng.integers(0, 2**64, (count, 2), dtype=np.uint64)
        rows = Rows(
            tokens=tokens,
            segment_offsets=np.arange(0, count + 1, SEGMENTS, dtype=np.int32),
            segment_lengths=segment_lengths,
            segment_documents=np.arange(count, dtype=np.int32),
            segment_starts=np.zeros(count, np.int32),
            word_starts=np.zeros((rows_per_shard, length // 8), np.uint8),
        )
        table = documents_table(keys, segment_lengths - 2)
        shards.append(write_shard(folder, split="train", unit=unit, rows=rows, planes={"0": masks}, documents=table))
    publish_shards(folder, shards, length=length, rates=(RATE,), max_segments=SEGMENTS, tokenizer=tokenizer)


def measure_ours(dataset: Dataset, batch_rows: int) -> list[float]:
    """Tokens a second of three passes, the first of them over files that nobody has mapped yet."""
    loader = Loader(dataset, batch_rows=batch_rows)
    steps, speeds = dataset.num_rows("train") // batch_rows, []
    next(Loader(dataset, batch_rows=batch_rows))  # compile
    for _ in range(3):
        start = time.perf_counter()
        for _ in range(steps):
            next(loader)
        speeds.append(steps * batch_rows * dataset.manifest.sequence_length / (time.perf_counter() - start))
    return speeds


def measure_peer(dataset: Dataset, batch_rows: int) -> float:
    """Tokens a second of DataCollatorForLanguageModeling in a DataLoader, in this process."""
    datasets = pytest.importorskip("datasets", reason="pip install premask[bench]")
    transformers = pytest.importorskip("transformers", reason="pip install premask[bench]")
    from tokenizers import Tokenizer, models
    from torch.utils.data import DataLoader

    names = {0: "[PAD]", 1: "[UNK]", 2: "[CLS]", 3: "[SEP]", 4: "[MASK]"}
    vocabulary = {names.get(i, f"t{i}"): i for i in range(VOCAB)}
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]")),
        **{f"{name[1:-1].lower()}_token": name for name in names.values()},
    )
    length = dataset.manifest.sequence_length
    rows = np.concatenate([piece.tokens for piece in dataset.shard("train", 0).rows])[: PEERS // length]
    source = datasets.Dataset.from_dict({"input_ids": rows.astype(np.int32)})
    collator = transformers.DataCollatorForLanguageModeling(tokenizer, mlm_probability=RATE)
    loader = DataLoader(source, batch_size=batch_rows, shuffle=True, collate_fn=collator)
    next(iter(loader))
    start = time.perf_counter()
    tokens = sum(batch["input_ids"].numel() for batch in loader)
    return tokens / (time.perf_counter() - start)


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("length", "batch_rows"), [(128, 32), (512, 16), (512, 64)])
def test_loader(tmp_path, length, batch_rows):
    write_large(Folder(tmp_path), length, OURS // length // NUM_SHARDS)
    dataset = Dataset.open(tmp_path)
    ours, peer = measure_ours(dataset, batch_rows), measure_peer(dataset, batch_rows)
    print(
        f"\nloader, L = {length}, {batch_rows} rows a batch, one core of {platform.processor() or platform.machine()}: "
        f"{ours[0] / 1e6:.0f} M tokens/s in the first epoch, {max(ours[1:]) / 1e6:.0f} later; "
        f"HF collator {peer / 1e6:.2f} M tokens/s; ratio {ours[0] / peer:.0f} to {max(ours[1:]) / peer:.0f}"
    )
    assert peer > 0


def measure_door(folder: str, batch_rows: int) -> list[float]:
    """Tokens a second of three passes of `ds.torch` in a DataLoader, in this process: int64 tensors of B rows."""
    from torch.utils.data import DataLoader

    from premask import open_dataset

    ds, speeds = open_dataset(folder), []
    next(iter(ds.torch(batch_rows=batch_rows)))  # compile
    stream = ds.torch(layout="padded", batch_rows=batch_rows, epochs=1)
    for epoch in range(3):
        stream.set_epoch(epoch)
        start = time.perf_counter()
        tokens = sum(batch["labels"].numel() for batch in DataLoader(stream, batch_size=None))
        speeds.append(tokens / (time.perf_counter() - start))
    return speeds


@pytest.mark.bench
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("length", "batch_rows"), [(128, 32), (512, 32)])
def test_padded(tmp_path, length, batch_rows):
    """`ds.torch(layout="padded")` beside HF's collator, each in a DataLoader without workers."""
    write_large(Folder(tmp_path), length, OURS // length // NUM_SHARDS)
    ours, peer = measure_door(str(tmp_path), batch_rows), measure_peer(Dataset.open(tmp_path), batch_rows)
    print(
        f"\nds.torch padded, L = {length}, {batch_rows} rows a batch, one process: {ours[0] / 1e6:.0f} M tokens/s in "
        f"the first epoch, {max(ours[1:]) / 1e6:.0f} later; HF collator {peer / 1e6:.2f} M tokens/s; "
        f"ratio {ours[0] / peer:.0f} to {max(ours[1:]) / peer:.0f}"
    )
    assert peer > 0
