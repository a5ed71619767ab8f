"""What the relaxer and the hull ask of an interatomic potential, so that a second one can join."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from matgen.crystal.structure import Structure
from matgen.relaxation.symmetric import SiteSymmetryMap

EV_PER_CUBIC_ANGSTROM_IN_GPA = 160.21766208

OK = "ok"


@dataclass(frozen=True)
class EnergyForcesStress:
    """What a potential says about one structure.

    energy: eV per cell. forces: eV/Å, [n, 3]. stress: (1/V) dE/d(strain), eV/Å^3, [3, 3], positive where the cell wants
    to shrink. `status` is "ok", or the word for why there is no answer; energy, forces and stress are then NaN.
    """

    energy: float
    forces: np.ndarray
    stress: np.ndarray
    status: str = OK
    reason: str = ""

    @property
    def energy_per_atom(self) -> float:
        return self.energy / max(len(self.forces), 1)

    @classmethod
    def failed(cls, num_atoms: int, status: str, reason: str) -> "EnergyForcesStress":
        """The answer for a structure that the potential cannot take."""
        nan = float("nan")
        return cls(nan, np.full((num_atoms, 3), nan), np.full((3, 3), nan), status, reason)


class Potential(Protocol):
    """An interatomic potential: one answer per structure, in order; a structure it cannot take is a status."""

    @property
    def name(self) -> str:
        """A short word that goes into tables and cache keys."""
        ...

    @property
    def version(self) -> str:
        """The version of the code and of the weights: equal versions give equal energies."""
        ...

    def energy_forces_stress(
        self,
        structures: Sequence[Structure],
        symmetry: Sequence[SiteSymmetryMap | None] | None = None,
        forces: bool = True,
    ) -> list[EnergyForcesStress]:
        """Energies, and where asked forces and stresses, of a batch.

        Args:
            structures: the batch; coordinates need not be wrapped.
            symmetry: for a structure that obeys a group exactly, its operations: a licence to compute one of each set
                of equivalent terms. Forces and stress are then right once they are projected on the group.
            forces: False asks for energies alone (forces and stress may then be NaN).

        Returns:
            One answer per structure.
        """
        ...
