"""Directories as the stages leave them, made of real structures, for tests of the report."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa

from cluster.decode import STRUCTURE_SCHEMA, decoded_columns
from cluster.lineage import StageLineage, finish_stage, open_stage, run_id
from cluster.parts import write_part, write_table
from cluster.preprocess import RECORD_SCHEMA, unit_columns
from cluster.relax import RELAXED_SCHEMA
from cluster.sample import SAMPLE_SCHEMA
from matgen.config import Experiment
from matgen.crystal.structure import Structure
from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.novelty import MatchConfig, match_structures, spread_matches
from matgen.evaluation.population import EvaluationConfig, References
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.sampling_modes import compare_sampling_modes
from matgen.evaluation.scores import score_structures
from matgen.evaluation.summary import summarize
from matgen.evaluation.table import Table
from matgen.representations.asymmetric_unit import AsymmetricUnit, encode_many
from matgen.representations.decode import decode
from matgen.settings import to_dict
from matgen.sources.prototypes import open_prototypes

CONFIG = EvaluationConfig(bootstrap=BootstrapConfig(num_resamples=20))
EXPERIMENT = Experiment(name="report_test")
NASTY = "<script>alert('x')</script> & \"quoted\" </script>"


def real_structures(count: int, max_atoms: int = 16) -> list[Structure]:
    """Prototypes in their order."""
    rows = open_prototypes().read(0, 10_000)
    found = [row.structure for row in rows if row.structure is not None]
    return [s for s in found if s.num_atoms <= max_atoms and s.atomic_numbers.max() <= 94][:count]


def _stage(out: Path, stage: str, folder: str, summary: dict) -> None:
    lineage = StageLineage(
        stage=stage, run_id=run_id(out, "report_test"), seed=7, config={"stage": stage},
        inputs={"checkpoint": "0123456789abcdef"}, experiment=to_dict(EXPERIMENT), command=f"matgen {NASTY} {stage}",
    )  # fmt: skip
    finish_stage(out / folder, open_stage(out / folder, lineage), summary, 2.5)


def make_records(out: Path, structures: Sequence[Structure]) -> None:
    """records/ with every structure in the split train, and one that failed."""
    units = [unit for unit in encode_many(list(structures)) if isinstance(unit, AsymmetricUnit)]
    rows = [{"material_id": str(i), "status": "ok", "split": "train", **unit_columns(u)} for i, u in enumerate(units)]
    rows.append({"material_id": "bad", "status": "disordered", "reason": NASTY, "split": "train"})
    _stage(out, "preprocess", "records", {"n": len(rows)})
    write_part(out / "records" / "part-000000.parquet", rows, RECORD_SCHEMA, {})


def make_history(out: Path) -> None:
    """checkpoint/history.jsonl with a line that a crash cut short."""
    _stage(out, "train", "checkpoint", {})
    lines = []
    for step in range(10, 210, 10):
        losses = dict.fromkeys(("total", "lattice", "coords", "species", "site_symmetry"), 1 + 30 / (step + 10))
        lines.append({"kind": "train", "step": step, "crystals_per_second": 100.0 + step % 7, **losses})
        if step % 50 == 0:
            lines.append({"kind": "validation", "step": step, **losses})
    text = "\n".join(map(json.dumps, lines)) + '\n{"kind": "train", "st'
    (out / "checkpoint" / "history.jsonl").write_text(text)


def make_samples(out: Path, structures: Sequence[Structure], num_failed: int = 2, seed: int = 0) -> list[dict]:
    """samples/ and structures/ whose crystals went through encode and decode; the last ones failed."""
    units = [unit for unit in encode_many(list(structures)) if isinstance(unit, AsymmetricUnit)]
    rows = []
    for i, unit in enumerate(units):
        columns = unit_columns(unit)
        kept = {name: value for name, value in columns.items() if name in SAMPLE_SCHEMA.names}
        orbits = len(unit.atomic_numbers)
        rows.append({"sample_id": i, "seed": seed + i, "status": "ok", "reason": "", "num_orbits": orbits, **kept})
    for i in range(num_failed):
        row = {**rows[i], "sample_id": len(units) + i}
        rows.append({**row, "status": "non_finite", "reason": NASTY} if i % 2 else row)
    _stage(out, "sample", "samples", {"n": len(rows)})
    write_part(out / "samples" / "part-000000.parquet", rows, SAMPLE_SCHEMA, {})
    decoded = decode(units)
    done = [{**row, **decoded_columns(crystal)} for row, crystal in zip(rows, decoded)]
    for row in rows[len(units) :]:
        done.append(row if row["status"] != "ok" else {**row, "status": "overlap", "reason": NASTY})
    _stage(out, "decode", "structures", {"n": len(done)})
    write_part(out / "structures" / "part-000000.parquet", done, STRUCTURE_SCHEMA, {})
    return done


def _stored(row: dict) -> Structure | None:
    if row["status"] != "ok":
        return None
    coords = np.reshape(row["structure_frac_coords"], (-1, 3))
    return Structure(np.reshape(row["lattice"], (3, 3)), coords, np.array(row["structure_atomic_numbers"]))


def make_relaxed(out: Path, rows: list[dict], limit: int) -> dict[int, float]:
    """relaxed/ in which the first `limit` crystals have an energy above the hull."""
    relaxed, energies = [], {}
    for row in rows:
        if row["status"] == "ok" and row["sample_id"] < limit:
            energies[row["sample_id"]] = 0.02 * (limit - row["sample_id"])
            row = {
                **row, "relax_status": "converged", "converged": True, "energy_per_atom": -3.2, "rmsd_to_relaxed": 0.1,
                "relaxed_lattice": row["lattice"], "relaxed_frac_coords": row["structure_frac_coords"],
                "e_above_hull": energies[row["sample_id"]],
            }  # fmt: skip
        else:
            row = {**row, "relax_status": "not_run"}
        relaxed.append(row)
    _stage(out, "relax", "relaxed", {"n": len(relaxed)})
    write_part(out / "relaxed" / "part-000000.parquet", relaxed, RELAXED_SCHEMA, {})
    return energies


def make_scores(out: Path, rows: list[dict], train: Sequence[Structure], energies: dict[int, float]) -> Table:
    """scores/ of the samples against a training set."""
    structures = [_stored(row) for row in rows]
    ids = np.array([row["sample_id"] for row in rows])
    groups = [row["space_group_number"] for row in rows]
    words = [row["status"] for row in rows], [row["reason"] or "" for row in rows]
    table = score_structures(structures, groups, CONFIG.score, statuses=words[0], reasons=words[1])
    good = [i for i, s in enumerate(structures) if s is not None]
    index = ReferenceIndex.from_structures("train", train, [str(i) for i in range(len(train))])
    matches = match_structures([structures[i] for i in good], ids[good], {"train": index}, MatchConfig())
    table = {"sample_id": ids, **table, **spread_matches(matches, ids)}
    for name in ("raw_min_distance", "raw_min_ratio", "moved_orbits"):
        table[name] = np.array([row.get(name) or np.nan for row in rows], dtype=float)
    if energies:
        table["e_above_hull"] = np.array([energies.get(int(i), np.nan) for i in ids])
    reference = score_structures(list(train), None, CONFIG.score)
    references = References(train_name="prototypes", train=reference, test_name="prototypes", test=reference)
    summary = summarize(table, references, CONFIG, hull="a hull of prototypes" if energies else None)
    _stage(out, "evaluate", "scores", {"n": len(rows)})
    arrays = {name: pa.array(values.tolist()) for name, values in table.items()}
    write_table(out / "scores" / "scores.parquet", pa.table(arrays), {})
    summary.save(out / "scores" / "summary.json")
    return table


def make_run(out: Path, count: int = 12) -> Path:
    """A run with all stages; half of its samples are in the training set."""
    structures = real_structures(2 * count)
    make_records(out, structures[:count])
    make_history(out)
    rows = make_samples(out, structures[count // 2 : count // 2 + count])
    make_scores(out, rows, structures[:count], make_relaxed(out, rows, 4))
    return out


def make_comparison_run(out: Path, count: int = 8) -> Path:
    """A run of the seed comparison: free/, templates/ and compare.json."""
    structures = real_structures(3 * count)
    train = structures[:count]
    make_records(out, train)
    tables = {}
    for mode, chosen in (("free", structures[count : 2 * count]), ("templates", train)):
        rows = make_samples(out / mode, chosen)
        tables[mode] = make_scores(out / mode, rows, train, {})
    reference = score_structures(train, None, CONFIG.score)
    references = References(train_name="prototypes", train=reference, test_name="prototypes", test=reference)
    comparison = compare_sampling_modes(tables, references, CONFIG)
    (out / "compare.json").write_text(json.dumps(comparison.to_dict()))
    run_id(out, "report_test")
    return out
