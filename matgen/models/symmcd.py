"""SymmCD: a joint diffusion over the asymmetric units of crystals, given the space group and the number of orbits."""

from dataclasses import dataclass, field, replace

import torch
from jaxtyping import Int
from torch import Tensor, nn

from matgen.data.batch import Batch
from matgen.data.priors import NUM_SPECIES, Priors
from matgen.diffusion.categorical import AbsorbingProcess, CategoricalConfig
from matgen.diffusion.fields import Prediction as AnyPrediction
from matgen.diffusion.gaussian import GaussianConfig
from matgen.diffusion.joint import Context, Corrupted, Fields, JointConfig, JointProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.sampler import Progress, SamplerConfig, run_sampler
from matgen.diffusion.schedule import ScheduleConfig
from matgen.models.symmcd_geometry import GeometryGuide, SiteMisfits
from matgen.models.symmcd_groups import GroupTables
from matgen.models.symmcd_losses import (
    Losses,
    LossWeights,
    axis_loss,
    class_loss,
    code_loss,
    combine,
    coord_loss,
    lattice_loss,
)
from matgen.models.symmcd_sampling import Constraints, ModelStream, SampleBatch, SampleRequest
from matgen.nn.cspnet import NUM_AXES, NUM_CLASSES, CSPNet, CSPNetConfig, NoisyCrystals, Prediction, paper_network


def absorbing_process() -> JointConfig:
    """Species and whole site-symmetry codes are masked; a fixed one can then be shown to the network from the start.

    Sampling decides the geometry first, then the species, and reads the site symmetry off it last: decided early, a
    code binds coordinates that are still noise, and general orbits end up on top of their own copies.
    """
    return JointConfig(
        species=CategoricalConfig(num_classes=NUM_SPECIES, prior="absorbing", schedule=ScheduleConfig(reach=0.7)),
        site_symmetry=CategoricalConfig(num_classes=NUM_CLASSES, prior="absorbing", schedule=ScheduleConfig(reach=0.2)),
        tied_axes=True,
    )


def marginal_process() -> JointConfig:
    """The paper's process: species and each axis's class are redrawn from the training distribution."""
    return JointConfig(
        lattice=GaussianConfig(x_0_limit=None),
        species=CategoricalConfig(num_classes=NUM_SPECIES, prior="marginal"),
        site_symmetry=CategoricalConfig(num_classes=NUM_CLASSES, prior="marginal"),
    )


@dataclass(frozen=True, kw_only=True)
class SymmCDConfig:
    """Network, process and losses.

    `structured_site_symmetry` scores whole codes among those that the space group has, so that a sampled one exists;
    off, the axes are independent as in the paper. `reveal_site_symmetry` and `reveal_species` are the shares of
    training crystals (absorbing prior only) that show the network all of their codes, or species, at any noise level:
    the situation of a template.
    """

    network: CSPNetConfig = field(default_factory=CSPNetConfig)
    process: JointConfig = field(default_factory=absorbing_process)
    weights: LossWeights = field(default_factory=LossWeights)
    structured_site_symmetry: bool = True
    reveal_site_symmetry: float = 0.15
    reveal_species: float = 0.1


def paper_config() -> SymmCDConfig:
    """The published model: its network, marginal priors, independent axes and loss weights."""
    return SymmCDConfig(
        network=paper_network(),
        process=marginal_process(),
        weights=LossWeights(lattice=5.0, coords=1.0, species=0.1, site_symmetry=10.0),
        structured_site_symmetry=False,
        reveal_site_symmetry=0.0,
        reveal_species=0.0,
    )


