import json
from dataclasses import replace

import numpy as np
import pytest
from evaluation_cells import moved

from matgen.crystal.structure import Structure
from matgen.errors import SourceError
from matgen.evaluation.coverage import CoverageConfig
from matgen.evaluation.fingerprints import Fingerprints
from matgen.evaluation.metric import Metric
from matgen.evaluation.novelty import match_structures, spread_matches
from matgen.evaluation.population import element_shares
from matgen.evaluation.published import PUBLISHED, PUBLISHED_COLUMNS
from matgen.evaluation.reference_index import ReferenceIndex
from matgen.evaluation.scores import score_structures
from matgen.evaluation.summary import Summary, format_summary, summarize
from matgen.evaluation.table import EmptyTableError, MissingColumnError

NEEDS_MORE = {
    *("coverage_recall", "coverage_precision", "stable", "metastable", "sun", "msun", "rmsd_to_relaxed"),
    *("unique", "novel_train", "unique_novel_train", "raw_structure_valid", "raw_strict_valid", "moved"),
}


@pytest.fixture(scope="module")
def samples(structures) -> list[Structure | None]:
    """40 rows: 30 prototypes, 5 copies, 3 with a clash or NaN, 2 that failed earlier."""
    clash = Structure(np.eye(3) * 4, np.array([[0, 0, 0], [0, 0, 0.05]]), np.array([11, 17]))
    nan = Structure(np.eye(3) * np.nan, clash.frac_coords, clash.atomic_numbers)
    copies = [moved(structures[i], i) for i in range(5)]
    return [*structures[:30], *copies, clash, clash, nan, None, None]


@pytest.fixture(scope="module")
def table(samples):
    groups = score_structures(samples)["space_group_detected"]
    return score_structures(samples, np.where(groups > 0, groups, 1))


@pytest.fixture(scope="module")
def full_table(table, samples, structures):
    rows = np.flatnonzero(table["status"] == "ok")
    index = ReferenceIndex.from_structures(
        "prototypes A", structures[::2], [str(i) for i in range(len(structures[::2]))]
    )
    matches = match_structures([samples[i] for i in rows], rows, {"train": index})
    rng = np.random.default_rng(0)
    num = len(samples)
    return table | spread_matches(matches, np.arange(num)) | {
        "raw_min_distance": np.where(table["status"] == "ok", rng.uniform(0.3, 3.0, num), np.nan),
        "raw_min_ratio": rng.uniform(0.3, 1.0, num),
        "moved_orbits": rng.integers(0, 2, num),
        "e_above_hull": np.where(table["valid"], rng.uniform(-0.1, 0.3, num), np.nan),
        "rmsd_to_relaxed": np.where(table["valid"], rng.uniform(0, 0.5, num), np.nan),
        "converged": table["valid"].astype(object),
    }  # fmt: skip


def test_every_drawn_sample_is_in_the_denominator(table, references, quick_config):
    summary = summarize(table, references, quick_config)
    assert summary.num_samples == 40
    assert summary["usable"].value == pytest.approx(37 / 40)
    assert summary["structure_valid"].value == pytest.approx(35 / 40) and summary["structure_valid"].n == 40
    assert summary["structure_valid"].reference_value == pytest.approx(1.0)
    assert summary["fidelity_exact_0.1"].value == pytest.approx(1 - 3 / 40, abs=0.03)
    assert summary.statuses == {"missing": 2, "non_finite": 1, "ok": 37}
    assert summary["d_density"].n == 37 and summary["d_density_valid"].n == table["valid"].sum()
    assert summary["templates_unique"].value == len(set(table["template"]) - {""})


def test_what_has_no_column_is_not_run_and_says_why(table, references, quick_config):
    summary = summarize(table, references, quick_config, coverage_reason="matminer is not installed")
    not_run = {m.name for m in summary.metrics if m.status == "not run"}
    assert not_run == NEEDS_MORE
    for metric in summary.metrics:
        assert metric.protocol and (metric.value is None) == (metric.status == "not run") == bool(metric.reason)
    assert summary["coverage_recall"].reason == "matminer is not installed"
    assert "component" in summary["unique"].reason and "no convex hull" in summary["sun"].reason


def test_with_all_columns_nothing_is_left_out(full_table, references, quick_config):
    rng = np.random.default_rng(1)
    prints = Fingerprints(rng.normal(size=(40, 61)), rng.normal(size=(40, 132)))
    held = replace(references, test_fingerprints=prints, train_composition=prints.composition)
    summary = summarize(
        full_table, held, quick_config, sample_fingerprints=prints, hull="a potential, 12 entries (local hull)"
    )
    assert all(metric.status == "ok" for metric in summary.metrics)
    assert summary["coverage_recall"].value == 1.0
    assert "12 entries (local hull)" in summary["sun"].protocol
    assert summary["sun"].value <= summary["stable"].value and summary["msun"].value <= summary["metastable"].value
    assert summary["unique"].value == pytest.approx(len(set(full_table["component"]) - {-1}) / 40)
    assert summary["raw_structure_valid"].n == 40
    assert summary["raw_structure_valid"].value == np.mean(np.nan_to_num(full_table["raw_min_distance"]) > 0.5)
    for metric in summary.metrics:
        assert metric.interval[0] - 1e-9 <= metric.value <= metric.interval[1] + 1e-9, metric.name


