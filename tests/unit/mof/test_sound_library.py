"""A library of the blocks of sound frameworks only."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from matgen.crystal.cif_writer import write_cif
from matgen.crystal.structure import Structure
from matgen.evaluation.eqeq import has_parameters
from matgen.evaluation.mof_checks import check_mof
from matgen.mof.block_library import BlockLibrary
from matgen.mof.bonds import find_bonds
from matgen.mof.decompose import decompose
from tests.unit.mof.conftest import load

SCRIPT = Path(__file__).resolve().parents[3] / "scripts" / "ship_mofs.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("ship_mofs", SCRIPT)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "ship_mofs", module)
    spec.loader.exec_module(module)
    return module


def test_blocks_of_a_framework_that_misses_a_hydrogen_are_left_out(script: ModuleType, tmp_path: Path) -> None:
    whole = {name: load(name) for name in ("mof5", "hkust1")}
    bare = whole["hkust1"]
    kept = np.delete(np.arange(bare.num_atoms), np.flatnonzero(bare.atomic_numbers == 1)[0])
    whole["hkust1"] = Structure(bare.lattice, bare.frac_coords[kept], bare.atomic_numbers[kept])
    blocks, sources = [], []
    for name, structure in (*whole.items(), ("unknown", load("mil53"))):
        found = decompose(structure).blocks
        blocks += found
        sources += [name] * len(found)
        if name != "unknown":
            (tmp_path / f"{name}.cif").write_text(write_cif(structure))
    library = BlockLibrary.from_blocks(blocks, sources)
    assert {library.source(i) for i in range(library.num_blocks)} == {"mof5", "hkust1", "unknown"}
    sound = script.sound(library, str(tmp_path), tmp_path)
    assert {sound.source(i) for i in range(sound.num_blocks)} == {"mof5"}
    assert sound.num_blocks == sum(library.source(i) == "mof5" for i in range(library.num_blocks))


def test_blocks_of_elements_without_charges_are_left_out(script: ModuleType, tmp_path: Path) -> None:
    whole = {"mof5": load("mof5"), "mil53": load("mil53")}
    blocks = {name: decompose(structure).blocks for name, structure in whole.items()}
    library = BlockLibrary.from_blocks(
        [b for own in blocks.values() for b in own], [name for name, own in blocks.items() for _ in own]
    )
    metal = whole["mil53"].atomic_numbers.max()
    numbers = np.where(whole["mil53"].atomic_numbers == metal, 92, whole["mil53"].atomic_numbers)
    whole["mil53"] = Structure(whole["mil53"].lattice, whole["mil53"].frac_coords, numbers)
    for name, structure in whole.items():
        (tmp_path / f"{name}.cif").write_text(write_cif(structure))
    assert not has_parameters(numbers) and has_parameters(whole["mof5"].atomic_numbers)
    checks = check_mof(whole["mil53"], find_bonds(load("mil53")))
    assert all(checks[name].status != "failed" for name in script.INHERITED), "nothing else is wrong with it"
    sound = script.sound(library, str(tmp_path), tmp_path)
    assert {sound.source(i) for i in range(sound.num_blocks)} == {"mof5"}
