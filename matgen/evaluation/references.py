"""Scores and fingerprints of reference sets, made once and cached under the content that they belong to."""

import hashlib
import json
import logging
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import SourceError
from matgen.evaluation.archives import write_arrays
from matgen.evaluation.fingerprints import (
    FingerprintConfig,
    Fingerprints,
    cache_path,
    concat_fingerprints,
    fingerprint_structures,
    load_fingerprints,
    save_fingerprints,
)
from matgen.evaluation.population import EvaluationConfig, References
from matgen.evaluation.reference_index import content_hash
from matgen.evaluation.scores import ScoreConfig, score_structures, shards
from matgen.evaluation.table import Table, concat_tables

logger = logging.getLogger(__name__)

Mapper = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]
"""What `map` is: applies a function to each shard, results in order. Pass a pool's `imap` to use more processes."""


def score_reference(
    structures: Sequence[Structure],
    config: ScoreConfig | None = None,
    cache_folder: Path | None = None,
    mapper: Mapper = map,
    shard_size: int = 1000,
) -> Table:
    """Scores of a reference set, read from the cache where these structures were scored before.

    Args:
        structures: of the set.
        config: must be that of the samples.
        cache_folder: None scores anew.
        mapper: `map`, or a pool's.
        shard_size: structures in one piece of work.
    """
    config = config or ScoreConfig()
    path = None if cache_folder is None else cache_folder / f"scores-{_score_key(structures, config)}.npz"
    if path is not None and path.exists():
        return load_table(path)
    pieces = [structures[piece] for piece in shards(len(structures), shard_size)]
    table = concat_tables(list(mapper(partial(_score_piece, config=config), pieces)))
    if path is not None:
        save_table(table, path)
    return table


def _score_piece(structures: Sequence[Structure], config: ScoreConfig) -> Table:
    return score_structures(structures, None, config)


def _score_key(structures: Sequence[Structure], config: ScoreConfig) -> str:
    settings: dict[str, Any] = {
        "config": asdict(config),
        "versions": {tool: version(tool) for tool in ("moyopy", "smact")},
    }
    settings["structures"] = content_hash(structures)
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:24]


def fingerprint_reference(
    structures: Sequence[Structure],
    config: FingerprintConfig | None = None,
    cache_folder: Path | None = None,
    mapper: Mapper = map,
    shard_size: int = 50,
    *,
    with_structure: bool = True,
) -> Fingerprints:
    """Fingerprints of a reference set, read from the cache where they were made before.

    Args:
        structures: of the set.
        config: must be that of the samples.
        cache_folder: None makes them anew.
        mapper: `map`, or a pool's.
        shard_size: structures in one piece of work; one takes about 0.1 s.
        with_structure: False for compositions only (the scaler of a training set).

    Raises:
        MissingDependencyError: matminer is not installed.
    """
    config = config or FingerprintConfig()
    path = None if cache_folder is None else cache_path(cache_folder, structures, config)
    if path is not None and not with_structure:
        path = path.with_name(f"compositions-{path.name}")
    if path is not None and path.exists():
        return load_fingerprints(path)
    unfinished = None if path is None else path.with_suffix(".pieces")
    make = partial(_fingerprint_piece, config=config, with_structure=with_structure, folder=unfinished)
    pieces = [structures[piece] for piece in shards(len(structures), shard_size)]
    fingerprints = concat_fingerprints(list(mapper(make, pieces)))
    if path is not None and unfinished is not None:
        save_fingerprints(fingerprints, path)
        shutil.rmtree(unfinished, ignore_errors=True)
    return fingerprints


def _fingerprint_piece(
    structures: Sequence[Structure], config: FingerprintConfig, with_structure: bool, folder: Path | None
) -> Fingerprints:
    """Fingerprints of a piece; kept in a folder until the whole set is done, so a broken run goes on from there."""
    path = None if folder is None else cache_path(folder, structures, config)
    if path is not None and path.exists():
        return load_fingerprints(path)
    made = fingerprint_structures(structures, config, with_structure=with_structure)
    if path is not None:
        try:
            save_fingerprints(made, path)
        except OSError as error:  # another run has finished the set, or this machine cannot write there: no loss
            logger.info("%s is not kept: %s", path, error)
    return made


def build_references(
    train: Sequence[Structure],
    test: Sequence[Structure],
    config: EvaluationConfig | None = None,
    *,
    train_name: str,
    test_name: str,
    cache_folder: Path | None = None,
    mapper: Mapper = map,
    with_coverage: bool = True,
) -> References:
    """Everything that `summarize` holds samples against.

    Args:
        train: training structures: pass rates, templates, space groups, the scaler of Magpie features.
        test: held-out structures: distances and coverage.
        config: that of the samples.
        train_name, test_name: printed with the figures.
        cache_folder: where scores and fingerprints are kept between runs.
        mapper: `map`, or a pool's.
        with_coverage: make fingerprints of the test set (0.1 s each, once).

    Raises:
        MissingDependencyError: `with_coverage` and matminer is not installed.
        EmptyTableError: one of the two sets is empty.
    """
    config = config or EvaluationConfig()
    test_fingerprints = compositions = None
    if with_coverage:
        test_fingerprints = fingerprint_reference(test, config.fingerprints, cache_folder, mapper)
        compositions = fingerprint_reference(
            train, config.fingerprints, cache_folder, mapper, 2000, with_structure=False
        ).composition
    return References(
        train_name=train_name,
        train=score_reference(train, config.score, cache_folder, mapper),
        test_name=test_name,
        test=score_reference(test, config.score, cache_folder, mapper),
        test_fingerprints=test_fingerprints,
        train_composition=compositions,
    )


def save_table(table: Table, path: Path) -> None:
    """Write a table of scores to an .npz file, aside and then renamed."""
    columns: dict[str, Any] = {k: v.astype(np.str_) if v.dtype == object else v for k, v in table.items()}
    write_arrays(path, **columns)


def load_table(path: Path) -> Table:
    """Read what `save_table` wrote.

    Raises:
        SourceError: the file is missing or not such a file.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            table = {name: archive[name] for name in archive.files}
    except (OSError, ValueError, KeyError) as error:
        raise SourceError(f"{path} holds no scores: {error}") from error
    return {name: column.astype(object) if column.dtype.kind == "U" else column for name, column in table.items()}
