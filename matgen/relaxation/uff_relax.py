"""Relaxation of frameworks with UFF4MOF: positions and cell together, many at once, and what became of each."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.mof.bonds import Bonds
from matgen.relaxation.lammps import Lammps, LammpsConfig, LammpsError
from matgen.relaxation.optimizer import displacement_rmsd
from matgen.relaxation.uff_checks import CheckConfig, verdict
from matgen.relaxation.uff_energy import UffAnswer, UffBatch, UffConfig, energy_forces_stress
from matgen.relaxation.uff_pairs import find_pairs
from matgen.relaxation.uff_search import SearchConfig, UffSearch
from matgen.relaxation.uff_terms import UffTerms, uff_terms
from matgen.shapes import Bool, Float

__all__ = ["KCAL_PER_CUBIC_ANGSTROM_IN_GPA", "UffRelaxConfig", "UffRelaxed", "relax_frameworks"]

_log = logging.getLogger(__name__)

KCAL_PER_CUBIC_ANGSTROM_IN_GPA = 6.947695
_CELL_STIFFNESS = 1.5  # Å per square root of the number of atoms: a strain's share of all bonds against one atom's


@dataclass(frozen=True, kw_only=True)
class UffRelaxConfig:
    """force_tolerance kcal/mol/Å (largest on an atom) and stress_tolerance GPa (largest entry): both must be met.

    engine: "torch" or "lammps". max_steps: evaluations of one framework (torch). batch_size: frameworks side by side.
    """

    engine: str = "torch"
    max_steps: int = 2000
    force_tolerance: float = 0.1
    stress_tolerance: float = 0.02
    batch_size: int = 32
    uff: UffConfig = field(default_factory=UffConfig)
    search: SearchConfig = field(default_factory=SearchConfig)
    checks: CheckConfig = field(default_factory=CheckConfig)
    lammps: LammpsConfig = field(default_factory=LammpsConfig)


@dataclass(frozen=True, eq=False)
class UffRelaxed:
    """What became of one framework.

    status: "ok", or "untyped_atom", "exploded", "collapsed", "bond_broken", "clash", "not_converged", "timeout",
    "killed", "failed" (LAMMPS's own error). structure: in the cell and atom order of the input; the input itself where
    nothing could be computed. energy kcal/mol per cell; max_force kcal/mol/Å; max_stress GPa; rmsd Å; volume_ratio
    relaxed over input; longest_bond: largest ratio of a bond to its natural length; shortest_contact: smallest ratio
    of a non-bonded distance to the sum of covalent radii. types_guessed: see UffTyping.
    """

    status: str
    reason: str
    structure: Structure
    energy: float = float("nan")
    initial_energy: float = float("nan")
    num_steps: int = 0
    max_force: float = float("nan")
    max_stress: float = float("nan")
    rmsd: float = float("nan")
    volume_ratio: float = float("nan")
    longest_bond: float = float("nan")
    shortest_contact: float = float("nan")
    types_guessed: tuple[str, ...] = ()


def relax_frameworks(
    structures: Sequence[Structure], bonds: Sequence[Bonds], config: UffRelaxConfig | None = None
) -> list[UffRelaxed]:
    """Relax positions and cells, connectivity given.

    Args:
        structures: any cells.
        bonds: of each, each periodic bond once.
        config: engine, tolerances, limits.

    Returns:
        one result per framework, in order. A framework that fails is a status; nothing is raised for it.

    Raises:
        MissingDependencyError: the engine is "lammps", and LAMMPS is not installed.
        ValueError: an unknown engine.
    """
    config = config or UffRelaxConfig()
    if config.engine not in ("torch", "lammps"):
        raise ValueError(f"unknown engine {config.engine!r} (there are: torch, lammps)")
    results: list[UffRelaxed | None] = [None] * len(structures)
    ready: list[tuple[int, UffTerms]] = []
    for index, (structure, bond) in enumerate(zip(structures, bonds, strict=True)):
        problem = _unfit(structure)
        try:
            terms = uff_terms(structure, bond) if problem is None else None
        except StructureError as error:
            problem, terms = (error.status, str(error)), None
        if terms is None:
            assert problem is not None
            results[index] = UffRelaxed(*problem, structure)
        else:
            ready.append((index, terms))
    done = _relax_lammps if config.engine == "lammps" else _relax_torch
    for (index, _), result in zip(ready, done(structures, ready, config), strict=True):
        results[index] = result
    return [result for result in results if result is not None]


def _unfit(structure: Structure) -> tuple[str, str] | None:
    if not structure.num_atoms:
        return "empty", "no atoms"
    finite = np.isfinite(structure.lattice).all() and np.isfinite(structure.frac_coords).all()
    if not finite or not structure.volume > 1.0:
        return "non_finite", "a coordinate or a lattice entry is not finite, or the cell has no volume"
    return None


def _relax_torch(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    order = sorted(range(len(ready)), key=lambda k: ready[k][1].num_atoms)  # neighbours in a batch are of one size
    results: list[UffRelaxed | None] = [None] * len(ready)
    for start in range(0, len(order), config.batch_size):
        chosen = order[start : start + config.batch_size]
        relaxation = _Relaxation([structures[ready[k][0]] for k in chosen], [ready[k][1] for k in chosen], config)
        for k, result in zip(chosen, relaxation.run(), strict=True):
            results[k] = result
    return [result for result in results if result is not None]


def _relax_lammps(
    structures: Sequence[Structure], ready: list[tuple[int, UffTerms]], config: UffRelaxConfig
) -> list[UffRelaxed]:
    results = []
    with Lammps(config.lammps) as engine:
        for index, terms in ready:
            start = structures[index]
            try:
                final, answer, num_steps = engine.relax(start, terms)
            except LammpsError as error:
                guessed = terms.typing.guessed
                results.append(UffRelaxed(error.status, str(error), start, types_guessed=guessed))
                continue
            before = energy_forces_stress([start], [terms], config.uff)[0].energy
            results.append(_finished(start, final, terms, answer, before, num_steps, config))
    return results


def _finished(
    start: Structure,
    final: Structure,
    terms: UffTerms,
    answer: UffAnswer,
    initial_energy: float,
    num_steps: int,
    config: UffRelaxConfig,
) -> UffRelaxed:
    max_force = float(np.linalg.norm(answer.forces, axis=1).max())
    max_stress = float(np.abs(answer.stress).max()) * KCAL_PER_CUBIC_ANGSTROM_IN_GPA
    checks = verdict(start, final, terms, config.checks)
    status, reason = checks.status, checks.reason
    if status == "ok" and not (max_force <= config.force_tolerance and max_stress <= config.stress_tolerance):
        status = "not_converged"
        reason = f"after {num_steps} steps: largest force {max_force:.3g} kcal/mol/Å, stress {max_stress:.3g} GPa"
    return UffRelaxed(
        status=status,
        reason=reason,
        structure=final,
        energy=answer.energy,
        initial_energy=initial_energy,
        num_steps=num_steps,
        max_force=max_force,
        max_stress=max_stress,
        rmsd=displacement_rmsd(start, final),
        volume_ratio=final.volume / start.volume,
        longest_bond=checks.longest_bond,
        shortest_contact=checks.shortest_contact,
        types_guessed=terms.typing.guessed,
    )


class _Relaxation:
    """One batch on its way. Frameworks leave it as they finish."""

    def __init__(self, structures: list[Structure], terms: list[UffTerms], config: UffRelaxConfig) -> None:
        self.config = config
        self.structures, self.terms = structures, terms
        self.ids = list(range(len(structures)))
        self.batch = UffBatch.of(terms, config.uff)
        positions, self.lattices = self.batch.tensors(structures)
        self.scales = positions.new_tensor([_CELL_STIFFNESS * t.num_atoms**0.5 for t in terms])
        self._layout()
        rows = positions.new_zeros(len(self.is_atom), 3)
        rows[self.is_atom] = positions
        self.search = UffSearch(rows, self.row_graph, len(terms), config.search)
        self.built_rows: Tensor | None = None
        self.pairs = [None] * len(terms)
        self.initial_energy = [float("nan")] * len(terms)
        self.results: list[UffRelaxed | None] = [None] * len(terms)

    def _layout(self) -> None:
        """Rows of each framework: its atoms, then three of its cell."""
        device = self.lattices.device
        counts = torch.tensor([self.terms[k].num_atoms for k in self.ids], device=device)
        self.row_graph = torch.repeat_interleave(torch.arange(len(self.ids), device=device), counts + 3)
        ends = torch.cumsum(counts + 3, 0)
        self.cell_rows = (ends[:, None] - torch.arange(3, 0, -1, device=device)).reshape(-1)
        self.is_atom = torch.ones(len(self.row_graph), dtype=torch.bool, device=device)
        self.is_atom[self.cell_rows] = False

    def run(self) -> list[UffRelaxed]:
        """Relax them all."""
        for num_steps in range(1, self.config.max_steps + 1):
            energies, gradient, forces, stress = self._evaluate()
            if num_steps == 1:
                self.initial_energy = energies.tolist()
            moved = self.search.update(energies, gradient)
            converged = moved & self._converged(forces, stress)
            over = converged | self.search.stalled | (energies.isnan() & (num_steps == 1))
            if num_steps == self.config.max_steps:
                over = torch.ones_like(over)
            if bool(over.any()):
                self._finish(over, num_steps)
                if not self.ids:
                    break
        return [result for result in self.results if result is not None]

    def _deformed(self, rows: Float[Tensor, "r 3"]) -> tuple[Tensor, Tensor, Tensor]:
        """Positions, lattices and deformations F (x = y F) that rows stand for."""
        eye = torch.eye(3, dtype=rows.dtype, device=rows.device)
        deformation = eye + rows[self.cell_rows].reshape(-1, 3, 3) / self.scales[:, None, None]
        atoms = rows[self.is_atom]
        positions = torch.einsum("ni,nij->nj", atoms, deformation[self.batch.graph_index])
        return positions, self.lattices @ deformation, deformation

    def _evaluate(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Energy and gradient at the search's trial; largest force and stress of each framework."""
        positions, lattices, deformation = self._deformed(self.search.trial)
        self._renew_pairs(positions, lattices, deformation)
        by_term, gradient, virial = self.batch.evaluate(positions, lattices)
        rows = torch.zeros_like(self.search.trial)
        graph = self.batch.graph_index
        rows[self.is_atom] = torch.einsum("nj,nij->ni", gradient, deformation[graph])
        on_cell = torch.linalg.inv(deformation).transpose(1, 2) @ virial / self.scales[:, None, None]
        rows[self.cell_rows] = on_cell.reshape(-1, 3)
        largest = gradient.new_zeros(len(self.ids)).scatter_reduce(0, graph, gradient.norm(dim=1), "amax")
        stress = virial.abs().amax(dim=(1, 2)) / torch.linalg.det(lattices).abs()
        return by_term.sum(0), rows, largest, stress * KCAL_PER_CUBIC_ANGSTROM_IN_GPA

    def _converged(self, forces: Tensor, stress: Tensor) -> Bool[Tensor, " g"]:
        return (forces <= self.config.force_tolerance) & (stress <= self.config.stress_tolerance)

    def _renew_pairs(self, positions: Tensor, lattices: Tensor, deformation: Tensor) -> None:
        """New pair lists for frameworks in which an atom may have crossed the skin, and for those half-way there."""
        uff = self.config.uff
        if self.built_rows is None:
            used = positions.new_full((len(self.ids),), torch.inf)
        else:
            strain = torch.linalg.inv(self.built_deformation) @ deformation
            strain = strain - torch.eye(3, dtype=strain.dtype, device=strain.device)
            shift = (self.search.trial - self.built_rows)[self.is_atom].norm(dim=1)
            moved = shift.new_zeros(len(self.ids)).scatter_reduce(0, self.batch.graph_index, shift, "amax")
            stretch = torch.linalg.matrix_norm(deformation, 2)
            used = 2 * moved * stretch + torch.linalg.matrix_norm(strain, 2) * (uff.cutoff + uff.skin)
        if not bool((used > uff.skin).any()):
            return
        old = used > uff.skin / 2
        points, boxes = positions.cpu().double().numpy(), lattices.cpu().double().numpy()
        ends = np.cumsum([self.terms[k].num_atoms for k in self.ids])
        for place in torch.nonzero(old).reshape(-1).tolist():
            terms = self.terms[self.ids[place]]
            own = points[ends[place] - terms.num_atoms : ends[place]]
            self.pairs[place] = find_pairs(own, boxes[place], terms, uff.cutoff + uff.skin)
        self.batch.set_pairs(self.pairs)
        if self.built_rows is None:
            self.built_rows, self.built_deformation = self.search.trial.clone(), deformation
        else:
            self.built_rows = torch.where(old[self.row_graph][:, None], self.search.trial, self.built_rows)
            self.built_deformation = torch.where(old[:, None, None], deformation, self.built_deformation)

    def _finish(self, over: Bool[Tensor, " g"], num_steps: int) -> None:
        """Write down what is over, and go on with the rest."""
        positions, lattices, _ = self._deformed(self.search.best)
        points = np.split(positions.cpu().double().numpy(), np.cumsum([self.terms[k].num_atoms for k in self.ids])[:-1])
        boxes = lattices.cpu().double().numpy()
        for place in torch.nonzero(over).reshape(-1).tolist():
            index = self.ids[place]
            start, terms = self.structures[index], self.terms[index]
            final = Structure(boxes[place], points[place] @ np.linalg.inv(boxes[place]), start.atomic_numbers)
            answer = energy_forces_stress([final], [terms], self.config.uff)[0]
            before = self.initial_energy[index]
            self.results[index] = _finished(start, final, terms, answer, before, num_steps, self.config)
        keep = ~over
        self.search.keep(keep)
        assert self.built_rows is not None
        self.built_rows, self.built_deformation = self.built_rows[keep[self.row_graph]], self.built_deformation[keep]
        self.lattices, self.scales = self.lattices[keep], self.scales[keep]
        chosen = torch.nonzero(keep).reshape(-1).tolist()
        self.ids, self.pairs = [self.ids[k] for k in chosen], [self.pairs[k] for k in chosen]
        if self.ids:
            self._layout()
            self.batch = UffBatch.of([self.terms[k] for k in self.ids], self.config.uff)
            self.batch.set_pairs(self.pairs)
