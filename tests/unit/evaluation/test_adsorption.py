"""Adsorption: what an empty box must hold, a status for whatever goes wrong, and a real framework."""

import dataclasses
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError
from matgen.evaluation import adsorption
from matgen.evaluation.adsorption import AdsorptionConfig, adsorption_columns, measure_adsorption, num_cells
from matgen.evaluation.eqeq import equilibrated_charges
from matgen.evaluation.mof_scores import MofScoreConfig, score_mof
from matgen.relaxation.uff_parameters import uff_types

STRUCTURES = Path(__file__).parents[1] / "mof" / "structures"
TABLE = Path(adsorption.__file__).parent / "data" / "uff_lennard_jones.json"
needs_raspalib = pytest.mark.skipif(
    importlib.util.find_spec("raspalib") is None, reason="raspalib is not installed (not run)"
)
SHORT = AdsorptionConfig(initialization_cycles=30, production_cycles=60)
EMPTY_BOX = Structure(np.eye(3) * 40.0, np.array([[0.5, 0.5, 0.5]]), np.array([1]))  # one hydrogen, no charge


def mof5() -> Structure:
    return parse_cif((STRUCTURES / "mof5.cif").read_text())


@needs_raspalib
def test_an_almost_empty_box_holds_an_ideal_gas_of_the_right_composition():
    # p V / kT of each gas; 4,000 cycles gave 227, 1335 and 127 mol/kg, the last two within 2 %
    config = AdsorptionConfig(initialization_cycles=200, production_cycles=2000)
    found = measure_adsorption(EMPTY_BOX, np.zeros(1), config)
    assert found.status == "ok", found.reason
    per_pascal = 40.0**3 * 1e-30 / 1.380649e-23 / 1.008e-3
    assert found.co2_uptake == pytest.approx(0.15e5 / 298 * per_pascal, rel=0.25)
    assert found.n2_uptake == pytest.approx(0.85e5 / 298 * per_pascal, rel=0.1)
    assert found.co2_uptake_vacuum == pytest.approx(1e4 / 363 * per_pascal, rel=0.35)
    assert found.working_capacity == pytest.approx(found.co2_uptake - found.co2_uptake_vacuum)


@needs_raspalib
def test_a_real_framework_prefers_co2_and_gives_it_back():
    structure = mof5()
    found = measure_adsorption(structure, equilibrated_charges(structure), SHORT)
    assert found.status == "ok", found.reason
    assert 0.02 < found.co2_uptake < 1.0
    assert found.co2_uptake / 0.15 > found.n2_uptake / 0.85
    assert found.co2_uptake_vacuum < found.co2_uptake
    again = measure_adsorption(structure, equilibrated_charges(structure), SHORT)
    assert again == found


@needs_raspalib
def test_past_the_deadline_the_process_is_killed():
    structure = mof5()
    config = AdsorptionConfig(production_cycles=10_000_000, deadline_s=4.0)
    found = measure_adsorption(structure, np.zeros(structure.num_atoms), config)
    assert found.status == "timeout"
    assert np.isnan(found.working_capacity)


def test_what_cannot_be_simulated_says_why():
    structure = mof5()
    charges = np.zeros(structure.num_atoms)
    large = measure_adsorption(structure, charges, AdsorptionConfig(max_atoms=100))
    assert large.status == "failed"
    assert "848 atoms in 2x2x2 cells" in large.reason
    charges[0] = np.nan
    assert "finite" in measure_adsorption(structure, charges).reason


def test_without_raspalib_there_is_a_clear_error(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"matgen\[adsorption\]"):
        measure_adsorption(EMPTY_BOX, np.zeros(1))


def test_a_process_that_dies_is_a_status(monkeypatch):
    monkeypatch.setattr(adsorption.sys, "executable", "/bin/false")
    assert adsorption._ask("{}", 10.0).status == "crashed"


def test_not_run_is_said_in_every_row():
    columns = adsorption_columns(None)
    assert columns["adsorption_status"] == "not_run"
    assert np.isnan(columns["working_capacity"])
    row = score_mof(mof5())
    assert row["adsorption_status"] == "not_run"
    assert "not asked for" in row["adsorption_reason"]
    asked = MofScoreConfig(adsorption=SHORT)
    row = score_mof(mof5(), config=asked)  # its pores were not measured, so that it is not known to be valid
    assert (row["adsorption_status"], row["adsorption_reason"]) == ("not_run", "only valid frameworks are simulated")


@needs_raspalib
def test_a_valid_framework_is_simulated():
    required = ("has_metal", "no_high_charges")
    row = score_mof(mof5(), config=MofScoreConfig(required=required, adsorption=SHORT))
    assert row["adsorption_status"] == "ok", row["adsorption_reason"]
    assert row["working_capacity"] == pytest.approx(row["co2_uptake"] - row["co2_uptake_vacuum"])


def test_the_cell_is_repeated_until_opposite_faces_are_apart():
    rhombic = np.array([[0.0, 10, 10], [10, 0, 10], [10, 10, 0]])  # faces 11.55 Å apart
    assert num_cells(rhombic, 24.0) == [3, 3, 3]
    assert num_cells(np.diag([24.0, 23.9, 80.0]), 24.0) == [1, 2, 1]


def test_the_table_is_that_of_the_force_field():
    table = json.loads(TABLE.read_text())["elements"]
    rows = [t for t in uff_types().values() if t.source == "rappe_1992"]
    assert {SYMBOLS[t.atomic_number] for t in rows} == set(table)
    for row in rows:
        assert table[SYMBOLS[row.atomic_number]] == [row.vdw_distance, row.vdw_depth], row.name


def test_the_protocol_states_the_cycles():
    assert "1000 + 2000 cycles" in AdsorptionConfig().protocol()
    assert "7 + 2000" in dataclasses.replace(AdsorptionConfig(), initialization_cycles=7).protocol()
