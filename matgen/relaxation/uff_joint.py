"""Many frameworks relaxed side by side in torch: one evaluation and one search step for all of them at a time."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matgen.crystal.structure import Structure
from matgen.relaxation.uff_energy import UffBatch, UffConfig
from matgen.relaxation.uff_pairs import PairList, find_pairs
from matgen.relaxation.uff_search import SearchConfig, UffSearch
from matgen.relaxation.uff_terms import UffTerms
from matgen.shapes import Bool, Float

__all__ = ["KCAL_PER_CUBIC_ANGSTROM_IN_GPA", "Joined", "JointConfig", "JointRelaxation"]

KCAL_PER_CUBIC_ANGSTROM_IN_GPA = 6.947695
_CELL_STIFFNESS = 1.5  # Å per square root of the number of atoms: a strain's share of all bonds against one atom's


@dataclass(frozen=True, kw_only=True)
class JointConfig:
    """max_steps: evaluations of one framework. force_tolerance kcal/mol/Å, stress_tolerance GPa: both must be met."""

    max_steps: int
    force_tolerance: float
    stress_tolerance: float
    uff: UffConfig
    search: SearchConfig


@dataclass(frozen=True, eq=False)
class Joined:
    """Where a framework ended, and after how many evaluations."""

    structure: Structure
    num_steps: int


class JointRelaxation:
    """One batch on its way; frameworks leave it as they finish.

    Args:
        structures: the starts.
        terms: one per structure.
        config: tolerances.
    """

    def __init__(self, structures: list[Structure], terms: list[UffTerms], config: JointConfig) -> None:
        self.config, self.uff = config, config.uff
        self.structures, self.terms = structures, terms
        self.ids = list(range(len(structures)))
        self.batch = UffBatch.of(terms, config.uff)
        positions, self.lattices = self.batch.tensors(structures)
        self.scales = positions.new_tensor([_CELL_STIFFNESS * t.num_atoms**0.5 for t in terms])
        self._layout()
        rows = positions.new_zeros(len(self.is_atom), 3)
        rows[self.is_atom] = positions
        self.search = UffSearch(rows, self.row_graph, len(terms), config.search)
        self.built_rows, self.built_deformation = rows.new_full(rows.shape, torch.inf), torch.empty(0)
        self.pairs: list[PairList] = []
        self.results: list[Joined | None] = [None] * len(terms)

    def _layout(self) -> None:
        """Rows of each framework: its atoms, then three of its cell."""
        device = self.lattices.device
        counts = torch.tensor([self.terms[k].num_atoms for k in self.ids], device=device)
        self.row_graph = torch.repeat_interleave(torch.arange(len(self.ids), device=device), counts + 3)
        ends = torch.cumsum(counts + 3, 0)
        self.cell_rows = (ends[:, None] - torch.arange(3, 0, -1, device=device)).reshape(-1)
        self.is_atom = torch.ones(len(self.row_graph), dtype=torch.bool, device=device)
        self.is_atom[self.cell_rows] = False

    def run(self) -> list[Joined]:
        """Relax them all."""
        for num_steps in range(1, self.config.max_steps + 1):
            energies, gradient, forces, stress = self._evaluate()
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
        uff = self.uff
        if not self.pairs:
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
        pairs = dict(enumerate(self.pairs))
        for place in torch.nonzero(old).reshape(-1).tolist():
            terms = self.terms[self.ids[place]]
            own = points[ends[place] - terms.num_atoms : ends[place]]
            pairs[place] = find_pairs(own, boxes[place], terms, uff.cutoff + uff.skin)
        first = not self.pairs
        self.pairs = [pairs[place] for place in range(len(self.ids))]
        self.batch.set_pairs(self.pairs)
        self.built_rows = torch.where(old[self.row_graph][:, None], self.search.trial, self.built_rows)
        before = deformation if first else self.built_deformation
        self.built_deformation = torch.where(old[:, None, None], deformation, before)

    def _finish(self, over: Bool[Tensor, " g"], num_steps: int) -> None:
        """Write down what is over, and go on with the rest."""
        positions, lattices, _ = self._deformed(self.search.best)
        points = np.split(positions.cpu().double().numpy(), np.cumsum([self.terms[k].num_atoms for k in self.ids])[:-1])
        boxes = lattices.cpu().double().numpy()
        for place in torch.nonzero(over).reshape(-1).tolist():
            index = self.ids[place]
            frac = points[place] @ np.linalg.inv(boxes[place])
            final = Structure(boxes[place], frac, self.structures[index].atomic_numbers)
            self.results[index] = Joined(final, num_steps)
        keep = ~over
        self.search.keep(keep)
        self.built_rows, self.built_deformation = self.built_rows[keep[self.row_graph]], self.built_deformation[keep]
        self.lattices, self.scales = self.lattices[keep], self.scales[keep]
        chosen = torch.nonzero(keep).reshape(-1).tolist()
        self.ids, self.pairs = [self.ids[k] for k in chosen], [self.pairs[k] for k in chosen]
        if self.ids:
            self._layout()
            self.batch = UffBatch.of([self.terms[k] for k in self.ids], self.uff)
            self.batch.set_pairs(self.pairs)
