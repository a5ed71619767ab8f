"""A library of the blocks of sound frameworks only."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from matgen.crystal.cif_writer import write_cif
from matgen.crystal.structure import Structure
from matgen.mof.block_library import BlockLibrary
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
