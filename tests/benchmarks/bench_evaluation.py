"""CPU seconds of each part of an evaluation: MP-20 test as samples, MP-20 train as the reference.

    MATGEN_DATA=... pytest -m benchmark -s tests/benchmarks/bench_evaluation.py

Figures are CPU time of one process, per 10,000 samples; divide by the number of processes. All parts but the summary
run in shards.
"""

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.evaluation.coverage import CoverageConfig, MagpieScaler, coverage
from matgen.evaluation.fingerprints import fingerprint_structures
from matgen.evaluation.novelty import match_structures, spread_matches
from matgen.evaluation.population import References
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.references import score_reference
from matgen.evaluation.scores import score_structures
from matgen.evaluation.summary import format_summary, summarize

pytestmark = [pytest.mark.benchmark, pytest.mark.data]

NUM_FINGERPRINTS = int(os.environ.get("BENCH_FINGERPRINTS", "100"))


def read(folder: Path, split: str) -> list[Structure]:
    import pyarrow.parquet as pq

    rows = pq.read_table(folder / f"mp_20_{split}.parquet", columns=["cell_abc_angles", "species", "frac_coords"])
    numbers = {symbol: z for z, symbol in enumerate(SYMBOLS)}
    return [
        Structure.from_parameters(
            r["cell_abc_angles"][:3], r["cell_abc_angles"][3:], r["frac_coords"], [numbers[s] for s in r["species"]]
        )
        for r in rows.to_pylist()
    ]


def conventional(structure: Structure) -> Structure:
    """What decoding makes: the conventional cell."""
    from moyopy import Cell, MoyoDataset, Setting

    cell = Cell(structure.lattice.tolist(), structure.frac_coords.tolist(), structure.atomic_numbers.tolist())
    found = MoyoDataset(cell, symprec=0.1, setting=Setting.standard()).std_cell
    return Structure(np.array(found.basis), np.array(found.positions), np.array(found.numbers))


@contextmanager
def measured(what: str, num: int, per: int, report: dict[str, float]) -> Iterator[None]:
    start = time.process_time()
    yield
    seconds = time.process_time() - start
    report[what] = seconds / num * per
    print(f"{what:38s} n={num:6d} {1e3 * seconds / num:9.3f} ms each {report[what]:8.1f} CPU s per {per}")


def test_ten_thousand_samples(data_dir):
    train, test = read(data_dir, "train"), read(data_dir, "test")
    samples = [conventional(s) for s in test]
    print(f"\nsamples: {len(samples)}, mean atoms {np.mean([s.num_atoms for s in samples]):.1f}")
    report: dict[str, float] = {}
    requested = score_structures(samples[:2000])["space_group_detected"].tolist()
    with measured("scores, three tolerances", 2000, 10_000, report):
        table = score_structures(samples[:2000], requested)
    table = score_structures(samples, np.ones(len(samples), dtype=int))
    index = ReferenceIndex.from_structures("MP-20 train", train, map(str, range(len(train))))
    with measured("unique and novel", len(samples), 10_000, report):
        matches = match_structures(samples, range(len(samples)), {"train": index})
    table |= spread_matches(matches, np.arange(len(samples)))
    fingerprint_structures(samples[:1])  # import and tables
    with measured("coverage fingerprints", NUM_FINGERPRINTS, 1000, report):
        prints = fingerprint_structures(samples[:: len(samples) // NUM_FINGERPRINTS][:NUM_FINGERPRINTS])
    repeated = type(prints)(np.tile(prints.structure, (20, 1))[:1000], np.tile(prints.composition, (20, 1))[:1000])
    targets = type(prints)(np.tile(prints.structure, (100, 1))[:8690], np.tile(prints.composition, (100, 1))[:8690])
    with measured("coverage, 1000 x 8690", 1000, 1000, report):
        coverage(repeated, targets, MagpieScaler.fit(targets.composition), CoverageConfig())
    with measured("scores of the training set (cached)", len(train), 25_133, report):
        scored_train = score_reference(train)
    references = References(
        train_name="MP-20 train", train=scored_train, test_name="MP-20 test", test=score_reference(test)
    )
    with measured("summary", len(samples), 10_000, report):
        summary = summarize(table, references)
    print(format_summary(summary))
    once = sum(seconds for name, seconds in report.items() if "cached" not in name)
    print(f"10,000 samples: {once:.0f} CPU s, {once / 120:.1f} minutes on two cores (bound: 15)")
