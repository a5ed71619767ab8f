"""Hull distances against pymatgen, the reference's parts, calibration."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pymatgen.analysis.phase_diagram import PDEntry, PhaseDiagram
from pymatgen.core import Composition
from relaxation_cases import LennardJones, conventional_crystals, low_symmetry_crystal

from matgen.crystal.elements import SYMBOLS
from matgen.errors import SourceError
from matgen.relaxation.hull import Hull, calibrate
from matgen.relaxation.optimizer import RelaxConfig
from matgen.relaxation.reference import HullConfig, ReferenceHull, build_hull, part_table, reference_key
from matgen.relaxation.reference_set import ReferenceEntry, read_reference

FORMULAS = ["Li", "Fe", "O", "P", "Li2O", "Fe2O3", "FeO", "LiFeO2", "P2O5", "FePO4", "LiFePO4", "Li3PO4", "Fe3O4"]


def numbers_of(formula: str) -> np.ndarray:
    amounts = Composition(formula).get_el_amt_dict()
    return np.repeat([SYMBOLS.index(symbol) for symbol in amounts], [int(n) for n in amounts.values()])


@pytest.fixture
def toy():
    rng = np.random.default_rng(0)
    energies = -4 - 2 * rng.random(len(FORMULAS)) - 1.5 * np.array([len(Composition(f)) - 1 for f in FORMULAS])
    return [numbers_of(f) for f in FORMULAS], energies


def test_distances_equal_pymatgen_s(toy):
    numbers, energies = toy
    hull = Hull(FORMULAS, numbers, energies)
    entries = [PDEntry(Composition(f), e * len(z)) for f, z, e in zip(FORMULAS, numbers, energies, strict=True)]
    diagram = PhaseDiagram(entries)
    for entry, z, energy in zip(entries, numbers, energies, strict=True):
        assert hull.e_above_hull(z, energy).value == pytest.approx(diagram.get_e_above_hull(entry), abs=1e-9)
    for formula in ("LiFe2P3O12", "Fe4O5", "LiP", "Li4Fe3P2O11"):
        z = numbers_of(formula)
        expected = diagram.get_hull_energy_per_atom(Composition(formula))
        distance = hull.e_above_hull(z, -6.0)
        assert distance.value == pytest.approx(-6.0 - expected, abs=1e-9)
        assert sum(share for _, share in distance.decomposition) == pytest.approx(1.0)
    assert set(hull.stable_ids()) == {FORMULAS[entries.index(entry)] for entry in diagram.stable_entries}


def test_below_the_hull_is_negative(toy):
    numbers, energies = toy
    distance = Hull(FORMULAS, numbers, energies).e_above_hull(numbers_of("LiFePO4"), -99.0)
    assert distance.status == "ok"
    assert distance.value < -50


def test_missing_references_and_energies_are_statuses(toy):
    numbers, energies = toy
    hull = Hull(FORMULAS, numbers, energies)
    missing = hull.e_above_hull(numbers_of("NaFeO2"), -5.0)
    assert (missing.status, np.isnan(missing.value)) == ("missing_reference", True)
    assert "Na" in missing.reason
    assert hull.e_above_hull(numbers_of("FeO"), float("nan")).status == "non_finite"
    without_iron = [k for k, f in enumerate(FORMULAS) if f != "Fe"]
    part = Hull([FORMULAS[k] for k in without_iron], [numbers[k] for k in without_iron], energies[without_iron])
    assert part.e_above_hull(numbers_of("Fe2O3"), -5.0).status == "ok"  # between FeO and O
    assert part.e_above_hull(numbers_of("Fe3O"), -5.0).status == "missing_reference"  # beyond any mixture


def test_the_lowest_of_a_composition_counts_and_nan_does_not():
    hull = Hull(["a", "b", "c"], [np.array([29]), np.array([29, 29]), np.array([29])], [-3.0, -4.0, float("nan")])
    assert hull.e_above_hull(np.array([29]), -3.5).value == pytest.approx(0.5)
    assert (hull.num_entries, hull.num_compositions) == (2, 1)


def test_calibration_counts_what_it_cannot_compare():
    labels = [0.0, 0.02, 0.05, 0.2, 0.3]
    result = calibrate([-0.5, 0.03, 0.06, 0.21, float("nan")], labels)
    assert (result.num, result.num_missing) == (4, 1)
    assert result.spearman == pytest.approx(1.0)
    assert result.mae == pytest.approx(0.0075)
    assert result.agree_metastable == 1.0


def reference_entries():
    entries = [ReferenceEntry(n, s, 0.01, "train") for n, (_, s) in sorted(conventional_crystals().items())]
    return [*entries, ReferenceEntry("rough", low_symmetry_crystal(), 0.05, "test")]


def test_parts_are_kept_resumed_and_equal_however_they_are_mapped(tmp_path):
    loose = RelaxConfig(max_steps=30, max_volume_change=50.0)
    entries, config = reference_entries(), HullConfig(part_size=4, window=50.0, relax=loose)
    toy = LennardJones()
    first = build_hull(entries, toy, config, tmp_path / "a")
    assert first.sizes()["num_entries"] == len(entries) == 10
    assert first.num_relaxed == 10
    used = toy.num_structures
    build_hull(entries, toy, config, tmp_path / "a")
    assert toy.num_structures == used  # nothing was computed twice
    (directory,) = (tmp_path / "a").iterdir()
    (directory / "relaxed" / "part-000001.parquet").unlink()
    build_hull(entries, toy, config, tmp_path / "a")
    assert used < toy.num_structures < 2 * used

    def backwards(parts):
        for part in reversed(parts):
            yield part, part_table(part, LennardJones(), config)

    second = build_hull(entries, LennardJones(), config, tmp_path / "b", backwards)
    np.testing.assert_array_equal(first.energies_per_atom, second.energies_per_atom)
    loaded = ReferenceHull.load(directory)
    np.testing.assert_array_equal(loaded.energies_per_atom, first.energies_per_atom)
    assert loaded.calibration("test").num == 1


def test_far_entries_are_not_relaxed(tmp_path):
    entries = reference_entries()
    hull = build_hull(entries, LennardJones(), HullConfig(window=0.0), tmp_path)
    assert 0 < hull.num_relaxed < len(entries)


def test_a_hull_is_found_in_the_folder_that_was_named_when_it_was_built(tmp_path):
    with pytest.raises(SourceError, match="no finished hull"):
        ReferenceHull.load(tmp_path)
    hull = build_hull(reference_entries(), LennardJones(), HullConfig(window=0.0), tmp_path)
    assert ReferenceHull.load(tmp_path).ids == hull.ids
    build_hull(reference_entries()[1:], LennardJones(), HullConfig(window=0.0), tmp_path)
    with pytest.raises(SourceError, match="several hulls"):
        ReferenceHull.load(tmp_path)
    part = next(tmp_path.glob("*/static/part-*.parquet"))
    part.write_bytes(part.read_bytes()[:100])
    with pytest.raises(SourceError, match="cannot be read as parquet"):
        ReferenceHull.load(part.parents[1])


def test_the_key_knows_entries_and_settings():
    entries, toy = reference_entries(), LennardJones()
    key = reference_key(entries, toy, HullConfig())
    assert key == reference_key(entries, toy, HullConfig())
    assert key != reference_key(entries[1:], toy, HullConfig())
    assert key != reference_key(entries, toy, HullConfig(window=0.1))


def test_reading_the_reference(tmp_path):
    row = {
        "material_id": "x", "split": "val", "e_above_hull": None, "species": ["Na", "Cl"],
        "cell_abc_angles": [4.0, 4.0, 4.0, 60.0, 60.0, 60.0], "frac_coords": [0, 0, 0, 0.5, 0.5, 0.5],
    }  # fmt: skip
    path = tmp_path / "r.parquet"
    pq.write_table(pa.Table.from_pylist([row]), path)
    (entry,) = read_reference([path])
    assert entry.structure.atomic_numbers.tolist() == [11, 17]
    assert np.isnan(entry.e_above_hull)
    pq.write_table(pa.table({"material_id": ["x"]}), path)
    with pytest.raises(SourceError, match="species"):
        read_reference([path])
    path.write_text("not parquet")
    with pytest.raises(SourceError, match="cannot be read"):
        read_reference([path])
