import os

from pipelines.warm import warm


def test_warming_runs_every_family_and_leaves_only_its_folder(tmp_path):
    warm(tmp_path)
    built = [name for name in os.listdir(tmp_path) if (tmp_path / name / "LATEST").exists()]
    assert sorted(built) == ["0", "1", "2", "3", "4"]
