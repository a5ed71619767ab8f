"""SymmCD as the subject of a sweep: crystals sampled, decoded and scored within seconds."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from cluster.decode import DecodeWork, stored_structure
from cluster.populations import RecordPopulation, structures_of
from cluster.preprocess import preprocess
from cluster.run import AnyRun
from cluster.sample import SampleWork
from matgen.config import Experiment
from matgen.errors import ConfigError, StageError
from matgen.evaluation.composition import composition_counts
from matgen.evaluation.scores import ScoreConfig, score_structures
from matgen.evaluation.symmetry import SymmetryConfig
from matgen.evaluation.table import Table
from matgen.evaluation.validity import density
from matgen.models.symmcd import SymmCD
from matgen.training.state import TrainConfig
from sweeps.quality import FORMULA, Sampled, quality
from sweeps.spaces import Space
from sweeps.subjects import Judged, Reference, with_train
from sweeps.symmcd_spaces import BASELINES, SPACES

FIDELITY_SYMPREC = 0.01
REFERENCE_LIMIT = 2000
MAX_EDGE = 100.0  # Å; the search for symmetry may take for ever in a cell that is much longer than wide
FEW = 100  # held-out crystals below which the reference is the whole data set


class Crystals:
    """Judged by validity, composition, space-group fidelity, and closeness of elements and density to the data."""

    kind = "symmcd"
    noun = "crystals"
    spaces: Sequence[Space] = SPACES
    baselines: Mapping[str, Any] = BASELINES
    formula = (
        f"{FORMULA} (a crystal with an edge over {MAX_EDGE:g} Å has failed): raw (min distance > 0.5 Å before overlaps "
        "are resolved), strict (every distance > half the sum of covalent radii, plausible density and cell), "
        "composition (SMACT), fidelity (the detected group is the requested one at symprec "
        f"{FIDELITY_SYMPREC} Å), elements and density (exp(-d / spread): d the Wasserstein distance to held-out data "
        "of the number of elements and of the density, spread the data's standard deviation)"
    )

    def check(self, experiment: Any) -> None:
        """Refuse an experiment of another kind.

        Raises:
            ConfigError: it is not one on crystals.
        """
        if not isinstance(experiment, Experiment):
            raise ConfigError(f"{experiment.name} is no experiment on crystals")

    def read(self, values: dict[str, Any]) -> Experiment:
        """Return an experiment from JSON values."""
        from matgen.settings import from_dict

        return from_dict(Experiment, values)

    def prepare(self, run: AnyRun) -> Path:
        """Make the records."""
        if run.records is None:
            preprocess(run)
        return run.records_directory

    def reference(self, records: Path) -> Reference:
        """Density (g/cm^3) and number of elements of the validation crystals, or of all where these are few."""
        population = RecordPopulation(records)
        crystals = [structure for _, structure in structures_of(population, ("val",), REFERENCE_LIMIT)]
        if len(crystals) < FEW:
            crystals = [structure for _, structure in structures_of(population, limit=REFERENCE_LIMIT)]
        if not crystals:
            raise StageError(f"{records}: no crystal to compare samples with")
        return {
            "elements": np.array([len(composition_counts(c.atomic_numbers)) for c in crystals], dtype=np.float64),
            "density": np.array([density(c) for c in crystals]),
        }

    def model(self, experiment: Any) -> Any:
        """The model's settings."""
        return experiment.model

    def train(self, experiment: Any) -> TrainConfig:
        """The settings of its training."""
        config: TrainConfig = experiment.train
        return config

    def with_train(self, experiment: Any, config: TrainConfig) -> Any:
        """The experiment with other settings of training."""
        return with_train(experiment, config)

    def judge(
        self, model: nn.Module, experiment: Any, records: Path, reference: Reference, count: int, seed: int
    ) -> Judged:
        """Sample, decode, score."""
        assert isinstance(model, SymmCD)
        table = _scores(_samples(model, experiment, count, seed), experiment)
        judged = quality(sampled_crystals(table), reference)
        return Judged(quality=judged, figures={"usable": float(np.mean(table["status"] == "ok"))})


def _samples(model: SymmCD, experiment: Experiment, count: int, seed: int) -> list[Mapping[str, Any]]:
    """Draw asymmetric units with the model as it is; the row of a sample depends on its seed and its number alone."""
    config = experiment.sample
    sampler = replace(config.sampler, num_steps=min(config.sampler.num_steps, model.num_steps))
    work = SampleWork(Path(), replace(config, count=count, sampler=sampler), seed)
    work.model, work.priors = model, model.priors.to(torch.device("cpu"))
    work.device = next(model.parameters()).device
    return work.process(range(count))


def _scores(rows: Sequence[Mapping[str, Any]], experiment: Experiment) -> Table:
    decoded = [_without_needles(row) for row in DecodeWork(experiment.decode.decode).process(rows)]
    tolerance = SymmetryConfig(symprec=FIDELITY_SYMPREC, fidelity_symprecs=(FIDELITY_SYMPREC,))
    config: ScoreConfig = replace(experiment.evaluate.metrics.score, symmetry=tolerance)
    table = score_structures(
        [stored_structure(row) for row in decoded],
        [row["space_group_number"] or 0 for row in decoded],
        config,
        statuses=[row["status"] for row in decoded],
        reasons=[row["reason"] for row in decoded],
    )
    raw = [row.get("raw_min_distance") if row["status"] != "long_edge" else None for row in decoded]
    table["raw_min_distance"] = np.array([np.nan if value is None else value for value in raw], dtype=np.float64)
    table["raw_valid"] = np.nan_to_num(table["raw_min_distance"], nan=-1.0) > config.validity.min_distance
    return table


def _without_needles(row: Mapping[str, Any]) -> Mapping[str, Any]:
    structure = stored_structure(row)
    if structure is None or np.linalg.norm(structure.lattice, axis=1).max() <= MAX_EDGE:
        return row
    return {**row, "status": "long_edge", "reason": f"an edge of the cell is longer than {MAX_EDGE:g} Å"}


def sampled_crystals(table: Table) -> Sampled:
    """What the objective reads of a table of scores."""
    ok = table["status"] == "ok"
    return Sampled(
        flags={
            "raw": table["raw_valid"],
            "strict": table["strict_valid"],
            "composition": table["composition_valid"],
            "fidelity": table[f"exact_symprec_{FIDELITY_SYMPREC:g}"],
        },
        values={
            "elements": np.where(ok, table["num_elements"].astype(np.float64), np.nan),
            "density": table["density"],
        },
    )