class SymmCD(nn.Module):
    """The model: draw t, corrupt, predict, compare; or start from noise and step back.

    Args:
        config: network, process and losses.
        priors: of the training set; part of a checkpoint, for they define the process.

    Source: Levy et al., SymmCD (ICLR 2025, arXiv 2502.03638).
    """

    def __init__(self, config: SymmCDConfig, priors: Priors) -> None:
        super().__init__()
        self.config = config
        self.priors = priors
        self.process = JointProcess(config.process)
        self.groups = GroupTables(priors)
        self.network = CSPNet(
            config.network,
            group_dim=self.groups.space_group_description.shape[1],
            num_species=NUM_SPECIES,
            absorbing_species=isinstance(self.process.species, AbsorbingProcess),
            absorbing_site_symmetry=isinstance(self.process.site_symmetry, AbsorbingProcess),
        )

    @property
    def num_steps(self) -> int:
        """T."""
        return self.process.num_steps

    def forward(self, batch: Batch, t: Int[Tensor, "B"], noise: CounterNoise) -> Losses:
        """The same as `loss`: what data-parallel wrappers call."""
        return self.loss(batch, t, noise)

    def loss(self, batch: Batch, t: Int[Tensor, "B"], noise: CounterNoise) -> Losses:
        """Losses of a batch at given diffusion times.

        Args:
            batch: clean crystals.
            t: steps in 1..T, for example `process.draw_t(noise)`.
            noise: one row per crystal.
        """
        context = self._context(batch.space_group_number, batch.mask)
        x_0 = Fields(
            lattice_k=self.groups.standardise(batch.lattice_k, batch.space_group_number),
            frac_coords=batch.frac_coords,
            species_index=batch.species_index,
            site_symmetry=batch.site_symmetry,
        )
        corrupted = self._reveal(self.process.corrupt(x_0, t, context, noise), x_0, noise)
        predicted = self.network(self._noisy(corrupted.x_t, t, batch.space_group_number, batch.mask))
        return self._compare(predicted, corrupted, x_0, batch, context)

    @torch.inference_mode()
    def sample(
        self,
        request: SampleRequest,
        sampler: SamplerConfig | None = None,
        progress: Progress | None = None,
        site_misfits: SiteMisfits | None = None,
    ) -> SampleBatch:
        """Sample one asymmetric unit per row of the request.

        Args:
            request: space groups, numbers of orbits, seeds and constraints, on the model's device.
            sampler: number of steps, corrector, temperatures; 100 steps where not given.
            progress: called after every step.
            site_misfits: `matgen.crystal.wyckoff.site_misfits` on tensors; a sampler with a `site_tolerance` needs it.

        Raises:
            ValueError: the request holds a row that cannot be sampled, or site_misfits are missing.
        """
        request.check(NUM_SPECIES)
        sampler = sampler if sampler is not None else SamplerConfig()
        group, counts = request.space_group_number, request.num_orbits
        mask = torch.arange(int(counts.max()), device=counts.device) < counts[:, None]
        noise = CounterNoise(request.seeds)
        if not self.config.structured_site_symmetry:
            sampler = replace(sampler, site_tolerance=0.0)  # there are no whole codes to weigh
        guide = GeometryGuide(self.process, self.groups, sampler, group, mask, site_misfits)
        constraints = self._constraints(request, sampler)

        def denoise(state: Fields, t: Tensor) -> Prediction:
            shown = constraints.show(state)
            predicted = self.network(self._noisy(shown, t, group, mask))
            penalty = guide.site_penalty(shown, predicted, t, constraints.undecided(shown, mask))
            return constraints.impose(predicted, shown, int(t[0]), noise, penalty)

        def adjust(stepped: Fields, before: Fields, predicted: AnyPrediction, t: Tensor, _s: Tensor) -> Fields:
            anew = constraints.movable(guide.crowded(before, predicted, t))
            fresh = noise.uniform(int(t[0]), ModelStream.RELOCATE, (mask.shape[1], 3), torch.float32)
            return replace(stepped, frac_coords=torch.where(anew[..., None], fresh, stepped.frac_coords))

        adjusting = adjust if sampler.relocate_below > 0 else None
        x_0 = run_sampler(denoise, self.process, self._context(group, mask), noise, sampler, progress, adjusting)
        return SampleBatch(
            space_group_number=group,
            num_orbits=counts,
            mask=mask,
            lattice_k=self.groups.restore(x_0.lattice_k, group),
            frac_coords=x_0.frac_coords,
            species_index=x_0.species_index,
            site_symmetry=x_0.site_symmetry,
        )

    def _constraints(self, request: SampleRequest, sampler: SamplerConfig) -> Constraints:
        return Constraints(
            request=request.select(slice(None)),
            codes=self.groups.site_codes(request.space_group_number) if self.config.structured_site_symmetry else None,
            temperature=sampler.reverse.site_symmetry_temperature,
            absorbing_species=isinstance(self.process.species, AbsorbingProcess),
            absorbing_site_symmetry=isinstance(self.process.site_symmetry, AbsorbingProcess),
        )

    def _context(self, space_group_number: Int[Tensor, "B"], mask: Tensor) -> Context:
        return Context(
            mask=mask,
            lattice_mask=self.groups.lattice_mask[space_group_number],
            species_prior=self.groups.species_prior,
            site_symmetry_prior=self.groups.site_symmetry_prior[space_group_number],
        )

    def _noisy(
        self, state: Fields, t: Int[Tensor, "B"], space_group_number: Int[Tensor, "B"], mask: Tensor
    ) -> NoisyCrystals:
        with torch.autocast(mask.device.type, enabled=False):
            lattice = self.groups.lattice(state.lattice_k, space_group_number)
        return NoisyCrystals(
            group_description=self.groups.space_group_description[space_group_number],
            mask=mask,
            time=t.float() / self.num_steps,
            sigma=self.process.coords.schedule.sigma_at(t).float(),
            lattice_k=state.lattice_k,
            lattice=lattice,
            frac_coords=state.frac_coords,
            species_index=state.species_index,
            site_symmetry=state.site_symmetry,
            operations=self.groups.operations(space_group_number),
        )

    def _reveal(self, corrupted: Corrupted, x_0: Fields, noise: CounterNoise) -> Corrupted:
        """Show all codes, or all species, of some crystals: what a template looks like to the network."""
        state, draw = corrupted.x_t, noise.uniform(0, ModelStream.REVEAL, (2,))
        if isinstance(self.process.site_symmetry, AbsorbingProcess):
            shown = (draw[:, 0] < self.config.reveal_site_symmetry)[:, None, None]
            state = replace(state, site_symmetry=torch.where(shown, x_0.site_symmetry, state.site_symmetry))
        if isinstance(self.process.species, AbsorbingProcess):
            shown = (draw[:, 1] < self.config.reveal_species)[:, None]
            state = replace(state, species_index=torch.where(shown, x_0.species_index, state.species_index))
        return replace(corrupted, x_t=state)

    def _compare(
        self, predicted: Prediction, corrupted: Corrupted, x_0: Fields, batch: Batch, context: Context
    ) -> Losses:
        mask, noisy = batch.mask, corrupted.x_t
        fields = [
            lattice_loss(predicted.lattice_eps, corrupted.lattice_eps, context.lattice_mask),
            coord_loss(predicted.coord_score, corrupted.coord_score, mask),
            class_loss(predicted.species_logits, x_0.species_index, self._hidden_species(noisy), mask),
            self._site_symmetry_loss(predicted.site_symmetry_logits, x_0.site_symmetry, noisy.site_symmetry, batch),
        ]
        return combine(fields, self.config.weights)

    def _hidden_species(self, noisy: Fields) -> Tensor:
        if isinstance(self.process.species, AbsorbingProcess):
            return noisy.species_index == NUM_SPECIES
        return torch.ones_like(noisy.species_index, dtype=torch.bool)

    def _site_symmetry_loss(self, logits: Tensor, target: Tensor, noisy: Tensor, batch: Batch) -> Tensor:
        if not isinstance(self.process.site_symmetry, AbsorbingProcess):
            noisy = torch.full_like(noisy, NUM_CLASSES)  # a redrawn class says nothing for certain
        if self.config.structured_site_symmetry:
            return code_loss(logits, target, noisy, self.groups.site_codes(batch.space_group_number), batch.mask)
        assert logits.shape[-2] == NUM_AXES
        return axis_loss(logits, target, noisy == NUM_CLASSES, batch.mask)
