"""Another description of the same crystals: what the space group leaves free is drawn at random."""

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from matgen.data.batch import Batch
from matgen.data.priors import Priors
from matgen.shapes import Float, Int

Uniform = Callable[[int, tuple[int, ...]], Float[Tensor, "B ..."]]
"""Numbers in [0, 1) of shape [B, *shape] for the purpose that the first argument counts."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is drawn anew each time a crystal is seen.

    Attributes:
        representative: which member of each orbit stands for it.
        origin: where the origin lies along polar axes.
        normalizer: which element of the Euclidean normaliser (that keeps the lattice) is applied to the whole crystal;
            half of them turn a crystal without inversion into its mirror image.
    """

    representative: bool = True
    origin: bool = True
    normalizer: bool = True


def augment(batch: Batch, priors: Priors, uniform: Uniform, config: AugmentConfig) -> Batch:
    """Describe each crystal of a batch in another, equally good way.

    Args:
        batch: with exact representatives and the site symmetry at them.
        priors: on the device of the batch.
        uniform: random numbers; purposes 0 (operations), 1 (normaliser) and 2 (origin) are asked for.
        config: what to draw.

    Returns:
        The batch with new coordinates and site-symmetry codes; lattice, species and padding are as before.

    Source: International Tables A, chapter 15 (Euclidean normalisers).
    """
    groups = batch.space_group_number
    coords, codes = batch.frac_coords, batch.site_symmetry
    if config.representative:
        count = priors.num_operations[groups][:, None]
        chosen = _draw(uniform(0, tuple(batch.mask.shape[1:])), count)
        rows = groups[:, None].expand_as(chosen)
        rotation = priors.operations_rotation[rows, chosen].to(coords.dtype)
        coords = torch.einsum("bmij,bmj->bmi", rotation, coords) + priors.operations_translation[rows, chosen]
        codes = _permute(codes, priors.axis_permutation[rows, chosen])
    if config.normalizer:
        chosen = _draw(uniform(1, ()), priors.num_normalizers[groups])
        rotation = priors.normalizer_rotation[groups, chosen].to(coords.dtype)
        coords = torch.einsum("bij,bmj->bmi", rotation, coords) + priors.normalizer_translation[groups, chosen][:, None]
        codes = _permute(codes, priors.normalizer_permutation[groups, chosen][:, None].expand(*codes.shape))
    if config.origin:
        coords = coords + (uniform(2, (3,)).to(coords.dtype) * priors.polar_mask[groups])[:, None]
    coords = (coords % 1.0) * batch.mask[..., None]
    return replace(batch, frac_coords=torch.where(coords < 1.0, coords, 0.0), site_symmetry=codes)


def _draw(uniform: Float[Tensor, "..."], count: Int[Tensor, "..."]) -> Int[Tensor, "..."]:
    return torch.minimum((uniform * count).long(), count - 1)


def _permute(codes: Int[Tensor, "B M 15"], permutation: Int[Tensor, "B M 15"]) -> Int[Tensor, "B M 15"]:
    return torch.zeros_like(codes).scatter(-1, permutation.long(), codes)
