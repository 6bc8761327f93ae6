import numpy as np
import pyarrow as pa
import pytest

from mlm_data.build.split import choose_validation, group_hashes


@pytest.mark.parametrize("share", [0.001, 0.01, 0.3, 0.9])
def test_about_the_share_is_held_out(share):
    groups = np.arange(200_000, dtype=np.uint64)
    held_out = choose_validation(groups, share=share, seed=3)
    spread = 5 * (share * (1 - share) / groups.size) ** 0.5
    assert abs(held_out.mean() - share) < spread


def test_a_larger_share_only_adds():
    groups = np.arange(10_000, dtype=np.uint64)
    small = choose_validation(groups, share=0.01, seed=0)
    large = choose_validation(groups, share=0.02, seed=0)
    assert not (small & ~large).any()
    assert large.sum() > small.sum()


def test_the_side_depends_on_the_group_and_the_seed_alone():
    groups = np.array([7, 8, 7, 9], np.uint64)
    whole = choose_validation(groups, share=0.5, seed=1)
    assert whole[0] == whole[2]
    assert np.array_equal(
        whole, np.concatenate([choose_validation(groups[i : i + 1], share=0.5, seed=1) for i in range(4)])
    )
    many = np.arange(1000, dtype=np.uint64)
    assert not np.array_equal(choose_validation(many, share=0.5, seed=1), choose_validation(many, share=0.5, seed=2))


def test_no_share_holds_nothing_out():
    assert not choose_validation(np.arange(1000, dtype=np.uint64), share=0.0, seed=0).any()


def test_groups_by_a_field():
    hashes = group_hashes(pa.array(["en", "de", None, "en", None]))
    assert hashes[0] == hashes[3]
    assert hashes[2] == hashes[4]
    assert len(set(hashes.tolist())) == 3
