"""Stage 2 for MOFs: draw coarse frameworks from a trained model. The table does not depend on the number of workers."""

import logging
import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import torch

from cluster.campaign import run_campaign
from cluster.lineage import finish_stage
from cluster.mof_library import LibraryChooser, chooser_of
from cluster.parts import Shard
from cluster.run import MofRun
from matgen.diffusion.noise import row_seed
from matgen.errors import ConfigError
from matgen.models.mofdiff import MOFDiff
from matgen.models.mofdiff_sampling import CoarseRequest, CoarseSamples
from matgen.mof_config import MofSampleConfig
from matgen.training.checkpoint import content_hash, find_checkpoint
from matgen.training.tasks import load_trained

logger = logging.getLogger(__name__)

_floats = pa.list_(pa.float32())

MOF_SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        ("seed", pa.int64()),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("num_blocks", pa.int16()),
        ("num_metal", pa.int16()),
        ("coarse_lattice", pa.list_(pa.float64())),
        ("coarse_frac_coords", pa.list_(pa.float64())),
        ("is_metal", pa.list_(pa.bool_())),
        ("num_connections", _floats),
        ("embedding", _floats),
        ("block_index", pa.list_(pa.int32())),  # rows of the library, where centres were drawn for its blocks
        ("latent", _floats),
        ("predicted_properties", _floats),
    ]
)


class MofSampleWork:
    """Samples the sample_ids of a shard, in batches cut from the shard's content alone."""

    schema = MOF_SAMPLE_SCHEMA

    def __init__(
        self, checkpoint: Path, config: MofSampleConfig, seed: int, choose: LibraryChooser | None = None
    ) -> None:
        """Nothing is loaded before `setup`.

        Args:
            checkpoint: of the model.
            config: count, batches and sampler.
            seed: of the run.
            choose: the library that centres are drawn for; None where the model draws them with the blocks.
        """
        self.checkpoint = checkpoint
        self.config = config
        self.seed = seed
        self.choose = choose
        self.model: MOFDiff | None = None

    def setup(self) -> None:
        """Load the model, onto this worker's GPU where it has one, and the library."""
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = load_mofdiff(self.checkpoint).to(self.device)
        if self.choose is not None:
            self.choose.setup()

    def load(self, shard: Shard) -> Sequence[int]:
        """The sample_ids of a shard."""
        return range(shard.payload, shard.payload + shard.num_rows)

    def process(self, rows: Sequence[int]) -> list[Mapping[str, Any]]:
        """Sample them."""
        done: list[Mapping[str, Any]] = []
        for start in range(0, len(rows), self.config.batch_size):
            ids = torch.tensor(list(rows[start : start + self.config.batch_size]), dtype=torch.int64)
            seeds = row_seed(self.seed, ids)
            columns = self.draw(seeds.to(self.device))
            for sample_id, seed, row in zip(ids.tolist(), seeds.tolist(), columns, strict=True):
                done.append({"sample_id": sample_id, "seed": seed, **row})
        return done

    def draw(self, seeds: torch.Tensor) -> list[dict[str, Any]]:
        """Sample a batch, one framework for each seed."""
        assert self.model is not None, "setup comes first"
        request = CoarseRequest(seeds=seeds, properties=self._wanted(len(seeds)))
        return sample_columns(self.model.sample(request, self.config.sampler, self.choose))

    def failed(self, row: int, status: str, reason: str) -> Mapping[str, Any]:
        """A sample that could not be drawn."""
        return {"sample_id": int(row), "status": status, "reason": reason}

    def _wanted(self, count: int) -> torch.Tensor | None:
        if not self.config.target:
            return None
        return torch.tensor(self.config.target, dtype=torch.float32, device=self.device).expand(count, -1)


def load_mofdiff(checkpoint: Path) -> MOFDiff:
    """Load a coarse diffusion model from a checkpoint directory.

    Raises:
        CheckpointError: it is missing or corrupt.
    """
    model = load_trained(checkpoint, "mofdiff")
    assert isinstance(model, MOFDiff)
    return model


def sample_columns(samples: CoarseSamples) -> list[dict[str, Any]]:
    """Table columns of each sampled framework; one that is not finite has the status "non_finite"."""
    fields = ("lattice", "latent", "predicted_properties", "frac_coords")
    arrays = {name: getattr(samples, name).cpu().numpy() for name in fields}
    of_blocks = ("embedding", "is_metal", "num_connections")
    arrays |= {name: getattr(samples.blocks, name).cpu().numpy() for name in of_blocks}
    chosen = None if samples.chosen is None else samples.chosen.index.cpu().numpy()
    counts, metals = samples.num_blocks.tolist(), samples.num_metal.tolist()
    stops = np.cumsum(counts)
    rows = []
    for i, (count, stop) in enumerate(zip(counts, stops)):
        own = slice(int(stop) - count, int(stop))
        coords, lattice = arrays["frac_coords"][own].astype(np.float64) % 1.0, arrays["lattice"][i].astype(np.float64)
        finite = all(np.isfinite(values).all() for values in (coords, lattice, arrays["embedding"][own]))
        rows.append(
            {
                "status": "ok" if finite else "non_finite",
                "reason": "" if finite else "the sampler left a lattice, centre or embedding that is not finite",
                "num_blocks": count,
                "num_metal": metals[i],
                "coarse_lattice": lattice.ravel(),
                "coarse_frac_coords": coords.ravel(),
                "is_metal": arrays["is_metal"][own],
                "num_connections": arrays["num_connections"][own],
                "embedding": arrays["embedding"][own].ravel(),
                "block_index": None if chosen is None else chosen[own],
                "latent": arrays["latent"][i],
                "predicted_properties": arrays["predicted_properties"][i],
            }
        )
    return rows


def sample_shards(config: MofSampleConfig) -> list[Shard]:
    """Cut the sample_ids into shards."""
    starts = range(0, config.count, config.shard_size)
    return [Shard(index, min(config.shard_size, config.count - start), start) for index, start in enumerate(starts)]


def sample_inputs(checkpoint: Path, choose: LibraryChooser | None) -> dict[str, str]:
    """What decides samples beside the settings: the weights, and the library where centres are drawn for its blocks."""
    return {"checkpoint": content_hash(checkpoint)[:16]} | ({} if choose is None else choose.lineage())


def mof_sample(run: MofRun) -> dict[str, Any]:
    """Draw the experiment's samples and write `samples/`.

    Returns:
        The stage's summary.

    Raises:
        CheckpointError: there is no checkpoint, or it is corrupt.
        ConfigError: a target of another number of properties than the model has.
        StageError: the directory cannot be written or holds another run.
    """
    started = time.monotonic()
    config = run.experiment.sample
    checkpoint = find_checkpoint(run.checkpoint or run.directory("train"))
    model = load_mofdiff(checkpoint)
    known, choose = model.statistics.num_properties, chooser_of(run, model)
    if config.target and (len(config.target) != known or all(math.isnan(value) for value in config.target)):
        raise ConfigError(f"sample.target has {len(config.target)} values, the model knows {known} properties")
    lineage = run.open_stage("sample", config, sample_inputs(checkpoint, choose))
    if lineage.complete:
        return lineage.summary
    settings = run.gpu_campaign("sample", shard_deadline_s=6 * 3600.0, row_deadline_s=600.0)
    work = MofSampleWork(checkpoint, config, run.experiment.seed, choose)
    directory = run.directory("sample")
    summary = run_campaign(work, sample_shards(config), directory, settings, lineage.table_metadata).as_dict()
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    logger.info("sample: %s in %.1f s", summary["status"], summary["seconds"])
    return summary
