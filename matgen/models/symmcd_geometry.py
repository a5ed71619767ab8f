"""What the geometry says while a crystal is sampled: orbits that crowd each other, sites that are too far away."""

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from matgen.diffusion.fields import Prediction
from matgen.diffusion.joint import Fields, JointProcess
from matgen.diffusion.sampler import SamplerConfig, time_grid
from matgen.diffusion.schedule import broadcast_rows
from matgen.geometry.orbit_distances import crowded_orbits
from matgen.models.symmcd_groups import GroupTables

SiteMisfits = Callable[[Tensor, Tensor, Tensor], Tensor]
"""From space-group numbers [Q], fractional coordinates [Q, 3] and lattices [Q, 3, 3]: Å [Q, C] to the nearest position
of each of the group's site-symmetry codes, in the priors' order; infinite where it cannot be."""


class GeometryGuide:
    """Of one batch of samples.

    Args:
        process: of the model.
        groups: of the model.
        sampler: which guides are used, and when.
        space_group_number: [B].
        mask: [B, M], True at orbits.
        site_misfits: needed where the sampler has a `site_tolerance`.

    Raises:
        ValueError: site_misfits are missing.
    """

    def __init__(
        self,
        process: JointProcess,
        groups: GroupTables,
        sampler: SamplerConfig,
        space_group_number: Int[Tensor, "B"],
        mask: Bool[Tensor, "B M"],
        site_misfits: SiteMisfits | None,
    ) -> None:
        if sampler.site_tolerance > 0 and site_misfits is None:
            raise ValueError("a sampler with a site_tolerance needs site_misfits")
        self.process, self.groups, self.sampler = process, groups, sampler
        self.group, self.mask = space_group_number, mask
        self._misfits = site_misfits if sampler.site_tolerance > 0 else None
        self._deciding = _steps_that_decide_sites(process, sampler)

    def crowded(self, state: Fields, predicted: Prediction, t: Int[Tensor, "B"]) -> Bool[Tensor, "B M"]:
        """Orbits that the estimate of the clean crystal has on top of an earlier one; none where t is out of bounds."""
        sampler, last = self.sampler, self.process.num_steps
        if not sampler.relocate_until * last <= int(t[0]) <= sampler.relocate_from * last:
            return torch.zeros_like(self.mask)
        clean, cell = self._clean(state, predicted, t)
        return crowded_orbits(clean, cell, self.groups.operations(self.group), self.mask, sampler.relocate_below)

    def site_penalty(
        self, state: Fields, predicted: Prediction, t: Int[Tensor, "B"], hidden: Bool[Tensor, "B M"]
    ) -> Float[Tensor, "B M C"] | None:
        """What the misfit of each code takes from the logarithm of its probability.

        Args:
            state: at t.
            predicted: of the network, there.
            t: the same for all.
            hidden: orbits whose site symmetry is to be drawn; the others get 0.

        Returns:
            half the square of the misfit over the tolerance, which is wider by the noise of the coordinates; None where
            the network alone decides.
        """
        if self._misfits is None or int(t[0]) not in self._deciding or not bool(hidden.any()):
            return None
        clean, cell = self._clean(state, predicted, t)
        row, orbit = hidden.nonzero(as_tuple=True)
        misfit = self._misfits(self.group[row], clean[row, orbit], cell[row])
        edge = torch.linalg.det(cell).abs() ** (1 / 3)
        width = self.sampler.site_tolerance + self.process.coords.schedule.sigma_at(t).to(edge.dtype) * edge
        longest = int(self.groups.num_codes[self.group].max())
        penalty = torch.zeros(*hidden.shape, longest, dtype=edge.dtype, device=edge.device)
        penalty[row, orbit, : misfit.shape[1]] = 0.5 * (misfit.to(edge.dtype) / width[row, None]).square()
        return penalty

    def _clean(
        self, state: Fields, predicted: Prediction, t: Int[Tensor, "B"]
    ) -> tuple[Float[Tensor, "B M 3"], Float[Tensor, "B 3 3"]]:
        """Estimates of the clean coordinates and of the lattice in Å."""
        variance = broadcast_rows(self.process.coords.schedule.sigma_at(t) ** 2, state.frac_coords)
        clean = state.frac_coords + variance * self.process.coords.unscale(predicted.coord_score, t)
        lattice = self.process.lattice.estimate_x_0(state.lattice_k, predicted.lattice_eps, t)
        return clean, self.groups.lattice(lattice, self.group)


def _steps_that_decide_sites(process: JointProcess, sampler: SamplerConfig) -> set[int]:
    """Values of t from which a step of the sampler may take a site symmetry as drawn."""
    grid = time_grid(sampler.num_steps, process.num_steps, sampler.grid_power)
    kept = process.site_symmetry.schedule.alpha_bar_at(grid)
    return set(grid[:-1][kept[1:] - kept[:-1] > _HARDLY].tolist())


_HARDLY = 1e-4  # share of site symmetries; schedules that reach their end before T leave a trace beyond it
