"""Energy, forces and stress of many frameworks at once, in torch."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from matgen.crystal.structure import Structure
from matgen.relaxation.uff_bonded import (
    angle_energy,
    bond_energy,
    cosine_polynomial,
    improper_energy,
    torsion_energy,
)
from matgen.relaxation.uff_pairs import PairList, find_pairs, lennard_jones, pair_constants
from matgen.relaxation.uff_terms import UffTerms
from matgen.shapes import Float, Int

__all__ = ["TERMS", "UffAnswer", "UffBatch", "UffConfig", "energy_forces_stress"]

_BLOCK = 16384  # pairs at a time on a CPU: their temporaries stay in cache, which is twice as fast
TERMS = ("bond", "angle", "torsion", "improper", "vdw")


@dataclass(frozen=True, kw_only=True)
class UffConfig:
    """cutoff Å of the van der Waals energy, which is shifted to zero there, without a tail correction.

    skin Å: neighbour lists reach this much further and are made anew when an atom may have crossed it.
    device: "cpu" or "cuda". dtype: "float64", or "float32" where speed on a GPU matters more than digits.
    bump: 0 for UFF itself; above, atoms that are not bonded can pass through each other (see `lennard_jones`).
    """

    cutoff: float = 12.5
    skin: float = 1.0
    device: str = "cpu"
    dtype: str = "float64"
    bump: float = 0.0


@dataclass(frozen=True, eq=False)
class UffAnswer:
    """energies: kcal/mol by name of the term. forces: kcal/mol/Å, [n, 3]. stress: (1/V) dE/dstrain, kcal/mol/Å^3."""

    energies: dict[str, float]
    forces: np.ndarray
    stress: np.ndarray

    @property
    def energy(self) -> float:
        """kcal/mol per cell."""
        return sum(self.energies.values())


def energy_forces_stress(
    structures: Sequence[Structure], terms: Sequence[UffTerms], config: UffConfig | None = None
) -> list[UffAnswer]:
    """UFF4MOF energies, forces and stresses of a batch of frameworks.

    Args:
        structures: any cells; coordinates need not be wrapped, but must fit the images of the bonds.
        terms: one per structure, from `uff_terms`.
        config: cutoff, device, precision.
    """
    if not structures:
        return []
    config = config or UffConfig()
    batch = UffBatch.of(terms, config)
    positions, lattices = batch.tensors(structures)
    reach = config.cutoff
    pairs = [find_pairs(s.cart_coords, s.lattice, t, reach) for s, t in zip(structures, terms, strict=True)]
    batch.set_pairs(pairs)
    energies, gradient, virial = batch.evaluate(positions, lattices)
    forces = np.split(-gradient.cpu().double().numpy(), np.cumsum([s.num_atoms for s in structures])[:-1])
    by_term = energies.cpu().double().numpy()
    stress = virial.cpu().double().numpy()
    return [
        UffAnswer(dict(zip(TERMS, by_term[:, k].tolist(), strict=True)), forces[k], stress[k] / s.volume)
        for k, s in enumerate(structures)
    ]


@dataclass(eq=False)
class UffBatch:
    """Terms of several frameworks on one device; half bonds are numbered through: all forward ones, then all back."""

    terms: list[UffTerms]
    config: UffConfig
    graph_index: Int[Tensor, " n"]
    bond_ends: Int[Tensor, "2 b"]
    bond_image: Float[Tensor, "b 3"]
    bond_constants: Float[Tensor, "b 2"]
    angle_halves: Int[Tensor, "a 2"]
    angle_coefficients: Float[Tensor, "a 5"]
    torsion_halves: Int[Tensor, "t 3"]
    torsion_constants: Float[Tensor, "t 2"]
    torsion_fold: Int[Tensor, " t"]
    improper_halves: Int[Tensor, "m 3"]
    improper_constants: Float[Tensor, "m 4"]
    vdw_distance: Float[Tensor, " n"]
    vdw_depth: Float[Tensor, " n"]
    graphs: dict[str, Tensor]

    @property
    def num_graphs(self) -> int:
        return len(self.terms)

    @classmethod
    def of(cls, terms: Sequence[UffTerms], config: UffConfig) -> "UffBatch":
        """A batch without pairs; `set_pairs` comes before `evaluate`."""
        device, dtype = torch.device(config.device), getattr(torch, config.dtype)
        atoms = _offsets([t.num_atoms for t in terms])
        counts = [t.bonds.num_bonds for t in terms]
        halves = [_renumber(b, start, sum(counts)) for b, start in zip(counts, _offsets(counts), strict=False)]

        def real(name: str) -> Tensor:
            return torch.as_tensor(np.concatenate([getattr(t, name) for t in terms]), dtype=dtype, device=device)

        def whole(parts: list[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.concatenate(parts), dtype=torch.int64, device=device)

        def half(name: str) -> Tensor:
            return whole([table[getattr(t, name)] for t, table in zip(terms, halves, strict=True)])

        def graph(name: str) -> Tensor:
            return whole([np.full(len(getattr(t, name)), k) for k, t in enumerate(terms)])

        ends = [np.stack([t.bonds.first, t.bonds.second]) + a for t, a in zip(terms, atoms, strict=False)]
        image = np.concatenate([t.bonds.image.reshape(-1, 3) for t in terms])
        names = {"bond": "bond_length", "angle": "angle_fold", "torsion": "torsion_fold", "improper": "improper_halves"}
        return cls(
            list(terms),
            config,
            graph("vdw_depth"),
            torch.as_tensor(np.concatenate(ends, axis=1), dtype=torch.int64, device=device),
            torch.as_tensor(image, dtype=dtype, device=device),
            torch.stack([real("bond_stiffness"), real("bond_length")], dim=1),
            half("angle_halves"),
            cosine_polynomial(real("angle_stiffness"), whole([t.angle_fold for t in terms]), real("angle_natural")),
            half("torsion_halves"),
            torch.stack([real("torsion_barrier"), real("torsion_sign")], dim=1),
            whole([t.torsion_fold for t in terms]),
            half("improper_halves"),
            real("improper_constants"),
            real("vdw_distance"),
            real("vdw_depth"),
            {term: graph(name) for term, name in names.items()},
        )

    def tensors(self, structures: Sequence[Structure]) -> tuple[Float[Tensor, "n 3"], Float[Tensor, "g 3 3"]]:
        """Cartesian positions and lattices on the batch's device."""
        positions = torch.as_tensor(np.concatenate([s.cart_coords for s in structures]))
        lattices = torch.as_tensor(np.stack([s.lattice for s in structures]))
        return positions.to(self.vdw_depth), lattices.to(self.vdw_depth)

    def set_pairs(self, pairs: Sequence[PairList]) -> None:
        """Take the non-bonded pairs of every framework."""
        device, dtype = self.vdw_depth.device, self.vdw_depth.dtype
        atoms = _offsets([t.num_atoms for t in self.terms])
        sites = _offsets([len(p.site_atom) for p in pairs])

        def whole(parts: list[np.ndarray]) -> Tensor:
            return torch.as_tensor(np.concatenate(parts), device=device)

        self.pair_first = whole([p.first + a for p, a in zip(pairs, atoms, strict=False)])
        self.pair_second = whole([p.second + s for p, s in zip(pairs, sites, strict=False)])
        self.site_atom = whole([p.site_atom + a for p, a in zip(pairs, atoms, strict=False)])
        self.site_image = whole([p.site_image for p in pairs]).to(dtype)
        self.pair_graph = self.graph_index[self.pair_first]
        size = _BLOCK if device.type == "cpu" else max(1, len(self.pair_first))
        self.pair_blocks = [slice(k, k + size) for k in range(0, len(self.pair_first), size)]
        self.pair_constants = pair_constants(
            self.vdw_distance,
            self.vdw_depth,
            self.pair_first,
            self.site_atom[self.pair_second],
            self.config.cutoff,
        )

    def evaluate(
        self, positions: Float[Tensor, "n 3"], lattices: Float[Tensor, "g 3 3"]
    ) -> tuple[Float[Tensor, "5 g"], Float[Tensor, "n 3"], Float[Tensor, "g 3 3"]]:
        """Energies by term (order of TERMS), gradient of their sum and dE/dstrain.

        Args:
            positions: Cartesian, Å.
            lattices: rows, Å.

        Returns:
            kcal/mol; kcal/mol/Å; kcal/mol.
        """
        energies = positions.new_zeros(len(TERMS), self.num_graphs)
        gradient = torch.zeros_like(positions)
        virial = self._bonded(positions, lattices, energies, gradient)
        virial = virial + self._vdw(positions, lattices, energies, gradient)
        return energies, gradient, (virial + virial.transpose(1, 2)) / 2

    def _bonded(self, positions: Tensor, lattices: Tensor, energies: Tensor, gradient: Tensor) -> Tensor:
        first, second = self.bond_ends
        graph = self.graphs["bond"]
        shift = torch.einsum("bi,bij->bj", self.bond_image, lattices[graph])
        vectors = positions[second] + shift - positions[first]
        halves = torch.cat([vectors, -vectors])
        pull = torch.zeros_like(halves)
        energy, along = bond_energy(vectors, *self.bond_constants.unbind(1))
        energies[0].index_add_(0, graph, energy)
        one, two = self.angle_halves.unbind(1)
        energy, by_one, by_two = angle_energy(halves[one], halves[two], self.angle_coefficients)
        energies[1].index_add_(0, self.graphs["angle"], energy)
        pull.index_add_(0, one, by_one).index_add_(0, two, by_two)
        chain = self.torsion_halves.unbind(1)
        barrier, sign = self.torsion_constants.unbind(1)
        first_half, middle, last = (halves[h] for h in chain)
        energy, *by_chain = torsion_energy(first_half, middle, last, barrier, self.torsion_fold, sign)
        energies[2].index_add_(0, self.graphs["torsion"], energy)
        for h, by in zip(chain, by_chain, strict=True):
            pull.index_add_(0, h, by)
        energy, by_spokes = improper_energy(halves[self.improper_halves], self.improper_constants)
        energies[3].index_add_(0, self.graphs["improper"], energy)
        pull.index_add_(0, self.improper_halves.reshape(-1), by_spokes.reshape(-1, 3))
        num = len(vectors)
        along = along + pull[:num] - pull[num:]
        gradient.index_add_(0, second, along).index_add_(0, first, -along)
        virial = lattices.new_zeros(lattices.shape)
        return virial.index_add_(0, graph, vectors[:, :, None] * along[:, None, :])

    def _vdw(self, positions: Tensor, lattices: Tensor, energies: Tensor, gradient: Tensor) -> Tensor:
        graph = self.graph_index[self.site_atom]
        sites = positions[self.site_atom] + torch.einsum("si,sij->sj", self.site_image, lattices[graph])
        # one row per component: torch gathers and scatters long rows several times faster than triples
        atom_rows, site_rows = positions.T.contiguous(), sites.T.contiguous()
        pull_atoms, pull_sites = torch.zeros_like(atom_rows), torch.zeros_like(site_rows)
        for pairs in self.pair_blocks:
            self._vdw_block(pairs, atom_rows, site_rows, pull_atoms, pull_sites, energies[4])
        on_atoms, on_sites = pull_atoms.T, pull_sites.T
        gradient.sub_(on_atoms).index_add_(0, self.site_atom, on_sites)
        virial = lattices.new_zeros(lattices.shape)
        virial.index_add_(0, graph, sites[:, :, None] * on_sites[:, None, :])
        return virial.index_add_(0, self.graph_index, -positions[:, :, None] * on_atoms[:, None, :])

    def _vdw_block(
        self, pairs: slice, atoms: Tensor, sites: Tensor, pull_atoms: Tensor, pull_sites: Tensor, energies: Tensor
    ) -> None:
        """Add the energies and the pulls of some pairs."""
        first, second = self.pair_first[pairs], self.pair_second[pairs]
        vectors = [
            site.index_select(0, second) - atom.index_select(0, first) for atom, site in zip(atoms, sites, strict=True)
        ]
        square = vectors[0] * vectors[0] + vectors[1] * vectors[1] + vectors[2] * vectors[2]
        distance_6, depth, shift = (constant[pairs] for constant in self.pair_constants)
        energy, along = lennard_jones(square, distance_6, depth, shift, self.config.cutoff, self.config.bump)
        energies.index_add_(0, self.pair_graph[pairs], energy)
        for k, component in enumerate(vectors):
            pull = along * component
            pull_sites[k].index_add_(0, second, pull)
            pull_atoms[k].index_add_(0, first, pull)


def _offsets(counts: Sequence[int]) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)


def _renumber(num_bonds: int, start: int, total: int) -> np.ndarray:
    """From a framework's half bonds to the batch's."""
    forward = np.arange(num_bonds) + start
    return np.concatenate([forward, forward + total])
