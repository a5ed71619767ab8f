"""Stage 5 for MOFs: check and measure every framework, hold it against the training set, and sum up."""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import run_campaign
from cluster.decode import stored_structure
from cluster.evaluate import _plain, _table_of
from cluster.lineage import StageLineage, finish_stage, read_lineage, require_stage
from cluster.mof_decode import library_path
from cluster.mof_preprocess import source_path
from cluster.mof_relax import NOT_RUN, relaxed_framework, stored_bonds
from cluster.parts import Shard, iterate_rows, read_part, shards_of_parts, write_table
from cluster.preprocess import source_shards
from cluster.run import MofRun
from matgen.errors import MissingDependencyError, StructureError
from matgen.evaluation.adsorption import require_raspalib
from matgen.evaluation.mof_identity import framework_identity
from matgen.evaluation.mof_scores import MOF_SCORE_COLUMNS, MofScoreConfig, score_mof
from matgen.evaluation.mof_summary import MofSummaryConfig, summarize_mofs
from matgen.evaluation.mof_yields import add_novelty, waterfall
from matgen.evaluation.porosity import PorosityWorker
from matgen.evaluation.table import Table
from matgen.mof.block_library import BlockLibrary
from matgen.mof.bonds import find_bonds
from matgen.mof.building_block import ROLES, BuildingBlock
from matgen.mof.decompose import DecomposeConfig, decompose
from matgen.mof.framework import Framework
from matgen.mof_config import MofEvaluateConfig
from matgen.sources.rows import SourceRow
from matgen.sources.source import Source, open_source

logger = logging.getLogger(__name__)

_KINDS = {str: pa.string(), float: pa.float64(), int: pa.int64()}
_SCORES = [(name, _KINDS[kind]) for name, kind in MOF_SCORE_COLUMNS.items()]


class _Scorer:
    """Scores one framework after another; holds the process that measures pores."""

    def __init__(self, config: MofEvaluateConfig) -> None:
        self.config = config
        self.scores = MofScoreConfig(adsorption=config.gcmc if config.adsorption else None)
        self.worker: PorosityWorker | None = None
        self.reason = "switched off (evaluate.porosity)"

    def setup(self) -> None:
        """Start what measures pores, where it is wanted and installed."""
        if not self.config.porosity:
            return
        try:
            self.worker = PorosityWorker(self.config.pores)
        except MissingDependencyError as error:
            logger.warning("pores are not measured: %s", error)
            self.reason = str(error)

    def score(self, *structure_bonds_framework: Any) -> dict[str, Any]:
        reason = self.reason
        scores = score_mof(*structure_bonds_framework, worker=self.worker, porosity_reason=reason, config=self.scores)
        return {name: _plain(value) for name, value in scores.items()}


