"""Stage 5: score every sample, match samples with each other and with the training set, and sum up."""

import itertools
import logging
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from cluster.campaign import CampaignConfig, run_campaign
from cluster.lineage import StageLineage, finish_stage, require_stage
from cluster.parts import Shard, read_table, write_table
from cluster.populations import (
    Population,
    RecordPopulation,
    SampledPopulation,
    structures_of,
)
from cluster.progress import shown
from cluster.run import Run
from cluster.scoring import MatchWork, ScoreWork, columns_of
from cluster.scoring import plain as _plain
from cluster.scoring import table_of as _table_of
from cluster.session import ray_mapper
from matgen.config import EvaluateStageConfig
from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError, StageError
from matgen.evaluation.fingerprints import Fingerprints, concat_fingerprints, fingerprint_structures
from matgen.evaluation.novelty import formula_shards, spread_matches
from matgen.evaluation.population import References
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.references import build_references
from matgen.evaluation.summary import Summary, summarize
from matgen.evaluation.table import Table
from matgen.sources.download import cache_dir

logger = logging.getLogger(__name__)

MATCH_SHARDS = 32
FINGERPRINTS_A_PIECE = 20


def evaluate_stage(run: Run) -> dict[str, Any]:
    """Score the run's samples against its records and write `scores/`.

    Returns:
        The stage's summary.

    Raises:
        StageError: an earlier stage is missing or incomplete, or the directory cannot be written or holds another run.
    """
    samples = SampledPopulation(run.directory("decode"), run.directory("relax"))
    records = RecordPopulation(run.records_directory)
    config = run.experiment.evaluate
    inputs = {"samples": samples.identity, "records": records.identity}
    lineage = run.open_stage("evaluate", config, inputs)
    if lineage.complete:
        return lineage.summary
    hull = hull_words(run, samples)
    campaign = run.campaign("evaluate", shard_deadline_s=config.shard_deadline_s)
    return evaluate(samples, records, records, run.directory("evaluate"), config, lineage, campaign, hull=hull)


def hull_words(run: Run, samples: SampledPopulation) -> str | None:
    """Say which hull the samples' energies were held against as they were relaxed; None without one.

    Raises:
        StageError: the experiment names another hull than the stage relax had.
    """
    named, had = run.experiment.relax.hull, samples.hull
    same = bool(had) and Path(named) in (Path(had), Path(had).parent)  # `matgen hull --out` names the folder above
    if samples.has_energies and named and not same:
        raise StageError(
            f"the samples were relaxed with {had or 'no hull'}, not with {named}: run relax again (--overwrite)"
        )
    if not had:
        return None
    from matgen.relaxation.reference import ReferenceHull

    sizes = ReferenceHull.load(Path(had)).sizes()
    return f"CHGNet, local hull of {sizes['num_with_energy']} entries, {sizes['num_relaxed']} of them relaxed"


def evaluate(
    samples: Population,
    train: Population,
    test: Population,
    out: Path,
    config: EvaluateStageConfig,
    lineage: StageLineage,
    campaign: CampaignConfig,
    *,
    hull: str | None = None,
) -> dict[str, Any]:
    """Score samples against a training and a test set; write the table of scores and `summary.json`.

    Args:
        samples: what to score.
        train: for novelty, templates, and its own scores; of a set with splits, the split train is taken.
        test: for distances and coverage; of a set with splits, the split test, or val where that is empty.
        out: directory of the stage.
        config: settings.
        lineage: the stage's lineage, open.
        campaign: actors and progress.
        hull: words for the hull of the energies.

    Returns:
        Counts by status, and the headline figures.
    """
    started = time.monotonic()
    table = _scores(samples, out, config, lineage, campaign)
    train_set = list(structures_of(train, ("train",))) or list(structures_of(train))
    test_name, test_set = _test_set(test, config.reference_limit)
    if not train_set or not test_set:
        raise StageError("there is no reference crystal to compare with")
    matches = _matches(samples, table, train_set, out, config, lineage, campaign)
    table |= spread_matches(matches, table["sample_id"])
    with ray_mapper(campaign.num_workers) as mapper:
        mapper = shown(mapper, "scores and fingerprints", campaign.progress)
        references, fingerprints, why = _references(samples, train_set, test_name, test_set, config, mapper)
    summary = summarize(
        table,
        references,
        config.metrics,
        sample_fingerprints=fingerprints,
        coverage_reason=why,
        hull=hull,
    )
    _write(out, table, summary, lineage)
    result = _headline(summary)
    finish_stage(out, lineage, result, time.monotonic() - started)
    return result


def _headline(summary: Summary) -> dict[str, Any]:
    """Counts by status, and each metric's value or why it was not run."""
    return {
        "n": summary.num_samples,
        "status": summary.statuses,
        "metrics": {metric.name: metric.value for metric in summary.metrics if metric.status == "ok"},
        "not_run": {metric.name: metric.reason for metric in summary.metrics if metric.status != "ok"},
    }


