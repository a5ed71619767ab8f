"""Experiment: the frozen composition of the pieces' configs. JSON in and out; strict `set("train.max_steps=2000")`."""

import json
from dataclasses import dataclass, field, replace
from typing import Self

from matgen.errors import ConfigError
from matgen.evaluation.population import EvaluationConfig
from matgen.models.requests import SampleConfig
from matgen.models.symmcd import SymmCDConfig
from matgen.relaxation.optimizer import RelaxConfig
from matgen.representations.asymmetric_unit import EncodeConfig
from matgen.representations.decode import DecodeConfig
from matgen.settings import from_dict, set_value, to_dict
from matgen.sources.source import SourceConfig
from matgen.training.state import TrainConfig

__all__ = [
    "STAGES",
    "ComposedExperiment",
    "DecodeStageConfig",
    "EvaluateStageConfig",
    "Experiment",
    "PreprocessConfig",
    "RelaxStageConfig",
    "SampleConfig",
    "SymmCDConfig",
    "TrainConfig",
]

STAGES = ("preprocess", "train", "sample", "decode", "relax", "evaluate", "report")


@dataclass(frozen=True, kw_only=True)
class PreprocessConfig:
    """Settings of the stage preprocess.

    `source` is a named data set or a path. A row whose source names no split gets one by a hash of its id, in the
    shares `split_fractions` (train, val, test); `resplit` does so for all rows. `limit` takes the first rows only.
    """

    source: str = "mp_20"
    limits: SourceConfig = field(default_factory=SourceConfig)
    encode: EncodeConfig = field(default_factory=EncodeConfig)
    resplit: bool = False
    split_fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    split_seed: int = 0
    shard_size: int = 512
    limit: int | None = None


@dataclass(frozen=True, kw_only=True)
class DecodeStageConfig:
    """Settings of the stage decode: the decoder's, and how many seconds a shard may take before it is split."""

    decode: DecodeConfig = field(default_factory=DecodeConfig)
    shard_deadline_s: float = 1800.0


@dataclass(frozen=True, kw_only=True)
class RelaxStageConfig:
    """Settings of the stage relax.

    `limit` relaxes the first samples only; the others get the status "not_run".
    """

    relax: RelaxConfig = field(default_factory=RelaxConfig)
    limit: int | None = None
    hull: str = ""
    shard_deadline_s: float = 7200.0
    row_deadline_s: float = 300.0


@dataclass(frozen=True, kw_only=True)
class EvaluateStageConfig:
    """Settings of the stage evaluate.

    `coverage` makes CrystalNN and Magpie fingerprints (0.1 s a structure); `reference_limit` takes the first crystals
    of the test set only, for all metrics.
    """

    metrics: EvaluationConfig = field(default_factory=EvaluationConfig)
    coverage: bool = True
    reference_limit: int | None = None
    shard_deadline_s: float = 3600.0


class ComposedExperiment:
    """What all experiments can do: settings by dotted names, JSON in and out."""

    def set(self, assignment: str) -> Self:
        """Return a copy with one setting changed, as in `train.max_steps=2000`.

        Raises:
            ConfigError: an unknown key or a wrong type; the message lists what is valid.
        """
        return set_value(self, assignment)

    def to_json(self) -> str:
        """Return the settings as JSON."""
        return json.dumps(to_dict(self), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read settings from JSON; absent keys keep their defaults.

        Raises:
            ConfigError: no JSON, an unknown key or a wrong type.
        """
        try:
            values = json.loads(text)
        except ValueError as error:
            raise ConfigError(f"not JSON: {error}") from error
        return from_dict(cls, values)


@dataclass(frozen=True, kw_only=True)
class Experiment(ComposedExperiment):
    """Everything that decides what a run computes; where it runs, and on how many workers, is no part of it."""

    name: str
    stages: tuple[str, ...] = STAGES
    seed: int = 0
    preprocess: PreprocessConfig = field(default_factory=PreprocessConfig)
    model: SymmCDConfig = field(default_factory=SymmCDConfig)
    train: TrainConfig = field(default_factory=TrainConfig)
    sample: SampleConfig = field(default_factory=SampleConfig)
    decode: DecodeStageConfig = field(default_factory=DecodeStageConfig)
    relax: RelaxStageConfig = field(default_factory=RelaxStageConfig)
    evaluate: EvaluateStageConfig = field(default_factory=EvaluateStageConfig)

    def with_seed(self, seed: int) -> "Experiment":
        """Return a copy whose every draw follows from another seed."""
        return replace(self, seed=seed, train=replace(self.train, seed=seed))
