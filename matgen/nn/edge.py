"""Messages between all ordered pairs of a crystal's representatives, as a plain formula and in a factorised form."""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class PairInputs:
    """What all edge layers share in one forward pass.

    Args:
        mask: `[B, M]`, True for orbits.
        lattice_k: `[B, 6]`, noisy and standardised.
        features: `[B, M, M, G]`, of the ordered pairs (i, j); no gradient.
    """

    mask: Bool[Tensor, "B M"]
    lattice_k: Float[Tensor, "B 6"]
    features: Float[Tensor, "B M M G"]


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

    def forward(self, nodes: Float[Tensor, "B M D"], pairs: PairInputs) -> Float[Tensor, "B M D"]:
        """Mean message that every node receives."""
        before = self._plain(nodes, pairs) if self.form == "plain" else self._factorised(nodes, pairs)
        messages = functional.silu(self.second(functional.silu(before)))
        return _mean_over_neighbours(messages, pairs.mask)

    def _plain(self, nodes: Float[Tensor, "B M D"], pairs: PairInputs) -> Float[Tensor, "B M M D"]:
        orbits = nodes.shape[1]
        receiver, sender = self.nodes.chunk(2, dim=0)
        weight = torch.cat([receiver, sender, self.lattice, self.pair], dim=1)
        inputs = [
            nodes[:, :, None].expand(-1, -1, orbits, -1),
            nodes[:, None].expand(-1, orbits, -1, -1),
            pairs.lattice_k[:, None, None].expand(-1, orbits, orbits, -1),
            pairs.features,
        ]
        return functional.linear(torch.cat(inputs, dim=-1), weight, self.bias)

    def _factorised(self, nodes: Float[Tensor, "B M D"], pairs: PairInputs) -> Float[Tensor, "B M M D"]:
        receiver, sender = functional.linear(nodes, self.nodes).chunk(2, dim=-1)
        crystal = functional.linear(pairs.lattice_k, self.lattice, self.bias)
        outer = (receiver + crystal[:, None])[:, :, None] + sender[:, None]
        return functional.linear(pairs.features, self.pair) + outer


def _mean_over_neighbours(messages: Float[Tensor, "B M M D"], mask: Bool[Tensor, "B M"]) -> Float[Tensor, "B M D"]:
    share = mask.to(messages.dtype) / mask.sum(1, keepdim=True).clamp(min=1).to(messages.dtype)
    return torch.einsum("bijd,bj->bid", messages, share)
