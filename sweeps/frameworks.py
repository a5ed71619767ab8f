"""The coarse diffusion of MOFDiff as the subject of a sweep: frameworks sampled, given blocks, and assembled."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from cluster.mof_decode import MofDecodeWork
from cluster.mof_embed import embed
from cluster.mof_library import LibraryChooser
from cluster.mof_preprocess import mof_preprocess
from cluster.mof_sample import MofSampleWork
from cluster.mof_train import train_blocks
from cluster.run import AnyRun
from matgen.data.mof_records import CoarseRecords
from matgen.data.mof_statistics import CoarseStatistics
from matgen.errors import MatgenError
from matgen.models.mofdiff import MOFDiff
from matgen.training.state import TrainConfig
from sweeps.blocks import Blocks
from sweeps.mofdiff_spaces import FRAMEWORK_POPULATION, FRAMEWORK_SCHEDULES, paper_frameworks
from sweeps.quality import FORMULA, Sampled, quality
from sweeps.spaces import Space
from sweeps.subjects import Judged, Reference

_MAX_TRIES = 4  # choices of blocks a sample: what is judged is how well centres and blocks were drawn


class Frameworks(Blocks):
    """Judged by the shares of samples that are feasible, that close, and that are free of clashes, and by volume."""

    kind = "mofdiff"
    noun = "frameworks"
    spaces: Sequence[Space] = (FRAMEWORK_SCHEDULES, FRAMEWORK_POPULATION)
    baselines: Mapping[str, Any] = {"paper": paper_frameworks}
    formula = (
        f"{FORMULA}: feasible (connections pair up and fit the cell), closed (every paired connection meets), free "
        "(closed without a clash), volume (exp(-d / spread): d the Wasserstein distance to the data of the volume per "
        "block, spread the data's standard deviation)"
    )

    def prepare(self, run: AnyRun) -> Path:
        """Make records, train the block encoder and embed; of records that were named what is left of that."""
        if run.records is None:
            mof_preprocess(run)
        elif (run.records / CoarseStatistics.file_name).exists():
            return run.records
        train_blocks(run)
        embed(run)
        return run.directory("embed")

    def reference(self, records: Path) -> Reference:
        """Volume per block of the training frameworks, Å^3."""
        frameworks = CoarseRecords.load(records / "coarse_train.safetensors")
        volumes = np.abs(np.linalg.det(np.asarray(frameworks.lattice, dtype=np.float64)))
        return {"volume": volumes / np.asarray(frameworks.num_blocks)}

    def model(self, experiment: Any) -> Any:
        """The diffusion's settings."""
        return experiment.model

    def train(self, experiment: Any) -> TrainConfig:
        """The settings of its training."""
        config: TrainConfig = experiment.train
        return config

    def with_train(self, experiment: Any, config: TrainConfig) -> Any:
        """The experiment with other settings of training."""
        return replace(experiment, train=config)

    def judge(
        self, model: nn.Module, experiment: Any, records: Path, reference: Reference, count: int, seed: int
    ) -> Judged:
        """Sample, look up blocks, assemble with centres and cell nearly as drawn: it is these that are judged."""
        assert isinstance(model, MOFDiff)
        config = experiment.sample
        steps = min(config.sampler.num_steps, model.num_steps)
        sampler = replace(config.sampler, num_steps=steps, metal_nodes_as_drawn=False)
        tries = min(experiment.decode.lookup.num_tries, _MAX_TRIES)
        lookup = replace(
            experiment.decode.lookup, num_tries=tries, num_simple=0, num_passes=1, inversion=False
        )  # which would mend it, too
        library, choose = records / "blocks_train.safetensors", None
        if model.blocks is not None:
            choose = LibraryChooser(library, lookup)
            choose.setup()
        work = MofSampleWork(Path(), replace(config, count=count, sampler=sampler), seed, choose)
        work.model, work.device = model, next(model.parameters()).device
        rows = work.process(range(count))
        kept = replace(experiment.decode, lookup=lookup, assemble=experiment.decode.assemble.with_centres_kept())
        decoder = MofDecodeWork(library, kept)
        decoder.setup()
        decoded = [_decoded(decoder, row) for row in rows]
        status = np.array([row["status"] for row in decoded])
        volume = [
            abs(np.linalg.det(np.asarray(row["coarse_lattice"], dtype=np.float64).reshape(3, 3))) / row["num_blocks"]
            for row in rows
        ]
        sampled = Sampled(
            flags={
                "feasible": np.isin(status, ("ok", "clash", "open")),
                "closed": np.isin(status, ("ok", "clash")),
                "free": status == "ok",
            },
            values={"volume": np.array(volume)},
        )
        words, counts = np.unique(status, return_counts=True)
        shares = {f"status_{word}": float(number / len(status)) for word, number in zip(words, counts, strict=True)}
        return Judged(quality=quality(sampled, reference), figures=shares)


def _decoded(decoder: MofDecodeWork, row: Mapping[str, Any]) -> Mapping[str, Any]:
    """Decode one sample; what no library has is a failed sample, not the end of a trial."""
    try:
        return decoder.process([row])[0]
    except (ValueError, MatgenError) as error:
        return decoder.failed(row, "failed", str(error))
