"""Transformer layers over sets of different sizes, with or without something known of each pair of members."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from matgen.nn.gemnet.layers import Perceptron, rows_of, sum_by


@dataclass(frozen=True, eq=False)
class Sets:
    """Which rows are members of which set.

    Attributes:
        index: int64[N], set of each row, ascending.
        there: bool[B, Kmax], which places of the padded sets are rows.
        both: bool[B, Kmax, Kmax], which pairs of places are pairs of rows.
        pairs: int64[2, P], both rows of all ordered pairs within a set, each with itself too, set by set.
    """

    index: Int[Tensor, "N"]
    there: Bool[Tensor, "B K"]
    both: Bool[Tensor, "B K K"]
    pairs: Int[Tensor, "2 P"]

    @classmethod
    def of(cls, index: Int[Tensor, "N"], sizes: Int[Tensor, "B"]) -> "Sets":
        """The sets of these sizes."""
        there = torch.arange(int(sizes.max()), device=sizes.device) < sizes[:, None]
        row = torch.zeros_like(there, dtype=torch.int64)
        row[there] = torch.arange(len(index), device=sizes.device)
        both = there[:, :, None] & there[:, None, :]
        pairs = torch.stack([row[:, :, None].expand_as(both)[both], row[:, None, :].expand_as(both)[both]])
        return cls(index, there, both, pairs)

    def padded(self, values: Float[Tensor, "N D"]) -> Float[Tensor, "B K D"]:
        """Rows in their places, 0 elsewhere."""
        out = values.new_zeros(*self.there.shape, values.shape[1])
        out[self.there] = values
        return out

    def padded_pairs(self, values: Float[Tensor, "P D"], fill: float) -> Float[Tensor, "B K K D"]:
        """Pairs in their places."""
        out = values.new_full((*self.both.shape, values.shape[1]), fill)
        out[self.both] = values
        return out


class SetLayer(nn.Module):
    """Attention among the members of a set, then a layer for each, both shifted and scaled by the set's condition.

    Where pairs hold something, it is added to what they attend with, is collected with what they attend to, and is
    updated from both members.

    Args:
        width: of the members.
        num_heads: of attention; divides width.
        condition_dim: of a set's condition.
        pair_dim: of the pairs; 0: none.

    Source: Peebles and Xie (arXiv 2212.09748) for the condition; pairs as in Jumper et al., Nature 596, 583 (2021).
    """

    def __init__(self, width: int, num_heads: int, condition_dim: int, pair_dim: int = 0) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.attention_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.layer_norm = nn.LayerNorm(width, elementwise_affine=False)
        self.modulation = nn.Linear(condition_dim, 4 * width)
        self.qkv = nn.Linear(width, 3 * width)
        self.join = nn.Linear(width, width)
        self.mlp = Perceptron(width, 2 * width, width)
        self.pair = _PairUpdate(width, num_heads, pair_dim) if pair_dim else None
        for last in (self.modulation, self.join, self.mlp.layers[-1]):
            nn.init.zeros_(last.weight)  # type: ignore[arg-type]
            nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(
        self, h: Float[Tensor, "N W"], p: Float[Tensor, "P D"] | None, condition: Float[Tensor, "B C"], sets: Sets
    ) -> tuple[Float[Tensor, "N W"], Float[Tensor, "P D"] | None]:
        """Apply the layer to members and pairs."""
        scale, shift, scale_2, shift_2 = self.modulation(condition)[sets.index].chunk(4, dim=-1)
        h = h + self._attend(self.attention_norm(h) * (1 + scale) + shift, p, sets)
        h = h + self.mlp(self.layer_norm(h) * (1 + scale_2) + shift_2)
        return h, p if self.pair is None else self.pair(h, p, sets)

    def _attend(self, h: Tensor, p: Tensor | None, sets: Sets) -> Tensor:
        # Only attention sees padding: everything else is over the members that there are.
        q, k, v = sets.padded(self.qkv(h)).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        if self.pair is None:
            out = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=sets.there[:, None, None])
            return self.join(out.transpose(1, 2).flatten(2)[sets.there])
        bias = sets.padded_pairs(self.pair.bias(p), -torch.inf).permute(0, 3, 1, 2)
        bias = bias.masked_fill(~sets.there[:, None, :, None], 0.0)  # rows that are not there attend to anything
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias).softmax(-1)
        own = weights.permute(0, 2, 3, 1)[sets.both]
        out = self.join((weights @ v).transpose(1, 2).flatten(2)[sets.there])
        assert p is not None, "a layer with pairs needs them"
        return out + self.pair.collect(own, p, sets)


class _PairUpdate(nn.Module):
    def __init__(self, width: int, num_heads: int, pair_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(pair_dim)
        self.bias = nn.Sequential(nn.LayerNorm(pair_dim), nn.Linear(pair_dim, num_heads, bias=False))
        self.value = nn.Linear(pair_dim, pair_dim)
        self.gather = nn.Linear(pair_dim, width)
        self.enter = nn.Linear(pair_dim, pair_dim)
        self.first, self.second = nn.Linear(width, pair_dim, bias=False), nn.Linear(width, pair_dim, bias=False)
        self.leave = nn.Linear(pair_dim, pair_dim)
        self.num_heads = num_heads
        for last in (self.gather, self.leave):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)

    def collect(self, weights: Float[Tensor, "P A"], p: Float[Tensor, "P D"], sets: Sets) -> Float[Tensor, "N W"]:
        """What the pairs of each member hold, weighted by its attention."""
        values = self.value(self.norm(p)).unflatten(-1, (self.num_heads, -1)) * weights[..., None]
        return self.gather(sum_by(values.flatten(1), sets.pairs[0], len(sets.index)))

    def forward(self, h: Tensor, p: Tensor, sets: Sets) -> Tensor:
        mixed = (
            self.enter(self.norm(p)) + rows_of(self.first(h), sets.pairs[0]) + rows_of(self.second(h), sets.pairs[1])
        )
        return p + self.leave(nn.functional.silu(mixed))
