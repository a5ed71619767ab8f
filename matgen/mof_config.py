"""MofExperiment: what `matgen.config.Experiment` is for crystals, for metal-organic frameworks."""

from dataclasses import dataclass, field, replace
from typing import Literal

from matgen.config import ComposedExperiment
from matgen.evaluation.adsorption import AdsorptionConfig
from matgen.evaluation.porosity import PorosityConfig
from matgen.models.block_encoder import BlockEncoderConfig
from matgen.models.mofdiff import MOFDiffConfig
from matgen.models.mofdiff_latent import LatentConfig, PriorConfig
from matgen.models.mofdiff_optimise import OptimiseConfig
from matgen.models.mofdiff_sampling import CoarseSamplerConfig
from matgen.models.mofdiff_score import ScoreConfig
from matgen.mof.choices import ChoicesConfig
from matgen.mof.decompose import DecomposeConfig
from matgen.mof.lookup import LookupConfig
from matgen.nn.gemnet import GemNetConfig, GraphConfig, ReadoutConfig
from matgen.relaxation.uff_relax import UffRelaxConfig
from matgen.sources.source import SourceConfig
from matgen.training.state import TrainConfig

MOF_STAGES = (
    *("preprocess", "train_blocks", "embed", "score_blocks", "train"),
    *("sample", "decode", "relax", "evaluate", "report"),
)


@dataclass(frozen=True, kw_only=True)
class MofPreprocessConfig:
    """Settings of the stage preprocess.

    `source` is a path, or the name of a parquet file in the data folder. Frameworks of more than `max_blocks` blocks
    have the status "too_large". `properties` names what the diffusion learns: columns of the source, or pores that are
    measured here (pyzeo: void_fraction, pore_limiting_diameter, largest_cavity_diameter, accessible_surface_area) on a
    share `measured_share` of the frameworks; the others are unknown, which training allows. Splits are made as for
    crystals.
    """

    source: str = "qmof"
    limits: SourceConfig = field(default_factory=SourceConfig)
    decompose: DecomposeConfig = field(default_factory=DecomposeConfig)
    max_blocks: int = 64
    properties: tuple[str, ...] = ()
    measured_share: float = 0.0
    resplit: bool = False
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    shard_size: int = 128
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class BlocksConfig:
    """Model and training of the block encoder; `batch_size` is that of embedding the library."""

    model: BlockEncoderConfig = field(default_factory=BlockEncoderConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(learning_rate=3e-4, batch_size=256))
    batch_size: int = 512


@dataclass(frozen=True, kw_only=True)
class MofSampleConfig:
    """Settings of the stage sample.

    `target` asks for properties, one value for each of the experiment's, NaN for any; empty asks for none.
    """

    count: int = 1000
    shard_size: int = 64
    batch_size: int = 64
    sampler: CoarseSamplerConfig = field(default_factory=CoarseSamplerConfig)
    target: tuple[float, ...] = ()


@dataclass(frozen=True, kw_only=True)
class MofOptimizeConfig:
    """Settings of property-driven generation, which takes the place of the stage sample.

    `goal` "target" asks for the value `target` of `property`, in the property's own unit; "maximize" and "minimize" for
    as much and as little as possible. `way` is "latent" (latents moved by the property head), "conditional" (drawn
    given the target, classifier-free guidance) or "random" (nothing asked for, to compare with). `start` is where
    latents begin to move: "training" frameworks, encoded; draws of the "prior"; "auto" takes the first where it can.
    """

    property: str = "void_fraction"
    target: float | None = None
    goal: Literal["target", "maximize", "minimize"] = "target"
    way: Literal["latent", "conditional", "random"] = "latent"
    start: Literal["auto", "training", "prior"] = "auto"
    latent: OptimiseConfig = field(default_factory=OptimiseConfig)


def _quick_pores() -> PorosityConfig:
    return PorosityConfig(surface_samples=1, void_samples=1, refine_between=(0.0, 0.0))


def _quick_relax() -> UffRelaxConfig:
    return UffRelaxConfig(max_steps=1500, force_tolerance=0.3, stress_tolerance=0.02)


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """What is asked of a framework before it is taken: that it survives, has no faults, and has pores.

    `relax` is looser than the stage relax. `checks`: of the checks of the stage evaluate those of atoms and elements;
    not that of charges. `least_pore_limiting_diameter` is in Å, 0 takes frameworks without pores, too; `pores` says
    how it is measured, with one sphere an atom. Larger frameworks than `max_atoms` are taken as they are. How many
    frameworks of a sample are tried is `assemble.trials`.
    """

    relax: UffRelaxConfig = field(default_factory=_quick_relax)
    checks: bool = True
    least_pore_limiting_diameter: float = 2.4
    pores: PorosityConfig = field(default_factory=_quick_pores)
    max_atoms: int = 800

    def __post_init__(self) -> None:
        if not self.least_pore_limiting_diameter >= 0 or self.max_atoms < 0:
            raise ValueError(f"need least_pore_limiting_diameter, max_atoms >= 0, not {self}")


