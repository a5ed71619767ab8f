"""MOFDiff: a latent of a coarse framework, and a joint diffusion of its blocks' embeddings and centres given it."""

import itertools
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_statistics import CoarseStatistics, lattice_from_target, lattice_target
from matgen.diffusion.gaussian import GaussianConfig, GaussianProcess
from matgen.diffusion.noise import CounterNoise
from matgen.diffusion.sampler import time_grid
from matgen.diffusion.schedule import ScheduleConfig, SigmaConfig
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalConfig, LatticeNormalProcess, cell_unit
from matgen.models.block_encoder import large_network
from matgen.models.mofdiff_features import BlockFeatures
from matgen.models.mofdiff_latent import (
    CoarseGraph,
    LatentConfig,
    LatentEncoder,
    LatentHeads,
    LatentPrediction,
    LatentPrior,
    PriorConfig,
    eps_of_velocity,
    kl_divergence,
    velocity,
)
from matgen.models.mofdiff_losses import CoarseLosses, CoarseLossWeights, combine, mean_over_blocks, property_loss
from matgen.models.mofdiff_sampling import (
    CoarseRequest,
    CoarseSamplerConfig,
    CoarseSamples,
    CoarseStream,
    draw_counts,
)
from matgen.models.mofdiff_score import NoisyFrameworks, ScoreConfig, ScoreNetwork, centred
from matgen.nn.gemnet import GraphConfig, NeighborConfig, ReadoutConfig, periodic_vectors


