"""CHGNet against chgnet's own predictions, against finite differences, and on reduced graphs against full ones."""

import sys

import numpy as np
import pytest
from relaxation_cases import conventional_crystals, low_symmetry_crystal

from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError
from matgen.relaxation.chgnet_graph import build_graph
from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential, load_chgnet
from matgen.relaxation.potential import EV_PER_CUBIC_ANGSTROM_IN_GPA
from matgen.relaxation.primitive import primitive_cell
from matgen.relaxation.quasi_newton import displaced
from matgen.relaxation.symmetric import (
    cartesian_rotations,
    detect_operations,
    project_forces,
    project_stress,
    symmetrize,
)

pytest.importorskip("chgnet")
CRYSTALS = conventional_crystals()


@pytest.fixture(scope="module")
def potential():
    return CHGNetPotential(CHGNetConfig(device="cpu"))


@pytest.fixture(scope="module")
def precise():
    return CHGNetPotential(CHGNetConfig(device="cpu", double=True))


def test_equals_the_published_package(potential):
    model = load_chgnet("0.3.0")
    crystals = [CRYSTALS["rutile"][1], CRYSTALS["copper"][1], low_symmetry_crystal()]
    for crystal, ours in zip(crystals, potential.energy_forces_stress(crystals), strict=True):
        theirs = model.predict_structure(crystal.to_pymatgen())
        assert ours.energy_per_atom == pytest.approx(float(theirs["e"]), abs=1e-5)
        np.testing.assert_allclose(ours.forces, theirs["f"], atol=1e-3)
        np.testing.assert_allclose(ours.stress * EV_PER_CUBIC_ANGSTROM_IN_GPA, theirs["s"], atol=5e-3)


def test_forces_and_stress_are_the_slopes_of_the_energy(precise):
    crystal = low_symmetry_crystal()
    (answer,) = precise.energy_forces_stress([crystal])
    rng = np.random.default_rng(5)
    still, h = np.zeros((crystal.num_atoms, 3)), 3e-5
    for _ in range(2):
        move, strain = rng.normal(size=still.shape), rng.normal(size=(3, 3))
        strain = strain + strain.T
        moved = [displaced(crystal, sign * h * move, np.zeros((3, 3))) for sign in (1, -1)]
        strained = [displaced(crystal, still, sign * h * strain) for sign in (1, -1)]
        up, down, stretched, pressed = precise.energy_forces_stress(moved + strained, forces=False)
        assert (up.energy - down.energy) / (2 * h) == pytest.approx(-(answer.forces * move).sum(), rel=1e-5)
        slope = (stretched.energy - pressed.energy) / (2 * h)
        assert slope == pytest.approx((answer.stress * strain).sum() * crystal.volume, rel=1e-5)


@pytest.mark.parametrize("name", sorted(CRYSTALS))
def test_one_term_per_orbit_gives_the_same_answer(precise, name):
    _, crystal = CRYSTALS[name]
    _, rotations, translations = detect_operations(crystal, 0.01)
    cell = primitive_cell(crystal, rotations, translations, 0.05)
    # off the minimum, along what the group leaves free
    exact = symmetrize(cell.structure, cell.symmetry)
    turn = cartesian_rotations(exact, cell.symmetry)
    rng = np.random.default_rng(7)
    move = project_forces(0.05 * rng.normal(size=exact.frac_coords.shape), cell.symmetry, turn)
    exact = displaced(exact, move, project_stress(0.02 * rng.normal(size=(3, 3)), turn))
    reduced, full = build_graph(exact, cell.symmetry), build_graph(exact)
    assert reduced.edge_weight @ reduced.node_count[reduced.edge_node] == len(full.edge_node)
    assert reduced.num_messages * 4 < full.num_messages
    (ours,) = precise.energy_forces_stress([exact], [cell.symmetry])
    (every,) = precise.energy_forces_stress([exact])
    assert ours.energy == pytest.approx(every.energy, abs=1e-9)
    np.testing.assert_allclose(project_forces(ours.forces, cell.symmetry, turn), every.forces, atol=1e-7)
    np.testing.assert_allclose(project_stress(ours.stress, turn), every.stress, atol=1e-8)


def test_batched_equals_single(potential):
    crystals = [CRYSTALS[name][1] for name in ("quartz", "copper", "pyrite")] + [low_symmetry_crystal()]
    together = potential.energy_forces_stress(crystals)
    small = CHGNetPotential(CHGNetConfig(device="cpu", max_messages=1))
    for batched, crystal in zip(together, crystals, strict=True):
        (single,) = small.energy_forces_stress([crystal])
        assert batched.energy_per_atom == pytest.approx(single.energy_per_atom, abs=1e-5)
        np.testing.assert_allclose(batched.forces, single.forces, atol=1e-4)
        np.testing.assert_allclose(batched.stress, single.stress, atol=1e-4)


def test_unfit_structures_are_statuses_among_good_ones(potential):
    good = CRYSTALS["copper"][1]
    nan = Structure(good.lattice, np.full((4, 3), np.nan), good.atomic_numbers)
    heavy = Structure(good.lattice, good.frac_coords, np.full(4, 95))
    lonely = Structure(np.eye(3) * 20, np.zeros((1, 3)), np.array([29]))
    dense = Structure(good.lattice * 0.4, good.frac_coords, good.atomic_numbers)
    thin = Structure(np.diag([30.0, 30.0, 0.1]), good.frac_coords, good.atomic_numbers)
    answers = potential.energy_forces_stress([nan, good, heavy, lonely, dense, thin])
    statuses = [answer.status for answer in answers]
    expected = ["non_finite", "ok", "unsupported_element", "isolated_atom", "too_dense", "degenerate_cell"]
    assert statuses == expected
    assert all(answer.reason for answer in answers if answer.status != "ok")
    assert all(np.isfinite(answer.energy) == (answer.status == "ok") for answer in answers)


def test_missing_chgnet_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "chgnet.model", None)
    with pytest.raises(MissingDependencyError, match=r"matgen\[relax\]"):
        CHGNetPotential()
