"""MOFDiff: a latent of a coarse framework, and a joint diffusion of its blocks' embeddings and centres given it."""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from matgen.data.mof_batch import CoarseBatch
from matgen.data.mof_statistics import CoarseStatistics, lattice_target
from matgen.diffusion.noise import CounterNoise
from matgen.models.mofdiff_config import MOFDiffConfig, paper_config
from matgen.models.mofdiff_diffusion import CoarseDiffusion
from matgen.models.mofdiff_features import BlockFeatures
from matgen.models.mofdiff_latent import (
    CoarseGraph,
    LatentEncoder,
    LatentHeads,
    LatentPrediction,
    LatentPrior,
    kl_divergence,
)
from matgen.models.mofdiff_losses import CoarseLosses, combine, count_loss, property_loss
from matgen.models.mofdiff_properties import Properties
from matgen.models.mofdiff_reverse import Reverse
from matgen.models.mofdiff_sampling import (
    BlockChooser,
    ChosenBlocks,
    CoarseRequest,
    CoarseSamplerConfig,
    CoarseSamples,
    CoarseStream,
    draw_counts,
)
from matgen.nn.gemnet import periodic_vectors

__all__ = ["MOFDiff", "MOFDiffConfig", "paper_config"]


class MOFDiff(CoarseDiffusion):
    """The model: draw t, corrupt, predict, compare; or draw a latent, start from noise and step back.

    Blocks and centres are drawn together, as published; embeddings then stay noisy until the centres are decided. With
    `config.blocks`, which blocks a framework has is drawn before where they are: centres are then diffused for real
    blocks, whose arms say how far apart they are.

    Args:
        config: networks, processes and losses.
        statistics: of the training set; part of a checkpoint, for they define the process.

    Source: Fu et al., MOFDiff (ICLR 2024, arXiv 2310.10732).
    """

    def __init__(self, config: MOFDiffConfig, statistics: CoarseStatistics) -> None:
        properties = Properties(statistics, config.conditional)
        known = config.latent.dim + 6 + 3 + properties.condition_dim
        super().__init__(config, statistics, BlockFeatures(statistics, config.diffuse_labels), known)
        self.encoder = LatentEncoder(config.latent, self.features.dim)
        self.heads = LatentHeads(config.latent, statistics.max_blocks, statistics.num_properties)
        self.properties = properties
        self.prior = LatentPrior(config.prior, config.latent.dim, properties.condition_dim) if config.prior else None

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
