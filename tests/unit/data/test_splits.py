from collections import Counter

import pytest

from matgen.data.splits import assign_splits


def test_parts_do_not_depend_on_the_other_keys():
    keys = [f"mp-{i}" for i in range(2000)]
    whole = dict(zip(keys, assign_splits(keys)))
    some = keys[7::3]
    assert assign_splits(some) == [whole[key] for key in some]
    assert assign_splits(["a", "a"])[0] == assign_splits(["a"])[0]


def test_shares_are_those_asked_for():
    counts = Counter(assign_splits([f"mp-{i}" for i in range(20_000)], (0.6, 0.3, 0.1)))
    assert abs(counts["train"] - 12_000) < 300
    assert abs(counts["val"] - 6_000) < 280
    assert abs(counts["test"] - 2_000) < 180


def test_seed_changes_the_split_and_bad_fractions_are_refused():
    keys = [f"mp-{i}" for i in range(200)]
    assert assign_splits(keys, seed=0) != assign_splits(keys, seed=1)
    with pytest.raises(ValueError, match="add up to 1"):
        assign_splits(keys, (0.5, 0.5, 0.5))
