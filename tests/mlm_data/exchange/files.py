"""Tokenized files as other tools write them: by the tool itself where it is installed, else by its published layout."""

import csv
import gzip
import struct
from pathlib import Path

import numpy as np

# mosaicml-streaming imports torchvision for its pictures, which nobody reads here.
IMPORT_STREAMING = """
import importlib.machinery, sys, types
import transformers.feature_extraction_utils
for name in ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional"):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__spec__ = importlib.machinery.ModuleSpec(name, None)
sys.modules["torchvision.datasets"].VisionDataset = sys.modules["torchvision.datasets"].CIFAR10 = object
sys.modules["torchvision.transforms.functional"].to_tensor = None
"""
TYPES = {np.dtype("uint8"): 1, np.dtype("int32"): 4, np.dtype("int64"): 5, np.dtype("uint16"): 8}


def write_datatrove(folder: Path, documents, *, name: str = "data.ds") -> Path:
    """By the layout of datatrove's tokenizer.py; a test compares it with datatrove's own writer where that is there."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.cumsum([len(ids) for ids in documents])
    np.concatenate([np.array(ids, "<u2") for ids in documents]).tofile(folder / name)
    (folder / f"{name}.index").write_bytes(ends.astype("<u8").tobytes())
    return folder / name


def write_datatrove_itself(folder: Path, documents, *, name: str = "data.ds") -> Path:
    """With datatrove's own writer."""
    from datatrove.pipeline.tokens.tokenizer import TokenizedFile

    folder.mkdir(parents=True, exist_ok=True)
    file = TokenizedFile(str(folder), name, tokenizer_name_or_path="ours", token_size=2)
    for ids in documents:
        file.write(list(ids), None)
    file.close()
    return folder / name


def write_dolma(folder: Path, documents, *, name: str = "data", dtype: str = "uint16") -> Path:
    """By the layout of dolma's memmap_writer.py; dolma itself wants older libraries than ours."""
    folder.mkdir(parents=True, exist_ok=True)
    np.concatenate([np.array(ids, dtype) for ids in documents]).tofile(folder / f"{name}.npy")
    ends = np.cumsum([len(ids) for ids in documents]).tolist()
    with gzip.open(folder / f"{name}.csv.gz", "wt", newline="") as stream:
        writer = csv.writer(stream)
        for number, (end, ids) in enumerate(zip(ends, documents, strict=True)):
            writer.writerow([end - len(ids), end, f'id "{number}",\n', f"s3://texts/{number}.gz", number])
    return folder / f"{name}.npy"


def write_megatron(folder: Path, documents, *, name: str = "data", dtype: str = "uint16", sequences: int = 1) -> Path:
    """By the layout of Megatron-LM's indexed_dataset.py, which is no package; documents of so many sequences."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = [part for ids in documents for part in np.array_split(np.array(ids, dtype), sequences)]
    lengths = [len(part) for part in parts]
    places = (np.cumsum(lengths) - lengths) * np.dtype(dtype).itemsize
    borders = np.arange(len(documents) + 1) * sequences
    (folder / f"{name}.bin").write_bytes(b"".join(part.tobytes() for part in parts))
    head = b"MMIDIDX\0\0" + struct.pack("<QBQQ", 1, TYPES[np.dtype(dtype)], len(parts), len(borders))
    arrays = np.array(lengths, "<i4"), np.array(places, "<i8"), np.array(borders, "<i8")
    (folder / f"{name}.idx").write_bytes(head + b"".join(array.tobytes() for array in arrays))
    return folder / f"{name}.idx"


def write_hf(folder: Path, documents, *, column: str = "input_ids") -> Path:
    """With HF `datasets`."""
    import datasets

    datasets.Dataset.from_dict({column: [list(ids) for ids in documents]}).save_to_disk(str(folder))
    return folder


def write_mds(folder: Path, documents, *, column="tokens", encoding="bytes", dtype="uint16") -> Path:
    """With our own writer, whose files mosaicml-streaming reads; `ndarray` values have the head that it writes."""
    from mlm_data.exchange.mds import MdsWriter

    folder.mkdir(parents=True, exist_ok=True)
    writer = MdsWriter(folder, {column: encoding, "note": "str"}, shard_bytes=4000)
    for ids in documents:
        array = np.array(ids, dtype)
        head = b""
        if encoding.startswith("ndarray"):
            head += bytes([{"uint16": 16, "int32": 33, "int64": 65}[dtype]]) if encoding == "ndarray" else b""
            head += bytes([1 << 2 | 1]) + np.uint16(array.size).tobytes()
        writer.write({column: [head + array.tobytes()], "note": [b"a note"]})
    writer.close()
    return folder
