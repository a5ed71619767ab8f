"""MOFChecker's checks: real frameworks pass, and each fault that a check is for is found."""

from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.evaluation.mof_checks import CHECKS, CheckResult, check_columns, check_mof, overall
from matgen.evaluation.mof_checks_cone import cone_half_angle, open_angle

STRUCTURES = Path(__file__).parents[1] / "mof" / "structures"
NEED_MORE = ("no_high_charges", "porous")


def framework(name: str) -> Structure:
    return parse_cif((STRUCTURES / f"{name}.cif").read_text())


@pytest.fixture(scope="module")
def mof5() -> Structure:
    return framework("mof5")


def with_atoms(structure: Structure, numbers: list[int], cart: list[np.ndarray]) -> Structure:
    frac = np.array(cart) @ np.linalg.inv(structure.lattice)
    return Structure(
        structure.lattice,
        np.concatenate([structure.frac_coords, frac]),
        np.concatenate([structure.atomic_numbers, numbers]),
    )


def without(structure: Structure, atoms: list[int]) -> Structure:
    keep = np.setdiff1d(np.arange(structure.num_atoms), atoms)
    return Structure(structure.lattice, structure.frac_coords[keep], structure.atomic_numbers[keep])


def molecule(numbers: list[int], cart: list[list[float]], size: float = 20.0) -> Structure:
    lattice = np.eye(3) * size
    return Structure(lattice, (np.array(cart) + size / 2) / size, np.array(numbers))


@pytest.mark.parametrize("name", ["mof5", "uio66", "mil53"])
def test_a_real_framework_passes_and_what_was_not_given_is_not_run(name):
    results = check_mof(framework(name))
    assert list(results) == list(CHECKS)
    statuses = {key: result.status for key, result in results.items()}
    assert {key for key, status in statuses.items() if status == "not_run"} == set(NEED_MORE)
    assert {key for key, status in statuses.items() if status == "failed"} == set()
    assert overall(results) == "not_run"
    assert all(results[key].reason for key in NEED_MORE)


def test_all_inputs_given_make_a_pass(mof5):
    results = check_mof(mof5, charges=np.zeros(mof5.num_atoms), pore_limiting_diameter=7.98)
    assert overall(results) == "passed"
    assert check_columns(results)["mof_valid"] == "passed"
    assert check_columns(results)["checks_reason"] == ""


def test_pore_limit_and_charges_fail_with_their_values(mof5):
    charges = np.zeros(mof5.num_atoms)
    charges[3] = -3.5
    results = check_mof(mof5, charges=charges, pore_limiting_diameter=2.39)
    assert results["no_high_charges"].atoms == (3,)
    assert "2.39" in results["porous"].reason
    assert check_mof(mof5, pore_limiting_diameter=2.4)["porous"].status == "passed"
    assert check_mof(mof5, pore_limiting_diameter=float("nan"))["porous"].status == "not_run"


def test_a_missing_result_counts_as_not_run_and_never_as_passed():
    assert overall({"has_metal": CheckResult("passed")}) == "not_run"
    assert overall({"has_metal": CheckResult("failed", "x")}) == "failed"
    assert overall({"has_metal": CheckResult("passed")}, ["has_metal"]) == "passed"
    assert check_columns({})["check_porous"] == "not_run"


def test_composition():
    results = check_mof(molecule([8, 8], [[0, 0, 0], [1.21, 0, 0]]))
    for name in ("has_metal", "has_carbon", "has_hydrogen"):
        assert results[name].status == "failed"


def test_overlap_is_found_across_the_boundary():
    structure = Structure(np.eye(3) * 10.0, np.array([[0.02, 0.5, 0.5], [0.985, 0.5, 0.5]]), np.array([30, 8]))
    assert check_mof(structure)["no_atomic_overlap"].atoms == (0, 1)
    apart = Structure(np.eye(3) * 10.0, np.array([[0.05, 0.5, 0.5], [0.955, 0.5, 0.5]]), np.array([30, 8]))
    assert check_mof(apart)["no_atomic_overlap"].status == "passed"


def test_a_ring_without_one_hydrogen_is_undercoordinated(mof5):
    # one of the six carbons of a benzene ring loses its hydrogen: two neighbours at 120 degrees
    hydrogen = int(np.flatnonzero(mof5.atomic_numbers == 1)[0])
    results = check_mof(without(mof5, [hydrogen]))
    assert results["no_undercoordinated_carbon"].status == "failed"
    assert len(results["no_undercoordinated_carbon"].atoms) == 1
    assert results["no_undercoordinated_nitrogen"].status == "passed"


