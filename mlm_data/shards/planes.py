"""Which planes a split has."""

from mlm_data.config import MaskSettings
from mlm_data.rows.masking import Plane, evaluation_plane, training_planes
from mlm_data.shards.format import EVALUATION_RATE, EVALUATION_SEED, TRAIN


def planes_of(split: str, settings: MaskSettings, seed: int) -> dict[str, Plane]:
    """The planes of a split by name: 0 to K - 1 for training, one evaluation plane for validation."""
    if split == TRAIN:
        return {str(plane.index): plane for plane in training_planes(settings, seed)}
    return {"evaluation": evaluation_plane(rate=EVALUATION_RATE, seed=EVALUATION_SEED)}
