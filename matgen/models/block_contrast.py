"""Contrast of building blocks: pull by identity and by similarity, push from all others of all workers."""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class ContrastConfig:
    """Settings of `contrastive_loss`.

    The cosines of a block to all others, over `temperature`, are to follow the softmax of target similarities over
    `target_temperature`. A target is 1 for the same identity, else (1 - margin) times the Tanimoto similarity of the
    ECFP4 fingerprints; equal temperatures make the cosines themselves follow the targets up to a constant. `hard` keeps
    the same identity only: the published target.
    """

    temperature: float = 0.1
    target_temperature: float = 0.1
    margin: float = 0.2
    hard: bool = False

    def __post_init__(self) -> None:
        if self.temperature <= 0 or self.target_temperature <= 0 or not 0 <= self.margin < 1:
            raise ValueError(f"need temperatures above 0 and 0 <= margin < 1, not {self}")


@dataclass(frozen=True, eq=False)
class Gathered:
    """Blocks of all workers.

    Attributes:
        directions: [G, D], unit vectors.
        identity: int64[G].
        ecfp4: uint8[G, bits / 8].
        first: place of this worker's first block.
    """

    directions: Float[Tensor, "G D"]
    identity: Int[Tensor, "G"]
    ecfp4: Tensor
    first: int


def gather_blocks(directions: Float[Tensor, "B D"], identity: Int[Tensor, "B"], ecfp4: Tensor) -> Gathered:
    """The blocks of all workers, in the order of their ranks; gradients flow back to the worker they came from.

    Without other workers, or where no gradients are wanted (validation need not run in step), these are the own blocks.

    Args:
        directions: unit vectors.
        identity: of each block.
        ecfp4: packed fingerprints.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if not distributed or torch.distributed.get_world_size() == 1 or not torch.is_grad_enabled():
        return Gathered(directions, identity, ecfp4, 0)
    world, rank = torch.distributed.get_world_size(), torch.distributed.get_rank()
    sizes = [torch.zeros(1, dtype=torch.int64, device=identity.device) for _ in range(world)]
    torch.distributed.all_gather(sizes, torch.tensor([len(identity)], device=identity.device))
    counts = [int(size) for size in sizes]
    return Gathered(
        directions=_Gather.apply(directions, counts, rank),
        identity=_gather(identity, counts),
        ecfp4=_gather(ecfp4, counts),
        first=sum(counts[:rank]),
    )


def contrastive_loss(
    directions: Float[Tensor, "B D"], identity: Int[Tensor, "B"], ecfp4: Tensor, config: ContrastConfig
) -> Float[Tensor, ""]:
    """Mean over this worker's blocks of KL(target || softmax of cosines), the block itself left out of both.

    The mean over workers, weighted by their blocks, and its gradient are those of one process with all blocks.

    Args:
        directions: unit vectors.
        identity: equal for blocks of one canonical bond graph.
        ecfp4: packed fingerprints.
        config: temperatures and targets.

    Returns:
        the loss, at least 0; 0 where there is nothing to compare.

    Source: the diagonal and the targets differ from Fu et al., MOFDiff (arXiv 2310.10732), appendix; soft targets as in
        Zheng et al., ReSSL (arXiv 2107.09282), with several positives as in Khosla et al. (arXiv 2004.11362).
    """
    everyone = gather_blocks(directions, identity, ecfp4)
    if len(everyone.identity) < 2:
        return directions.sum() * 0
    itself = torch.arange(len(identity), device=identity.device) + everyone.first
    others = torch.ones(len(identity), len(everyone.identity), dtype=torch.bool, device=identity.device)
    others[torch.arange(len(identity)), itself] = False
    logits = directions @ everyone.directions.T / config.temperature
    log_probs = logits.masked_fill(~others, -torch.inf).log_softmax(-1).masked_fill(~others, 0)
    same = (identity[:, None] == everyone.identity) & others
    target = _target(same, others, ecfp4, everyone.ecfp4, config)
    return (torch.special.xlogy(target, target) - target * log_probs).sum() / len(identity)


def tanimoto(first: Tensor, second: Tensor) -> Float[Tensor, "A B"]:
    """Tanimoto similarity of packed fingerprints; two empty ones are equal.

    Args:
        first: uint8[A, bits / 8].
        second: uint8[B, bits / 8].
    """
    a, b = _unpack(first), _unpack(second)
    common = a @ b.T
    either = a.sum(-1)[:, None] + b.sum(-1) - common
    return torch.where(either > 0, common / either.clamp(min=1), 1.0)


def _unpack(packed: Tensor) -> Float[Tensor, "A bits"]:
    shifts = torch.arange(8, device=packed.device, dtype=torch.uint8)
    return ((packed[..., None] >> shifts) & 1).flatten(-2).float()


def _target(same: Tensor, others: Tensor, own: Tensor, all_: Tensor, config: ContrastConfig) -> Tensor:
    if config.hard:
        return same / same.sum(-1, keepdim=True).clamp(min=1)
    similarity = torch.where(same, 1.0, (1 - config.margin) * tanimoto(own, all_))
    return (similarity / config.target_temperature).masked_fill(~others, -torch.inf).softmax(-1)


def _gather(values: Tensor, counts: list[int]) -> Tensor:
    padded = values.new_zeros(max(counts), *values.shape[1:])
    padded[: len(values)] = values
    parts = [torch.empty_like(padded) for _ in counts]
    torch.distributed.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts)])


class _Gather(torch.autograd.Function):
    """Concatenation over workers; a row's gradient is the sum of what all workers have for it."""

    @staticmethod
    def forward(ctx: Any, values: Tensor, counts: list[int], rank: int) -> Tensor:
        ctx.start, ctx.count = sum(counts[:rank]), counts[rank]
        return _gather(values.detach(), counts)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        total = gradients[0].contiguous().clone()
        torch.distributed.all_reduce(total)
        return total[ctx.start : ctx.start + ctx.count], None, None
