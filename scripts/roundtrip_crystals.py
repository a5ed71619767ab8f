"""How well the representation holds real crystals: encode, save, decode in a fresh process, compare.

The second process sees only (G, k, X, S, A); no Wyckoff letters. A crystal matches where the StructureMatcher of
pymatgen with default tolerances matches the decoded structure to the input, and both have the same space group. It is
given the primitive cell of the decoded structure: its own search for one (0.25 Å) depends on the cell that it is given.

Run: python scripts/roundtrip_crystals.py crystals.parquet --count 3000     (columns species, frac_coords,
cell_abc_angles, material_id; 0 takes all). Prints the share, and every failure with its reason.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.space_group import find_space_group_number, primitive_cell
from matgen.crystal.structure import Structure
from matgen.errors import StructureError
from matgen.representations.asymmetric_unit import AsymmetricUnit, encode_many
from matgen.representations.decode import decode

_Z = {symbol: number for number, symbol in enumerate(SYMBOLS)}


def read(path: Path, count: int) -> tuple[list[str], list[Structure]]:
    """A reproducible random sample of a table."""
    rows = pq.read_table(path, columns=["material_id", "species", "frac_coords", "cell_abc_angles"]).to_pylist()
    order = np.random.default_rng(0).permutation(len(rows))[: count or len(rows)]
    structures = []
    for row in (rows[i] for i in order):
        cell = row["cell_abc_angles"]
        numbers = [_Z[symbol] for symbol in row["species"]]
        structures.append(Structure.from_parameters(cell[:3], cell[3:], row["frac_coords"], numbers))
    return [rows[i]["material_id"] for i in order], structures


def save_units(units: list[AsymmetricUnit], path: Path) -> None:
    """Exactly the five fields that a model generates, as float32 and integers."""
    np.savez(
        path,
        counts=np.array([unit.num_orbits for unit in units]),
        space_group_number=np.array([unit.space_group_number for unit in units]),
        lattice_k=np.array([unit.lattice_k for unit in units], dtype=np.float32),
        frac_coords=np.concatenate([unit.frac_coords for unit in units]).astype(np.float32),
        atomic_numbers=np.concatenate([unit.atomic_numbers for unit in units]),
        site_symmetry=np.concatenate([unit.site_symmetry for unit in units]),
    )


def decode_file(source: Path, target: Path) -> None:
    """The second process: saved units in, structures out."""
    data = np.load(source)
    bounds = np.concatenate([[0], np.cumsum(data["counts"])])
    units = []
    for index, (G, k) in enumerate(zip(data["space_group_number"], data["lattice_k"], strict=True)):
        part = slice(bounds[index], bounds[index + 1])
        x, z, s = data["frac_coords"][part], data["atomic_numbers"][part], data["site_symmetry"][part]
        units.append(AsymmetricUnit(int(G), k, x, z, s, np.empty(0)))
    crystals = decode(units)
    structures = [crystal.structure for crystal in crystals]
    assert all(structure is not None for structure in structures)
    np.savez(
        target,
        status=np.array([crystal.status for crystal in crystals]),
        moved=np.array([crystal.moved_orbits for crystal in crystals]),
        counts=np.array([structure.num_atoms for structure in structures if structure]),
        lattice=np.array([structure.lattice for structure in structures if structure]),
        frac_coords=np.concatenate([structure.frac_coords for structure in structures if structure]),
        atomic_numbers=np.concatenate([structure.atomic_numbers for structure in structures if structure]),
    )


def compare(before: Structure, after: Structure, space_group_number: int) -> str:
    """ "ok", or why the decoded structure is not the given one."""
    from pymatgen.analysis.structure_matcher import StructureMatcher

    try:
        number = find_space_group_number(after)
    except StructureError as error:
        return f"space group of the decoded structure: {error}"
    if number != space_group_number:
        return f"space group {space_group_number} became {number}"
    after = primitive_cell(after, space_group_number)
    matched = StructureMatcher().fit(before.to_pymatgen(), after.to_pymatgen())
    return "ok" if matched else "StructureMatcher finds no match"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--decode-to", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.decode_to:
        decode_file(arguments.path, arguments.decode_to)
        return
    ids, structures = read(arguments.path, arguments.count)
    started = time.process_time()
    encoded = encode_many(structures)
    print(f"encode: {len(structures) / (time.process_time() - started):.0f} crystals per CPU-second")
    good = [i for i, unit in enumerate(encoded) if isinstance(unit, AsymmetricUnit)]
    units = [unit for unit in encoded if isinstance(unit, AsymmetricUnit)]
    outcome = Counter(f"encode: {e.status}" for e in encoded if isinstance(e, StructureError))
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "units.npz", Path(folder) / "structures.npz"
        save_units(units, source)
        subprocess.run([sys.executable, __file__, str(source), "--decode-to", str(target)], check=True)
        data = dict(np.load(target).items())
    bounds = np.concatenate([[0], np.cumsum(data["counts"])])
    for row, (index, unit) in enumerate(zip(good, units, strict=True)):
        part = slice(bounds[row], bounds[row + 1])
        after = Structure(data["lattice"][row], data["frac_coords"][part], data["atomic_numbers"][part])
        result = compare(structures[index], after, unit.space_group_number)
        outcome[result if result in ("ok", "StructureMatcher finds no match") else "space group differs"] += 1
        if result != "ok" or data["moved"][row]:
            label = f"{ids[index]} {structures[index].formula} G={unit.space_group_number} symprec={unit.symprec:g}"
            print(f"  {label}: {result}; decode status {data['status'][row]}, moved orbits {data['moved'][row]}")
    share = 100 * outcome["ok"] / len(structures)
    print(f"n = {len(structures)}, matched {outcome['ok']} ({share:.2f} %); {dict(outcome)}")


if __name__ == "__main__":
    main()
