"""Variance-exploding diffusion of points in cells of any shape: isotropic Cartesian noise, wrapped onto the lattice.

In a skewed cell isotropic noise does not separate by axis, so the density is a sum over vectors in space, either of
Gaussians at the images (short where sigma is small) or of waves on reciprocal vectors (short where it is large).
Points of all cells lie one after the other; `graph_index` says which cell a point is in.
"""

import itertools
import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from matgen.diffusion.schedule import DeviceTable, SigmaConfig, SigmaSchedule
from matgen.diffusion.wrapped_normal import score_norm, wrap
from matgen.shapes import Float, Int

_TOLERANCE = 23.0  # terms below exp(-23) of the largest are left out
_CHUNK = 2**21  # points times lattice vectors at a time


@dataclass(frozen=True, kw_only=True)
class LatticeNormalConfig:
    """Settings of LatticeNormalProcess.

    sigma is in units of the cell: its largest distance of lattice planes across a, b or c. `sigma_max` = 0.6 leaves no
    more than 2 exp(-2 pi^2 sigma_max^2) = 0.2 % of any structure, in cells of any shape.
    """

    sigmas: SigmaConfig = field(default_factory=lambda: SigmaConfig(sigma_min=0.002, sigma_max=0.6))


class LatticeNormalProcess:
    """q(x_t | x_0) = N(x_0, (sigma_t * unit)^2 I) in Cartesian space, wrapped onto the lattice."""

    def __init__(self, config: LatticeNormalConfig) -> None:
        self.config = config
        self.schedule = SigmaSchedule(config.sigmas)
        norm = score_norm(self.schedule.sigma[1:]).sqrt() * self.schedule.sigma[1:]
        self._gain = DeviceTable(torch.cat([torch.ones(1, dtype=torch.float64), norm]))

    @property
    def num_steps(self) -> int:
        """T."""
        return self.schedule.num_steps

    def sigma(self, t: Int[Tensor, "B"], unit: Float[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Standard deviation in the length of `unit`, float64."""
        return self.schedule.sigma_at(t) * unit.double()

    def gain(self, t: Int[Tensor, "B"]) -> Float[Tensor, "B"]:
        """Root mean square of a component of sigma * score in a cubic cell: the scale of a network's output."""
        return self._gain.at(t)

    def corrupt(
        self,
        x_0: Float[Tensor, "N 3"],
        lattice: Float[Tensor, "B 3 3"],
        graph_index: Int[Tensor, "N"],
        sigma: Float[Tensor, "B"],
        eps: Float[Tensor, "N 3"],
    ) -> tuple[Float[Tensor, "N 3"], Float[Tensor, "N 3"]]:
        """x_t and sigma times the score.

        Args:
            x_0: fractional coordinates.
            lattice: rows a, b, c; Å.
            graph_index: cell of each point.
            sigma: Å, per cell.
            eps: standard normal noise.

        Returns:
            fractional x_t in [0, 1), and Cartesian sigma * grad log q(x_t | x_0): -eps where sigma is small.
        """
        step = sigma[graph_index, None] * eps.double()
        target = sigma[graph_index, None] * lattice_score(step, lattice, graph_index, sigma)
        return wrap(x_0 + to_fractional(step, lattice, graph_index).to(x_0.dtype)), target.to(x_0.dtype)

    def reverse_step(
        self,
        x_t: Float[Tensor, "N 3"],
        score_hat: Float[Tensor, "N 3"],
        lattice: Float[Tensor, "B 3 3"],
        graph_index: Int[Tensor, "N"],
        sigma_t: Float[Tensor, "B"],
        sigma_s: Float[Tensor, "B"],
        noise: Float[Tensor, "N 3"],
        eta: float = 1.0,
    ) -> Float[Tensor, "N 3"]:
        """One step from t to any s < t.

        Args:
            x_t: fractional coordinates.
            score_hat: predicted Cartesian score, 1/Å.
            lattice: rows a, b, c; Å.
            graph_index: cell of each point.
            sigma_t, sigma_s: Å, per cell.
            noise: standard normal noise.
            eta: 1 is the ancestral step, 0 the deterministic one.

        Returns:
            x_s in [0, 1).

        Source: Song et al. 2021 (arXiv 2011.13456), eq. 47; for eta < 1 the step of arXiv 2010.02502 with sigmas.
        """
        var_t, var_s = sigma_t**2, sigma_s**2
        variance = eta**2 * var_s * (var_t - var_s) / var_t
        drift = var_t - (var_t * (var_s - variance).clamp(min=0)).sqrt()
        step = drift[graph_index, None] * score_hat.double() + variance.sqrt()[graph_index, None] * noise.double()
        return wrap(x_t + to_fractional(step, lattice, graph_index).to(x_t.dtype))


def cell_unit(lattice: Float[Tensor, "B 3 3"]) -> Float[Tensor, "B"]:
    """Largest distance of neighbouring lattice planes across a, b or c, float64, in the unit of the lattice."""
    return (1 / torch.linalg.inv(lattice.double()).norm(dim=-2)).amax(-1)


def to_fractional(
    cart: Float[Tensor, "N 3"], lattice: Float[Tensor, "B 3 3"], graph_index: Int[Tensor, "N"]
) -> Float[Tensor, "N 3"]:
    """Fractional components of Cartesian vectors, float64."""
    inverse = torch.linalg.inv(lattice.double())
    return torch.einsum("ni,nij->nj", cart.double(), inverse[graph_index])


def lattice_score(
    displacement: Float[Tensor, "N 3"],
    lattice: Float[Tensor, "B 3 3"],
    graph_index: Int[Tensor, "N"],
    sigma: Float[Tensor, "B"],
) -> Float[Tensor, "N 3"]:
    """grad log p of the normal distribution wrapped onto a lattice, mean 0.

    Args:
        displacement: Cartesian x_t - x_0, any image; Å.
        lattice: rows a, b, c; Å.
        graph_index: cell of each point.
        sigma: Å, > 0, per cell.

    Returns:
        float64, 1/Å; truncated at 1e-8 of the largest term.
    """
    return _density(displacement, lattice, graph_index, sigma)[1]


def lattice_log_density(
    displacement: Float[Tensor, "N 3"],
    lattice: Float[Tensor, "B 3 3"],
    graph_index: Int[Tensor, "N"],
    sigma: Float[Tensor, "B"],
) -> Float[Tensor, "N"]:
    """log p (Å^-3) of the normal distribution wrapped onto a lattice; arguments as in `lattice_score`."""
    return _density(displacement, lattice, graph_index, sigma)[0]


@dataclass(frozen=True, eq=False)
class _Sums:
    """Which lattice vectors each cell's sum runs over, padded: integers [B, I, 3] and whether they count [B, I]."""

    integers: Tensor
    counts: Tensor


def _density(displacement: Tensor, lattice: Tensor, graph_index: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor]:
    lattice, sigma = lattice.double(), sigma.double()
    frac = to_fractional(displacement, lattice, graph_index)
    nearest = torch.einsum("ni,nij->nj", frac - frac.round(), lattice[graph_index])
    distance = nearest.norm(dim=-1)
    farthest = distance.new_zeros(len(lattice)).scatter_reduce(0, graph_index, distance, reduce="amax")
    waves, size, reach = _plan(lattice, sigma, farthest)
    log_density = nearest.new_empty(len(nearest))
    score = torch.empty_like(nearest)
    for wanted, evaluate in ((False, _by_images), (True, _by_waves)):
        for cells in _chunks(torch.nonzero(waves == wanted)[:, 0], size, graph_index):
            place = graph_index.new_full((len(lattice),), -1)
            place[cells] = torch.arange(len(cells), device=cells.device)
            points = torch.nonzero(place[graph_index] >= 0)[:, 0]
            row = place[graph_index[points]]
            found = evaluate(nearest[points], lattice[cells], sigma[cells], _integers(reach[cells]), row)
            log_density[points], score[points] = found
    return log_density, score


def _plan(lattice: Tensor, sigma: Tensor, farthest: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Whether waves are the shorter sum in each cell, its number of terms, and the range of its integers."""
    inverse = torch.linalg.inv(lattice)
    spacing = 1 / inverse.norm(dim=-2)
    images = (((farthest**2 + 2 * _TOLERANCE * sigma**2).sqrt())[:, None] / spacing + 0.5).floor()
    # waves must resolve the density at its lowest, far from the mean
    depth = farthest**2 / (2 * sigma**2)
    wave_number = ((_TOLERANCE + depth) / (2 * math.pi**2)).sqrt() / sigma
    waves = (wave_number[:, None] * lattice.norm(dim=-1)).floor()
    num_images, num_waves = (2 * images + 1).prod(-1), (2 * waves + 1).prod(-1)
    chosen = (num_waves < num_images) & (depth < 12)
    size = torch.where(chosen, num_waves, num_images)
    return chosen, size, torch.where(chosen[:, None], waves, images).long()


def _chunks(cells: Tensor, size: Tensor, graph_index: Tensor) -> list[Tensor]:
    """Cells with sums of similar length together, as many as keep the padded tensors small."""
    cells = cells[torch.argsort(size[cells])]
    points = torch.bincount(graph_index, minlength=len(size))[cells].tolist()
    length = size[cells].tolist()
    bounds, held = [0], 0
    for place in range(len(cells)):
        held += points[place]
        alone = place == bounds[-1]
        if not alone and (held * length[place] > _CHUNK or length[place] > 2 * length[bounds[-1]]):
            bounds.append(place)
            held = points[place]
    return [cells[start:end] for start, end in itertools.pairwise([*bounds, len(cells)]) if end > start]


def _integers(reach: Tensor) -> _Sums:
    most = reach.amax(0).tolist()
    axes = [torch.arange(-n, n + 1, device=reach.device) for n in most]
    integers = torch.cartesian_prod(*axes).reshape(-1, 3)
    return _Sums(integers.double(), (integers.abs() <= reach[:, None]).all(-1))


def _by_images(nearest: Tensor, lattice: Tensor, sigma: Tensor, sums: _Sums, row: Tensor) -> tuple[Tensor, Tensor]:
    away = nearest[:, None] + (sums.integers @ lattice)[row]
    variance = sigma[row, None] ** 2
    exponent = (-0.5 * away.square().sum(-1) / variance).masked_fill(~sums.counts[row], -torch.inf)
    weights = exponent.softmax(-1)
    log_density = exponent.logsumexp(-1) - 1.5 * torch.log(2 * math.pi * variance[:, 0])
    return log_density, -torch.einsum("pi,pic->pc", weights, away) / variance


def _by_waves(nearest: Tensor, lattice: Tensor, sigma: Tensor, sums: _Sums, row: Tensor) -> tuple[Tensor, Tensor]:
    wave = 2 * math.pi * (sums.integers @ torch.linalg.inv(lattice).mT)
    height = torch.exp(-0.5 * sigma[:, None] ** 2 * wave.square().sum(-1)) * sums.counts
    phase = torch.einsum("pc,pic->pi", nearest, wave[row])
    total = (height[row] * phase.cos()).sum(-1)
    slope = -torch.einsum("pi,pic->pc", height[row] * phase.sin(), wave[row])
    return total.log() - torch.linalg.det(lattice).abs().log()[row], slope / total[:, None]
