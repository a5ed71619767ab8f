import numpy as np
import pytest
from evaluation_cells import moved, supercell
from hypothesis import given, settings
from hypothesis import strategies as st
from pymatgen.analysis.structure_matcher import StructureMatcher

from matgen.crystal.structure import Structure
from matgen.errors import SourceError
from matgen.evaluation.novelty import (
    MatchConfig,
    connected_components,
    formula_shards,
    match_structures,
    spread_matches,
)
from matgen.evaluation.reference_index import ReferenceIndex, content_hash, structure_hash


@pytest.fixture(scope="module")
def population(structures) -> list[Structure]:
    """Distinct prototypes, copies of some in other cells, and two of one formula in different structures."""
    distinct = [s for s in structures if s.num_atoms <= 6][:10]
    copies = [moved(distinct[0], 1), moved(distinct[3], 2), supercell(distinct[3]), moved(distinct[0], 3)]
    cubic = Structure(np.eye(3) * 3.0, np.array([[0, 0, 0], [0.5, 0.5, 0.5]]), np.array([55, 17]))
    layered = Structure(np.diag([3.0, 3.0, 9.0]), np.array([[0, 0, 0], [0, 0, 0.3]]), np.array([55, 17]))
    return [*distinct, *copies, cubic, layered]


def unique_count(table) -> int:
    return len(np.unique(table["component"]))


def test_copies_in_other_cells_are_one(population):
    table = match_structures(population, range(len(population)), {})
    assert table["component"][10:14].tolist() == [0, 3, 3, 0]
    assert table["component_size"][[0, 3, 10, 11, 12, 13]].tolist() == [3] * 6
    assert table["component"][14] != table["component"][15]


def test_the_same_partition_as_pymatgens_own_grouping(population):
    table = match_structures(population, range(len(population)), {})
    cells = [s.to_pymatgen() for s in population]
    for i, cell in enumerate(cells):
        cell.properties["row"] = i
    groups = StructureMatcher().group_structures(cells)
    theirs = {frozenset(cell.properties["row"] for cell in group) for group in groups}
    ours = {frozenset(np.flatnonzero(table["component"] == c).tolist()) for c in np.unique(table["component"])}
    assert ours == theirs


@settings(max_examples=6, deadline=None)
@given(st.randoms(use_true_random=False))
def test_the_order_of_the_samples_does_not_matter(population, random):
    order = list(range(len(population)))
    random.shuffle(order)
    reference = {"train": ReferenceIndex.from_structures("some", population[:4], ["w", "x", "y", "z"])}
    straight = match_structures(population, range(len(population)), reference)
    shuffled = match_structures([population[i] for i in order], order, reference)
    back = np.argsort(order)
    for name in straight:
        np.testing.assert_array_equal(shuffled[name][back], straight[name])


class _Chain:
    """0-1-2 match in a chain, 0 and 2 do not match; 3 matches nothing: what StructureMatcher can really do."""

    def same(self, first, second) -> bool:
        return abs(first - second) == 1 and max(first, second) < 3


@settings(max_examples=24, deadline=None)
@given(st.permutations([0, 1, 2, 3]))
def test_a_chain_of_matches_is_one_component_in_any_order(order):
    labels = connected_components(order, _Chain())
    chain = {int(labels[order.index(i)]) for i in (0, 1, 2)}
    assert len(chain) == 1 and labels[order.index(3)] not in chain


def test_shards_of_formulas_give_the_same_as_one_call(population):
    formulas = [s.formula for s in population]
    reference = ReferenceIndex.from_structures("some", population[:6], [f"m{i}" for i in range(6)])
    whole = match_structures(population, range(len(population)), {"train": reference})
    pieces = formula_shards([*formulas, ""], 3)
    assert sorted(np.concatenate(pieces).tolist()) == list(range(len(population)))
    merged = {}
    for rows in pieces:
        shard = reference.select_formulas([formulas[r] for r in rows])
        part = match_structures([population[r] for r in rows], rows, {"train": shard})
        merged = part if not merged else {k: np.concatenate([merged[k], part[k]]) for k in part}
    spread = spread_matches(merged, np.arange(len(population) + 1))
    for name in whole:
        if name != "sample_id":
            np.testing.assert_array_equal(spread[name][:-1], whole[name])
    assert spread["component"][-1] == -1 and not spread["novel_train"][-1]


def test_novel_is_what_no_reference_matches(population, structures):
    reference = ReferenceIndex.from_structures("some", [moved(population[0], 9), population[14]], ["b", "a"])
    table = match_structures(population, range(len(population)), {"train": reference})
    known = [0, 10, 13, 14]
    assert np.flatnonzero(~table["novel_train"]).tolist() == known
    assert [table["match_train"][i] for i in known] == ["b", "b", "b", "a"]


def test_tolerances_are_used(population):
    stretched = Structure(np.diag([3.0, 3.0, 3.4]), population[14].frac_coords, population[14].atomic_numbers)
    pair = [population[14], stretched]
    assert unique_count(match_structures(pair, [0, 1], {})) == 1
    assert unique_count(match_structures(pair, [0, 1], {}, MatchConfig(ltol=0.01))) == 2
    assert "ltol=0.2, stol=0.3, angle_tol=5.0" in MatchConfig().protocol()


def test_the_index_is_saved_read_and_refused_when_corrupt(population, tmp_path):
    index = ReferenceIndex.from_structures("some", population, [str(i) for i in range(len(population))])
    index.save(tmp_path / "index.npz")
    loaded = ReferenceIndex.load(tmp_path / "index.npz")
    assert loaded.name == "some" and len(loaded) == len(population)
    assert content_hash(loaded) == content_hash(population)
    assert [structure_hash(loaded[i]) for i in (0, 5)] == [structure_hash(population[i]) for i in (0, 5)]
    assert list(tmp_path.iterdir()) == [tmp_path / "index.npz"]
    (tmp_path / "index.npz").write_bytes(b"nonsense")
    with pytest.raises(SourceError, match=r"index\.npz"):
        ReferenceIndex.load(tmp_path / "index.npz")
    with pytest.raises(ValueError, match="ids"):
        ReferenceIndex.from_structures("some", population, ["only one"])
    assert len(ReferenceIndex.from_structures("none", [], [])) == 0