def test_json_round_trip_and_text(full_table, references, quick_config, tmp_path):
    summary = summarize(full_table, references, quick_config)
    summary.save(tmp_path / "summary.json")
    assert Summary.load(tmp_path / "summary.json").to_dict() == summary.to_dict()
    record = json.loads((tmp_path / "summary.json").read_text())
    assert record["config"]["score"]["symmetry"]["symprec"] == 0.1 and record["versions"]["smact"] == "4.0.2"
    text = format_summary(summary)
    assert len(text.splitlines()) == 1 + len(summary.metrics) and "not run" in text
    (tmp_path / "summary.json").write_text("{")
    with pytest.raises(SourceError, match=r"summary\.json"):
        Summary.load(tmp_path / "summary.json")
    with pytest.raises(KeyError, match="no metric"):
        summary["nonsense"]


def test_a_population_without_one_usable_structure_still_has_all_its_rows(references, quick_config):
    summary = summarize(score_structures([None, None], [1, 2]), references, quick_config)
    assert summary["valid"].value == 0 and summary["valid"].n == 2 and summary["valid"].interval[1] > 0.5
    assert summary["d_sg"].status == summary["d_density"].status == summary["templates_unique"].status == "not run"


def test_nothing_at_all_is_an_error(references, table):
    with pytest.raises(EmptyTableError):
        summarize({}, references)
    with pytest.raises(EmptyTableError):
        summarize({name: values[:0] for name, values in table.items()}, references)
    with pytest.raises(MissingColumnError, match="'template'"):
        summarize({name: values for name, values in table.items() if name != "template"}, references)


def test_distances_of_the_test_set_to_itself_are_zero(references, quick_config):
    summary = summarize(references.test, references, quick_config)
    for name in ("d_density", "d_elements", "d_sg", "d_element_shares"):
        assert summary[name].value == pytest.approx(0, abs=1e-12)
        assert summary[name].reference_value > 0


def test_element_shares_count_each_structure_once():
    shares = element_shares(np.array(["NaCl", "", "Cl2Mg", "NaCl"], dtype=object))
    assert shares.shape == (3, 119)
    np.testing.assert_allclose(shares[1, [12, 17]], [1 / 3, 2 / 3])
    np.testing.assert_allclose(shares.mean(0)[[11, 12, 17]], [1 / 3, 1 / 9, 5 / 9])


def test_published_rows_name_metrics_that_exist(full_table, references, quick_config):
    ours = {metric.name for metric in summarize(full_table, references, quick_config).metrics}
    assert set(PUBLISHED_COLUMNS) <= ours
    assert [row.model for row in PUBLISHED if row.is_main] == ["SymmCD"]
    for row in PUBLISHED:  # unique, share in train and new templates must fit together
        v = row.values
        assert v["templates_new"] / v["templates_unique"] == pytest.approx(1 - v["templates_in_train"], abs=0.01)


def test_metric_with_a_value_that_is_not_finite_becomes_null():
    metric = Metric(name="x", group="g", label="x", unit="", value=float("nan"), interval=(0.0, float("inf")), n=1,
                    protocol="p", better="lower")  # fmt: skip
    record = metric.to_dict()
    assert record["value"] is None and record["interval"] == [0.0, None]
    assert json.dumps(record, allow_nan=False)


def test_coverage_says_whose_scaler_it_used():
    assert "training set given" in CoverageConfig().protocol() and "1000" in CoverageConfig().protocol()


def test_shares_of_stability_are_of_the_samples_that_were_to_be_relaxed(full_table, references, quick_config):
    asked = np.arange(40) < 16
    energy = np.where(asked, full_table["e_above_hull"], np.nan)
    limited = {**full_table, "e_above_hull": energy, "asked_to_relax": asked.astype(float)}
    summary = summarize(limited, references, quick_config, hull="a potential, 12 entries (local hull)")
    everyone = summarize(
        {**full_table, "e_above_hull": energy}, references, quick_config, hull="a potential, 12 entries (local hull)"
    )
    for name in ("stable", "metastable", "sun", "msun"):
        assert (summary[name].n, everyone[name].n) == (16, 40)
        assert summary[name].value == pytest.approx(everyone[name].value * 40 / 16)
    assert everyone["metastable"].value > 0
    assert "of the 16 samples that were to be relaxed, of 40 drawn" in summary["sun"].protocol
    assert "were to be relaxed" not in everyone["sun"].protocol
