"""CHGNet as a potential: its published weights, our graph and our forward pass.

CHGNet 0.3.0 is fitted to GGA and GGA+U energies of the Materials Project with the MaterialsProject2020Compatibility
corrections applied (chgnet's README, "Notes for Training"): its energies are *corrected* PBE energies in eV, on the
scale of the Materials Project's own hull. Its stress is fitted in GPa; here it is eV/Å^3 like every potential's.
"""

import contextlib
import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError
from matgen.relaxation.chgnet_graph import ATOM_CUTOFF, ReducedGraph, build_graph, join_graphs
from matgen.relaxation.chgnet_network import ReducedCHGNet
from matgen.relaxation.potential import EnergyForcesStress
from matgen.relaxation.symmetric import SiteSymmetryMap

if TYPE_CHECKING:
    from chgnet.model import CHGNet

_log = logging.getLogger(__name__)

MAX_NUMBER = 94  # CHGNet embeds H to Pu
MIN_VOLUME_PER_ATOM = 1.0  # Å^3; the densest elements at ambient pressure have 5.7 (carbon), hydrogen in metals about 2
MIN_HEIGHT = 0.75  # Å between opposite faces of a cell: less makes the neighbour search run away


@dataclass(frozen=True, kw_only=True)
class CHGNetConfig:
    """model_name: "0.3.0" or "r2scan" (weights in chgnet's wheel). device: "cpu", "cuda" or "auto".

    max_messages: edges and angles that go through the network at once. On a CPU a small number keeps the work in cache.
    double: float64 instead of the float32 that CHGNet was trained in; for tests of derivatives.
    """

    model_name: str = "0.3.0"
    device: str = "auto"
    max_messages: int | None = None
    double: bool = False


class CHGNetPotential:
    """CHGNet behind the `Potential` interface, one thread per process recommended (torch.set_num_threads(1)).

    Args:
        config: which weights, where, how many at once.

    Raises:
        MissingDependencyError: chgnet is not installed.
    """

    def __init__(self, config: CHGNetConfig | None = None) -> None:
        self.config = config or CHGNetConfig()
        device = self.config.device
        if device == "auto":
            device = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = torch.device(device)
        self.dtype = torch.float64 if self.config.double else torch.float32
        model = load_chgnet(self.config.model_name)
        self.network = ReducedCHGNet(model).to(device=self.device, dtype=self.dtype)
        self.max_messages = self.config.max_messages or (6_000 if self.device.type == "cpu" else 400_000)

    @property
    def name(self) -> str:
        return "chgnet"

    @property
    def version(self) -> str:
        return self.config.model_name

    def energy_forces_stress(
        self,
        structures: Sequence[Structure],
        symmetry: Sequence[SiteSymmetryMap | None] | None = None,
        forces: bool = True,
    ) -> list[EnergyForcesStress]:
        """See `Potential`. Without forces the network's backward pass is left out."""
        symmetry = symmetry if symmetry is not None else [None] * len(structures)
        answers: list[EnergyForcesStress | None] = [None] * len(structures)
        waiting: list[tuple[int, ReducedGraph]] = []
        load = 0
        for index, (structure, operations) in enumerate(zip(structures, symmetry, strict=True)):
            graph = _graph_or_failure(structure, operations)
            if isinstance(graph, EnergyForcesStress):
                answers[index] = graph
                continue
            if waiting and load + graph.num_messages > self.max_messages:
                self._answer(waiting, structures, answers, forces)
                waiting, load = [], 0
            waiting.append((index, graph))
            load += graph.num_messages
        if waiting:
            self._answer(waiting, structures, answers, forces)
        return [answer for answer in answers if answer is not None]

    def _answer(
        self,
        waiting: list[tuple[int, ReducedGraph]],
        structures: Sequence[Structure],
        answers: list[EnergyForcesStress | None],
        forces: bool,
    ) -> None:
        graph = join_graphs([graph for _, graph in waiting])
        chosen = [structures[index] for index, _ in waiting]
        positions = np.concatenate([s.frac_coords @ s.lattice for s in chosen])
        lattices = np.stack([s.lattice for s in chosen])
        images = np.einsum("vi,vij->vj", graph.vector_image, lattices[graph.vector_graph])
        vectors = positions[graph.vector_j] + images - positions[graph.vector_i]
        energies, gradient = self.network.evaluate(graph, vectors, gradient=forces)
        splits = np.cumsum([s.num_atoms for s in chosen])[:-1]
        if gradient is None:
            all_forces = np.full((graph.num_atoms, 3), np.nan)
            virial = np.full((len(chosen), 3, 3), np.nan)
        else:
            all_forces, virial = _forces_and_virial(graph, vectors, gradient)
        for k, force in enumerate(np.split(all_forces, splits)):
            index, energy = waiting[k][0], float(energies[k])
            if not np.isfinite(energy):
                reason = "the potential's energy is not finite"
                answers[index] = EnergyForcesStress.failed(len(force), "non_finite", reason)
            else:
                answers[index] = EnergyForcesStress(energy, force, virial[k] / chosen[k].volume)


