"""The network of a framework's blocks alone: which blocks go together, before any of them has a place."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from matgen.errors import CheckpointError
from matgen.models.mofdiff_latent import TimeCondition
from matgen.nn.set_transformer import SetLayer, Sets

_MIN_VARIANCE = 1e-3  # of noise: nearer blocks are not told apart


@dataclass(frozen=True, kw_only=True)
class BlockSetConfig:
    """A transformer over the blocks of a framework: width, layers, heads, and length of the condition."""

    hidden: int = 256
    num_layers: int = 4
    num_heads: int = 8
    condition_dim: int = 128

    def __post_init__(self) -> None:
        if self.hidden % self.num_heads:
            raise ValueError(f"hidden {self.hidden} is no multiple of num_heads {self.num_heads}")


@dataclass(frozen=True, eq=False)
class NoisyBlocks:
    """Noisy features of blocks and what is known of each framework.

    Attributes:
        features: [N, F] at t.
        graph_index: int64[N], ascending.
        num_blocks: int64[B].
        time: [B], t / T.
        alpha_bar: [B], at t.
        known: [B, C], latent, cell, counts and properties.
    """

    features: Tensor
    graph_index: Tensor
    num_blocks: Tensor
    time: Tensor
    alpha_bar: Tensor
    known: Tensor


def nearness_keys(table: Float[Tensor, "M F"]) -> Float[Tensor, "M Q"]:
    """Rows k such that (q, 1) k is largest for the row of the table that is nearest to q."""
    return torch.cat([table, -0.5 * table.square().sum(1, keepdim=True)], dim=1)


class BlockSetNetwork(nn.Module):
    """The clean features of all blocks of a framework together, whatever their order.

    A block is one of those that there are, so the clean features are a mean over these, weighted by
    p(block | noisy features) ~ share exp(-|x_t - sqrt(alpha_bar) e|^2 / 2 (1 - alpha_bar)) exp(q e - k |e|^2 / 2).
    The first two factors are known; the last one is what the network says from the other blocks and all else that is
    known, by q and k. So no weights are spent on which blocks there are, and what is sampled ends at one of them.
    Most blocks of a framework are copies of each other, and what is seen of a copy counts like what is seen of a block
    itself: the network says how much each is a copy of each other one, and the second factor is taken of these too.

    Args:
        config: width and layers.
        table: [M, F], features of the blocks that there are.
        share: [M], how often each occurs.
        known_dim: C.

    Raises:
        CheckpointError: there is no block.
    """

    _keys: Tensor
    _values: Tensor

    def __init__(
        self, config: BlockSetConfig, table: Float[Tensor, "M F"], share: Float[Tensor, "M"], known_dim: int
    ) -> None:
        super().__init__()
        if len(table) == 0:
            raise CheckpointError(
                "statistics without blocks: they are of an earlier version (run the stage embed again)"
            )
        width, dim = config.hidden, table.shape[1]
        self.condition = TimeCondition(known_dim, width, config.condition_dim)
        self.enter = nn.Linear(2 * dim + config.condition_dim, width)
        self.layers = nn.ModuleList(
            [SetLayer(width, config.num_heads, config.condition_dim) for _ in range(config.num_layers)]
        )
        self.norm = nn.LayerNorm(width)
        self.leave = nn.Linear(width, dim + 1)
        self.one, self.other = nn.Linear(width, config.condition_dim), nn.Linear(width, config.condition_dim)
        self.no_copy = nn.Parameter(torch.tensor(3.0))
        nn.init.zeros_(self.leave.weight)
        nn.init.zeros_(self.leave.bias)
        keys = torch.cat([nearness_keys(table), share.clamp(min=1e-12).log()[:, None]], dim=1)
        self.register_buffer("_keys", keys, persistent=False)
        self.register_buffer("_values", nn.functional.pad(table, (0, 2)), persistent=False)

    def forward(self, noisy: NoisyBlocks) -> Float[Tensor, "N F"]:
        """Expected clean features of each block."""
        condition = self.condition.of(noisy.known, noisy.time)
        sets = Sets.of(noisy.graph_index, noisy.num_blocks)
        seen = self._seen(noisy)
        with torch.no_grad():
            alone = self._expected(seen)
        h = self.enter(torch.cat([noisy.features, alone, condition[noisy.graph_index]], dim=-1))
        for layer in self.layers:
            h, _ = layer(h, None, condition, sets)
        h = self.norm(h)
        return self._expected(seen + self._seen_of_copies(h, seen, sets) + self.leave(h).float())

    def _seen_of_copies(self, h: Float[Tensor, "N W"], seen: Float[Tensor, "N Q"], sets: Sets) -> Float[Tensor, "N Q"]:
        one, other = sets.padded(self.one(h)), sets.padded(self.other(h))
        copy = torch.sigmoid((one @ other.transpose(1, 2)).float() / one.shape[-1] ** 0.5 - self.no_copy)
        copy = copy * (1 - torch.eye(copy.shape[-1], device=copy.device))
        return (copy @ sets.padded(seen))[sets.there]  # padding has seen nothing

    def _seen(self, noisy: NoisyBlocks) -> Float[Tensor, "N Q"]:
        """q and k, Q = F + 1, of the noisy features themselves."""
        alpha_bar = noisy.alpha_bar.float()[noisy.graph_index, None]
        variance = (1 - alpha_bar).clamp(min=_MIN_VARIANCE)
        return torch.cat([alpha_bar.sqrt() * noisy.features.float(), alpha_bar], dim=1) / variance

    def _expected(self, queries: Float[Tensor, "N Q"]) -> Float[Tensor, "N F"]:
        # The mean over the table is attention to it: torch's kernel never holds all N M weights, which half of the time
        # went into moving.
        with torch.autocast(queries.device.type, enabled=False):
            query = nn.functional.pad(queries, (0, 1), value=1.0)
            query, keys, values = (part[None, None] for part in (query, self._keys, self._values))
            return nn.functional.scaled_dot_product_attention(query, keys, values, scale=1.0)[0, 0, :, :-2]
