"""Rows of texts, and their masks, as a build makes them."""

import numpy as np
import pyarrow as pa
from jaxtyping import UInt64

from mlm_data.rows.masking import Plane, draw_plane
from mlm_data.rows.packing import cut_documents, fill_rows, pack
from mlm_data.tokens.engine import make_engine
from mlm_data.tokens.reference import Reference
from mlm_data.types import PlaneMasks, Rows


def rows_of_texts(
    texts: list[str], reference: Reference, *, sequence_length: int
) -> tuple[Rows, UInt64[np.ndarray, "documents 2"]]:
    """Packed rows of some texts, and ids of their documents."""
    encoded = make_engine(reference).encode(pa.array(texts, pa.large_string()))
    num_specials = reference.roles.num_specials
    segments = cut_documents(encoded.offsets, encoded.word_starts, capacity=sequence_length - num_specials)
    packing = pack(segments.length + np.int32(num_specials), sequence_length=sequence_length, max_segments=8)
    rows = fill_rows(
        encoded.ids,
        encoded.offsets,
        encoded.word_starts,
        segments,
        packing,
        sequence_length=sequence_length,
        roles=reference.roles,
    )
    return rows, np.stack([np.arange(len(texts), dtype=np.uint64)] * 2, axis=1)


def masks_of(
    rows: Rows, ids: UInt64[np.ndarray, "documents 2"], reference: Reference, planes: dict[str, Plane]
) -> dict[str, PlaneMasks]:
    """What planes hide of rows without copies."""
    return {
        name: draw_plane(
            rows,
            ids,
            np.zeros(len(ids), np.int16),
            plane,
            roles=reference.roles,
            vocab_size=reference.vocab_size,
            never_targets=reference.never_targets,
            random_ids=reference.random_ids,
        )
        for name, plane in planes.items()
    }
