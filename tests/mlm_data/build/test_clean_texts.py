"""Results of units cross as JSON, and folders are looked at before anything is written."""

import pytest

from mlm_data.build.clean_texts import CleanedUnit, check_folder, check_folders
from mlm_data.dataset.funnel import Example, Funnel
from mlm_data.dataset.ledger import Ledger
from mlm_data.errors import ConfigError, StorageError
from mlm_data.types import FieldCounts


def test_a_result_survives_the_way():
    example = Example(input="a", reason="empty", source="s", offset=3, id="00", head="\u202e<b>\x1b[0m", kept="1 2")
    unit = CleanedUnit(
        unit=3,
        key="k",
        files=(("documents/00003.jsonl.zst", 5, 100),),
        fields=((0, FieldCounts()),),
        ledger=Ledger(documents_read=6, documents_kept=5, documents_dropped={"empty": 1}),
        funnel=Funnel(fates={("a", "", "kept"): (5, 10, 0)}, changes={"x": 1}, examples=(example,)),
    )
    assert CleanedUnit.from_bytes(unit.to_bytes()) == unit


def test_a_folder_of_its_own_a_new_one_or_an_empty_one_will_do(tmp_path):
    check_folder(str(tmp_path / "new"))
    check_folder(str(tmp_path))
    for name in ("documents", "work", ".hidden"):
        (tmp_path / name).mkdir()
    (tmp_path / "cleaned.json").write_text("{}")
    check_folder(str(tmp_path))
    (tmp_path / "LATEST").write_text("a dataset")
    with pytest.raises(StorageError, match="holds 'LATEST'"):
        check_folder(str(tmp_path))


@pytest.mark.parametrize(("out", "dropped"), [("a", "a"), ("a", "a/b"), ("a/b", "a"), ("a/", "a")])
def test_folders_that_lie_in_each_other(tmp_path, out, dropped):
    with pytest.raises(ConfigError, match="lie in each other"):
        check_folders(f"{tmp_path}/{out}", f"{tmp_path}/{dropped}")


def test_folders_side_by_side(tmp_path):
    check_folders(f"{tmp_path}/out", f"{tmp_path}/out2")
    check_folders(f"{tmp_path}/out", None)
