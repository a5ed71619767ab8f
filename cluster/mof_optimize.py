"""Property-driven generation in the place of the stage sample: latents moved by the property head, or drawn for it."""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cluster.campaign import run_campaign
from cluster.lineage import finish_stage
from cluster.mof_library import LibraryChooser, chooser_of
from cluster.mof_sample import (
    MOF_SAMPLE_SCHEMA,
    MofSampleWork,
    load_mofdiff,
    sample_columns,
    sample_inputs,
    sample_shards,
)
from cluster.run import AnyRun, MofRun
from matgen.data.mof_collate import collate_frameworks
from matgen.data.mof_properties import PROPERTIES, KnownProperty, load_properties, properties_of
from matgen.data.mof_records import BlockRecords, CoarseRecords
from matgen.diffusion.noise import CounterNoise
from matgen.errors import CheckpointError, ConfigError
from matgen.models.mofdiff import MOFDiff
from matgen.models.mofdiff_optimise import optimise_latent
from matgen.models.mofdiff_sampling import CoarseRequest, CoarseStream
from matgen.mof_config import MofOptimizeConfig, MofSampleConfig
from matgen.training.checkpoint import find_checkpoint

logger = logging.getLogger(__name__)

MOF_OPTIMIZE_SCHEMA = pa.schema(
    [
        *MOF_SAMPLE_SCHEMA,
        ("property", pa.string()),
        ("goal", pa.string()),
        ("way", pa.string()),
        ("requested", pa.float64()),
        ("start", pa.string()),  # a training framework, or "prior"
        ("start_predicted", pa.float64()),  # by the property head, where latents began to move
        ("predicted", pa.float64()),  # by the property head, of the latent that was decoded
    ]
)


@dataclass(frozen=True, kw_only=True)
class OptimizeStageConfig:
    """What decides the samples."""

    sample: MofSampleConfig
    optimize: MofOptimizeConfig


class MofOptimizeWork(MofSampleWork):
    """Draws the sample_ids of a shard for a property; a row depends on its own seed alone.

    Args:
        checkpoint: of the model.
        config: count, batches and sampler.
        optimize: what is asked for; `start` is "training" or "prior".
        index: place of the property among the model's.
        embedded: folder with the embedded training set, for `start` "training".
        seed: of the run.
        choose: the library that centres are drawn for, see `MofSampleWork`.
    """

    schema = MOF_OPTIMIZE_SCHEMA

    def __init__(
        self,
        checkpoint: Path,
        config: MofSampleConfig,
        optimize: MofOptimizeConfig,
        index: int,
        embedded: Path | None,
        seed: int,
        choose: LibraryChooser | None = None,
    ) -> None:
        super().__init__(checkpoint, config, seed, choose)
        self.optimize, self.index, self.embedded = optimize, index, embedded

    def setup(self) -> None:
        """Load the model, and the training frameworks where latents start from them."""
        super().setup()
        self.frameworks: CoarseRecords | None = None
        if self.optimize.way == "latent" and self.optimize.start == "training":
            assert self.embedded is not None
            self.frameworks = CoarseRecords.load(self.embedded / "coarse_train.safetensors")
            self.embeddings = BlockRecords.load(self.embedded / "blocks_train.safetensors").embedding

    def draw(self, seeds: torch.Tensor) -> list[dict[str, Any]]:
        """Sample a batch, one framework for each seed."""
        assert self.model is not None, "setup comes first"
        config, names, before = self.optimize, ["prior"] * len(seeds), [None] * len(seeds)
        request = CoarseRequest(seeds=seeds)
        if config.way == "conditional":
            assert config.target is not None
            request = CoarseRequest(seeds=seeds, properties=self._wish(len(seeds), config.target))
        elif config.way == "latent":
            start, names = self._start(seeds)
            before = self._predicted(start)
            request = CoarseRequest(seeds=seeds, latent=self._moved(start, seeds))
        samples = self.model.sample(request, self.config.sampler, self.choose)
        after = self._predicted(samples.latent)
        rows = sample_columns(samples)
        told = {"property": config.property, "goal": config.goal, "way": config.way, "requested": config.target}
        return [
            {**row, **told, "start": name, "start_predicted": first, "predicted": last}
            for row, name, first, last in zip(rows, names, before, after, strict=True)
        ]

    def _wish(self, count: int, value: float) -> torch.Tensor:
        """Properties with the wanted one set, all others left open."""
        assert self.model is not None
        wish = torch.full((count, self.model.statistics.num_properties), torch.nan, device=self.device)
        wish[:, self.index] = value
        return wish

    def _start(self, seeds: torch.Tensor) -> tuple[torch.Tensor, list[str]]:
        """Where latents begin, and the names of the frameworks that they are of."""
        assert self.model is not None
        if self.frameworks is None:
            return self.model.sample_latent(CoarseRequest(seeds=seeds), self.config.sampler), ["prior"] * len(seeds)
        chosen = CounterNoise(seeds).uniform(0, CoarseStream.START) * len(self.frameworks)
        rows = chosen.long().cpu().numpy()
        assert self.embeddings is not None
        batch = collate_frameworks(self.frameworks, self.embeddings, rows).to(self.device)
        with torch.no_grad():
            return self.model.encode(batch), [self.frameworks.ids[row] for row in rows]

    def _moved(self, start: torch.Tensor, seeds: torch.Tensor) -> torch.Tensor:
        assert self.model is not None
        config = self.optimize
        endless = {"maximize": torch.inf, "minimize": -torch.inf}
        target = config.target if config.goal == "target" else endless[config.goal]
        assert target is not None
        wish = self.model.properties.standardise(self._wish(len(seeds), target))
        return optimise_latent(self.model.heads, self.model.prior, start, wish, CounterNoise(seeds), config.latent)

    def _predicted(self, latent: torch.Tensor) -> list[Any]:
        assert self.model is not None
        with torch.no_grad():
            properties = self.model.properties.restore(self.model.heads(latent).properties)
        return properties[:, self.index].tolist()


