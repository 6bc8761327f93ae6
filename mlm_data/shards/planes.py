"""Which planes a split has, and what their audit must know of a tokenizer."""

from collections.abc import Mapping
from typing import Any

from mlm_data.config import MaskSettings
from mlm_data.rows.audit_counts import Vocabulary, describe_vocabulary
from mlm_data.rows.masking import Plane, evaluation_plane, training_planes
from mlm_data.shards.format import EVALUATION_RATE, EVALUATION_SEED, SPLITS, TRAIN
from mlm_data.tokens.reference import Reference


def mask_settings(config: Mapping[str, Any]) -> MaskSettings:
    """The mask settings in a semantic configuration."""
    return MaskSettings.model_validate(config["mask"])


def planes_in(config: Mapping[str, Any]) -> dict[str, dict[str, Plane]]:
    """The planes of each split by name, of a semantic configuration."""
    return {split: planes_of(split, mask_settings(config), int(config["seed"])) for split in SPLITS}


def planes_of(split: str, settings: MaskSettings, seed: int) -> dict[str, Plane]:
    """The planes of a split by name: 0 to K - 1 for training, one evaluation plane for validation.

    `seed` is the build's; a seed of the masks goes before it.
    """
    if split == TRAIN:
        own = seed if settings.seed is None else settings.seed
        return {str(plane.index): plane for plane in training_planes(settings, own)}
    return {"evaluation": evaluation_plane(rate=EVALUATION_RATE, seed=EVALUATION_SEED)}


def vocabulary_of(reference: Reference) -> Vocabulary:
    """What the audit knows of each id."""
    return describe_vocabulary(
        reference.tokens,
        roles=reference.roles,
        never_targets=reference.never_targets,
        random_ids=reference.random_ids,
    )