@dataclass(frozen=True, kw_only=True)
class MOFDiffConfig:
    """Networks, processes and losses.

    `sigma_unit` is what sigma counts in: each cell's own size, or the training set's mean edge as published.
    `lattice_noise` (of a standardised component) and `lattice_from_head` (share of training frameworks whose centres
    are diffused in the predicted cell) prepare the score network for cells that are not exact, as in sampling.
    `drop_condition` is the share of training frameworks that do not show their properties.
    """

    latent: LatentConfig = field(default_factory=LatentConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    prior: PriorConfig | None = field(default_factory=PriorConfig)
    features: GaussianConfig = field(default_factory=GaussianConfig)
    coords: LatticeNormalConfig = field(default_factory=LatticeNormalConfig)
    weights: CoarseLossWeights = field(default_factory=CoarseLossWeights)
    feature_output: Literal["velocity", "eps"] = "velocity"
    diffuse_labels: bool = True
    sigma_unit: Literal["cell", "mean"] = "cell"
    score_gain: bool = True
    lattice_noise: float = 0.1
    lattice_from_head: float = 0.3
    conditional: bool = True
    drop_condition: float = 0.2

    def __post_init__(self) -> None:
        if self.features.schedule.num_steps != self.coords.sigmas.num_steps:
            raise ValueError(
                f"features have {self.features.schedule.num_steps} steps and centres {self.coords.sigmas.num_steps}"
            )


def paper_config() -> MOFDiffConfig:
    """As published: 2,000 steps, sigma from 0.001 to 10 mean edges, 24 neighbours, 256 latent dimensions, no prior.

    Not kept, for they are mistakes: raw lengths in the encoder, a lattice target standardised on another statistic,
    time shown as beta_t, wrapped noise in place of the score, embeddings at a fifth of the noise's variance.
    """
    graph = GraphConfig(cutoff=6.0, num_radial=128, num_angular=7)
    network = large_network()
    return MOFDiffConfig(
        latent=LatentConfig(
            dim=256,
            graph=graph,
            network=replace(network, mean_neighbors=6.0),
            readout=ReadoutConfig(num_heads=8, head_dim=32, hidden=256),
        ),
        score=ScoreConfig(
            neighbors=NeighborConfig(max_neighbors=24, cutoff=4.0),
            graph=graph,
            network=replace(network, num_node_residuals=7, mean_neighbors=24.0),
            condition_dim=512,
        ),
        prior=None,
        features=GaussianConfig(schedule=ScheduleConfig(num_steps=2000, cosine_offset=1e-4, beta_max=0.999)),
        coords=LatticeNormalConfig(sigmas=SigmaConfig(num_steps=2000, sigma_min=0.001, sigma_max=10.0)),
        weights=CoarseLossWeights(kl=0.01),
        feature_output="eps",
        diffuse_labels=False,
        sigma_unit="mean",
        score_gain=False,
        lattice_noise=0.0,
        lattice_from_head=0.0,
        conditional=False,
    )


@dataclass(frozen=True, eq=False)
class _State:
    """Features and centres at some t."""

    features: Tensor
    frac_coords: Tensor


@dataclass(frozen=True, eq=False)
class _Given:
    """What the score network is told: all that does not change with t."""

    lattice: Tensor
    num_blocks: Tensor
    graph_index: Tensor
    sigma_unit: Tensor
    known: Tensor


class MOFDiff(nn.Module):
    """The model: draw t, corrupt, predict, compare; or draw a latent, start from noise and step back.

    Args:
        config: networks, processes and losses.
        statistics: of the training set; part of a checkpoint, for they define the process.

    Source: Fu et al., MOFDiff (ICLR 2024, arXiv 2310.10732).
    """

    _lattice_mean: Tensor
    _lattice_std: Tensor
    _property_mean: Tensor
    _property_std: Tensor
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
        self.condition_dim = 2 * num_properties if config.conditional else 0
        self.prior = LatentPrior(config.prior, config.latent.dim, self.condition_dim) if config.prior else None
        known = config.latent.dim + 6 + 3 + self.condition_dim
        self.score = ScoreNetwork(config.score, self.features.dim, known, float(statistics.length_scale))
        for name in ("lattice_mean", "lattice_std", "property_mean", "property_std", "count_prob"):
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
        framework = self._framework(batch)
        mean, log_var = self.encoder(framework)
        z = mean + (0.5 * log_var).exp() * noise.normal(0, CoarseStream.LATENT, (mean.shape[1],)).to(mean.dtype)
        predicted = self.heads(z)
        condition = self._condition(self._standard_properties(batch.properties), noise)
        lattice = self._training_lattice(framework.lattice, predicted.lattice, noise)
        given = self._given(lattice, framework.num_blocks, framework.num_metal, z, condition)
        coords, features = self._diffusion_losses(batch, framework, given, t, noise)
        losses = {
            "coords": coords,
            "features": features,
            "lattice": (predicted.lattice - framework.lattice).square().mean(),
            "num_blocks": nn.functional.cross_entropy(predicted.num_blocks, framework.num_blocks),
            "num_metal": nn.functional.cross_entropy(predicted.num_metal, framework.num_metal),
            "properties": property_loss(predicted.properties, self._standard_properties(batch.properties)),
            "kl": kl_divergence(mean, log_var).mean(),
            "prior": self._prior_loss(z, condition, noise),
        }
        return combine(losses, self.config.weights)

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
        condition = self._condition(self._wanted(request))
        hidden = torch.zeros_like(condition)
        guided = sampler.guidance != 0 and bool(condition.any())
        process, total = self.prior.process, self.prior.num_steps
        grid = time_grid(min(sampler.latent_steps, total), total).tolist()
        for t_now, t_next in itertools.pairwise(grid):
            t = torch.full((len(z),), t_now, dtype=torch.int64, device=z.device)
            v = self.prior(z, t, condition)
            if guided:
                v = v + sampler.guidance * (v - self.prior(z, t, hidden))
            eps = eps_of_velocity(process, z, v, t)
            fresh = noise.normal(t_now, CoarseStream.PRIOR_START, (dim,))
            z = process.reverse_step(z, eps, t, torch.full_like(t, t_next), fresh, sampler.eta)
        return z

    @torch.inference_mode()
    def sample(self, request: CoarseRequest, sampler: CoarseSamplerConfig | None = None) -> CoarseSamples:
        """Sample one coarse framework per row of the request.

        Args:
            request: seeds, and what is wanted.
            sampler: number of steps and guidance; 100 steps where not given.

        Raises:
            ValueError: the request wants more blocks than the training set has, or properties of another number.
        """
        self._check(request)
        sampler = sampler if sampler is not None else CoarseSamplerConfig()
        noise = CounterNoise(request.seeds)
        z = self.sample_latent(request, sampler)
        predicted = self.heads(z)
        num_blocks, num_metal = self._counts(predicted, request, noise, sampler)
        condition = self._condition(self._wanted(request))
        given = self._given(predicted.lattice, num_blocks, num_metal, z, condition)
        unguided = None
        if sampler.score_guidance != 0 and bool(condition.any()):
            unguided = self._given(predicted.lattice, num_blocks, num_metal, z, torch.zeros_like(condition))
        state = self._reverse(given, unguided, noise, sampler)
        return self._samples(state, given, num_metal, z, predicted)

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
            vectors=vectors / self.score.length_scale,
            num_blocks=batch.num_blocks,
            num_metal=metal,
            lattice=(target - self._lattice_mean) / self._lattice_std,
        )

    def _training_lattice(self, true: Tensor, predicted: Tensor, noise: CounterNoise) -> Tensor:
        """Standardised cells that centres are diffused in: the true ones, disturbed, or the predicted ones."""
        lattice = true + self.config.lattice_noise * noise.normal(0, CoarseStream.LATTICE, (6,)).to(true.dtype)
        from_head = noise.uniform(0, CoarseStream.LATTICE_SOURCE) < self.config.lattice_from_head
        return torch.where(from_head[:, None], predicted.detach().clamp(-4, 4), lattice)

    def _standard_properties(self, properties: Tensor) -> Tensor:
        return (properties - self._property_mean) / self._property_std

    def _condition(self, properties: Tensor, noise: CounterNoise | None = None) -> Tensor:
        """Known properties and which they are; in training some rows show none."""
        if not self.config.conditional:
            return properties.new_zeros(len(properties), 0)
        known = ~properties.isnan()
        if noise is not None:
            shown = noise.uniform(0, CoarseStream.CONDITION, (1 + properties.shape[1],)) >= self.config.drop_condition
            known = known & shown[:, :1] & shown[:, 1:]
        return torch.cat([torch.where(known, properties, 0.0), known.to(properties.dtype)], dim=-1)

    def _given(self, lattice: Tensor, num_blocks: Tensor, num_metal: Tensor, z: Tensor, condition: Tensor) -> _Given:
        cell = lattice_from_target(lattice.detach().float() * self._lattice_std + self._lattice_mean, num_blocks)
        counts = torch.stack([num_blocks.log1p(), num_metal.log1p(), num_metal / num_blocks], dim=-1)
        if self.config.sigma_unit == "cell":
            unit = cell_unit(cell)
        else:
            sizes = self.statistics.count_prob.sum(1).double()
            mean_blocks = (sizes * torch.arange(len(sizes), device=sizes.device)).sum()
            unit = (self.score.length_scale * mean_blocks.pow(1 / 3)).to(cell.device).expand(len(cell))
        return _Given(
            lattice=cell,
            num_blocks=num_blocks,
            graph_index=torch.arange(len(cell), device=cell.device).repeat_interleave(num_blocks),
            sigma_unit=unit,
            known=torch.cat([z, lattice.detach(), counts.to(z.dtype), condition.to(z.dtype)], dim=-1),
        )

    def _diffusion_losses(
        self, batch: CoarseBatch, framework: CoarseGraph, given: _Given, t: Tensor, noise: CounterNoise
    ) -> tuple[Tensor, Tensor]:
        index = batch.graph_index
        sigma = self.coord_process.sigma(t, given.sigma_unit)
        eps_x = self._per_block(noise, 0, CoarseStream.COORDS, 3, given)
        eps_h = self._per_block(noise, 0, CoarseStream.FEATURES, self.features.dim, given)
        x_t, target_x = self.coord_process.corrupt(batch.frac_coords, given.lattice, index, sigma, eps_x)
        h_t = self.feature_process.corrupt(framework.features, t[index], eps_h)
        out_h, out_x = self._denoise(_State(h_t, x_t), given, t)
        target_h = eps_h
        if self.config.feature_output == "velocity":
            target_h = velocity(self.feature_process, framework.features, eps_h, t[index])
        error_x = 0.5 * (out_x - centred(target_x, index, batch.num_blocks)).square().sum(-1)
        error_h = (out_h - target_h).square().mean(-1)
        return mean_over_blocks(error_x, index, batch.num_blocks), mean_over_blocks(error_h, index, batch.num_blocks)

    def _denoise(self, state: _State, given: _Given, t: Tensor) -> tuple[Tensor, Tensor]:
        """The network's output for the features, and sigma times the score of the centres."""
        noisy = NoisyFrameworks(
            features=state.features,
            frac_coords=state.frac_coords,
            lattice=given.lattice,
            num_blocks=given.num_blocks,
            graph_index=given.graph_index,
            time=t.float() / self.num_steps,
            known=given.known,
        )
        out_h, out_x = self.score(noisy)
        if self.config.score_gain:
            out_x = out_x * self.coord_process.gain(t).to(out_x.dtype)[given.graph_index, None]
        return out_h, out_x

    def _per_block(self, noise: CounterNoise, step: int, stream: int, dim: int, given: _Given) -> Tensor:
        """Standard normal numbers per block, which do not depend on other frameworks."""
        most = int(given.num_blocks.max())
        mask = torch.arange(most, device=given.num_blocks.device) < given.num_blocks[:, None]
        return noise.normal(step, stream, (most, dim))[mask]

    def _prior_loss(self, z: Tensor, condition: Tensor, noise: CounterNoise) -> Tensor:
        if self.prior is None:
            return z.sum() * 0
        t = 1 + (noise.uniform(0, CoarseStream.PRIOR_TIME) * self.prior.num_steps).long()
        eps = noise.normal(0, CoarseStream.PRIOR, (z.shape[1],))
        return self.prior.loss(z.float(), t, condition.float(), eps).mean()

    def _wanted(self, request: CoarseRequest) -> Tensor:
        if request.properties is None:
            shape = len(request), self.statistics.num_properties
            return torch.full(shape, torch.nan, device=request.seeds.device)
        return self._standard_properties(request.properties)

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

    def _reverse(
        self, given: _Given, unguided: _Given | None, noise: CounterNoise, sampler: CoarseSamplerConfig
    ) -> _State:
        index, dim = given.graph_index, self.features.dim
        start = CounterNoise(noise.seeds).uniform(0, CoarseStream.COORDS_START, (int(given.num_blocks.max()), 3))
        mask = torch.arange(start.shape[1], device=start.device) < given.num_blocks[:, None]
        state = _State(self._per_block(noise, 0, CoarseStream.FEATURES_START, dim, given), start[mask].float())
        grid = time_grid(sampler.num_steps, self.num_steps, sampler.grid_power).tolist()
        for t_now, t_next in itertools.pairwise(grid):
            t = torch.full_like(given.num_blocks, t_now)
            s = torch.full_like(t, t_next)
            out_h, out_x = self._denoise(state, given, t)
            if unguided is not None:
                plain_h, plain_x = self._denoise(state, unguided, t)
                out_h = out_h + sampler.score_guidance * (out_h - plain_h)
                out_x = out_x + sampler.score_guidance * (out_x - plain_x)
            if self.config.feature_output == "velocity":
                out_h = eps_of_velocity(self.feature_process, state.features, out_h, t[index])
            noise_h = self._per_block(noise, t_now, CoarseStream.FEATURES_START, dim, given)
            noise_x = self._per_block(noise, t_now, CoarseStream.COORDS, 3, given)
            sigma_t, sigma_s = (self.coord_process.sigma(step, given.sigma_unit) for step in (t, s))
            score = out_x / sigma_t[index, None]
            state = _State(
                self.feature_process.reverse_step(state.features, out_h, t[index], s[index], noise_h, sampler.eta),
                self.coord_process.reverse_step(
                    state.frac_coords, score, given.lattice, index, sigma_t, sigma_s, noise_x, sampler.eta
                ),
            )
        return state

    def _samples(
        self, state: _State, given: _Given, num_metal: Tensor, z: Tensor, predicted: LatentPrediction
    ) -> CoarseSamples:
        embedding, metal, connections = self.features.decode(state.features)
        nothing = torch.zeros_like(embedding[:, 0])
        metal = nothing if metal is None else metal
        return CoarseSamples(
            num_blocks=given.num_blocks,
            num_metal=num_metal,
            lattice=given.lattice,
            latent=z,
            predicted_properties=predicted.properties * self._property_std + self._property_mean,
            graph_index=given.graph_index,
            frac_coords=state.frac_coords,
            embedding=embedding,
            is_metal=metal > 0,
            metal_score=metal,
            num_connections=nothing * torch.nan if connections is None else connections,
        )
