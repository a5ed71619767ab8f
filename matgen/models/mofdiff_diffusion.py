"""The diffusion of blocks and centres given all else of a framework: losses, and the way back."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_statistics import CoarseStatistics, lattice_from_target
from matgen.diffusion.gaussian import GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalProcess, cell_unit
from matgen.models.mofdiff_blocks import BlockSetNetwork, NoisyBlocks
from matgen.models.mofdiff_centres import CentreNetwork
from matgen.models.mofdiff_config import MOFDiffConfig
from matgen.models.mofdiff_features import NUM_ARMS, BlockFeatures, with_metal_nodes
from matgen.models.mofdiff_latent import CoarseGraph, eps_of_velocity, velocity
from matgen.models.mofdiff_losses import mean_over_blocks
from matgen.models.mofdiff_reverse import Reverse
from matgen.models.mofdiff_sampling import ChosenBlocks, CoarseStream, SampledFeatures
from matgen.models.mofdiff_score import Given, NoisyFrameworks, ScoreNetwork, State, centred, per_block


class Drawn(NamedTuple):
    """What the way back leaves: features [N, F], fractional coordinates [N, 3], and chosen blocks, if any."""

    features: Tensor
    frac_coords: Tensor
    chosen: ChosenBlocks | None


class CoarseDiffusion(nn.Module):
    """Processes and networks of features and centres; the base of MOFDiff, which adds what is given.

    Args:
        config: networks and processes.
        statistics: of the training set.
        features: of blocks.
        known_dim: length of what is known of a framework: latent, cell, counts, condition.
    """

    _lattice_mean: Tensor
    _lattice_std: Tensor
    _count_prob: Tensor

    def __init__(
        self, config: MOFDiffConfig, statistics: CoarseStatistics, features: BlockFeatures, known_dim: int
    ) -> None:
        super().__init__()
        self.config, self.statistics = config, statistics
        self.features, self.length_scale = features, float(statistics.length_scale)
        self.feature_process = GaussianProcess(config.features)
        self.coord_process = LatticeNormalProcess(config.coords)
        self.blocks: BlockSetNetwork | None = None
        self.score: CentreNetwork | ScoreNetwork
        if config.blocks is None:
            self.score = ScoreNetwork(config.score, features.dim, known_dim, self.length_scale)
        else:
            self.blocks = BlockSetNetwork(config.blocks, features.known_blocks, statistics.block_share, known_dim)
            self.score = CentreNetwork(config.centres, features.dim + NUM_ARMS, known_dim, self.length_scale)
        for name in ("lattice_mean", "lattice_std", "count_prob"):
            self.register_buffer(f"_{name}", getattr(statistics, name).clone(), persistent=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.coord_process.num_steps

    def _given(self, lattice: Tensor, num_blocks: Tensor, num_metal: Tensor, z: Tensor, condition: Tensor) -> Given:
        cell = lattice_from_target(lattice.detach().float() * self._lattice_std + self._lattice_mean, num_blocks)
        counts = torch.stack([num_blocks.log1p(), num_metal.log1p(), num_metal / num_blocks], dim=-1)
        return Given(
            lattice=cell,
            num_blocks=num_blocks,
            num_metal=num_metal,
            graph_index=torch.arange(len(cell), device=cell.device).repeat_interleave(num_blocks),
            sigma_unit=self._sigma_unit(cell),
            known=torch.cat([z, lattice.detach(), counts.to(z.dtype), condition.to(z.dtype)], dim=-1),
        )

    def _sigma_unit(self, cell: Tensor) -> Tensor:
        if self.config.sigma_unit == "cell":
            return cell_unit(cell)
        sizes = self._count_prob.sum(1).double()
        mean_blocks = (sizes * torch.arange(len(sizes), device=sizes.device)).sum()
        return (self.length_scale * mean_blocks.pow(1 / 3)).expand(len(cell))

    def _diffusion_losses(
        self, batch: CoarseBatch, framework: CoarseGraph, given: Given, t: Tensor, noise: CounterNoise
    ) -> tuple[Tensor, Tensor]:
        """Losses of centres and features; a part whose weight is 0 is not computed."""
        index = batch.graph_index
        sigma = self.coord_process.sigma(t, given.sigma_unit)
        eps_x = per_block(noise, 0, CoarseStream.COORDS, 3, given.num_blocks)
        eps_h = per_block(noise, 0, CoarseStream.FEATURES, self.features.dim, given.num_blocks)
        x_t, target_x = self.coord_process.corrupt(batch.frac_coords, given.lattice, index, sigma, eps_x)
        h_t = self.feature_process.corrupt(framework.features, t[index], eps_h)
        target_x, target_h = centred(target_x, index, batch.num_blocks), framework.features
        weights = self.config.weights
        if self.blocks is None:
            out_h, out_x = self._denoise(State(h_t, x_t), t, given)
            target_h = eps_h
            if self.config.feature_output == "velocity":
                target_h = velocity(self.feature_process, framework.features, eps_h, t[index])
        else:
            out_h = self._clean_features(h_t, t, given)[0] if weights.features else target_h
            out_x = target_x
            if weights.coords:
                (out_x,) = self._denoise(State(self.features.with_arms(framework.features), x_t), t, given)
        error_x = 0.5 * (out_x - target_x).square().sum(-1)
        error_h = (out_h - target_h).square().mean(-1)
        return mean_over_blocks(error_x, index, batch.num_blocks), mean_over_blocks(error_h, index, batch.num_blocks)

    def _denoise(self, state: State, t: Tensor, given: Given) -> tuple[Tensor, ...]:
        """Outputs of the score network: for features that are diffused with the centres; sigma times their score."""
        noisy = NoisyFrameworks(
            features=state.features,
            frac_coords=state.frac_coords,
            lattice=given.lattice,
            num_blocks=given.num_blocks,
            graph_index=given.graph_index,
            time=t.float() / self.num_steps,
            known=given.known,
        )
        *out_h, out_x = self.score(noisy)
        if self.config.score_gain:
            out_x = out_x * self.coord_process.gain(t).to(out_x.dtype)[given.graph_index, None]
        return *out_h, out_x

    def _clean_features(self, features: Tensor, t: Tensor, given: Given) -> tuple[Tensor]:
        """The clean features of blocks that have no centres yet, as the network of blocks expects them."""
        assert self.blocks is not None, "features are diffused together with the centres"
        noisy = NoisyBlocks(
            features=features,
            graph_index=given.graph_index,
            num_blocks=given.num_blocks,
            time=t.float() / self.num_steps,
            alpha_bar=self.feature_process.schedule.alpha_bar_at(t).to(features.dtype),
            known=given.known,
        )
        return (self.blocks(noisy),)

    def _sampled_features(self, features: Tensor, num_blocks: Tensor) -> SampledFeatures:
        embedding, metal, connections = self.features.decode(features)
        nothing = torch.zeros_like(embedding[:, 0])
        metal = nothing if metal is None else metal
        connections = nothing * torch.nan if connections is None else connections
        return SampledFeatures(num_blocks, embedding, metal > 0, metal, connections)

    def _reverse(self, reverse: Reverse, choose: Callable[[Tensor], ChosenBlocks | None]) -> Drawn:
        """All blocks first, then their centres; or both together."""
        if self.blocks is None:
            return self._reverse_together(reverse)
        features, coords = reverse.start_features(self.features.dim), reverse.start_centres()
        for t, s in reverse.times():
            (clean,) = reverse.guided(partial(self._clean_features, features, t))
            features = reverse.step_features(features, clean, t, s)
        chosen, exact = choose(features), features
        if chosen is not None:
            exact = self.features.encode(chosen.embedding, chosen.is_metal, chosen.num_connections)
        exact = self.features.with_arms(exact)
        for t, s in reverse.times():
            (out_x,) = reverse.guided(partial(self._denoise, State(exact, coords), t))
            coords = reverse.step_centres(coords, out_x, t, s)
        return Drawn(features, coords, chosen)

    def _reverse_together(self, reverse: Reverse) -> Drawn:
        features, coords = reverse.start_features(self.features.dim), reverse.start_centres()
        for t, s in reverse.times():
            out_h, out_x = reverse.guided(partial(self._denoise, State(features, coords), t))
            rows, eps = t[reverse.given.graph_index], out_h
            if self.config.feature_output == "velocity":
                eps = eps_of_velocity(self.feature_process, features, out_h, rows)
            clean = self.feature_process.estimate_x_0(features, eps, rows)
            if reverse.sampler.metal_nodes_as_drawn and self.features.with_labels:
                clean = with_metal_nodes(clean, reverse.given.graph_index, reverse.given.num_metal)
            features = reverse.step_features(features, clean, t, s)
            coords = reverse.step_centres(coords, out_x, t, s)
        return Drawn(features, coords, None)
