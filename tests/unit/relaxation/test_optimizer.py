"""Relaxation keeps the group, finds the minimum, and turns every failure into a status."""

import contextlib
import io

import numpy as np
import pytest
from relaxation_cases import LennardJones, Scripted, conventional_crystals, low_symmetry_crystal

from matgen.crystal.structure import Structure
from matgen.relaxation.mlip import CHGNetConfig, CHGNetPotential, load_chgnet
from matgen.relaxation.optimizer import RelaxConfig, displacement_rmsd, energies, relax
from matgen.relaxation.potential import EnergyForcesStress
from matgen.relaxation.quasi_newton import displaced
from matgen.relaxation.symmetric import (
    cartesian_rotations,
    detect_operations,
    map_sites,
    project_forces,
    project_stress,
    symmetrize,
)

CRYSTALS = conventional_crystals()
TIGHT = RelaxConfig(force_tolerance=1e-3, stress_tolerance=0.01)


def rattled(name: str, seed: int = 0, size: float = 0.06) -> Structure:
    """A crystal moved off its place along what its group leaves free."""
    _, crystal = CRYSTALS[name]
    _, rotations, translations = detect_operations(crystal, 0.01)
    symmetry = map_sites(crystal, rotations, translations, 0.05)
    exact = symmetrize(crystal, symmetry)
    turn, rng = cartesian_rotations(exact, symmetry), np.random.default_rng(seed)
    move = project_forces(size * rng.normal(size=exact.frac_coords.shape), symmetry, turn)
    return displaced(exact, move, project_stress(size * rng.normal(size=(3, 3)), turn))


def test_toy_forces_are_the_slopes_of_its_energy():
    crystal, toy, h = low_symmetry_crystal(), LennardJones(), 1e-5
    (answer,) = toy.energy_forces_stress([crystal])
    move = np.random.default_rng(1).normal(size=(5, 3))
    strain = np.diag([1.0, -0.5, 0.3])
    up, down, stretched, pressed = toy.energy_forces_stress(
        [displaced(crystal, s * h * move, np.zeros((3, 3))) for s in (1, -1)]
        + [displaced(crystal, np.zeros((5, 3)), s * h * strain) for s in (1, -1)]
    )
    assert (up.energy - down.energy) / (2 * h) == pytest.approx(-(answer.forces * move).sum(), rel=1e-5)
    slope = (stretched.energy - pressed.energy) / (2 * h)
    assert slope == pytest.approx((answer.stress * strain).sum() * crystal.volume, rel=1e-5)


def test_fcc_reaches_the_minimum_of_a_volume_scan():
    toy = LennardJones()
    _, copper = CRYSTALS["copper"]
    (result,) = relax([copper], toy, TIGHT)
    assert result.status == "converged"
    lengths = np.linspace(0.97, 1.03, 61) * result.structure.lengths[0]
    scan = [Structure(np.eye(3) * a, copper.frac_coords, copper.atomic_numbers) for a in lengths]
    energy = [answer.energy_per_atom for answer in toy.energy_forces_stress(scan)]
    assert result.energy_per_atom <= min(energy) + 1e-7
    assert abs(int(np.argmin(energy)) - 30) <= 1


@pytest.mark.parametrize("name", sorted(CRYSTALS))
def test_the_group_is_kept_under_any_potential(name):
    number, _ = CRYSTALS[name]
    start = rattled(name)
    (result,) = relax([start], LennardJones(), RelaxConfig(max_steps=60, max_volume_change=20.0), [number])
    assert result.usable, result.reason
    assert result.space_group_number == number
    assert result.energy_per_atom < result.initial_energy_per_atom
    found, rotations, _ = detect_operations(result.structure, 0.01)
    _, kept, _ = detect_operations(start, 0.01)
    assert found == number or len(rotations) > len(kept)  # unchanged, or a supergroup
    again = energies([result.structure], LennardJones())[0]
    assert again.energy_per_atom == pytest.approx(result.energy_per_atom, abs=1e-8)
    np.testing.assert_array_equal(result.structure.atomic_numbers, start.atomic_numbers)


def test_a_group_that_the_structure_breaks_is_not_forced_on_it():
    (result,) = relax([low_symmetry_crystal()], LennardJones(), RelaxConfig(max_steps=3), [221])
    assert result.space_group_number == 1


