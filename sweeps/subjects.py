"""What can be swept: a model with its records, its experiment, and the way its samples are judged."""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from torch import nn

from cluster.run import AnyRun
from matgen.errors import ConfigError
from matgen.training.state import TrainConfig
from sweeps.quality import Quality
from sweeps.spaces import Space

Reference = dict[str, np.ndarray]
"""Name -> values of the data, which samples are held against."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """The objective of a model, and figures that are shown beside it."""

    quality: Quality
    figures: Mapping[str, float] = field(default_factory=dict)


class Subject(Protocol):
    """One kind of model as sweeps see it; has no state, so that it is found again by its name in any process."""

    kind: str
    noun: str
    spaces: Sequence[Space]
    baselines: Mapping[str, Any]
    formula: str

    def check(self, experiment: Any) -> None:
        """Refuse an experiment of another kind."""

    def read(self, values: dict[str, Any]) -> Any:
        """Return an experiment from JSON values."""

    def prepare(self, run: AnyRun) -> Path:
        """Make the records of a run, where they are not there yet; return their folder."""

    def reference(self, records: Path) -> Reference:
        """Return what samples are held against; its arrays are kept with the sweep."""

    def model(self, experiment: Any) -> Any:
        """Return the model's settings."""

    def train(self, experiment: Any) -> TrainConfig:
        """Return the settings of its training."""

    def with_train(self, experiment: Any, config: TrainConfig) -> Any:
        """Return the experiment with other settings of training."""

    def judge(
        self, model: nn.Module, experiment: Any, records: Path, reference: Reference, count: int, seed: int
    ) -> Judged:
        """Judge a trained model.

        Args:
            model: in evaluation mode, with the weights to judge.
            experiment: what it was trained for.
            records: it was trained on.
            reference: from `reference`.
            count: samples to draw.
            seed: of the samples; the same seeds ask for the same things.
        """


_SUBJECTS = {
    "symmcd": "sweeps.crystals:Crystals",
    "block_encoder": "sweeps.blocks:Blocks",
    "mofdiff": "sweeps.frameworks:Frameworks",
}


def subject_of(name: str) -> Subject:
    """Return the subject of a name; only its own modules are imported.

    Raises:
        ConfigError: there is none.
    """
    if name not in _SUBJECTS:
        raise ConfigError(f"unknown subject {name!r} (there are: {', '.join(_SUBJECTS)})")
    module, _, attribute = _SUBJECTS[name].partition(":")
    subject: Subject = getattr(importlib.import_module(module), attribute)()
    return subject


def with_train(experiment: Any, config: TrainConfig) -> Any:
    """Return an experiment with other settings of its own training."""
    return replace(experiment, train=config)
