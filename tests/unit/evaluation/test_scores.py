import pickle

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.evaluation.scores import ScoreConfig, score_structures, shards
from matgen.evaluation.table import EmptyTableError, MissingColumnError, column, concat_tables, num_rows


def broken(structure: Structure) -> list[Structure | None]:
    """NaN, a flat cell, atoms on top of each other, no atoms, nothing at all, an unknown element."""
    nan = structure.frac_coords.copy()
    nan[0, 0] = np.nan
    numbers, coords = structure.atomic_numbers, structure.frac_coords
    return [
        Structure(structure.lattice, nan, numbers),
        Structure(np.array([[4.0, 0, 0], [4.0, 1e-9, 0], [0, 0, 4]]), coords, numbers),
        Structure(structure.lattice, np.zeros_like(coords), np.full_like(numbers, 11)),
        Structure(structure.lattice, np.zeros((0, 3)), np.zeros(0, dtype=np.int64)),
        None,
        Structure(structure.lattice, coords, np.full_like(numbers, 110)),
    ]


def test_every_structure_is_a_row_and_broken_ones_are_invalid(rock_salt):
    table = score_structures([rock_salt, *broken(rock_salt)], [225] * 7)
    assert num_rows(table) == 7
    expected = ["ok", "non_finite", "non_finite", "ok", "empty", "missing", "unsupported_element"]
    assert table["status"].tolist() == expected
    assert table["structure_valid"].tolist() == [True] + [False] * 6
    assert table["valid"].sum() == 1 and all(table["reason"][1:])
    assert table["space_group_detected"].tolist() == [225] + [0] * 6
    assert table["exact_symprec_0.1"].tolist() == [True] + [False] * 6
    assert np.isnan(table["density"][1]) and table["template"][0] == "225:4a,4b"


def test_requested_and_detected_groups_are_compared_at_each_tolerance(rock_salt):
    coords = rock_salt.frac_coords.copy()
    coords[0] += [0.003, 0.001, 0.002]  # 0.02 Å off
    distorted = Structure(rock_salt.lattice, coords, rock_salt.atomic_numbers)
    table = score_structures([distorted, distorted, rock_salt], [225, 1, 221])
    assert table["exact_symprec_0.1"].tolist() == [True, False, False]
    assert table["exact_symprec_0.001"].tolist() == [False, True, False]
    assert table["supergroup_symprec_0.1"].tolist() == [False, True, True]
    assert table["supergroup_symprec_0.001"].tolist() == [False, False, True]


def test_statuses_of_earlier_stages_are_kept(rock_salt):
    table = score_structures([rock_salt, None], statuses=["ok", "symmetry_failed"], reasons=["", "fits no position"])
    assert table["status"].tolist() == ["ok", "symmetry_failed"] and table["reason"][1] == "fits no position"


def test_shards_give_the_same_table_and_are_picklable(structures):
    config = pickle.loads(pickle.dumps(ScoreConfig()))
    whole = score_structures(structures[:23], config=config)
    parts = [score_structures(structures[:23][piece], config=config) for piece in shards(23, 5)]
    joined = concat_tables(pickle.loads(pickle.dumps(parts)))
    for name in whole:
        assert joined[name].dtype == whole[name].dtype
        np.testing.assert_array_equal(joined[name], whole[name])


def test_prototypes_are_valid_and_have_the_group_of_their_label(prototypes):
    labels = list(prototypes)
    table = score_structures(list(prototypes.values()))
    assert table["structure_valid"].all() and table["strict_valid"].mean() > 0.97
    from_label = np.array([int(label.split("_")[2]) for label in labels])
    assert (table["space_group_detected"] == from_label).mean() > 0.95


def test_nothing_to_score_is_an_error():
    with pytest.raises(EmptyTableError, match="no structures"):
        score_structures([])
    with pytest.raises(EmptyTableError):
        num_rows({})
    with pytest.raises(EmptyTableError):
        concat_tables([])
    with pytest.raises(MissingColumnError, match="'b'"):
        column({"a": np.zeros(1)}, "b")
    with pytest.raises(ValueError, match="different length"):
        num_rows({"a": np.zeros(1), "b": np.zeros(2)})
    with pytest.raises(ValueError, match="other columns"):
        concat_tables([{"a": np.zeros(1)}, {"b": np.zeros(1)}])
