"""What the symmetry copies of orbits look like from one representative: distances, displacements, near-stabilisers.

A point just off a special position sees its own copies at a small distance; a network that is given only fractional
coordinates has to work that out from the space group's operations. Here it is computed: for every ordered pair of
representatives (i, j) the distances from x_i to all copies g x_j, as a soft histogram, and the mean displacement to
the near ones; for every representative the distance from x_i to g x_i, operation by operation.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

_TINY = 1e-12
_CROWD_ROWS = 8
_MAX_ELEMENTS = 1 << 20  # distances held at once: bounds the memory of crystals with many orbits and operations


@dataclass(frozen=True)
class Operations:
    """The operations of each crystal's space group, padded: x -> rotation x + translation, in fractional coordinates.

    Args:
        rotation: `[B, O, 3, 3]`, integers held as floats; they act on columns.
        translation: `[B, O, 3]`, fractions of the cell.
        mask: `[B, O]`, True where there is an operation.
        rotation_index: `[B, O]`, which of the crystallographic rotation matrices it is; 0 where padded.
    """

    rotation: Float[Tensor, "B O 3 3"]
    translation: Float[Tensor, "B O 3"]
    mask: Bool[Tensor, "B O"]
    rotation_index: Int[Tensor, "B O"]

    def select(self, rows: Int[Tensor, "b"] | slice, count: int) -> "Operations":
        """The first `count` operations of some of the crystals."""
        return Operations(
            rotation=self.rotation[rows, :count],
            translation=self.translation[rows, :count],
            mask=self.mask[rows, :count],
            rotation_index=self.rotation_index[rows, :count],
        )

    @property
    def is_identity(self) -> Bool[Tensor, "B O"]:
        """True for the identity without a translation (centring translations are not it)."""
        eye = torch.eye(3, dtype=self.rotation.dtype, device=self.rotation.device)
        near = (self.translation - self.translation.round()).abs().amax(-1) < 1e-3
        return ((self.rotation - eye).abs().amax((-1, -2)) < 1e-3) & near & self.mask


@dataclass(frozen=True, kw_only=True)
class OrbitDistanceConfig:
    """Resolution of the distance features; lengths in Å."""

    num_radial: int = 16
    cutoff: float = 6.0
    vector_widths: tuple[float, ...] = (0.5, 1.5)

    @property
    def num_pair_features(self) -> int:
        """Length of the feature vector of an ordered pair."""
        return self.num_radial + 3 * len(self.vector_widths)


@dataclass(frozen=True)
class SelfImages:
    """A representative's own copies: nearest displacement g x_i - x_i and its length, operation by operation.

    Args:
        displacement: `[B, M, O, 3]`, fractional; zero where padded.
        distance: `[B, M, O]`, Å.
        mask: `[B, O]`, True for operations other than the identity.
    """

    displacement: Float[Tensor, "B M O 3"]
    distance: Float[Tensor, "B M O"]
    mask: Bool[Tensor, "B O"]


def orbit_images(frac_coords: Float[Tensor, "B M 3"], operations: Operations) -> Float[Tensor, "B M O 3"]:
    """All copies g x of every representative, not wrapped into the cell."""
    turned = torch.einsum("bock,bmk->bmoc", operations.rotation, frac_coords)
    return turned + operations.translation[:, None]


def self_images(
    frac_coords: Float[Tensor, "B M 3"], lattice: Float[Tensor, "B 3 3"], operations: Operations
) -> SelfImages:
    """Displacements from each representative to its own copies, nearest image by rounding.

    Args:
        frac_coords: representatives, fractional.
        lattice: rows a, b, c in Å.
        operations: of each crystal's space group.

    Returns:
        Displacements and distances; the identity is masked out.
    """
    displacement = orbit_images(frac_coords, operations) - frac_coords[:, :, None]
    displacement = displacement - displacement.round()
    displacement = displacement * operations.mask[:, None, :, None]
    cart = torch.einsum("bmoc,bcd->bmod", displacement, lattice)
    distance = (cart.square().sum(-1) + _TINY).sqrt()
    return SelfImages(displacement, distance, operations.mask & ~operations.is_identity)


def crowded_orbits(
    frac_coords: Float[Tensor, "B M 3"],
    lattice: Float[Tensor, "B 3 3"],
    operations: Operations,
    mask: Bool[Tensor, "B M"],
    limit: float,
) -> Bool[Tensor, "B M"]:
    """Orbits that have a point closer than `limit` to a point of an earlier orbit of their crystal.

    Args:
        frac_coords: representatives, fractional.
        lattice: rows a, b, c in Å.
        operations: of each crystal's space group.
        mask: True at orbits.
        limit: Å.
    """
    crowded = torch.zeros_like(mask)
    counts, sizes = mask.sum(1), operations.mask.sum(1)
    order = torch.argsort(counts * 1024 + sizes, stable=True)
    for rows in order.split(_CROWD_ROWS):  # crystals of like size, cut to the largest of them
        orbits = int(counts[rows].max())
        if orbits < 2:
            continue
        some = operations.select(rows, int(sizes[rows].max()))
        points, real = frac_coords[rows, :orbits], mask[rows, :orbits]
        shift = orbit_images(points, some)[:, None] - points[:, :, None, None]
        shift = (shift - shift.round()).flatten(1, 3)
        squared = torch.bmm(shift, lattice[rows]).square().sum(-1).unflatten(1, (orbits, orbits, -1))
        near = ((squared < limit**2) & some.mask[:, None, None]).any(-1)
        earlier = torch.ones_like(near[0]).tril(-1)
        crowded[rows, :orbits] = (near & earlier & real[:, :, None] & real[:, None]).any(-1)
    return crowded


def near_stabiliser(
    images: SelfImages,
    rotation_one_hot: Float[Tensor, "B O R"],
    widths: Float[Tensor, "B W"],
) -> Float[Tensor, "B M WR"]:
    """How nearly each rotation of the point group leaves a representative where it is: 1 on the element, 0 far away.

    Args:
        images: from `self_images`.
        rotation_one_hot: which rotation each operation carries.
        widths: Å, the distances at which the indicator has fallen to exp(-1/2).

    Returns:
        One number in [0, about 1] for every width and rotation.
    """
    scaled = images.distance[:, None] / widths[:, :, None, None]
    closeness = torch.exp(-0.5 * scaled.square()) * images.mask[:, None, None]
    return torch.einsum("bwmo,bor->bmwr", closeness, rotation_one_hot).flatten(-2)


def radial_centres(config: OrbitDistanceConfig) -> tuple[list[float], list[float]]:
    """Centres and widths of the radial Gaussians in Å, denser near zero, where points merge."""
    edges = [config.cutoff * (step / config.num_radial) ** 1.5 for step in range(config.num_radial + 1)]
    return edges[:-1], [0.8 * (high - low) for low, high in pairwise(edges)]


def pair_features(
    frac_coords: Float[Tensor, "B M 3"],
    lattice: Float[Tensor, "B 3 3"],
    operations: Operations,
    config: OrbitDistanceConfig,
) -> Float[Tensor, "B M M F"]:
    """Distances from x_i to all copies g x_j, as a compressed soft histogram and mean displacements to near copies.

    The sum runs over all operations (for i = j over all but the identity), so the result does not depend on which
    member of orbit j represents it, and turns with x_i.

    Args:
        frac_coords: representatives, fractional, any cell.
        lattice: rows a, b, c in Å.
        operations: of each crystal's space group.
        config: resolution.

    Returns:
        `log(1 + sum_g exp(-(d - c_k)^2 / 2 w_k^2) f(d))` with the cosine cutoff f, then for each vector width s the
        three fractional components of `sum_g u_g v_g / (1 + sum_g u_g)`, `u = exp(-d^2 / 2 s^2)`, `v = g x_j - x_i`.
    """
    batch, orbits, _ = frac_coords.shape
    per_crystal = orbits * orbits * operations.mask.shape[1]
    rows = max(1, _MAX_ELEMENTS // max(1, per_crystal))
    if rows >= batch:
        return _pair_features(frac_coords, lattice, operations, config)
    parts = []
    for start in range(0, batch, rows):
        cut = slice(start, start + rows)
        some = operations.select(cut, operations.mask.shape[1])
        parts.append(_pair_features(frac_coords[cut], lattice[cut], some, config))
    return torch.cat(parts)


def _pair_features(
    frac_coords: Float[Tensor, "B M 3"],
    lattice: Float[Tensor, "B 3 3"],
    operations: Operations,
    config: OrbitDistanceConfig,
) -> Float[Tensor, "B M M F"]:
    batch, orbits, _ = frac_coords.shape
    count = operations.mask.shape[1]
    # Components lead ([B, 3, M, M, O]) so that every pass below runs over contiguous memory.
    images = orbit_images(frac_coords, operations).permute(0, 3, 1, 2)
    shift = images[:, :, None] - frac_coords.transpose(1, 2)[:, :, :, None, None]
    shift = shift.sub_(shift.round()).reshape(batch, 3, -1)
    metric = lattice @ lattice.transpose(1, 2)
    squared = (torch.bmm(metric, shift) * shift).sum(1).clamp_(min=0).reshape(batch, orbits, orbits, count)
    shift = shift.reshape(batch, 3, orbits, orbits, count)
    keep = operations.mask[:, None, None] & ~(
        operations.is_identity[:, None, None]
        & torch.eye(orbits, dtype=torch.bool, device=squared.device)[None, :, :, None]
    )
    histogram = _soft_histogram(squared.sqrt(), keep, config)
    vectors = [_mean_displacement(shift, squared, keep, width) for width in config.vector_widths]
    return torch.cat([histogram, *vectors], dim=-1)


def _soft_histogram(
    distance: Float[Tensor, "B M M O"], keep: Bool[Tensor, "B M M O"], config: OrbitDistanceConfig
) -> Float[Tensor, "B M M K"]:
    centres, widths = radial_centres(config)
    inside = (distance / config.cutoff).clamp(max=1.0)
    cutoff = (0.5 * torch.cos(torch.pi * inside) + 0.5) * keep
    channels = [
        torch.exp((distance - centre).square_().mul_(-0.5 / width**2)).mul_(cutoff).sum(-1)
        for centre, width in zip(centres, widths, strict=True)
    ]
    return torch.log1p(torch.stack(channels, dim=-1))


def _mean_displacement(
    shift: Float[Tensor, "B 3 M M O"], squared: Float[Tensor, "B M M O"], keep: Bool[Tensor, "B M M O"], width: float
) -> Float[Tensor, "B M M 3"]:
    weight = torch.exp(squared * (-0.5 / width**2)) * keep
    total = (shift * weight[:, None]).sum(-1)
    return (total / (1 + weight.sum(-1))[:, None]).permute(0, 2, 3, 1)