def test_a_batch_gives_what_each_gives_alone():
    structures = [rattled(name, seed) for seed in range(2) for name in ("rutile", "quartz", "pyrite")]
    structures.insert(2, low_symmetry_crystal())
    together = relax(structures, LennardJones(), RelaxConfig(batch_size=3, max_steps=40))
    for structure, batched in zip(structures, together, strict=True):
        (single,) = relax([structure], LennardJones(), RelaxConfig(max_steps=40))
        assert (single.status, single.num_steps) == (batched.status, batched.num_steps)
        assert single.energy_per_atom == pytest.approx(batched.energy_per_atom, abs=1e-10)
        apart = single.structure.frac_coords - batched.structure.frac_coords
        np.testing.assert_allclose(apart, np.round(apart), atol=1e-10)


def test_too_few_steps_and_no_cell():
    start = rattled("quartz")
    (result,) = relax([start], LennardJones(), RelaxConfig(max_steps=1))
    assert (result.status, result.num_steps) == ("max_steps", 1)
    assert "eV/Å" in result.reason
    fixed = RelaxConfig(step=RelaxConfig().step.__class__(relax_cell=False))
    (result,) = relax([start], LennardJones(), fixed)
    assert result.volume_ratio == pytest.approx(1.0)


def test_failures_are_statuses():
    copper = CRYSTALS["copper"][1]
    nan_structure = Structure(copper.lattice * np.nan, copper.frac_coords, copper.atomic_numbers)
    flat = Structure(copper.lattice * [1, 1, 0], copper.frac_coords, copper.atomic_numbers)
    assert [r.status for r in relax([nan_structure, flat], LennardJones())] == ["non_finite", "non_finite"]

    def expanding(_: int, s: Structure) -> EnergyForcesStress:
        return EnergyForcesStress(-0.1 * s.volume, np.zeros((s.num_atoms, 3)), -0.1 * np.eye(3))

    def hole(_: int, s: Structure) -> EnergyForcesStress:
        return EnergyForcesStress(-50.0 * s.num_atoms, np.zeros((s.num_atoms, 3)), 0.1 * np.eye(3))

    def refuses(_: int, s: Structure) -> EnergyForcesStress:
        return EnergyForcesStress.failed(s.num_atoms, "isolated_atom", "alone")

    def fails_later(call: int, s: Structure) -> EnergyForcesStress:
        if call > 1:
            return EnergyForcesStress.failed(s.num_atoms, "non_finite", "nan")
        return EnergyForcesStress(0.0, np.zeros((s.num_atoms, 3)), 0.1 * np.eye(3))

    expected = {expanding: "exploded", hole: "unphysical_energy", refuses: "isolated_atom", fails_later: "stalled"}
    for answer, status in expected.items():
        (result,) = relax([copper], Scripted(answer))
        assert result.status == status
        assert result.reason


def test_rmsd_ignores_drift_and_wrapping():
    _, crystal = CRYSTALS["quartz"]
    moved = Structure(crystal.lattice, (crystal.frac_coords + np.array([0.3, 0.6, 0.9])) % 1.0, crystal.atomic_numbers)
    assert displacement_rmsd(crystal, moved) == pytest.approx(0.0, abs=1e-9)


def test_chgnet_keeps_the_group_and_agrees_with_a_full_evaluation():
    pytest.importorskip("chgnet")
    potential = CHGNetPotential(CHGNetConfig(device="cpu"))
    names = ["copper", "NaCl", "SrTiO3", "rutile", "quartz", "calcite"]
    starts, numbers = [rattled(name) for name in names], [CRYSTALS[name][0] for name in names]
    results = relax(starts, potential, space_group_numbers=numbers)
    every = potential.energy_forces_stress([r.structure for r in results])
    for number, result, full in zip(numbers, results, every, strict=True):
        assert result.status == "converged"
        assert detect_operations(result.structure, 0.01)[0] == number
        assert full.energy_per_atom == pytest.approx(result.energy_per_atom, abs=1e-5)
        assert np.linalg.norm(full.forces, axis=1).max() < 0.06


@pytest.mark.slow
@pytest.mark.parametrize("name", ["NaCl", "rutile", "quartz"])
def test_chgnet_minimum_is_that_of_the_package_s_own_optimizer(name):
    pytest.importorskip("chgnet")
    from chgnet.model import StructOptimizer

    start = rattled(name, size=0.03)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = StructOptimizer(load_chgnet("0.3.0"), use_device="cpu").relax(
            start.to_pymatgen(), fmax=0.01, steps=500, verbose=False
        )
    potential = CHGNetPotential(CHGNetConfig(device="cpu"))
    (ours,) = relax([start], potential, RelaxConfig(force_tolerance=0.01, stress_tolerance=0.1))
    energy = theirs["trajectory"].energies[-1] / start.num_atoms
    assert ours.status == "converged"
    assert ours.energy_per_atom == pytest.approx(energy, abs=1e-3)
    assert ours.structure.volume == pytest.approx(theirs["final_structure"].volume, rel=0.03)  # quartz is soft
