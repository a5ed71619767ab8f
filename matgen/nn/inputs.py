"""What the denoiser sees and what it says."""

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor

from matgen.geometry.orbit_distances import Operations


@dataclass(frozen=True)
class NoisyCrystals:
    """What the network sees.

    Args:
        group_description: `[B, D]`, the space group in numbers.
        mask: `[B, M]`, True for orbits, False for padding.
        time: `[B]`, t / T in (0, 1].
        sigma: `[B]`, fractional noise level of the coordinates.
        lattice_k: `[B, 6]`, noisy and standardised.
        lattice: `[B, 3, 3]`, the same as rows in Å.
        frac_coords: `[B, M, 3]`, noisy.
        species_index: `[B, M]`, noisy; the last class is the absorbing one.
        site_symmetry: `[B, M, 15]`, noisy; the last class is the absorbing one.
        operations: of each space group.
    """

    group_description: Float[Tensor, "B D"]
    mask: Bool[Tensor, "B M"]
    time: Float[Tensor, "B"]
    sigma: Float[Tensor, "B"]
    lattice_k: Float[Tensor, "B 6"]
    lattice: Float[Tensor, "B 3 3"]
    frac_coords: Float[Tensor, "B M 3"]
    species_index: Int[Tensor, "B M"]
    site_symmetry: Int[Tensor, "B M 15"]
    operations: Operations


@dataclass(frozen=True)
class Prediction:
    """What the network says, in single precision.

    Args:
        lattice_eps: `[B, 6]`, noise of the standardised lattice.
        coord_score: `[B, M, 3]`, score of the coordinates over the root of its mean square.
        species_logits: `[B, M, S]`, of the clean species.
        site_symmetry_logits: `[B, M, 15, 13]`, of the clean classes.
    """

    lattice_eps: Float[Tensor, "B 6"]
    coord_score: Float[Tensor, "B M 3"]
    species_logits: Float[Tensor, "B M S"]
    site_symmetry_logits: Float[Tensor, "B M 15 13"]
