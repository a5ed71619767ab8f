"""The four losses of SymmCD. A crystal is the unit of every mean: large crystals do not weigh more."""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn import functional

from matgen.models.symmcd_groups import SiteCodes
from matgen.nn.cspnet import NUM_CLASSES


@dataclass(frozen=True, kw_only=True)
class LossWeights:
    """Weight of each field in the total."""

    lattice: float = 1.0
    coords: float = 2.0
    species: float = 0.3
    site_symmetry: float = 0.5


@dataclass(frozen=True)
class Losses:
    """Means over the crystals of a batch, and the values of each crystal.

    Args:
        total: weighted sum of the fields.
        lattice: mean square error of the noise over free components.
        coords: mean square error of the scaled score.
        species: cross-entropy of the clean species, nats.
        site_symmetry: cross-entropy of the clean code (structured) or of an axis's class, nats.
        per_crystal: `[B, 5]`, the same five in this order, without gradient.
    """

    total: Float[Tensor, ""]
    lattice: Float[Tensor, ""]
    coords: Float[Tensor, ""]
    species: Float[Tensor, ""]
    site_symmetry: Float[Tensor, ""]
    per_crystal: Float[Tensor, "B 5"]


def combine(fields: list[Float[Tensor, "B"]], weights: LossWeights) -> Losses:
    """Weighted total and means of the fields' values per crystal, in the order of `LossWeights`."""
    factors = (weights.lattice, weights.coords, weights.species, weights.site_symmetry)
    weighted = sum(
        (factor * values for factor, values in zip(factors, fields, strict=True)), torch.zeros_like(fields[0])
    )
    rows = torch.stack([weighted, *fields], dim=1)
    total, lattice, coords, species, site_symmetry = rows.mean(0).unbind()
    return Losses(total, lattice, coords, species, site_symmetry, per_crystal=rows.detach())


def lattice_loss(
    predicted: Float[Tensor, "B 6"], target: Float[Tensor, "B 6"], free: Bool[Tensor, "B 6"]
) -> Float[Tensor, "B"]:
    """Mean square error over the components that the space group leaves free."""
    return ((predicted - target).square() * free).sum(-1) / free.sum(-1).clamp(min=1)


def coord_loss(
    predicted: Float[Tensor, "B M 3"], target: Float[Tensor, "B M 3"], mask: Bool[Tensor, "B M"]
) -> Float[Tensor, "B"]:
    """Mean square error over the coordinates of the crystal's orbits."""
    return orbit_mean((predicted - target).square().mean(-1), mask)


def class_loss(
    logits: Float[Tensor, "B M C"], target: Int[Tensor, "B M"], hidden: Bool[Tensor, "B M"], mask: Bool[Tensor, "B M"]
) -> Float[Tensor, "B"]:
    """Cross-entropy of the orbits whose class is not yet known, over all of the crystal's orbits."""
    entropy = functional.cross_entropy(logits.movedim(-1, 1), target, reduction="none")
    return orbit_mean(entropy * hidden, mask)


def axis_loss(
    logits: Float[Tensor, "B M 15 13"],
    target: Int[Tensor, "B M 15"],
    hidden: Bool[Tensor, "B M 15"],
    mask: Bool[Tensor, "B M"],
) -> Float[Tensor, "B"]:
    """Mean cross-entropy of the axes, each by itself, as in the paper."""
    entropy = functional.cross_entropy(logits.movedim(-1, 1), target, reduction="none")
    return orbit_mean((entropy * hidden).mean(-1), mask)


def consistent_codes(site_symmetry: Int[Tensor, "B M 15"], codes: SiteCodes) -> Bool[Tensor, "B M C"]:
    """Which of the group's codes agree with every axis that is known; a class beyond the last means not known."""
    known = site_symmetry < NUM_CLASSES
    one_hot = functional.one_hot(site_symmetry.clamp(max=NUM_CLASSES), NUM_CLASSES + 1)[..., :-1].flatten(-2).float()
    agreeing = torch.bmm(one_hot, codes.one_hot.transpose(1, 2))
    return (agreeing > known.sum(-1, keepdim=True) - 0.5) & codes.valid[:, None]


def code_scores(
    axis_logits: Float[Tensor, "B M 15 13"], codes: SiteCodes, allowed: Bool[Tensor, "B M C"]
) -> Float[Tensor, "B M C"]:
    """Logit of each of the group's codes: the sum over axes; -inf where it is not allowed."""
    scores = torch.bmm(axis_logits.flatten(-2), codes.one_hot.transpose(1, 2))
    return scores.masked_fill(~allowed, -torch.inf)


def code_loss(
    axis_logits: Float[Tensor, "B M 15 13"],
    target: Int[Tensor, "B M 15"],
    noisy: Int[Tensor, "B M 15"],
    codes: SiteCodes,
    mask: Bool[Tensor, "B M"],
) -> Float[Tensor, "B"]:
    """Cross-entropy of the whole code among the codes of the space group that agree with what is known.

    A target that the tables do not list (it cannot come from an encoded crystal) is scored axis by axis.

    Args:
        axis_logits: of the network.
        target: clean codes.
        noisy: what the network saw; equal to the codes under a prior that reveals nothing.
        codes: of the groups.
        mask: True for orbits.
    """
    matches = consistent_codes(target, codes)
    listed = matches.any(-1)
    allowed = consistent_codes(noisy, codes) | matches  # never empty where listed
    scores = code_scores(axis_logits, codes, allowed | ~listed[..., None] & codes.valid[:, None])
    right = axis_logits.gather(-1, target[..., None])[..., 0].sum(-1)
    joint = scores.logsumexp(-1) - right
    apart = functional.cross_entropy(axis_logits.movedim(-1, 1), target, reduction="none").sum(-1)
    return orbit_mean(torch.where(listed, joint, apart), mask)


def orbit_mean(values: Float[Tensor, "B M"], mask: Bool[Tensor, "B M"]) -> Float[Tensor, "B"]:
    """Mean over a crystal's orbits."""
    return (values * mask).sum(-1) / mask.sum(-1).clamp(min=1)
