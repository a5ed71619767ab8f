"""Settings of MOFDiff: the model that we train, and the published one."""

from dataclasses import dataclass, field, replace
from typing import Literal

from matgen.diffusion.gaussian import GaussianConfig
from matgen.diffusion.schedule import ScheduleConfig, SigmaConfig
from matgen.diffusion.wrapped_normal_lattice import LatticeNormalConfig
from matgen.models.block_encoder import large_network
from matgen.models.mofdiff_blocks import BlockSetConfig
from matgen.models.mofdiff_centres import CentreConfig
from matgen.models.mofdiff_latent import LatentConfig, PriorConfig
from matgen.models.mofdiff_losses import CoarseLossWeights
from matgen.models.mofdiff_score import ScoreConfig
from matgen.nn.gemnet import GraphConfig, NeighborConfig, ReadoutConfig
from matgen.settings import ADDED


@dataclass(frozen=True, kw_only=True)
class MOFDiffConfig:
    """Networks, processes and losses.

    `sigma_unit` is what sigma counts in: each cell's own size, or the training set's mean edge as published.
    `lattice_noise` (of a standardised component) and `lattice_from_head` (share of training frameworks whose centres
    are diffused in the predicted cell) prepare the score network for cells that are not exact, as in sampling.
    `drop_condition` is the share of training frameworks that do not show their properties.
    `blocks` is the network that draws the blocks before their centres, which `centres` then diffuses for real blocks;
    None: embeddings and centres are diffused together by the network `score`, as published, and as in the model that
    is shipped.
    """

    latent: LatentConfig = field(default_factory=LatentConfig)
    score: ScoreConfig = field(default_factory=ScoreConfig)
    prior: PriorConfig | None = field(default_factory=PriorConfig)
    blocks: BlockSetConfig | None = field(default=None, metadata=ADDED)
    centres: CentreConfig = field(default_factory=CentreConfig, metadata=ADDED)
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
            network=replace(network, node_dim=384, num_node_residuals=6, mean_neighbors=24.0),
            condition_dim=768,
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
