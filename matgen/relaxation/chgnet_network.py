"""CHGNet's forward pass on reduced graphs, with its first layers taken apart.

The formula is CHGNet's. A first linear layer on [a, b, c] laid side by side is W_a a + W_b b + W_c c: the parts are
computed once per atom or bond and gathered, not once per message. Only the energy is differentiated, and only with
respect to the bond vectors; no second-order graph is kept.

Source: Deng et al., Nat. Mach. Intell. 5, 1031 (2023), equations 1-9 of its Methods.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from matgen.relaxation.chgnet_graph import ATOM_CUTOFF, BOND_CUTOFF, ReducedGraph

if TYPE_CHECKING:
    from chgnet.model import CHGNet
    from chgnet.model.basis import RadialBessel
    from chgnet.model.functions import GatedMLP


class SplitGatedMLP(nn.Module):
    """A gated perceptron, its first layer split over the parts of its input: silu(LN(core)) * sigmoid(LN(gate)).

    Args:
        gated: CHGNet's module; its weights are shared, not copied.
        widths: widths of the parts, in the order in which CHGNet lays them side by side.
    """

    def __init__(self, gated: "GatedMLP", widths: tuple[int, ...]) -> None:
        super().__init__()
        core: list[nn.Linear] = [layer for layer in gated.mlp_core.layers if isinstance(layer, nn.Linear)]
        gate: list[nn.Linear] = [layer for layer in gated.mlp_gate.layers if isinstance(layer, nn.Linear)]
        first = torch.cat([core[0].weight, gate[0].weight]).detach()
        self.parts = nn.ParameterList([nn.Parameter(part.clone(), False) for part in first.split(widths, dim=1)])
        self.bias = nn.Parameter(torch.cat([core[0].bias, gate[0].bias]).detach().clone(), False)
        self.core: nn.Linear | None = core[1] if len(core) > 1 else None
        self.gate: nn.Linear | None = gate[1] if len(gate) > 1 else None
        norms: Any = (gated.bn1, gated.bn2)
        self.core_norm: nn.LayerNorm = norms[0]
        self.gate_norm: nn.LayerNorm = norms[1]

    def part(self, index: int, x: Tensor) -> Tensor:
        """The contribution of one part of the input to the first layer, both branches side by side."""
        return x @ self.parts[index].T

    def forward(self, first: Tensor) -> Tensor:
        """The rest of the perceptron, from the sum of the parts."""
        first = first + self.bias
        if self.core is not None and self.gate is not None:
            core, gate = functional.silu(first).chunk(2, dim=1)
            core, gate = self.core(core), self.gate(gate)
        else:
            core, gate = first.chunk(2, dim=1)
        return functional.silu(self.core_norm(core)) * torch.sigmoid(self.gate_norm(gate))


class ReducedCHGNet(nn.Module):
    """CHGNet's energy of a batch of reduced graphs.

    Args:
        model: the published network, in the architecture of version 0.3.0.
    """

    def __init__(self, model: "CHGNet") -> None:
        super().__init__()
        atom, bond, angle = 64, 64, 64
        self.atom_embedding = model.atom_embedding.embedding
        composition: Any = model.composition_model
        self.atom_energy: nn.Linear = composition.fc
        self.radial_atom = model.bond_basis_expansion.rbf_expansion_ag
        self.radial_bond = model.bond_basis_expansion.rbf_expansion_bg
        self.bond_embedding = model.bond_embedding
        self.bond_weights_atom = model.bond_weights_ag
        self.bond_weights_bond = model.bond_weights_bg
        self.angle_frequencies = model.angle_basis_expansion.fourier_expansion.frequencies
        self.angle_embedding = model.angle_embedding
        atom_layers: Any = model.atom_conv_layers
        bond_layers: Any = model.bond_conv_layers
        angle_layers: Any = model.angle_layers
        wide = (bond, bond, angle, atom)
        self.atom_mlps = nn.ModuleList(SplitGatedMLP(layer.twoBody_atom, (atom, bond, atom)) for layer in atom_layers)
        self.atom_out = nn.ModuleList(layer.mlp_out for layer in atom_layers)
        self.bond_mlps = nn.ModuleList(SplitGatedMLP(layer.twoBody_bond, wide) for layer in bond_layers)
        self.bond_out = nn.ModuleList(layer.mlp_out for layer in bond_layers)
        self.angle_mlps = nn.ModuleList(SplitGatedMLP(layer.twoBody_bond, wide) for layer in angle_layers)
        norm: Any = model.readout_norm
        self.readout_norm: nn.LayerNorm = norm
        self.readout = model.mlp
        self.requires_grad_(False)
        self.eval()

    def evaluate(
        self, graph: ReducedGraph, vectors: np.ndarray, gradient: bool
    ) -> tuple[np.ndarray, np.ndarray | None]:
        """Energies of the crystals of a graph, and their gradient with respect to the bond vectors.

        Args:
            graph: one or more crystals.
            vectors: r_j - r_i of the graph's vectors, Å.
            gradient: whether to differentiate.

        Returns:
            Energies, eV per cell; gradient, eV/Å, or None.
        """
        weight = self.bond_embedding.weight
        leaf = torch.as_tensor(vectors, dtype=weight.dtype, device=weight.device).requires_grad_(gradient)
        with torch.set_grad_enabled(gradient):
            energies = self(_Indices(graph, weight.device, weight.dtype), leaf)
        out = energies.detach().double().cpu().numpy()
        if not gradient:
            return out, None
        (slope,) = torch.autograd.grad(energies.sum(), leaf)
        return out, slope.double().cpu().numpy()

    def forward(self, graph: "_Indices", vectors: Float[Tensor, "U 3"]) -> Float[Tensor, "B"]:
        """Energy of each crystal, eV per cell."""
        lengths = vectors.norm(dim=1)
        bond_lengths = lengths[graph.bond_vector]
        basis = _radial(self.radial_atom, bond_lengths, ATOM_CUTOFF)
        bonds = self.bond_embedding(basis)
        atom_weights = self.bond_weights_atom(basis)[graph.edge_bond] * graph.edge_weight
        bond_weights = self.bond_weights_bond(_radial(self.radial_bond, bond_lengths[graph.short_bond], BOND_CUTOFF))
        angle_weights = bond_weights[graph.angle_a] * bond_weights[graph.angle_b] * graph.angle_weight
        angles = self.angle_embedding(self._angle_basis(vectors / lengths[:, None], graph))
        atoms = self.atom_embedding(graph.node_number - 1)
        last = len(self.atom_mlps) - 1
        for k in range(last):
            atoms = self._update_atoms(k, graph, atoms, bonds, atom_weights)
            if len(angles) == 0:
                continue
            bonds = self._update_bonds(k, graph, atoms, bonds, angles, angle_weights)
            if k < last - 1:  # nothing reads the angles after the last update of the bonds
                angles = angles + self._angle_messages(self.angle_mlps[k], graph, atoms, bonds, angles)
        atoms = self._update_atoms(last, graph, atoms, bonds, atom_weights)
        energies = self.readout(self.readout_norm(atoms)).squeeze(1)
        energies = (energies + self.atom_energy.weight[0, graph.node_number - 1]) * graph.node_count
        return energies.new_zeros(graph.num_graphs).index_add(0, graph.node_graph, energies)

    def _angle_basis(self, unit: Tensor, graph: "_Indices") -> Tensor:
        # the factor keeps acos away from its poles; it is CHGNet's
        cosine = (unit[graph.angle_vector_a] * unit[graph.angle_vector_b]).sum(1) * graph.angle_sign * (1 - 1e-6)
        phase = torch.outer(torch.acos(cosine), self.angle_frequencies)
        constant = phase.new_full((len(phase), 1), 1 / math.sqrt(2))
        return torch.cat([constant, phase.sin(), phase.cos()], dim=1) / math.sqrt(math.pi)

    def _update_atoms(self, k: int, graph: "_Indices", atoms: Tensor, bonds: Tensor, weights: Tensor) -> Tensor:
        mlp = self.atom_mlps[k]
        assert isinstance(mlp, SplitGatedMLP)
        first = mlp.part(0, atoms)[graph.edge_node] + mlp.part(1, bonds)[graph.edge_bond]
        messages = mlp(first + mlp.part(2, atoms)[graph.edge_neighbor]) * weights
        total = torch.zeros_like(atoms).index_add(0, graph.edge_node, messages)
        return atoms + self.atom_out[k](total)

    def _update_bonds(
        self, k: int, graph: "_Indices", atoms: Tensor, bonds: Tensor, angles: Tensor, weights: Tensor
    ) -> Tensor:
        messages = self._angle_messages(self.bond_mlps[k], graph, atoms, bonds, angles) * weights
        total = messages.new_zeros(len(graph.short_bond), bonds.shape[1]).index_add(0, graph.angle_a, messages)
        return bonds.index_add(0, graph.short_bond, self.bond_out[k](total))

    def _angle_messages(
        self, mlp: nn.Module, graph: "_Indices", atoms: Tensor, bonds: Tensor, angles: Tensor
    ) -> Tensor:
        assert isinstance(mlp, SplitGatedMLP)
        short = bonds[graph.short_bond]
        first = mlp.part(0, short)[graph.angle_a] + mlp.part(1, short)[graph.angle_b]
        return mlp(first + mlp.part(2, angles) + mlp.part(3, atoms)[graph.angle_node])


class _Indices:
    """The arrays of a graph as tensors on the network's device."""

    def __init__(self, graph: ReducedGraph, device: torch.device, dtype: torch.dtype) -> None:
        def index(x: np.ndarray) -> Tensor:
            return torch.from_numpy(np.ascontiguousarray(x, dtype=np.int64)).to(device)

        def real(x: np.ndarray) -> Tensor:
            return torch.as_tensor(x, dtype=dtype, device=device)

        self.num_graphs = graph.num_graphs
        self.node_number, self.node_graph = index(graph.node_number), index(graph.node_graph)
        self.node_count = real(graph.node_count)
        self.bond_vector, self.short_bond = index(graph.bond_vector), index(graph.short_bond)
        self.edge_node, self.edge_neighbor = index(graph.edge_node), index(graph.edge_neighbor)
        self.edge_bond, self.edge_weight = index(graph.edge_bond), real(graph.edge_weight)[:, None]
        self.angle_node, self.angle_a, self.angle_b = map(index, (graph.angle_node, graph.angle_a, graph.angle_b))
        self.angle_vector_a, self.angle_vector_b = index(graph.angle_vector_a), index(graph.angle_vector_b)
        self.angle_sign, self.angle_weight = real(graph.angle_sign), real(graph.angle_weight)[:, None]


def _radial(basis: "RadialBessel", lengths: Tensor, cutoff: float) -> Tensor:
    """Bessel functions under CHGNet's smooth envelope."""
    p = basis.smooth_cutoff.p
    x = lengths[:, None] / cutoff
    envelope = 1 - (p + 1) * (p + 2) / 2 * x**p + p * (p + 2) * x ** (p + 1) - p * (p + 1) / 2 * x ** (p + 2)
    return math.sqrt(2 / cutoff) * torch.sin(basis.frequencies * x) / lengths[:, None] * envelope * (x < 1)
