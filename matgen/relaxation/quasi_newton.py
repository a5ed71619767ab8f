"""A quasi-Newton search of one crystal in its free directions: `start`, then `update` with each new answer.

The search knows no potential and no batch: it proposes a structure, and is told energy, forces and stress there.
"""

from dataclasses import dataclass, field

import numpy as np

from matgen.crystal.structure import Structure
from matgen.relaxation.potential import EnergyForcesStress
from matgen.relaxation.symmetric import (
    FreeDirections,
    SiteSymmetryMap,
    cartesian_rotations,
    free_directions,
    project_forces,
    project_stress,
)

POSITION_STIFFNESS = 40.0  # eV/Å^2, a first guess that the first step corrects
STRAIN_STIFFNESS = 1.0  # eV/Å^3 of cell, 160 GPa
MIN_TRUST = 2e-4  # of the largest allowed step: below this the search has stalled
ENERGY_NOISE = 2e-6  # eV/atom, of float32


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Longest step: displacement of an atom (Å) and strain (relative length)."""

    max_displacement: float = 0.2
    max_strain: float = 0.06
    relax_cell: bool = True


@dataclass
class Point:
    """A structure with its answer, and the answer's part in the free directions."""

    structure: Structure
    answer: EnergyForcesStress
    gradient: np.ndarray
    max_force: float
    max_stress: float


@dataclass
class Search:
    """The state of one search. `proposal` is the structure whose energy it wants next.

    The Cartesian rotations of the group do not change under symmetric strain, so neither do the free directions.
    """

    symmetry: SiteSymmetryMap
    rotations: np.ndarray
    directions: FreeDirections
    config: StepConfig
    proposal: Structure
    strain_scale: float
    hessian: np.ndarray
    step: np.ndarray
    trust: float = 1.0
    best: Point | None = None
    num_updates: int = 0
    stalled: bool = False
    fresh: bool = field(default=True)

    @classmethod
    def start(cls, structure: Structure, symmetry: SiteSymmetryMap, config: StepConfig) -> "Search":
        """A search from a structure that obeys the symmetry exactly."""
        rotations = cartesian_rotations(structure, symmetry)
        directions = free_directions(symmetry, rotations)
        if not config.relax_cell:
            directions = FreeDirections(directions.positions, directions.strains[:0])
        num = directions.num_free
        scale = float(np.sqrt(STRAIN_STIFFNESS * structure.volume / POSITION_STIFFNESS))
        hessian = np.eye(num) * POSITION_STIFFNESS
        return cls(symmetry, rotations, directions, config, structure, scale, hessian, np.zeros(num))

    def update(self, answer: EnergyForcesStress) -> None:
        """Take the answer at the proposal, and make the next proposal from the best point so far."""
        new = self._point(self.proposal, answer)
        self.num_updates += 1
        usable = new.answer.status == "ok" and bool(np.isfinite(new.gradient).all())
        if self.best is None:
            self.best = new
            self.stalled = not usable
        elif not usable:
            self.trust *= 0.25
        else:
            self._learn(new.gradient - self.best.gradient)
            allowed = ENERGY_NOISE * self.proposal.num_atoms
            if new.answer.energy <= self.best.answer.energy + allowed:
                self.best, self.trust = new, min(1.0, 1.5 * self.trust)
            else:
                self.trust *= 0.35
        if self.trust < MIN_TRUST:
            self.stalled = True
        if not self.stalled and self.directions.num_free:
            self._propose()

    def _point(self, structure: Structure, answer: EnergyForcesStress) -> Point:
        forces = project_forces(answer.forces, self.symmetry, self.rotations)
        stress = project_stress(answer.stress, self.rotations)
        along = -np.tensordot(self.directions.positions, forces, axes=2)
        strain = np.tensordot(self.directions.strains, stress, axes=2) * structure.volume / self.strain_scale
        max_stress = float(np.abs(stress).max()) if len(self.directions.strains) else 0.0
        max_force = float(np.linalg.norm(forces - forces.mean(0), axis=1).max())
        exact = EnergyForcesStress(answer.energy, forces, stress, answer.status, answer.reason)
        return Point(structure, exact, np.concatenate([along, strain]), max_force, max_stress)

    def _learn(self, change: np.ndarray) -> None:
        """BFGS with Powell's damping, so that the Hessian stays positive."""
        step, hessian = self.step, self.hessian
        curvature = float(step @ change)
        if self.fresh and curvature > 0:
            stiffness = float(np.clip(change @ change / curvature, 1.0, 500.0))
            self.hessian = hessian = np.eye(len(step)) * stiffness
            self.fresh = False
        product = hessian @ step
        expected = float(step @ product)
        if expected <= 1e-12:
            return
        if curvature < 0.2 * expected:
            mix = 0.8 * expected / (expected - curvature)
            change = mix * change + (1 - mix) * product
            curvature = float(step @ change)
        self.hessian = hessian - np.outer(product, product) / expected + np.outer(change, change) / curvature

    def _propose(self) -> None:
        assert self.best is not None
        step = -np.linalg.solve(self.hessian, self.best.gradient)
        num_positions = len(self.directions.positions)
        displacement = np.tensordot(step[:num_positions], self.directions.positions, axes=1)
        strain = np.tensordot(step[num_positions:], self.directions.strains, axes=1) / self.strain_scale
        longest = np.linalg.norm(displacement, axis=1).max() / self.config.max_displacement
        largest = np.abs(np.linalg.eigvalsh(strain)).max() / self.config.max_strain
        factor = min(1.0, self.trust / max(longest, largest, 1e-12))
        self.step = factor * step
        self.proposal = displaced(self.best.structure, factor * displacement, factor * strain)


def displaced(structure: Structure, displacement: np.ndarray, strain: np.ndarray) -> Structure:
    """A structure whose atoms have moved (Å, [n, 3]) and whose space has then been strained by exp(strain)."""
    frac = structure.frac_coords + displacement @ np.linalg.inv(structure.lattice)
    values, vectors = np.linalg.eigh(strain)
    lattice = structure.lattice @ (vectors * np.exp(values)) @ vectors.T
    return Structure(lattice, frac, structure.atomic_numbers)
