"""UFF4MOF in torch against LAMMPS, term by term, on rattled real frameworks: frozen numbers, and LAMMPS itself."""

import json
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds
from matgen.relaxation.lammps import Lammps, lammps_is_installed
from matgen.relaxation.uff_energy import TERMS, UffAnswer, energy_forces_stress
from matgen.relaxation.uff_terms import UffTerms, uff_terms

REFERENCE = json.loads(Path(__file__).with_name("uff_lammps.json").read_text())["frameworks"]
NAMED = ("hkust1", "mil53", "mof5", "mof74", "pillared", "uio66")
ENERGY, FORCE, STRESS = 1e-6, 1e-4, 1e-6  # relative; kcal/mol/Å; relative to the largest entry


def framework(row: dict) -> tuple[Structure, UffTerms]:
    """The rattled framework, with the terms of the framework that it was made from."""
    numbers, table = np.array(row["atomic_numbers"]), np.array(row["bonds"])
    start = Structure(np.array(row["start_lattice"]), np.array(row["start_frac_coords"]), numbers)
    terms = uff_terms(start, Bonds(table[:, 0], table[:, 1], table[:, 2:]))
    return Structure(np.array(row["lattice"]), np.array(row["frac_coords"]), numbers), terms


def assert_equal(answer: UffAnswer, energies: dict, forces: np.ndarray, stress: np.ndarray) -> None:
    for term in TERMS:
        assert answer.energies[term] == pytest.approx(energies[term], rel=ENERGY, abs=1e-9), term
    assert np.abs(answer.forces - forces).max() < FORCE
    assert np.abs(answer.stress - stress).max() < STRESS * np.abs(stress).max()


@pytest.fixture(scope="module")
def answers() -> dict[str, UffAnswer]:
    pairs = [framework(row) for row in REFERENCE]
    results = energy_forces_stress([s for s, _ in pairs], [t for _, t in pairs])
    return {row["name"]: answer for row, answer in zip(REFERENCE, results, strict=True)}


@pytest.mark.parametrize("row", REFERENCE, ids=lambda row: row["name"])
def test_torch_gives_what_lammps_gave(row: dict, answers: dict[str, UffAnswer]) -> None:
    assert_equal(answers[row["name"]], row["energies"], np.array(row["forces"]), np.array(row["stress"]))


def test_no_term_of_the_named_frameworks_is_zero() -> None:
    named = [row for row in REFERENCE if row["name"] in NAMED]
    assert len(named) == len(NAMED)
    assert all(abs(row["energies"][term]) > 0.1 for row in named for term in TERMS)


def test_every_form_of_every_term_occurs() -> None:
    terms = [framework(row)[1] for row in REFERENCE]
    assert set(np.concatenate([t.angle_fold for t in terms])) == {0, 1, 3, 4}
    assert set(np.concatenate([t.torsion_fold for t in terms])) == {2, 3, 6}
    assert set(np.concatenate([t.torsion_sign for t in terms])) == {-1.0, 1.0}
    assert set(np.concatenate([t.improper_constants for t in terms])[:, 3]) == {0.0, 1.0}


@pytest.mark.skipif(not lammps_is_installed(), reason="LAMMPS is not installed (not run)")
def test_lammps_gives_what_torch_gives(answers: dict[str, UffAnswer]) -> None:
    with Lammps() as engine:
        for row in REFERENCE[:5]:
            structure, terms = framework(row)
            live = engine.evaluate(structure, terms)
            assert_equal(answers[row["name"]], live.energies, live.forces, live.stress)
