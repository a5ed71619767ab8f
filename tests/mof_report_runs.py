"""Directories as the stages for frameworks leave them, made of real frameworks, for tests of the report."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from report_runs import NASTY

from cluster.lineage import StageLineage, finish_stage, open_stage, run_id
from cluster.mof_comparison import RESULT_SCHEMA
from cluster.mof_decode import MOF_STRUCTURE_SCHEMA, assembly_columns
from cluster.mof_evaluate import ReferenceWork
from cluster.mof_preprocess import MOF_SCHEMA, framework_columns
from cluster.mof_relax import MOF_RELAXED_SCHEMA
from cluster.mof_sample import MOF_SAMPLE_SCHEMA
from cluster.parts import write_part, write_table
from matgen.crystal.cif import parse_cif
from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.metric import MetricGroup
from matgen.evaluation.mof_scores import MOF_SCORE_COLUMNS, score_mof
from matgen.evaluation.mof_summary import PORE_FIELDS, MofSummaryConfig, summarize_mofs
from matgen.evaluation.mof_yields import add_novelty
from matgen.mof.assemble import Assembly
from matgen.mof.decompose import decompose
from matgen.mof.framework import Framework
from matgen.mof_config import MofExperiment
from matgen.settings import to_dict

STRUCTURES = Path(__file__).parent / "unit" / "mof" / "structures"
NAMES = ("mof5", "hkust1", "uio66", "mil53", "mof74")
CONFIG = MofSummaryConfig(bootstrap=BootstrapConfig(num_resamples=20))
EXPERIMENT = MofExperiment(name="mof_report_test")


@cache
def real_frameworks() -> tuple[Framework, ...]:
    """Known frameworks, cut into blocks."""
    return tuple(decompose(parse_cif((STRUCTURES / f"{name}.cif").read_text())) for name in NAMES)


def _stage(out: Path, stage: str, folder: str, summary: dict, config: dict | None = None) -> None:
    lineage = StageLineage(
        stage=stage, run_id=run_id(out, "mof_report_test"), seed=7, config=config or {"stage": stage},
        inputs={"checkpoint": "0123456789abcdef", "source": "/somewhere/real.parquet, 9 rows"},
        experiment=to_dict(EXPERIMENT) if stage != "reconstruct" else {}, command=f"matgen {NASTY} {stage}",
    )  # fmt: skip
    finish_stage(out / folder, open_stage(out / folder, lineage), summary, 2.5)


def make_records(out: Path) -> None:
    """records/ with every framework in the split train, and one that failed."""
    rows = [
        {"material_id": name, "status": "ok", "split": "train", **framework_columns(framework)}
        for name, framework in zip(NAMES, real_frameworks(), strict=True)
    ]
    rows.append({"material_id": "bad", "status": "no_linker", "reason": NASTY, "split": "train"})
    _stage(out, "preprocess", "records", {"n": len(rows)})
    write_part(out / "records" / "part-000000.parquet", rows, MOF_SCHEMA, {})


def make_histories(out: Path) -> None:
    """A history of each training."""
    trainings = (
        ("train_blocks", "block_encoder", "building_blocks_per_second", ("total", "contrast", "diameter")),
        ("train", "checkpoint", "frameworks_per_second", ("total", "coords", "lattice", "kl", "properties")),
    )
    for stage, folder, rate, fields in trainings:
        _stage(out, stage, folder, {})
        lines: list[dict[str, Any]] = []
        for step in range(10, 110, 10):
            losses = dict.fromkeys(fields, 1 + 30 / (step + 10)) | {"properties": 0.0}
            lines.append({"kind": "train", "step": step, rate: 50.0 + step % 7, "grad_norm": 2.0, **losses})
            if step % 50 == 0:
                lines.append({"kind": "validation", "step": step, **losses})
        (out / folder / "history.jsonl").write_text("\n".join(map(json.dumps, lines)))


def make_block_scores(out: Path) -> None:
    """block_scores/ with one figure of the encoder."""
    flags = np.array([True, True, False])
    metric = MetricGroup("retrieval", CONFIG.bootstrap).share("trained_top1", "found as nearest", flags, NASTY)
    _stage(out, "score_blocks", "block_scores", {"n": {"val": 3}})
    (out / "block_scores" / "scores.json").write_text(json.dumps([metric.to_dict()]))


def _assembled(framework: Framework, status: str) -> dict[str, Any]:
    turns = np.tile(np.eye(3), (framework.num_blocks, 1, 1))
    assembly = Assembly(
        status=status, reason="atoms touch" if status == "clash" else "", lattice=framework.lattice,
        frac_coords=framework.frac_coords, blocks=framework.blocks, rotations=turns, pairs=framework.pairs,
        pair_image=framework.pair_image, residuals=np.zeros(len(framework.pairs)), shortest_contact=1.0,
    )  # fmt: skip
    return {
        "status": status, "reason": assembly.reason, "num_assembled": 1,
        "num_trials": 1 if status == "ok" else 3, "trial_status": "sound" if status == "ok" else "unstable",
        "block_index": np.arange(framework.num_blocks), **assembly_columns(assembly),
    }  # fmt: skip


def make_samples(out: Path) -> list[dict]:
    """samples/ and structures/: every framework, the first once more, one with clashes, an open one, one not finite."""
    known = real_frameworks()
    kinds = [*((f, "ok") for f in known), (known[0], "ok"), (known[1], "clash"), (known[2], "open"), (known[3], "nan")]
    samples, structures = [], []
    for i, (framework, status) in enumerate(kinds):
        row = {
            "sample_id": i, "seed": 100 + i, "status": "ok", "reason": "", "num_blocks": framework.num_blocks,
            "coarse_lattice": framework.lattice.ravel(), "coarse_frac_coords": framework.frac_coords.ravel(),
            "is_metal": [block.role != "linker" for block in framework.blocks],
        }  # fmt: skip
        if status == "nan":
            row |= {"status": "non_finite", "reason": NASTY}
        samples.append(row)
        if status in ("ok", "clash"):
            row = row | _assembled(framework, status)
        elif status == "open":
            row = row | {"status": "open", "reason": NASTY, "num_assembled": 4, "block_index": [0]}
        structures.append(row)
    _stage(out, "sample", "samples", {"n": len(samples)})
    write_part(out / "samples" / "part-000000.parquet", samples, MOF_SAMPLE_SCHEMA, {})
    _stage(out, "decode", "structures", {"n": len(structures)})
    write_part(out / "structures" / "part-000000.parquet", structures, MOF_STRUCTURE_SCHEMA, {})
    return structures


def make_relaxed(out: Path, rows: Sequence[dict]) -> list[dict]:
    """relaxed/: the clash resolved, the third collapsed, the fourth was left out."""
    relaxed = []
    for row in rows:
        wanted = row["status"] in ("ok", "clash") and row["sample_id"] != 3
        if not wanted:
            relaxed.append({**row, "relax_status": "not_run"})
        elif row["sample_id"] == 2:
            relaxed.append({**row, "status": "collapsed", "reason": "half the volume", "relax_status": "collapsed"})
        else:
            after = {"relaxed_lattice": 1.01 * np.asarray(row["lattice"]), "energy": -12.0, "relax_status": "ok"}
            after["relaxed_frac_coords"] = row["structure_frac_coords"]
            relaxed.append({**row, **after, "status": "ok", "reason": ""})
    _stage(out, "relax", "relaxed", {"n": len(relaxed)})
    write_part(out / "relaxed" / "part-000000.parquet", relaxed, MOF_RELAXED_SCHEMA, {})
    return relaxed


@cache
def _real_scores(index: int) -> dict[str, Any]:
    framework = real_frameworks()[index]
    return score_mof(*framework.to_structure(), framework)


def _scores(index: int | None, rng: np.random.Generator) -> dict[str, Any]:
    """Real scores, but for the pores: those are drawn."""
    if index is None:
        return score_mof(None)
    pores = {name: float(rng.uniform(0.2, 0.9)) for name, _, _ in PORE_FIELDS}
    passed = {"porosity_status": "ok", "mof_valid": "passed", "check_porous": "passed"}
    return {**_real_scores(index), **pores, **passed}


def make_scores(out: Path, relaxed: Sequence[dict]) -> None:
    """scores/ of the samples and of the data; HKUST-1 fails a check."""
    rng, rows = np.random.default_rng(0), []
    order = [*range(len(NAMES)), 0, 1]
    for row in relaxed:
        i = row["sample_id"]
        came_out = row["status"] == "ok" and i < len(order)
        scores = _scores(order[i] if came_out else None, rng)
        if came_out and order[i] == 1:
            scores |= {"mof_valid": "failed", "check_has_carbon": "failed"}
        looked_up = row.get("block_index") is not None
        assembled = "ok" if row["relax_status"] == "ok" else row["status"]
        rows.append({
            "sample_id": i, "decode_status": "ok" if looked_up else row["status"], **scores, "status": row["status"],
            "assemble_status": ("ok" if i == 2 else assembled) if looked_up else "", "reason": row["reason"],
            "relax_status": row["relax_status"],
        })  # fmt: skip
    kinds = {str: object, float: np.float64, int: np.int64}
    types = {**{name: kinds[kind] for name, kind in MOF_SCORE_COLUMNS.items()}, "sample_id": np.int64}
    table = {name: np.array([row[name] for row in rows], dtype=types.get(name, object)) for name in rows[0]}
    reference = [_scores(index, rng) for index in range(len(NAMES))]
    known = {name: np.array([row[name] for row in reference], dtype=types[name]) for name in reference[0]}
    table = add_novelty(table, {str(known["identity"][0])})
    _stage(out, "evaluate", "scores", {"n": len(rows)})
    part = [{"id": name, "status": "ok", "reason": "", **row} for name, row in zip(NAMES, reference, strict=True)]
    (out / "scores" / "reference").mkdir()
    write_part(out / "scores" / "reference" / "part-000000.parquet", part, ReferenceWork.schema, {})
    arrays = {name: pa.array(values.tolist()) for name, values in table.items()}
    write_table(out / "scores" / "scores.parquet", pa.table(arrays), {})
    summarize_mofs(table, known, CONFIG, reference_name="real").save(out / "scores" / "summary.json")


def make_reconstruction(out: Path) -> None:
    """A result of `matgen reconstruct --kind mof`: of four structures three were cut, two closed, one matched."""
    outcomes = (("ok", True, True, True), ("no_match", True, True, False), ("open", True, False, False))
    rows = [
        {"material_id": f"m{i}", "status": status, "reason": NASTY, "decomposed": cut, "closed": closed,
         "matched": matched, "rms": 0.01 if matched else None, "cpu_seconds": 0.1}
        for i, (status, cut, closed, matched) in enumerate((*outcomes, ("no_metal", False, False, False)))
    ]  # fmt: skip
    _stage(out, "reconstruct", "work", {}, {"perturb": None})
    write_table(out / "reconstruct.parquet", pa.Table.from_pylist(rows, schema=RESULT_SCHEMA), {})


def make_mof_run(out: Path) -> Path:
    """A run with all stages, and a reconstruction beside them."""
    make_records(out)
    make_histories(out)
    make_block_scores(out)
    make_scores(out, make_relaxed(out, make_samples(out)))
    make_reconstruction(out / "reconstruct")
    return out