class MofScoreWork:
    """Scores the frameworks of a part, relaxed ones in their relaxed form."""

    schema = pa.schema(
        [
            ("sample_id", pa.int64()),
            ("status", pa.string()),
            ("reason", pa.string()),
            ("decode_status", pa.string()),
            ("assemble_status", pa.string()),
            ("relax_status", pa.string()),
            *(entry for entry in _SCORES if entry[0] not in ("status", "reason")),
        ]
    )
    divisible = True

    def __init__(self, decoded: Path, relaxed: Path | None, library: Path, config: MofEvaluateConfig) -> None:
        self.decoded, self.relaxed, self.library_path = decoded, relaxed, library
        self.scorer = _Scorer(config)

    def setup(self) -> None:
        """Map the library."""
        self.library = BlockLibrary.load(self.library_path)
        self.scorer.setup()

    def load(self, shard: Shard) -> Sequence[Mapping[str, Any]]:
        """Read a part of structures, and what became of them."""
        rows = read_part(Path(shard.payload))
        if self.relaxed is None:
            return [{**row, "assemble_status": row["status"], "relax_status": ""} for row in rows]
        after = read_part(self.relaxed / shard.file_name)
        return [{**new, "assemble_status": old["status"]} for old, new in zip(rows, after, strict=True)]

    def process(self, rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """Score them; one that failed before keeps its status."""
        return [self._row(row) for row in rows]

    def _row(self, row: Mapping[str, Any]) -> Mapping[str, Any]:
        structure = (relaxed_framework(row) or stored_structure(row)) if row["status"] == "ok" else None
        if structure is None:
            return {**self.scorer.score(None, None, None), **self._common(row)}
        framework = Framework(
            lattice=structure.lattice,
            frac_coords=np.asarray(row["block_frac_coords"]).reshape(-1, 3),
            blocks=tuple(self.library.block(int(index)) for index in row["block_index"]),
            pairs=np.asarray(row["pairs"], dtype=np.int64).reshape(-1, 2),
            pair_image=np.asarray(row["pair_images"], dtype=np.int64).reshape(-1, 3),
        )
        return {**self.scorer.score(structure, stored_bonds(row), framework), **self._common(row)}

    def _common(self, row: Mapping[str, Any]) -> dict[str, Any]:
        looked_up = row.get("block_index") is not None
        assembled = row["assemble_status"] if looked_up else ""
        if assembled == "clash" and row["relax_status"] not in ("", NOT_RUN):
            assembled = "ok"  # closed; whether the clash resolved, relaxation says
        return {
            "sample_id": row["sample_id"],
            "status": row["status"],
            "reason": row["reason"] or "",
            "decode_status": "ok" if looked_up else row["status"],
            "assemble_status": assembled,
            "relax_status": row["relax_status"] or "",
        }

    def failed(self, row: Mapping[str, Any], status: str, reason: str) -> Mapping[str, Any]:
        """A framework that could not be scored."""
        nothing = self.scorer.score(None, None, None)
        return {**nothing, **self._common(row), "status": status, "reason": reason}


class ReferenceWork:
    """Scores the frameworks of the source itself, by the same measures."""

    schema = pa.schema([("id", pa.string()), *MofScoreWork.schema])

    def __init__(self, source: Source, decomposition: DecomposeConfig, config: MofEvaluateConfig) -> None:
        self.source, self.decomposition = source, decomposition
        self.scorer = _Scorer(config)

    def setup(self) -> None:
        """Start what measures pores."""
        self.scorer.setup()

    def load(self, shard: Shard) -> Sequence[SourceRow]:
        """Read the structures of a shard."""
        return list(self.source.read_shard(shard.payload))[: shard.num_rows]

    def process(self, rows: Sequence[SourceRow]) -> list[Mapping[str, Any]]:
        """Score them as they are; only what decomposes has an identity."""
        done: list[Mapping[str, Any]] = []
        for row in rows:
            if row.structure is None:
                done.append(self.failed(row, row.status, row.reason))
                continue
            try:
                framework = decompose(row.structure, self.decomposition)
            except StructureError as error:
                done.append(self.failed(row, error.status, str(error)))
                continue
            scores = self.scorer.score(row.structure, find_bonds(row.structure), framework)
            done.append({**scores, "id": row.id, "status": "ok", "reason": ""})
        return done

    def failed(self, row: SourceRow, status: str, reason: str) -> Mapping[str, Any]:
        """A structure that is no framework of ours."""
        return {**self.scorer.score(None, None, None), "id": row.id, "status": status, "reason": reason}


def mof_evaluate(run: MofRun) -> dict[str, Any]:
    """Score the run's frameworks against its records and write `scores/`.

    Returns:
        The stage's summary: counts by status, the waterfall of yields, and the headline figures.

    Raises:
        StageError: an earlier stage is missing or incomplete, or the directory cannot be written or holds another run.
        MissingDependencyError: adsorption is asked for, and raspalib is not installed.
    """
    started = time.monotonic()
    config = run.experiment.evaluate
    if config.adsorption:
        require_raspalib()
    decoded = require_stage(run.directory("decode"), "decode")
    relaxed = run.directory("relax") if read_lineage(run.directory("relax")) is not None else None
    identity = decoded.identity if relaxed is None else f"{decoded.identity}+{require_stage(relaxed, 'relax').identity}"
    inputs = {"samples": identity, "records": require_stage(run.records_directory, "preprocess").identity}
    lineage = run.open_stage("evaluate", config, inputs)
    if lineage.complete:
        return lineage.summary
    out = run.directory("evaluate")
    work = MofScoreWork(run.directory("decode"), relaxed, library_path(run).resolve(), config)
    row_deadline_s = config.row_deadline_s + (config.gcmc.deadline_s if config.adsorption else 0.0)
    campaign = run.campaign("evaluate", shard_deadline_s=config.shard_deadline_s, row_deadline_s=row_deadline_s)
    shards = shards_of_parts(run.directory("decode"), "num_atoms")
    run_campaign(work, shards, out / "scored", campaign, lineage.table_metadata)
    reference = _reference(run, out, lineage) if config.reference_limit > 0 else None
    table = add_novelty(_table_of(out / "scored"), known_identities(run.records_directory))
    if relaxed is None:
        del table["relax_status"]  # that a stage was not run is not that everything failed in it
    words = MofSummaryConfig(porosity=config.pores, adsorption=config.gcmc)
    summary = summarize_mofs(table, reference, words, reference_name=run.experiment.preprocess.source)
    arrays = {name: pa.array([_plain(value) for value in values]) for name, values in table.items()}
    write_table(out / "scores.parquet", pa.table(arrays), lineage.table_metadata)
    summary.save(out / "summary.json")
    result = {
        "n": summary.num_samples,
        "status": summary.statuses,
        "waterfall": {step.name: step.count for step in waterfall(table)},
        "metrics": {metric.name: metric.value for metric in summary.metrics if metric.status == "ok"},
        "not_run": {metric.name: metric.reason for metric in summary.metrics if metric.status != "ok"},
    }
    finish_stage(out, lineage, result, time.monotonic() - started)
    return result


def _reference(run: MofRun, out: Path, lineage: StageLineage) -> Table:
    """Scores of the first structures of the run's source."""
    config, settings = run.experiment.evaluate, run.experiment.preprocess
    source = open_source(source_path(settings.source, run.data), run.data, settings.limits)
    work = ReferenceWork(replace(source), settings.decompose, replace(config, adsorption=False))
    shards = source_shards(source, 32, config.reference_limit)
    campaign = run.campaign("reference", shard_deadline_s=config.shard_deadline_s, row_deadline_s=config.row_deadline_s)
    run_campaign(work, shards, out / "reference", campaign, lineage.table_metadata)
    return _table_of(out / "reference")


def known_identities(records: Path) -> set[str]:
    """Return the identities of the frameworks of the training set."""
    columns = ["status", "split", "lattice", "frac_coords", "block_index", "num_connections", "edge_index"]
    columns += ["edge_image", "edge_multiplicity", "identities", "roles", "num_blocks"]
    rows = iterate_rows(records, columns)
    train = (row for row in rows if row["status"] == "ok" and row["split"] == "train")
    return {framework_identity(graph_of_blocks(row)) for row in train}


class _NamedBlock(BuildingBlock):
    """A block whose identity is known, so that its atoms need not be."""

    name: str = ""

    @property
    def identity(self) -> str:
        return self.name


def graph_of_blocks(row: Mapping[str, Any]) -> Framework:
    """Return the framework of a record with blocks that have identities and connections, but no atoms."""
    blocks = []
    for index, count in zip(row["block_index"], row["num_connections"], strict=True):
        nothing = np.zeros((0, 3))
        points = np.zeros((count, 3))
        role = ROLES[row["roles"][index]]
        block = _NamedBlock(np.zeros(0, int), nothing, np.zeros((0, 2), int), points, np.zeros(count, int), role)
        object.__setattr__(block, "name", row["identities"][index])
        blocks.append(block)
    free = np.cumsum([0, *row["num_connections"]])[:-1].tolist()
    pairs, images = [], []
    edges = np.asarray(row["edge_index"], dtype=np.int64).reshape(-1, 2).tolist()
    cells = np.asarray(row["edge_image"], dtype=np.int64).reshape(-1, 3).tolist()
    for (first, second), image, multiplicity in zip(edges, cells, row["edge_multiplicity"], strict=True):
        for _ in range(multiplicity):
            pairs.append([free[first], free[second] + (first == second)])
            free[first] += 1
            free[second] += 1
            images.append(image)
    return Framework(
        lattice=np.asarray(row["lattice"]).reshape(3, 3),
        frac_coords=np.asarray(row["frac_coords"]).reshape(-1, 3),
        blocks=tuple(blocks),
        pairs=np.asarray(pairs, dtype=np.int64).reshape(-1, 2),
        pair_image=np.asarray(images, dtype=np.int64).reshape(-1, 3),
    )
