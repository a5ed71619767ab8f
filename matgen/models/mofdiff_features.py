"""What is diffused of each block: its embedding, whether it is a metal node, and its number of connections."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from matgen.data.mof_statistics import CoarseStatistics
from matgen.models.mofdiff_blocks import nearness_keys

NUM_ARMS = 3
_MIN_STD = 1e-3
_AT_ONCE = 64  # blocks whose distances to all of the table are held at a time


class BlockFeatures(nn.Module):
    """Standardised block features, and back.

    Beside the embedding two channels are diffused with it: +1 or -1 for metal nodes and others, and the standardised
    logarithm of the number of connections. They could be read off a clean embedding too; diffused, they are decided
    together with the other blocks', which have to match them, and a block lookup is told what to look for.

    Args:
        statistics: of the training set; `known_blocks`: float32[M, F], features of the blocks that it has.
        with_labels: the two channels; off in the published model.
    """

    mean: Tensor
    std: Tensor
    known_blocks: Tensor
    _keys: Tensor
    _arms: Tensor

    def __init__(self, statistics: CoarseStatistics, with_labels: bool = True) -> None:
        super().__init__()
        self.with_labels = with_labels
        self.register_buffer("mean", statistics.embedding_mean.clone(), persistent=False)
        self.register_buffer("std", statistics.embedding_std.clamp(min=_MIN_STD), persistent=False)
        self.log_mean, self.log_std = _connection_moments(statistics)
        self.dim = statistics.embedding_dim + 2 * with_labels
        known = statistics.block_embedding, statistics.block_is_metal > 0, statistics.block_connections.long()
        self.register_buffer("known_blocks", self.encode(*known), persistent=False)
        self.register_buffer("_keys", nearness_keys(self.known_blocks).T.contiguous(), persistent=False)
        self.register_buffer("_arms", statistics.block_arms / statistics.length_scale, persistent=False)

    def encode(
        self, embedding: Float[Tensor, "N D"], is_metal: Bool[Tensor, "N"], num_connections: Int[Tensor, "N"]
    ) -> Float[Tensor, "N F"]:
        """Unit-variance features of blocks."""
        features = (embedding - self.mean) / self.std
        if not self.with_labels:
            return features
        metal = is_metal.to(features.dtype) * 2 - 1
        connections = (num_connections.clamp(min=1).to(features.dtype).log() - self.log_mean) / self.log_std
        return torch.cat([features, metal[:, None], connections[:, None]], dim=-1)

    @torch.no_grad()
    def with_arms(self, features: Float[Tensor, "N F"]) -> Float[Tensor, "N G"]:
        """Clean features, then (G = F + 3) the arms, in length scales, of the nearest block of the training set."""
        queries = nn.functional.pad(features.float(), (0, 1), value=1.0)
        nearest = torch.cat([(part @ self._keys).argmax(1) for part in queries.split(_AT_ONCE)])
        return torch.cat([features, self._arms[nearest].to(features.dtype)], dim=1)

    def decode(self, features: Float[Tensor, "N F"]) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Embeddings, metal scores (above 0: a metal node) and numbers of connections; None where not diffused."""
        embedding = features[:, : len(self.mean)] * self.std + self.mean
        if not self.with_labels:
            return embedding, None, None
        connections = (features[:, -1] * self.log_std + self.log_mean).clamp(0, 6).exp()
        return embedding, features[:, -2], connections


def with_metal_nodes(
    features: Float[Tensor, "N F"], graph_index: Int[Tensor, "N"], num_metal: Int[Tensor, "B"]
) -> Float[Tensor, "N F"]:
    """Clean features with labels in which as many blocks are metal nodes as asked for: those that look most like it.

    Args:
        features: expected ones; the labels are the last two.
        graph_index: framework of each block, ascending.
        num_metal: of each framework; all of its blocks where it has fewer.

    Returns:
        a copy, +1 for metal nodes and -1 for others.
    """
    order = torch.argsort(features[:, -2], descending=True, stable=True)
    order = order[torch.argsort(graph_index[order], stable=True)]  # framework after framework, metal nodes first
    sizes = torch.bincount(graph_index, minlength=len(num_metal))
    place = torch.arange(len(order), device=order.device) - (sizes.cumsum(0) - sizes)[graph_index]
    labelled = features.clone()
    is_metal = place < num_metal[graph_index]
    labelled[order, -2] = is_metal.to(features.dtype) * 2 - 1
    return labelled


def _connection_moments(statistics: CoarseStatistics) -> tuple[float, float]:
    """Mean and standard deviation of the logarithm of the number of connections over all blocks."""
    rows, columns = torch.meshgrid(*[torch.arange(n) for n in statistics.count_prob.shape], indexing="ij")
    joint = statistics.count_prob.double().cpu()
    metals, others = float((joint * columns).sum()), float((joint * (rows - columns)).sum())
    weights = statistics.connection_prob.double().cpu() * torch.tensor([[others], [metals]], dtype=torch.float64)
    weights = weights.sum(0) / weights.sum().clamp(min=1e-12)
    values = torch.arange(len(weights), dtype=torch.float64).clamp(min=1).log()
    mean = float((weights * values).sum())
    return mean, max(float((weights * (values - mean) ** 2).sum()) ** 0.5, 0.1)
