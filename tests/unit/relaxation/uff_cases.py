"""Real frameworks and their bonds, embedded."""

from functools import cache
from pathlib import Path

import numpy as np

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds, find_bonds

FOLDER = Path(__file__).parents[1] / "mof" / "structures"


@cache
def case(name: str) -> tuple[Structure, Bonds]:
    structure = parse_cif((FOLDER / f"{name}.cif").read_text())
    return structure, find_bonds(structure)


def rattled(structure: Structure, amount: float = 0.05, seed: int = 0) -> Structure:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, amount, (structure.num_atoms, 3)) @ np.linalg.inv(structure.lattice)
    strain = np.eye(3) + rng.normal(0, amount / 5, (3, 3))
    return Structure(structure.lattice @ strain, structure.frac_coords + moves, structure.atomic_numbers)


NO_BONDS = Bonds(np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64), np.zeros((0, 3), dtype=np.int64))
