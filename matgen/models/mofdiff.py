"""MOFDiff: a latent of a coarse framework, and a joint diffusion of its blocks' embeddings and centres given it."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_statistics import CoarseStatistics, lattice_from_target, lattice_target
from matgen.diffusion.gaussian import GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalProcess, cell_unit
from matgen.models.mofdiff_blocks import BlockSetNetwork, NoisyBlocks
from matgen.models.mofdiff_centres import CentreNetwork
from matgen.models.mofdiff_config import MOFDiffConfig, paper_config
from matgen.models.mofdiff_features import NUM_ARMS, BlockFeatures
from matgen.models.mofdiff_latent import (
    CoarseGraph,
    LatentEncoder,
    LatentHeads,
    LatentPrediction,
    LatentPrior,
    eps_of_velocity,
    kl_divergence,
    velocity,
)
from matgen.models.mofdiff_losses import CoarseLosses, combine, count_loss, mean_over_blocks, property_loss
from matgen.models.mofdiff_properties import Properties
from matgen.models.mofdiff_reverse import Reverse
from matgen.models.mofdiff_sampling import (
    BlockChooser,
    ChosenBlocks,
    CoarseRequest,
    CoarseSamplerConfig,
    CoarseSamples,
    CoarseStream,
    SampledFeatures,
    draw_counts,
)
from matgen.models.mofdiff_score import Given, NoisyFrameworks, ScoreNetwork, State, centred, per_block
from matgen.nn.gemnet import periodic_vectors

__all__ = ["MOFDiff", "MOFDiffConfig", "paper_config"]


class Drawn(NamedTuple):
    """What the way back leaves: features [N, F], fractional coordinates [N, 3], and chosen blocks, if any."""

    features: Tensor
    frac_coords: Tensor
    chosen: ChosenBlocks | None


class MOFDiff(nn.Module):
    """The model: draw t, corrupt, predict, compare; or draw a latent, start from noise and step back.

    Blocks and centres are drawn together, as published; embeddings then stay noisy until the centres are decided. With
    `config.blocks`, which blocks a framework has is drawn before where they are: centres are then diffused for real
    blocks, whose arms say how far apart they are.

    Args:
        config: networks, processes and losses.
        statistics: of the training set; part of a checkpoint, for they define the process.

    Source: Fu et al., MOFDiff (ICLR 2024, arXiv 2310.10732).
    """

    _lattice_mean: Tensor
    _lattice_std: Tensor
    _count_prob: Tensor

    def __init__(self, config: MOFDiffConfig, statistics: CoarseStatistics) -> None:
        super().__init__()
        self.config, self.statistics = config, statistics
        self.features = BlockFeatures(statistics, config.diffuse_labels)
        self.feature_process = GaussianProcess(config.features)
        self.coord_process = LatticeNormalProcess(config.coords)
        max_blocks, num_properties = statistics.max_blocks, statistics.num_properties
        self.encoder = LatentEncoder(config.latent, self.features.dim)
        self.heads = LatentHeads(config.latent, max_blocks, num_properties)
        self.properties = Properties(statistics, config.conditional)
        self.prior = (
            LatentPrior(config.prior, config.latent.dim, self.properties.condition_dim) if config.prior else None
        )
        known = config.latent.dim + 6 + 3 + self.properties.condition_dim
        self.length_scale = float(statistics.length_scale)
        self.blocks = None
        if config.blocks is not None:
            self.blocks = BlockSetNetwork(config.blocks, self.features.known_blocks(), statistics.block_share, known)
        self.score: CentreNetwork | ScoreNetwork
        if self.blocks is None:
            self.score = ScoreNetwork(config.score, self.features.dim, known, self.length_scale)
        else:
            self.score = CentreNetwork(config.centres, self.features.dim + NUM_ARMS, known, self.length_scale)
        for name in ("lattice_mean", "lattice_std", "count_prob"):
            self.register_buffer(f"_{name}", getattr(statistics, name).clone(), persistent=False)

    @property
    def num_steps(self) -> int:
        """T."""
        return self.coord_process.num_steps

    def forward(self, batch: CoarseBatch, t: Int[Tensor, "B"], noise: CounterNoise) -> CoarseLosses:
        """The same as `loss`: what data-parallel wrappers call."""
        return self.loss(batch, t, noise)

    def loss(self, batch: CoarseBatch, t: Int[Tensor, "B"], noise: CounterNoise) -> CoarseLosses:
        """Losses of a batch at given diffusion times.

        Args:
            batch: clean frameworks.
            t: steps in 1..T.
            noise: one row per framework.
        """
        config, framework = self.config, self._framework(batch)
        properties = self.properties.standardise(batch.properties)
        mean, log_var = self.encoder(framework)
        z = mean + (0.5 * log_var).exp() * noise.normal(0, CoarseStream.LATENT, (mean.shape[1],)).to(mean.dtype)
        predicted = self.heads(z)
        condition = self.properties.condition(properties, config.drop_condition, noise)
        lattice = self._training_lattice(framework.lattice, predicted.lattice, noise)
        given = self._given(lattice, framework.num_blocks, framework.num_metal, z, condition)
        coords, features = self._diffusion_losses(batch, framework, given, t, noise)
        losses = {
            "coords": coords,
            "features": features,
            "lattice": (predicted.lattice - framework.lattice).square().mean(),
            "num_blocks": count_loss(predicted.num_blocks, framework.num_blocks),
            "num_metal": count_loss(predicted.num_metal, framework.num_metal),
            "properties": property_loss(predicted.properties, properties),
            "kl": kl_divergence(mean, log_var).mean(),
            "prior": self._prior_loss(z, condition, noise),
        }
        return combine(losses, config.weights)

    def encode(self, batch: CoarseBatch) -> Float[Tensor, "B Z"]:
        """Posterior means of frameworks: where latent optimisation may start."""
        return self.encoder(self._framework(batch))[0]

    @torch.inference_mode()
    def sample_latent(self, request: CoarseRequest, sampler: CoarseSamplerConfig | None = None) -> Float[Tensor, "B Z"]:
        """Latents of a request: those given, or drawn from the latent's distribution given the wanted properties."""
        if request.latent is not None:
            return request.latent
        sampler = sampler if sampler is not None else CoarseSamplerConfig()
        noise, dim = CounterNoise(request.seeds), self.config.latent.dim
        z = noise.normal(0, CoarseStream.PRIOR_START, (dim,))
        if self.prior is None:
            return z
        condition = self.properties.condition(self.properties.wanted(request))
        guidance = sampler.guidance if bool(condition.any()) else 0.0
        return self.prior.sample(z, condition, guidance, sampler.latent_steps, sampler.eta, noise)

    @torch.inference_mode()
    def sample(
        self, request: CoarseRequest, sampler: CoarseSamplerConfig | None = None, choose: BlockChooser | None = None
    ) -> CoarseSamples:
        """Sample one coarse framework per row of the request.

        Args:
            request: seeds, and what is wanted.
            sampler: number of steps and guidance; 100 steps where not given.
            choose: takes sampled blocks to those of a library, for which centres are then drawn; not asked where
                blocks and centres are drawn together. Where not given, centres are drawn for the blocks as sampled.

        Raises:
            ValueError: the request wants more blocks than the training set has, or properties of another number.
        """
        self._check(request)
        sampler = sampler if sampler is not None else CoarseSamplerConfig()
        noise = CounterNoise(request.seeds)
        z = self.sample_latent(request, sampler)
        predicted = self.heads(z)
        num_blocks, num_metal = self._counts(predicted, request, noise, sampler)
        condition = self.properties.condition(self.properties.wanted(request))
        given = self._given(predicted.lattice, num_blocks, num_metal, z, condition)
        unguided = None
        if sampler.score_guidance != 0 and bool(condition.any()):
            unguided = self._given(predicted.lattice, num_blocks, num_metal, z, torch.zeros_like(condition))
        reverse = Reverse(
            features=self.feature_process,
            coords=self.coord_process,
            given=given,
            unguided=unguided,
            noise=noise,
            sampler=sampler,
        )

        def chosen(features: Tensor) -> ChosenBlocks | None:
            return None if choose is None else choose(self._sampled_features(features, num_blocks))

        drawn = self._reverse(reverse, chosen)
        return CoarseSamples(
            num_blocks=num_blocks,
            num_metal=num_metal,
            lattice=given.lattice,
            latent=z,
            predicted_properties=self.properties.restore(predicted.properties),
            graph_index=given.graph_index,
            frac_coords=drawn.frac_coords,
            blocks=self._sampled_features(drawn.features, num_blocks),
            chosen=drawn.chosen,
        )

    def _sampled_features(self, features: Tensor, num_blocks: Tensor) -> SampledFeatures:
        embedding, metal, connections = self.features.decode(features)
        nothing = torch.zeros_like(embedding[:, 0])
        metal = nothing if metal is None else metal
        connections = nothing * torch.nan if connections is None else connections
        return SampledFeatures(num_blocks, embedding, metal > 0, metal, connections)

    def _framework(self, batch: CoarseBatch) -> CoarseGraph:
        target = lattice_target(batch.lattice, batch.num_blocks)
        vectors = periodic_vectors(
            batch.frac_coords, batch.lattice, batch.graph_index, batch.edge_index, batch.edge_image
        )
        metal = torch.zeros_like(batch.num_blocks).index_add(0, batch.graph_index, batch.is_metal.long())
        return CoarseGraph(
            features=self.features.encode(batch.embedding, batch.is_metal, batch.num_connections),
            graph_index=batch.graph_index,
            edge_index=batch.edge_index,
            vectors=vectors / self.length_scale,
            num_blocks=batch.num_blocks,
            num_metal=metal,
            lattice=(target - self._lattice_mean) / self._lattice_std,
        )

    def _training_lattice(self, true: Tensor, predicted: Tensor, noise: CounterNoise) -> Tensor:
        """Standardised cells that centres are diffused in: the true ones, disturbed, or the predicted ones."""
        lattice = true + self.config.lattice_noise * noise.normal(0, CoarseStream.LATTICE, (6,)).to(true.dtype)
        from_head = noise.uniform(0, CoarseStream.LATTICE_SOURCE) < self.config.lattice_from_head
        return torch.where(from_head[:, None], predicted.detach().clamp(-4, 4), lattice)

    def _given(self, lattice: Tensor, num_blocks: Tensor, num_metal: Tensor, z: Tensor, condition: Tensor) -> Given:
        cell = lattice_from_target(lattice.detach().float() * self._lattice_std + self._lattice_mean, num_blocks)
        counts = torch.stack([num_blocks.log1p(), num_metal.log1p(), num_metal / num_blocks], dim=-1)
        return Given(
            lattice=cell,
            num_blocks=num_blocks,
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

    def _prior_loss(self, z: Tensor, condition: Tensor, noise: CounterNoise) -> Tensor:
        if self.prior is None:
            return z.sum() * 0
        t = 1 + (noise.uniform(0, CoarseStream.PRIOR_TIME) * self.prior.num_steps).long()
        eps = noise.normal(0, CoarseStream.PRIOR, (z.shape[1],))
        return self.prior.loss(z.float(), t, condition.float(), eps).mean()

    def _check(self, request: CoarseRequest) -> None:
        most = self.statistics.max_blocks
        if request.num_blocks is not None and int(request.num_blocks.max()) > most:
            raise ValueError(f"{int(request.num_blocks.max())} blocks are more than the {most} of the training set")
        known = self.statistics.num_properties
        if request.properties is not None and request.properties.shape[1] != known:
            raise ValueError(f"a request with {request.properties.shape[1]} properties for a model of {known}")

    def _counts(
        self, predicted: LatentPrediction, request: CoarseRequest, noise: CounterNoise, sampler: CoarseSamplerConfig
    ) -> tuple[Tensor, Tensor]:
        uniform = noise.uniform(0, CoarseStream.COUNTS)
        temperature = sampler.count_temperature
        return draw_counts(predicted.num_blocks, predicted.num_metal, self._count_prob, request, uniform, temperature)

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
            features = reverse.step_features(features, self.feature_process.estimate_x_0(features, eps, rows), t, s)
            coords = reverse.step_centres(coords, out_x, t, s)
        return Drawn(features, coords, None)