def embedded_directory(run: AnyRun) -> Path | None:
    """Folder with the embedded training set of the run's checkpoint; None where it is not there."""
    folder = run.directory("embed") if run.checkpoint is None else run.checkpoint.parent / "embedded"
    return folder if (folder / "coarse_train.safetensors").is_file() else None


def known_properties(run: AnyRun, model: MOFDiff) -> tuple[KnownProperty, ...]:
    """Properties that a run's model has learnt, in its order.

    Raises:
        ConfigError: it has learnt none.
        CheckpointError: neither the training set nor a properties.json is beside the checkpoint, or it does not fit.
    """
    if model.statistics.num_properties == 0:
        raise ConfigError("this model knows no properties: train one whose preprocess.properties names some")
    beside, embedded = (run.checkpoint or run.directory("train")) / PROPERTIES, embedded_directory(run)
    if beside.is_file():
        known = load_properties(beside)
    elif embedded is not None:
        known = properties_of(CoarseRecords.load(embedded / "coarse_train.safetensors"))
    else:
        raise CheckpointError(f"{beside} is missing, and so is embedded/: what are the properties of this model?")
    if len(known) != model.statistics.num_properties:
        raise CheckpointError(f"{beside.parent}: {len(known)} names for {model.statistics.num_properties} properties")
    return known


def check_request(config: MofOptimizeConfig, known: tuple[KnownProperty, ...], model: MOFDiff) -> tuple[int, str]:
    """Find the property, and say what is doubtful.

    Args:
        config: what is asked for.
        known: properties of the model.
        model: that is to answer.

    Returns:
        The place of the property, and a warning; "" where there is none.

    Raises:
        ConfigError: the model does not know the property, or cannot be asked in this way.
    """
    names = [item.name for item in known]
    if config.property not in names:
        raise ConfigError(f"unknown property {config.property!r} (this model knows: {', '.join(names)})")
    index = names.index(config.property)
    if known[index].count == 0:
        raise ConfigError(f"no training framework has a known {config.property}")
    if config.way == "conditional" and config.goal != "target":
        raise ConfigError(f"way conditional needs a target: {config.goal} is for way latent")
    if config.way == "conditional" and not model.config.conditional:
        raise ConfigError("this model was trained without conditions: use way latent")
    if config.goal != "target":
        return index, ""
    if config.target is None or not np.isfinite(config.target):
        raise ConfigError("a target is needed, a finite number; or the goal maximize or minimize")
    low, high = known[index].low, known[index].high
    if low <= config.target <= high:
        return index, ""
    return index, (
        f"target {config.target:g} is outside the training range of {config.property}: {low:.4g} to {high:.4g} over "
        f"{known[index].count} frameworks"
    )


def mof_optimize(run: MofRun) -> dict[str, Any]:
    """Draw the experiment's samples for a property and write `samples/`.

    Returns:
        The stage's summary, with the training range of the property and a warning where the target is outside.

    Raises:
        CheckpointError: there is no checkpoint, or it is corrupt, or nothing says what its properties are.
        ConfigError: the model does not know the property, or cannot be asked in this way.
        StageError: the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    checkpoint = find_checkpoint(run.checkpoint or run.directory("train"))
    model = load_mofdiff(checkpoint)
    known = known_properties(run, model)
    index, warning = check_request(run.experiment.optimize, known, model)
    if warning:
        logger.warning(warning)
    embedded = embedded_directory(run)
    optimize = _with_start(run.experiment.optimize, embedded)
    config = OptimizeStageConfig(sample=run.experiment.sample, optimize=optimize)
    choose = chooser_of(run, model)
    lineage = run.open_stage("sample", config, sample_inputs(checkpoint, choose))
    if lineage.complete:
        return lineage.summary
    settings = run.gpu_campaign("optimize", shard_deadline_s=6 * 3600.0, row_deadline_s=600.0)
    folder = embedded.resolve() if embedded is not None else None
    work = MofOptimizeWork(checkpoint.resolve(), config.sample, optimize, index, folder, run.experiment.seed, choose)
    directory = run.directory("sample")
    summary = run_campaign(work, sample_shards(config.sample), directory, settings, lineage.table_metadata).as_dict()
    summary["training_range"] = [known[index].low, known[index].high]
    summary["warning"] = warning
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("optimize: %s in %.1f s", summary["status"], summary["seconds"])
    return summary


def _with_start(config: MofOptimizeConfig, embedded: Path | None) -> MofOptimizeConfig:
    if config.start == "training" and embedded is None:
        raise ConfigError("start training needs the folder embedded/ beside the checkpoint's; start prior does not")
    if config.start == "auto":
        return replace(config, start="prior" if embedded is None else "training")
    return config
