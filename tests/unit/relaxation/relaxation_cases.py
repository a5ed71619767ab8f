"""Crystals of many groups by their textbook sites, and an analytic potential."""

from collections.abc import Sequence
from functools import cache

import numpy as np
from pymatgen.core import Lattice
from pymatgen.core import Structure as PymatgenStructure
from vesin import NeighborList

from matgen.crystal.structure import Structure
from matgen.relaxation.potential import EnergyForcesStress
from matgen.relaxation.symmetric import SiteSymmetryMap


def _make(group: int, lattice: Lattice, species: list[str], sites: list[list[float]]) -> Structure:
    return Structure.from_pymatgen(PymatgenStructure.from_spacegroup(group, lattice, species, sites))


@cache
def conventional_crystals() -> dict[str, tuple[int, Structure]]:
    """name -> (space group, structure in the standard setting)."""
    return {
        "copper": (225, _make(225, Lattice.cubic(3.61), ["Cu"], [[0, 0, 0]])),
        "NaCl": (225, _make(225, Lattice.cubic(5.64), ["Na", "Cl"], [[0, 0, 0], [0.5, 0.5, 0.5]])),
        "SrTiO3": (
            221,
            _make(221, Lattice.cubic(3.905), ["Sr", "Ti", "O"], [[0, 0, 0], [0.5] * 3, [0.5, 0.5, 0]]),
        ),
        "rutile": (136, _make(136, Lattice.tetragonal(4.594, 2.959), ["Ti", "O"], [[0, 0, 0], [0.305, 0.305, 0]])),
        "anatase": (
            141,
            _make(141, Lattice.tetragonal(3.785, 9.514), ["Ti", "O"], [[0, 0, 0], [0, 0, 0.2081]]),
        ),
        "wurtzite": (
            186,
            _make(186, Lattice.hexagonal(3.25, 5.207), ["Zn", "O"], [[1 / 3, 2 / 3, 0], [1 / 3, 2 / 3, 0.382]]),
        ),
        "calcite": (
            167,
            _make(167, Lattice.hexagonal(4.99, 17.06), ["Ca", "C", "O"], [[0, 0, 0], [0, 0, 0.25], [0.257, 0, 0.25]]),
        ),
        "quartz": (
            154,
            _make(154, Lattice.hexagonal(4.913, 5.405), ["Si", "O"], [[0.4697, 0, 2 / 3], [0.4133, 0.2672, 0.7856]]),
        ),
        "pyrite": (205, _make(205, Lattice.cubic(5.417), ["Fe", "S"], [[0, 0, 0], [0.3848] * 3])),
    }


def low_symmetry_crystal() -> Structure:
    """SrTiO3 with every atom and the cell off its place: P1."""
    _, start = conventional_crystals()["SrTiO3"]
    rng = np.random.default_rng(3)
    strain = np.eye(3) + 0.02 * rng.normal(size=(3, 3))
    return Structure(start.lattice @ strain, start.frac_coords + 0.02 * rng.normal(size=(5, 3)), start.atomic_numbers)


class LennardJones:
    """12-6 pairs cut smoothly: sigma 1.9 Å, epsilon 0.4 eV for all elements. It ignores the symmetry it is offered."""

    name = "lennard-jones"
    version = "1"
    cutoff = 7.0

    def __init__(self) -> None:
        self.num_structures = 0

    def energy_forces_stress(
        self,
        structures: Sequence[Structure],
        symmetry: Sequence[SiteSymmetryMap | None] | None = None,
        forces: bool = True,
    ) -> list[EnergyForcesStress]:
        self.num_structures += len(structures)
        return [self._one(structure) for structure in structures]

    def _one(self, structure: Structure) -> EnergyForcesStress:
        neighbors = NeighborList(cutoff=self.cutoff, full_list=False)
        i, j, r, d = neighbors.compute(structure.cart_coords, structure.lattice, True, quantities="ijDd")
        six = (1.9 / d) ** 6
        x = d / self.cutoff
        cut, cut_slope = (1 - x**2) ** 3, -6 * x * (1 - x**2) ** 2 / self.cutoff
        pair = 4 * 0.4 * (six**2 - six)
        slope = 4 * 0.4 * (-12 * six**2 + 6 * six) / d * cut + pair * cut_slope
        pull = (slope / d)[:, None] * r
        force = np.zeros((structure.num_atoms, 3))
        np.add.at(force, i, pull)
        np.add.at(force, j, -pull)
        stress = (r[:, :, None] * pull[:, None, :]).sum(0) / structure.volume
        return EnergyForcesStress(float((pair * cut).sum()), force, stress)


class Scripted:
    """A potential that answers with whatever the given function makes of (call number, structure)."""

    name = "scripted"
    version = "1"

    def __init__(self, answer) -> None:
        self.answer, self.calls = answer, 0

    def energy_forces_stress(self, structures, symmetry=None, forces=True) -> list[EnergyForcesStress]:
        self.calls += 1
        return [self.answer(self.calls, structure) for structure in structures]
