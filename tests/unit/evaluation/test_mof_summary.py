"""Yields and figures of a population of frameworks."""

from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.evaluation.bootstrap import BootstrapConfig
from matgen.evaluation.mof_scores import MOF_SCORE_COLUMNS, score_mof
from matgen.evaluation.mof_summary import MofSummaryConfig, summarize_mofs
from matgen.evaluation.mof_yields import add_novelty, waterfall
from matgen.evaluation.summary import Summary
from matgen.evaluation.table import EmptyTableError, MissingColumnError

STRUCTURES = Path(__file__).parents[1] / "mof" / "structures"
CONFIG = MofSummaryConfig(bootstrap=BootstrapConfig(num_resamples=100))


def scored(rows: list[dict]) -> dict[str, np.ndarray]:
    kinds = {str: object, float: np.float64, int: np.int64}
    return {name: np.array([row[name] for row in rows], dtype=kinds[kind]) for name, kind in MOF_SCORE_COLUMNS.items()}


def made_up(count: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        row = score_mof(None)
        row |= {name: "passed" for name in row if name.startswith("check_")}
        row |= {
            "mof_valid": "passed", "checks_reason": "", "porosity_status": "ok", "identity": f"id{i % 30}",
            "largest_cavity_diameter": rng.normal(10, 2), "pore_limiting_diameter": rng.normal(6, 1),
            "accessible_surface_area": rng.normal(1500, 300), "void_fraction": rng.uniform(0.3, 0.8),
            "density": rng.normal(1, 0.1), "num_blocks": int(rng.integers(3, 9)), "num_kinds": int(rng.integers(2, 4)),
            "num_atoms": 100, "num_elements": 4, "elements": "1 6 8 30" if rng.random() < 0.5 else "1 6 7 29",
        }  # fmt: skip
        rows.append(row)
    return scored(rows)


@pytest.fixture(scope="module")
def mof5_row() -> dict:
    return score_mof(parse_cif((STRUCTURES / "mof5.cif").read_text()), porosity_reason="no worker in this test")


def test_one_row_has_every_column_and_says_why_pores_are_absent(mof5_row):
    assert set(mof5_row) == set(MOF_SCORE_COLUMNS) == set(score_mof(None))
    for name, kind in MOF_SCORE_COLUMNS.items():
        assert isinstance(mof5_row[name], kind), name
    assert mof5_row["mof_valid"] == "not_run"
    assert mof5_row["check_porous"] == "not_run" and "no worker in this test" in mof5_row["checks_reason"]
    assert mof5_row["check_no_high_charges"] == "passed"
    assert mof5_row["num_blocks"] == 8 and mof5_row["num_kinds"] == 2 and mof5_row["elements"] == "1 6 8 30"
    assert mof5_row["density"] == pytest.approx(0.5786, abs=1e-3)
    assert len(mof5_row["identity"]) == 32


def test_a_row_without_a_structure_is_not_run_and_not_valid():
    row = score_mof(None)
    assert row["mof_valid"] == "not_run" and row["identity"] == "" and row["identity_reason"]


def test_waterfall_counts_over_statuses():
    num = 10
    table = made_up(num) | {
        "decode_status": np.array(["ok"] * 9 + ["no_block"], dtype=object),
        "assemble_status": np.array(["ok"] * 6 + ["open", "clash", "infeasible", ""], dtype=object),
        "relax_status": np.array(["ok"] * 5 + ["collapsed", "", "", "", ""], dtype=object),
    }
    table["mof_valid"] = np.array(["passed"] * 3 + ["failed", "not_run"] + ["not_run"] * 5, dtype=object)
    table["identity"] = np.array(["a", "a", "b", "c", "d", "", "", "", "", ""], dtype=object)
    table = add_novelty(table, {"b"})
    steps = {step.name: step.count for step in waterfall(table)}
    assert steps == {
        "drawn": 10, "decodable": 9, "feasible": 8, "assembled": 6, "relaxed": 5, "valid": 3, "novel": 2, "unique": 1,
    }  # fmt: skip
    assert "1 more failed none" in next(step for step in waterfall(table) if step.name == "valid").meaning


def test_a_stage_that_was_not_run_is_none_and_never_all():
    steps = {step.name: step for step in waterfall(made_up(5))}
    assert steps["assembled"].count is None and "not run" in steps["assembled"].meaning
    assert steps["valid"].count == 5 and steps["novel"].count is None


def test_an_invalid_twin_does_not_hide_a_valid_framework():
    table = {
        "identity": np.array(["a", "a", "", "b"], dtype=object),
        "mof_valid": np.array(["failed", "passed", "not_run", "failed"], dtype=object),
    }
    found = add_novelty(table, ["b"])
    assert found["unique"].tolist() == [False, True, False, True]
    assert found["novel"].tolist() == [True, True, False, False]


def test_summary_has_every_figure_with_intervals(tmp_path):
    table, reference = add_novelty(made_up(200), ["id1"]), made_up(300, seed=1)
    summary = summarize_mofs(table, reference, CONFIG, reference_name="QMOF")
    names = ("d_largest_cavity_diameter", "d_void_fraction", "d_density", "d_num_blocks", "d_num_kinds", "d_elements")
    for name in (*names, "js_num_blocks", "mof_valid", "check_porous", "unique", "novel_train", "valid_novel_unique"):
        metric = summary[name]
        assert metric.status == "ok" and metric.value is not None and metric.interval is not None, name
        assert metric.interval[0] <= metric.value <= metric.interval[1]
    assert summary["unique"].value == pytest.approx(30 / 200)
    assert summary["yield_assembled"].status == "not run"
    assert summary["d_void_fraction"].value < 0.05 < summary["d_density"].same_n_value + 0.06
    summary.save(tmp_path / "summary.json")
    assert Summary.load(tmp_path / "summary.json").metrics == summary.metrics


def test_a_shift_is_measured_in_its_unit():
    table, reference = made_up(100), made_up(100)
    table["pore_limiting_diameter"] = table["pore_limiting_diameter"] + 1.5
    summary = summarize_mofs(table, reference, CONFIG)
    assert summary["d_pore_limiting_diameter"].value == pytest.approx(1.5)
    assert summary["d_pore_limiting_diameter"].interval[0] > 1.0


def test_nothing_came_out_is_said_everywhere():
    table = scored([score_mof(None)] * 4)
    summary = summarize_mofs(add_novelty(table, []), made_up(50), CONFIG)
    assert summary["mof_valid"].status == "not run" and summary["d_density"].status == "not run"
    assert summary["unique"].value == 0.0 and summary["yield_valid"].value == 0.0


def test_without_pyzeo_porous_is_not_run_in_the_summary(mof5_row):
    summary = summarize_mofs(scored([mof5_row] * 3), None, CONFIG)
    assert summary["check_porous"].status == "not run" and "no worker in this test" in summary["check_porous"].reason
    assert summary["check_no_terminal_oxo"].value == 1.0
    assert summary["mof_valid"].status == "not run"


def test_wrong_tables_are_refused():
    with pytest.raises(EmptyTableError):
        summarize_mofs({}, None)
    with pytest.raises(MissingColumnError):
        summarize_mofs({"identity": np.array(["a"])}, None)
