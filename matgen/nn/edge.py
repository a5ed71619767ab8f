"""Messages between all ordered pairs of a crystal's representatives, as a plain formula and in a factorised form."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from matgen.nn.layout import PairLayout


@dataclass(frozen=True)
class PairInputs:
    """What all edge layers share in one forward pass.

    Args:
        layout: order of nodes and pairs.
        lattice_k: `[B, 6]`, noisy and standardised.
        features: `[E, G]`, of the ordered pairs (i, j), i slower than j; no gradient.
    """

    layout: PairLayout
    lattice_k: Float[Tensor, "B 6"]
    features: Float[Tensor, "E G"]


class EdgeLayer(nn.Module):
    """Mean over j of SiLU(W2 SiLU(W1 [h_i, h_j, k, psi_ij])).

    W1 is held in blocks. The plain form puts them together and multiplies the concatenated input of every pair; the
    factorised one applies the blocks of h_i, h_j and k before the pairs are made, at M instead of M^2 rows.

    Args:
        dim: length of node features and messages.
        lattice_dim: length of the lattice description.
        pair_dim: length of the pair features.
        form: which of the two.
    """

    def __init__(self, dim: int, lattice_dim: int, pair_dim: int, form: Literal["fast", "plain"]) -> None:
        super().__init__()
        self.form = form
        first = nn.Linear(2 * dim + lattice_dim + pair_dim, dim)  # initialised as the one map that it is
        blocks = first.weight.detach().split([2 * dim, lattice_dim, pair_dim], dim=1)
        self.nodes = nn.Parameter(torch.cat(blocks[0].chunk(2, dim=1), dim=0))
        self.lattice = nn.Parameter(blocks[1].clone())
        self.pair = nn.Parameter(blocks[2].clone())
        self.bias = nn.Parameter(first.bias.detach().clone())
        self.second = nn.Linear(dim, dim)

    def forward(self, nodes: Float[Tensor, "N D"], pairs: PairInputs) -> Float[Tensor, "N D"]:
        """Mean message that every node receives."""
        before = self._plain(nodes, pairs) if self.form == "plain" else self._factorised(nodes, pairs)
        messages = functional.silu(self.second(functional.silu(before)))
        return pairs.layout.mean_over_neighbours(messages)

    def _plain(self, nodes: Float[Tensor, "N D"], pairs: PairInputs) -> Float[Tensor, "E D"]:
        receiver, sender = self.nodes.chunk(2, dim=0)
        weight = torch.cat([receiver, sender, self.lattice, self.pair], dim=1)
        ends = []
        per_node = pairs.lattice_k[pairs.layout.crystal_index]
        for part, lattice in zip(pairs.layout.node_views(nodes), pairs.layout.node_views(per_node), strict=True):
            orbits = part.shape[1]
            to = part[:, :, None].expand(-1, -1, orbits, -1)
            lattices = lattice[:, :, None].expand(-1, -1, orbits, -1)
            ends.append(torch.cat([to, part[:, None].expand_as(to), lattices], dim=-1).flatten(0, 2))
        return functional.linear(torch.cat([torch.cat(ends), pairs.features], dim=-1), weight, self.bias)

    def _factorised(self, nodes: Float[Tensor, "N D"], pairs: PairInputs) -> Float[Tensor, "E D"]:
        layout = pairs.layout
        receiver, sender = functional.linear(nodes, self.nodes).chunk(2, dim=-1)
        crystal = functional.linear(pairs.lattice_k, self.lattice, self.bias)
        receiver = receiver + crystal[layout.crystal_index]
        outer = [
            (to[:, :, None] + sent[:, None]).flatten(0, 2)
            for to, sent in zip(layout.node_views(receiver), layout.node_views(sender), strict=True)
        ]
        return torch.addmm(torch.cat(outer) if len(outer) > 1 else outer[0], pairs.features, self.pair.t())
