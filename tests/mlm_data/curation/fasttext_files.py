"""Tiny models of fastText, written by hand: two numbers for each word and each label, softmax over their products."""

import struct
from collections.abc import Mapping
from pathlib import Path

Vectors = Mapping[str, tuple[float, float]]
SUPERVISED, SOFTMAX = 3, 3


def write_model(path: Path, words: Vectors, labels: Vectors) -> str:
    """A supervised model of version 12, as fastText's `FastText::saveModel` lays it out; returns the path."""
    out = struct.pack("<2i", 793712314, 12)
    out += struct.pack("<12id", 2, 5, 5, 1, 5, 1, SOFTMAX, SUPERVISED, 0, 0, 0, 100, 1e-4)
    out += struct.pack("<3i2q", len(words) + len(labels), len(words), len(labels), 100, -1)
    out += b"".join(word.encode() + b"\0" + struct.pack("<qb", 10, 0) for word in words)
    out += b"".join(label.encode() + b"\0" + struct.pack("<qb", 10, 1) for label in labels)
    for vectors in (words, labels):
        out += b"\0" + struct.pack("<2q", len(vectors), 2)
        out += b"".join(struct.pack("<2f", *vector) for vector in vectors.values())
    path.write_bytes(out)
    return str(path)
