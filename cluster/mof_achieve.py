"""The stage achieve: what the frameworks that came out really have of the property that was asked for."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.decode import stored_structure
from cluster.evaluate import _table_of
from cluster.lineage import finish_stage, read_lineage, require_stage
from cluster.mof_optimize import MOF_OPTIMIZE_SCHEMA
from cluster.mof_preprocess import MEASURED, QUICK_PORES
from cluster.mof_relax import relaxed_framework
from cluster.parts import Shard, read_part, shards_of_parts
from cluster.run import MofRun
from matgen.errors import MissingDependencyError
from matgen.evaluation.achieved import achieved_metrics
from matgen.evaluation.porosity import PorosityConfig, PorosityWorker
from matgen.evaluation.table import Table
from matgen.mof_config import MofOptimizeConfig

logger = logging.getLogger(__name__)

NOT_RUN = "not_run"
_ASKED = ("property", "goal", "way", "requested", "start", "start_predicted", "predicted")
_MADE = ("status", "reason", "num_blocks", "num_atoms", "formula")
MOF_ACHIEVED_SCHEMA = pa.schema(
    [
        ("sample_id", pa.int64()),
        *(MOF_OPTIMIZE_SCHEMA.field(name) for name in _ASKED),
        ("status", pa.string()),
        ("reason", pa.string()),
        ("num_blocks", pa.int16()),
        ("num_atoms", pa.int32()),
        ("formula", pa.string()),
        ("measured_on", pa.string()),  # the "relaxed" framework or the "assembled" one
        ("achieved", pa.float64()),
        ("achieved_status", pa.string()),
        ("achieved_reason", pa.string()),
        *((name, pa.float64()) for name in MEASURED),
    ]
)


class MofAchieveWork:
    """Measures the frameworks of a part that closed without clashes, relaxed ones in their relaxed form.

    Args:
        samples: folder with the parts that say what was asked for.
        frameworks: folder with those that say what came out.
        porosity: how pores are measured; as training labels were, by default.
    """

    schema = MOF_ACHIEVED_SCHEMA
    divisible = True

    def __init__(self, samples: Path, frameworks: Path, porosity: PorosityConfig = QUICK_PORES) -> None:
        self.samples, self.frameworks, self.porosity = samples, frameworks, porosity
        self.worker: PorosityWorker | None = None
        self.reason = ""

    def setup(self) -> None:
        """Start what measures pores, where it is installed."""
        try:
            self.worker = PorosityWorker(self.porosity)
        except MissingDependencyError as error:
            logger.warning("pores are not measured: %s", error)
            self.reason = str(error)

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read what was asked for, and what came out."""
        asked = read_part(self.samples / shard.file_name, ["sample_id", *_ASKED])
        made = read_part(self.frameworks / shard.file_name)
        return [{**new, **old} for old, new in zip(asked, made, strict=True)]

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Measure them; one that failed before keeps its status."""
        return [{**self._common(row), **self._measured(row)} for row in rows]

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be measured: that it came out stays true."""
        return {**self._common(row), "achieved_status": status, "achieved_reason": reason}

    def _common(self, row: Mapping[str, Any]) -> dict[str, Any]:
        return {name: row[name] for name in ("sample_id", *_ASKED, *_MADE)}

    def _measured(self, row: Mapping[str, Any]) -> dict[str, Any]:
        if row["status"] != "ok":
            return {"achieved_status": NOT_RUN, "achieved_reason": "no framework came out"}
        if self.worker is None:
            return {"achieved_status": NOT_RUN, "achieved_reason": self.reason}
        relaxed = relaxed_framework(row)
        structure = relaxed or stored_structure(row)
        assert structure is not None
        found = self.worker.measure(structure)
        pores = {name: getattr(found, name) if found.status == "ok" else None for name in MEASURED}
        told = {"measured_on": "assembled" if relaxed is None else "relaxed", **pores}
        if found.status == "ok" and row["property"] not in MEASURED:
            return {**told, "achieved_status": NOT_RUN, "achieved_reason": f"nothing here measures {row['property']}"}
        return {
            **told,
            "achieved": pores.get(row["property"]),
            "achieved_status": found.status,
            "achieved_reason": found.reason,
        }


def mof_achieve(run: MofRun) -> dict[str, Any]:
    """Measure the frameworks of `structures/`, or of `relaxed/` where there are any, and write `achieved/`.

    Returns:
        The stage's summary: counts by status, and requested, predicted and achieved values with their intervals.

    Raises:
        StageError: earlier stages are missing, or the directory cannot be written or holds another run.
        SourceError: a part is corrupt.
    """
    started = time.monotonic()
    partial = run.shards is not None
    samples = require_stage(run.directory("sample"), "sample", partial=partial)
    stage = "relax" if read_lineage(run.directory("relax")) is not None else "decode"
    made = require_stage(run.directory(stage), stage, partial=partial)
    inputs = {"samples": samples.identity, "frameworks": made.identity}
    lineage = run.open_stage("achieve", QUICK_PORES, inputs)
    if lineage.complete:
        return lineage.summary
    directory = run.directory("achieve")
    work = MofAchieveWork(run.directory("sample").resolve(), run.directory(stage).resolve())
    shards = shards_of_parts(run.directory(stage), "num_atoms")
    settings = run.campaign("achieve", shard_deadline_s=3600.0, row_deadline_s=120.0)
    summary = run_campaign(work, shards, directory, settings, lineage.table_metadata).as_dict()
    summary |= summarise(achieved_table(directory), run.experiment.optimize)
    finish_stage(directory, lineage, summary, time.monotonic() - started)
    return summary


def achieved_table(directory: Path) -> Table:
    """Read the rows of the stage as columns; text as object arrays, numbers that are missing as NaN."""
    return _table_of(directory)


def summarise(table: Table, config: MofOptimizeConfig) -> dict[str, Any]:
    """Figures of a population for a command's summary."""
    metrics = achieved_metrics(table, config.target if config.goal == "target" else None)
    return {
        "property": config.property,
        "target": config.target if config.goal == "target" else config.goal,
        "way": config.way,
        "num_achieved": next(metric.n for metric in metrics if metric.name == "achieved_mean"),
        **{metric.name: metric.value for metric in metrics},
        **{f"{metric.name}_interval": metric.interval for metric in metrics if metric.interval is not None},
        "not_run": {metric.name: metric.reason for metric in metrics if metric.status != "ok"},
    }