def load_chgnet(model_name: str) -> "CHGNet":
    """The published CHGNet with the weights that its wheel carries.

    Raises:
        MissingDependencyError: chgnet is not installed.
    """
    try:
        from chgnet.model import CHGNet
    except ImportError as error:
        raise MissingDependencyError("relaxation needs chgnet: pip install 'matgen[relax]'") from error
    with contextlib.redirect_stdout(io.StringIO()):  # it prints its size
        return CHGNet.load(model_name=model_name, use_device="cpu", verbose=False)


def _forces_and_virial(graph: ReducedGraph, vectors: np.ndarray, gradient: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chain rule from the bond vectors r_j - r_i to the atoms and to a strain of everything."""
    forces = np.zeros((graph.num_atoms, 3))
    np.add.at(forces, graph.vector_i, gradient)
    np.add.at(forces, graph.vector_j, -gradient)
    virial = np.zeros((graph.num_graphs, 3, 3))
    np.add.at(virial, graph.vector_graph, vectors[:, :, None] * gradient[:, None, :])
    return forces, (virial + np.swapaxes(virial, 1, 2)) / 2


def _graph_or_failure(structure: Structure, symmetry: SiteSymmetryMap | None) -> ReducedGraph | EnergyForcesStress:
    problem = _unfit(structure)
    if problem is not None:
        return EnergyForcesStress.failed(structure.num_atoms, *problem)
    graph = build_graph(structure, symmetry)
    if len(np.unique(graph.edge_node)) < len(graph.node_number):
        reason = f"an atom has no neighbour within {ATOM_CUTOFF} Å: the potential is blind to it"
        return EnergyForcesStress.failed(structure.num_atoms, "isolated_atom", reason)
    return graph


def _unfit(structure: Structure) -> tuple[str, str] | None:
    """Status and reason of a structure that must not reach the neighbour search, or None."""
    lattice, numbers = structure.lattice, structure.atomic_numbers
    if len(numbers) == 0:
        return "empty", "no atoms"
    if not (np.isfinite(lattice).all() and np.isfinite(structure.frac_coords).all()):
        return "non_finite", "a coordinate or a lattice entry is not finite"
    if numbers.min() < 1 or numbers.max() > MAX_NUMBER:
        return "unsupported_element", f"CHGNet knows Z from 1 to {MAX_NUMBER}, not {numbers.min()}..{numbers.max()}"
    volume = abs(float(np.linalg.det(lattice)))
    if volume / len(numbers) < MIN_VOLUME_PER_ATOM:
        return "too_dense", f"{volume / len(numbers):.3g} Å^3 per atom, less than {MIN_VOLUME_PER_ATOM}"
    faces = np.linalg.norm(np.cross(lattice[[1, 2, 0]], lattice[[2, 0, 1]]), axis=1)
    height = float((volume / faces).min())
    if height < MIN_HEIGHT:
        return "degenerate_cell", f"{height:.3g} Å between opposite faces of the cell, less than {MIN_HEIGHT}"
    return None
