from mlm_data.dataset.check import check_dataset
from pipelines.warm import FAMILIES, warm


def test_warming_makes_a_sound_dataset_for_every_family(tmp_path):
    warm(tmp_path)
    built = [path.parent for path in tmp_path.glob("*/LATEST")]
    assert len(built) == len(FAMILIES)
    assert all(check_dataset(str(path)).ok for path in built)
