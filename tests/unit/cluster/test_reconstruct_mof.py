"""`matgen reconstruct --kind mof`: real frameworks come back, all else is a row with a status."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.campaign import CampaignConfig
from cluster.parts import read_part
from cluster.reconstruct_mof import ReconstructMofConfig, reconstruct_mofs
from matgen.crystal.structure import Structure
from tests.unit.relaxation.uff_cases import FOLDER

CAMPAIGN = CampaignConfig(num_workers=0, progress=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two frameworks, an empty file, and diamond."""
    source = tmp_path_factory.mktemp("cifs")
    for name in ("mof5", "mil53"):
        shutil.copy(FOLDER / f"{name}.cif", source)
    (source / "empty.cif").write_text("data_nothing\n")
    diamond = np.array([[0.0, 0.0, 0.0], [0.25, 0.25, 0.25]])
    cell = 3.567 / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    (source / "no_metal.cif").write_text(Structure(cell, diamond, np.array([6, 6])).to_pymatgen().to(fmt="cif"))
    return source


def by_name(summary: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {Path(row["material_id"]).stem: row for row in read_part(Path(summary["table"]))}


def test_frameworks_come_back_and_every_other_structure_has_a_status(folder: Path, tmp_path: Path) -> None:
    summary = reconstruct_mofs(str(folder), tmp_path / "out", ReconstructMofConfig(), CAMPAIGN)
    rows = by_name(summary)
    assert [summary[key] for key in ("n", "decomposed", "closed", "matched")] == [4, 2, 2, 2]
    assert sum(summary["status"].values()) == 4 and summary["status"]["ok"] == 2
    assert rows["mof5"]["max_residual"] < 0.05 and rows["mof5"]["num_pairs"] == 24
    assert rows["no_metal"]["status"] == "no_metal" and not rows["no_metal"]["decomposed"]
    assert rows["empty"]["status"] != "ok" and rows["empty"]["reason"]
    again = reconstruct_mofs(str(folder), tmp_path / "out", ReconstructMofConfig(), CAMPAIGN)
    assert again == summary