@dataclass(frozen=True, kw_only=True)
class MofDecodeConfig:
    """Settings of the stage decode: block lookup, self-assembly, and a trial of what closes."""

    lookup: LookupConfig = field(default_factory=LookupConfig)
    assemble: ChoicesConfig = field(default_factory=ChoicesConfig)
    trial: TrialConfig = field(default_factory=TrialConfig)
    shard_deadline_s: float = 3600.0
    row_deadline_s: float = 900.0


@dataclass(frozen=True, kw_only=True)
class MofRelaxConfig:
    """Settings of the stage relax.

    `limit` relaxes the first samples only; the others, and frameworks of more than `max_atoms`, have the relax status
    "not_run".
    """

    relax: UffRelaxConfig = field(default_factory=UffRelaxConfig)
    limit: int | None = None
    max_atoms: int = 2000
    shard_deadline_s: float = 7200.0
    row_deadline_s: float = 600.0


@dataclass(frozen=True, kw_only=True)
class MofEvaluateConfig:
    """Settings of the stage evaluate.

    `porosity` measures pores with pyzeo where it is installed, as `pores` says; `reference_limit` structures of the
    source are scored beside the samples, 0 for none. `adsorption` simulates the CO2 working capacity of valid samples
    (raspalib, minutes each), as `gcmc` says.
    """

    porosity: bool = True
    pores: PorosityConfig = field(default_factory=PorosityConfig)
    adsorption: bool = False
    gcmc: AdsorptionConfig = field(default_factory=AdsorptionConfig)
    reference_limit: int = 200
    shard_deadline_s: float = 3600.0
    row_deadline_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class MofExperiment(ComposedExperiment):
    """Everything that decides what a run on frameworks computes."""

    name: str
    stages: tuple[str, ...] = MOF_STAGES
    seed: int = 0
    preprocess: MofPreprocessConfig = field(default_factory=MofPreprocessConfig)
    blocks: BlocksConfig = field(default_factory=BlocksConfig)
    model: MOFDiffConfig = field(default_factory=MOFDiffConfig)
    train: TrainConfig = field(default_factory=lambda: TrainConfig(learning_rate=3e-4, batch_size=128))
    sample: MofSampleConfig = field(default_factory=MofSampleConfig)
    optimize: MofOptimizeConfig = field(default_factory=MofOptimizeConfig)
    decode: MofDecodeConfig = field(default_factory=MofDecodeConfig)
    relax: MofRelaxConfig = field(default_factory=MofRelaxConfig)
    evaluate: MofEvaluateConfig = field(default_factory=MofEvaluateConfig)

    def with_seed(self, seed: int) -> "MofExperiment":
        """Return a copy whose every draw follows from another seed."""
        blocks = replace(self.blocks, train=replace(self.blocks.train, seed=seed))
        return replace(self, seed=seed, blocks=blocks, train=replace(self.train, seed=seed))


def tiny_block_encoder() -> BlockEncoderConfig:
    """An encoder for demonstrations and tests."""
    return BlockEncoderConfig(
        graph=GraphConfig(num_radial=8, num_angular=3), network=_tiny(2.0), readout=_tiny_readout(), hidden=48
    )


def tiny_mofdiff() -> MOFDiffConfig:
    """A coarse diffusion for demonstrations and tests."""
    graph = GraphConfig(cutoff=4.0, num_radial=8, num_angular=3)
    latent = LatentConfig(dim=16, graph=graph, network=_tiny(6.0), readout=_tiny_readout(), hidden=48)
    return MOFDiffConfig(
        latent=latent,
        score=ScoreConfig(graph=graph, network=_tiny(12.0), condition_dim=48),
        prior=PriorConfig(hidden=48, num_layers=2),
    )


def _tiny(mean_neighbors: float) -> GemNetConfig:
    return GemNetConfig(
        node_dim=32, edge_dim=24, num_layers=2, triplet_dim=8, radial_dim=8, mean_neighbors=mean_neighbors
    )


def _tiny_readout() -> ReadoutConfig:
    return ReadoutConfig(num_heads=4, head_dim=8, hidden=32)