@pytest.mark.parametrize(("bend", "status"), [(0.0, "passed"), (10.0, "passed"), (40.0, "failed")])
def test_a_bent_alkyne_is_undercoordinated(bend, status):
    turn = np.radians(bend)
    cart = [[-1.2, 0, 0], [0, 0, 0], [1.2 * np.cos(turn), 1.2 * np.sin(turn), 0]]
    results = check_mof(molecule([7, 6, 7], cart))
    assert results["no_undercoordinated_carbon"].status == status


def test_five_neighbours_are_too_many_but_a_metal_excuses_them():
    legs = [[1.5, 0, 0], [-0.75, 1.3, 0], [-0.75, -1.3, 0], [0, 0, 1.5], [0, 0, -1.5]]
    assert check_mof(molecule([6, 9, 9, 9, 9, 9], [[0, 0, 0], *(np.array(legs) * 0.92)]))[
        "no_overcoordinated_carbon"
    ].atoms == (0,)
    with_metal = molecule([6, 26, 9, 9, 9, 9], [[0, 0, 0], [2.0, 0, 0], *(np.array(legs[1:]) * 0.92)])
    assert check_mof(with_metal)["no_overcoordinated_carbon"].status == "passed"


def test_a_hydrogen_between_two_atoms_is_overcoordinated():
    near = check_mof(molecule([8, 1, 8], [[-1.0, 0, 0], [0, 0, 0], [1.05, 0, 0]]))
    assert near["no_overcoordinated_hydrogen"].atoms == (1,)
    far = check_mof(molecule([8, 1, 8], [[-1.0, 0, 0], [0, 0, 0], [1.4, 0, 0]]))
    assert far["no_overcoordinated_hydrogen"].status == "passed"


def test_a_nitrogen_with_one_neighbour():
    nitrile = molecule([7, 6, 6], [[1.16, 0, 0], [0, 0, 0], [-1.46, 0, 0]])
    assert check_mof(nitrile)["no_undercoordinated_nitrogen"].status == "passed"
    imine = molecule([7, 6, 6, 6], [[1.4, 0, 0], [0, 0, 0], [-0.75, 1.3, 0], [-0.75, -1.3, 0]])
    assert check_mof(imine)["no_undercoordinated_nitrogen"].atoms == (0,)


@pytest.mark.parametrize(("length", "status"), [(1.34, "passed"), (1.47, "failed")])
def test_a_planar_nitrogen_with_two_long_bonds_misses_a_hydrogen(length, status):
    # a ring piece in one plane: H-C-N-C-H
    c1, c2 = np.array([-0.87, 0.5, 0]) * length, np.array([0.87, 0.5, 0]) * length
    h1, h2 = c1 + np.array([-0.87, -0.6, 0]), c2 + np.array([0.87, -0.6, 0])
    results = check_mof(molecule([7, 6, 6, 1, 1], [[0, 0, 0], *map(list, (c1, c2, h1, h2))]))
    assert results["no_undercoordinated_nitrogen"].status == status


def test_an_amine_on_a_metal_misses_a_hydrogen():
    cart = [[0, 0, 0], [2.1, 0, 0], [-0.34, 0.82, 0.48], [-0.34, -0.82, 0.48]]
    assert check_mof(molecule([7, 30, 1, 1], cart))["no_undercoordinated_nitrogen"].atoms == (0,)
    whole = check_mof(
        molecule([7, 30, 1, 1, 1], [*cart[:2], [-0.34, 0.95, 0], [-0.34, -0.48, 0.82], [-0.34, -0.48, -0.82]])
    )
    assert whole["no_undercoordinated_nitrogen"].status == "passed"


@pytest.mark.parametrize(
    ("metal", "check"), [(57, "no_undercoordinated_rare_earth"), (12, "no_undercoordinated_alkali")]
)
def test_a_large_cation_with_three_neighbours(metal, check):
    legs = np.array([[2.1, 0, 0], [-1.05, 1.8, 0], [-1.05, -1.8, 0], [0, 0, 2.1]])
    few = molecule([metal, 8, 8, 8], [[0, 0, 0], *legs[:3].tolist()])
    enough = molecule([metal, 8, 8, 8, 8], [[0, 0, 0], *legs.tolist()])
    assert check_mof(few)[check].atoms == (0,)
    assert check_mof(enough)[check].status == "passed"


