"""`matgen build-mofs`: a row for each framework asked for, the same whatever shards and workers, that decomposes."""

import importlib.util
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster.build_mofs import BUILD_SCHEMA, BuildMofsConfig, build_mofs
from cluster.campaign import CampaignConfig
from cluster.parts import iterate_rows
from experiments.cli import main
from matgen.crystal.cif import parse_cif
from matgen.mof.decompose import DecomposeConfig, decompose
from matgen.mof.hypothetical import pormake as extra
from matgen.mof.hypothetical.draw import Catalogue, DrawConfig, Recipe
from matgen.mof.hypothetical.fit import Locator, Scaler

needs_pormake = pytest.mark.skipif(importlib.util.find_spec("pormake") is None, reason="not run: PORMAKE is an extra")
HERE = CampaignConfig(num_workers=0, progress=False)


def config(**changes: object) -> BuildMofsConfig:
    draw = DrawConfig(nets=("pcu", "dia"), max_atoms=150)
    return BuildMofsConfig(**{"count": 6, "draw": draw, **changes})


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("build")
    build_mofs(out, config(), HERE)
    return out / "mofs"


@needs_pormake
def test_every_row_is_there_and_good_ones_are_frameworks(out: Path) -> None:
    rows = list(iterate_rows(out))
    assert [row["name"][:6] for row in rows] == [f"{i:06d}" for i in range(6)]
    assert list(rows[0]) == BUILD_SCHEMA.names
    good = [row for row in rows if row["status"] == "ok"]
    assert good
    for row in good:
        structure = parse_cif(row["cif"])
        framework = decompose(structure)
        assert structure.num_atoms == row["num_atoms"] <= 150
        assert framework.dimension == 3 and not framework.removed_solvent
        assert row["net"] in ("pcu", "dia") and row["rmsd"] <= 0.2
    for row in rows:
        assert (row["cif"] is None) == (row["status"] != "ok") == bool(row["reason"])


@needs_pormake
def test_a_row_depends_on_seed_and_number_only(out: Path, tmp_path: Path) -> None:
    build_mofs(tmp_path, config(count=3, shard_size=2), HERE)
    assert list(iterate_rows(tmp_path / "mofs")) == list(iterate_rows(out))[:3]
    build_mofs(tmp_path / "other", config(count=3, seed=1), HERE)
    assert list(iterate_rows(tmp_path / "other" / "mofs")) != list(iterate_rows(out))[:3]


@needs_pormake
def test_what_was_built_can_be_decomposed_by_the_command(out: Path, tmp_path: Path, capsys: object) -> None:
    assert main(["decompose", str(out), "--out", str(tmp_path), "--workers", "0", "--json", "--quiet"]) == 0
    summary = json.loads(capsys.readouterr().out.splitlines()[-1])  # type: ignore[attr-defined]
    statuses = [row["status"] for row in iterate_rows(out)]
    assert summary["n"] == 6 and summary["ok"] == statuses.count("ok")


@needs_pormake
def test_blocks_that_are_too_large_or_fit_badly_are_statuses(tmp_path: Path) -> None:
    small = config(count=2, draw=DrawConfig(nets=("pcu",), max_atoms=3))
    assert build_mofs(tmp_path / "a", small, HERE)["status"] == {"too_large": 2}
    tight = config(count=2, draw=DrawConfig(nets=("dia",), max_atoms=10**6, max_rmsd=1e-9, max_tries=5))
    assert build_mofs(tmp_path / "b", tight, HERE)["status"] == {"rmsd_too_large": 2}


@needs_pormake
@pytest.mark.parametrize("name, node, metal_nodes, near", [("pcu", "N16", 1, 2e-3), ("dia", "N3", 2, 1e-2)])
def test_fit_and_scaling_reach_what_pormake_reaches(name: str, node: str, metal_nodes: int, near: float) -> None:
    pormake = extra.require_pormake()
    net, blocks = extra.load_net(name), extra.load_blocks()
    assert net.n_nodes == metal_nodes  # primitive: the conventional cell of dia has 8
    # N16 and N3 are symmetric enough that which of the orders that fit equally well is taken does not matter. Where it
    # does, in most distorted tetrahedra, PORMAKE's choice hangs on rounding, and differs between processors.
    made = [
        builder.build_by_type(net, {0: blocks[node]}, {(0, 0): blocks["E14"]})
        for builder in (pormake.Builder(), pormake.Builder(Locator(), Scaler()))
    ]
    theirs, ours = (np.array(item.atoms.cell.cellpar()) for item in made)
    np.testing.assert_allclose(ours, theirs, atol=near)  # Å and degrees; theirs is in single precision
    assert made[1].info["relax_obj"] <= made[0].info["relax_obj"] + 1e-5
    assert made[1].info["max_rmsd"] == pytest.approx(made[0].info["max_rmsd"], abs=1e-5)


@needs_pormake
def test_mof5_is_built_as_it_is() -> None:
    from matgen.mof.hypothetical.build import build

    catalogue = Catalogue(DrawConfig())
    benzene = next(name for name in catalogue.organic_nodes[2] if catalogue.sizes[name] == 10 and _is_c6h4(name))
    structure = build(Recipe("pcu", {0: "N16"}, {(0, 0): benzene}, 0.0), catalogue, DecomposeConfig())
    framework = decompose(structure)
    assert sorted(block.role for block in framework.blocks) == ["linker"] * 3 + ["metal_node"]
    assert 12.0 < structure.lengths[0] < 13.6  # half of MOF-5's 25.8 Å


def _is_c6h4(name: str) -> bool:
    symbols = list(extra.load_blocks()[name].atoms.symbols)
    return symbols.count("C") == 6 and symbols.count("H") == 4


def test_bad_input_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["build-mofs", "--count", "0", "--out", str(tmp_path)])
    assert stopped.value.code == 2 and "at least 1" in capsys.readouterr().err
    if importlib.util.find_spec("pormake") is not None:
        command = ["build-mofs", "--count", "2", "--nets", "pcu,nosuch", "--out", str(tmp_path), "--workers", "0"]
        assert main(command) == 2
        assert "unknown net nosuch" in capsys.readouterr().err


def test_without_the_extra_the_command_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    extra.require_pormake.cache_clear()
    monkeypatch.setitem(sys.modules, "pormake", None)
    assert main(["build-mofs", "--count", "2", "--out", str(tmp_path), "--workers", "0"]) == 2
    assert "matgen[build]" in capsys.readouterr().err
    extra.require_pormake.cache_clear()
