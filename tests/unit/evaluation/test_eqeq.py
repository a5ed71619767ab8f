"""Charge equilibration: the charges that pyeqeq gives, and what any charges must obey."""

from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.errors import UnsupportedElementError
from matgen.evaluation.eqeq import EqeqConfig, equilibrated_charges

STRUCTURES = Path(__file__).parents[1] / "mof" / "structures"
# pyeqeq 0.0.10 (Apache-2.0), ewald, defaults, 6 digits: mean charge of each element of the embedded frameworks
PYEQEQ = {
    "mof5": {1: 0.04227, 6: 0.06464, 8: -0.52887, 30: 1.20418},
    "mof74": {1: 0.06475, 6: 0.0854, 8: -0.53882, 30: 1.21011},
    "uio66": {1: 0.07705, 6: 0.08612, 8: -0.79911, 40: 3.21339},
}


def load(name: str) -> Structure:
    return parse_cif((STRUCTURES / f"{name}.cif").read_text())


@pytest.mark.parametrize("name", sorted(PYEQEQ))
def test_charges_are_those_of_pyeqeq(name):
    structure = load(name)
    charges = equilibrated_charges(structure)
    assert charges.sum() == pytest.approx(0.0, abs=1e-9)
    for z, expected in PYEQEQ[name].items():
        assert charges[structure.atomic_numbers == z].mean() == pytest.approx(expected, abs=2e-4)


def test_order_and_origin_do_not_matter():
    structure = load("mof74")
    rng = np.random.default_rng(0)
    order = rng.permutation(structure.num_atoms)
    moved = Structure(structure.lattice, structure.frac_coords[order] + rng.random(3), structure.atomic_numbers[order])
    assert equilibrated_charges(moved) == pytest.approx(equilibrated_charges(structure)[order], abs=1e-8)


def test_hydrogen_affinity_moves_the_charge_of_hydrogen():
    structure = load("mof5")
    hydrogen = structure.atomic_numbers == 1
    other = equilibrated_charges(structure, EqeqConfig(hydrogen_affinity=0.754))
    assert abs(other[hydrogen].mean() - equilibrated_charges(structure)[hydrogen].mean()) > 0.05


def test_an_element_without_parameters_is_refused():
    structure = Structure(np.eye(3) * 8, np.array([[0, 0, 0], [0.3, 0, 0.0]]), np.array([92, 8]))
    with pytest.raises(UnsupportedElementError, match="U"):
        equilibrated_charges(structure)
