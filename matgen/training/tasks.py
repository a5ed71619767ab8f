"""The models that can be trained, each with its settings, its data set and the constants of its checkpoints."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from matgen.errors import ConfigError
from matgen.settings import from_dict
from matgen.training.checkpoint import load_model
from matgen.training.dataset import TrainingSet
from matgen.training.state import TrainConfig


@dataclass(frozen=True)
class Task:
    """What training one kind of model takes.

    Attributes:
        kind: word in the config.json of its checkpoints.
        config_type: dataclass of the model's settings.
        build: makes the model from its settings and constants, with random weights.
        load_constants: reads the constants from their file; None where the model has none.
        load_set: opens a folder of records as a training set.
    """

    kind: str
    config_type: type
    build: Callable[[Any, Any], nn.Module]
    load_constants: Callable[[Path], Any] | None
    load_set: Callable[[Path, TrainConfig], TrainingSet]


def _symmcd() -> Task:
    from matgen.data.priors import Priors
    from matgen.models.symmcd import SymmCD, SymmCDConfig
    from matgen.training.crystals import CrystalSet

    return Task("symmcd", SymmCDConfig, SymmCD, Priors.load, CrystalSet.load)


def _block_encoder() -> Task:
    from matgen.models.block_encoder import BlockEncoder, BlockEncoderConfig
    from matgen.training.blocks import BlockSet

    def build(config: BlockEncoderConfig, _constants: None) -> BlockEncoder:
        return BlockEncoder(config)

    return Task("block_encoder", BlockEncoderConfig, build, None, BlockSet.load)


def _mofdiff() -> Task:
    from matgen.data.mof_statistics import CoarseStatistics
    from matgen.models.mofdiff import MOFDiff, MOFDiffConfig
    from matgen.training.frameworks import FrameworkSet

    return Task("mofdiff", MOFDiffConfig, MOFDiff, CoarseStatistics.load, FrameworkSet.load)


_TASKS = {"symmcd": _symmcd, "block_encoder": _block_encoder, "mofdiff": _mofdiff}
KINDS = tuple(_TASKS)


def task_of(kind: str) -> Task:
    """Return the task of a kind of model; only its own modules are imported.

    Raises:
        ConfigError: there is no such kind.
    """
    if kind not in _TASKS:
        raise ConfigError(f"unknown kind of model {kind!r} (there are: {', '.join(KINDS)})")
    return _TASKS[kind]()


def load_trained(path: Path | str, kind: str, raw: bool = False) -> nn.Module:
    """Load a model of a given kind from a checkpoint, see `load_model`.

    Raises:
        CheckpointError: a file is missing or corrupt, or it is a checkpoint of another kind.
    """
    task = task_of(kind)

    def build(values: dict[str, Any], constants: Path | None) -> nn.Module:
        known = task.load_constants(constants) if task.load_constants is not None and constants is not None else None
        return task.build(from_dict(task.config_type, values), known)

    return load_model(path, kind, build, raw)