def _scores(
    samples: Population, out: Path, config: EvaluateStageConfig, lineage: StageLineage, campaign: CampaignConfig
) -> Table:
    extra: tuple[str, ...] = ()
    if isinstance(samples, SampledPopulation):
        extra = samples.decoded + (samples.relaxed if samples.has_energies else ())
    work = ScoreWork(samples, config.metrics.score, extra)
    run_campaign(work, samples.shards(), out / "scored", campaign, lineage.table_metadata)
    return _table_of(out / "scored")


def _matches(
    samples: Population,
    table: Table,
    train_set: Sequence[tuple[str, Structure]],
    out: Path,
    config: EvaluateStageConfig,
    lineage: StageLineage,
    campaign: CampaignConfig,
) -> Table:
    good = {int(sample_id) for sample_id, word in zip(table["sample_id"], table["status"]) if word == "ok"}
    chosen = [
        (entry.sample_id, entry.structure)
        for shard in samples.shards()
        for entry in samples.read(shard)
        if entry.sample_id in good and entry.structure is not None
    ]
    index = ReferenceIndex.from_structures("samples", (item[1] for item in chosen), (str(item[0]) for item in chosen))
    known = ReferenceIndex.from_structures("train", (item[1] for item in train_set), (item[0] for item in train_set))
    rows = formula_shards(index.formulas.tolist(), MATCH_SHARDS) if chosen else []
    shards = [Shard(i, len(piece), [int(row) for row in piece]) for i, piece in enumerate(rows)]
    work = MatchWork(index, known, config.metrics.match)
    run_campaign(work, shards, out / "matches", campaign, lineage.table_metadata)
    if not shards:
        return {name: np.zeros(0, dtype=np.int64) for name in MatchWork.schema.names[:5]}
    matches = _table_of(out / "matches")
    return {name: matches[name] for name in MatchWork.schema.names[:5]}


def _test_set(test: Population, limit: int | None) -> tuple[str, list[tuple[str, Structure]]]:
    for splits in (("test",), ("val",), None):
        found = list(structures_of(test, splits, limit))
        if found:
            return f"{splits[0] if splits else 'reference'} ({len(found):,})", found
    return "", []


def _references(
    samples: Population,
    train_set: Sequence[tuple[str, Structure]],
    test_name: str,
    test_set: Sequence[tuple[str, Structure]],
    config: EvaluateStageConfig,
    mapper: Any,
) -> tuple[References, Fingerprints | None, str]:
    """Scores and fingerprints of the references (cached), and the fingerprints of the first samples."""
    build = partial(
        build_references,
        [item[1] for item in train_set],
        [item[1] for item in test_set],
        config.metrics,
        train_name="train",
        test_name=test_name,
        cache_folder=cache_dir() / "references",
        mapper=mapper,
    )
    if not config.coverage:
        return build(with_coverage=False), None, "switched off (evaluate.coverage)"
    try:
        entries = (entry for shard in samples.shards() for entry in samples.read(shard))
        chosen = itertools.islice(entries, config.metrics.coverage.num_samples)
        first = [entry.structure if entry.status == "ok" else None for entry in chosen]
        pieces = [first[i : i + FINGERPRINTS_A_PIECE] for i in range(0, len(first), FINGERPRINTS_A_PIECE)]
        make = partial(fingerprint_structures, config=config.metrics.fingerprints)
        return build(with_coverage=True), concat_fingerprints(list(mapper(make, pieces))), ""
    except MissingDependencyError as error:
        logger.warning("coverage is not run: %s", error)
        return build(with_coverage=False), None, str(error)


def _write(out: Path, table: Table, summary: Summary, lineage: StageLineage) -> None:
    arrays = {name: pa.array([_plain(value) for value in values]) for name, values in table.items()}
    write_table(out / "scores.parquet", pa.table(arrays), lineage.table_metadata)
    try:
        summary.save(out / "summary.json")
    except OSError as error:
        raise StageError(f"cannot write {out / 'summary.json'}: {error.strerror or error}") from error


def score_table(directory: Path) -> Table:
    """Read the table of scores of a finished stage evaluate.

    Raises:
        StageError: it did not run to its end.
    """
    require_stage(directory, "evaluate")
    return columns_of(read_table(directory / "scores.parquet"))


def reference_scores(run: Run) -> References:
    """Return the scores of the run's training and test set (cached), without fingerprints."""
    records = RecordPopulation(run.records_directory)
    train_set = list(structures_of(records, ("train",)))
    test_name, test_set = _test_set(records, run.experiment.evaluate.reference_limit)
    with ray_mapper(run.num_workers) as mapper:
        return build_references(
            [item[1] for item in train_set],
            [item[1] for item in test_set],
            run.experiment.evaluate.metrics,
            train_name="train",
            test_name=test_name,
            cache_folder=cache_dir() / "references",
            mapper=mapper,
            with_coverage=False,
        )