def test_a_terminal_oxygen_on_zinc_is_suspicious_and_on_vanadium_is_not(mof5):
    assert check_mof(molecule([30, 8], [[0, 0, 0], [1.8, 0, 0]]))["no_terminal_oxo"].atoms == (0,)
    assert check_mof(molecule([23, 8], [[0, 0, 0], [1.6, 0, 0]]))["no_terminal_oxo"].status == "passed"
    assert check_mof(mof5)["no_terminal_oxo"].status == "passed"


def test_a_guest_is_a_lone_molecule(mof5):
    center, up = np.array([0.5, 0.5, 0.5]) @ mof5.lattice, np.array([0.0, 0.0, 1.16])
    guest = with_atoms(mof5, [8, 6, 8], [center + up, center, center - up])
    results = check_mof(guest)
    assert results["no_lone_molecule"].atoms == tuple(range(mof5.num_atoms, mof5.num_atoms + 3))


def test_a_metal_with_all_ligands_on_one_side_is_exposed():
    legs = np.array([[1.0, 0, 1.7], [-0.5, 0.87, 1.7], [-0.5, -0.87, 1.7]])
    assert check_mof(molecule([30, 8, 8, 8], [[0, 0, 0], *legs.tolist()]))["no_exposed_metal"].atoms == (0,)
    around = np.array([[1, 1, 1], [1, -1, -1], [-1, 1, -1], [-1, -1, 1]]) * 1.13
    assert check_mof(molecule([30, 8, 8, 8, 8], [[0, 0, 0], *around.tolist()]))["no_exposed_metal"].status == "passed"


def narrowest_by_search(vectors: np.ndarray, radii: np.ndarray, rng: np.random.Generator) -> float:
    """Half angle of the narrowest cone among many axes, an upper bound that comes close."""
    length = np.linalg.norm(vectors, axis=1)
    axes = rng.normal(size=(300_000, 3))
    axes /= np.linalg.norm(axes, axis=1)[:, None]
    apart = np.arccos(np.clip(axes @ (vectors / length[:, None]).T, -1, 1)) + np.arcsin(radii / length)
    return float(np.degrees(apart.max(axis=1).min()))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("equal", [False, True])
def test_cone_is_the_narrowest_that_holds_all_spheres(count, equal):
    rng = np.random.default_rng(count)
    for _ in range(3):
        vectors = rng.normal(size=(count, 3))
        vectors *= (2.1 if equal else rng.uniform(1.9, 2.5, size=(count, 1))) / np.linalg.norm(vectors, axis=1)[:, None]
        radii = np.full(count, 1.5) if equal else rng.choice([1.1, 1.52, 1.7], size=count)
        expected = narrowest_by_search(vectors, radii, rng)
        half = cone_half_angle(vectors, radii)
        assert half is not None
        assert expected - 1.5 < half < expected + 1e-6 or half == 180.0 > expected - 1.5


def test_cone_of_a_square_plane_leans_to_neither_side():
    vectors = np.array([[2.0, 0, 0], [-2, 0, 0], [0, 2, 0], [0, -2, 0]])
    assert cone_half_angle(vectors, np.full(4, 1.5)) == pytest.approx(90 + np.degrees(np.arcsin(0.75)))


def test_no_cone_where_a_sphere_holds_the_metal():
    assert cone_half_angle(np.array([[1.0, 0, 0]]), np.array([1.5])) is None
    three = np.array([[1.0, 0, 0], [0, 2.5, 0], [0, 0, 2.5]])
    assert open_angle(three, np.array([8, 8, 8])) is None
    assert open_angle(three[:2], np.array([8, 8])) == 180.0
    assert open_angle(np.zeros((0, 3)), np.zeros(0, dtype=int)) == 180.0


@pytest.mark.parametrize("repeat", [(2, 1, 1), (1, 2, 2)])
def test_a_supercell_gives_the_same_answers(mof5, repeat):
    broken = without(mof5, [int(np.flatnonzero(mof5.atomic_numbers == 1)[0])])
    shifts = np.stack(np.meshgrid(*(np.arange(n) for n in repeat), indexing="ij"), -1).reshape(-1, 3)
    frac = ((broken.frac_coords[None] + shifts[:, None]) / np.array(repeat)).reshape(-1, 3)
    large = Structure(broken.lattice * np.array(repeat)[:, None], frac, np.tile(broken.atomic_numbers, len(shifts)))
    small_results, large_results = check_mof(broken), check_mof(large)
    assert {k: v.status for k, v in small_results.items()} == {k: v.status for k, v in large_results.items()}
    assert len(large_results["no_undercoordinated_carbon"].atoms) == len(shifts)
