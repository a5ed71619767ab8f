"""Small real structures, and the same as text."""

from __future__ import annotations

import numpy as np
import pytest

from matgen.crystal.cif import write_cif
from matgen.crystal.structure import Structure


def rock_salt(length: float = 5.64, cation: int = 11, anion: int = 17) -> Structure:
    lattice = length / 2 * np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]])
    return Structure(lattice, np.array([[0.0, 0, 0], [0.5, 0.5, 0.5]]), np.array([cation, anion]))


@pytest.fixture
def structures() -> list[Structure]:
    return [rock_salt(4.0 + 0.01 * i, 3 + 8 * (i % 2), 9 + 8 * (i % 3 == 0)) for i in range(300)]


@pytest.fixture
def cifs(structures: list[Structure]) -> list[str]:
    return [write_cif(structure, name=f"s{i}") for i, structure in enumerate(structures)]


BAD_CIF = "data_bad\n_cell_length_a 5\nloop_\n_atom_site_label\n_atom_site_fract_x\nNa1 0\n"
DISORDERED_CIF = write_cif(rock_salt()).replace("0.5000000000 1\n", "0.5000000000 0.5\n")
CLASHING_CIF = write_cif(Structure(4 * np.eye(3), np.array([[0.0, 0, 0], [0, 0, 0.05]]), np.array([11, 17])))
NAN_CIF = write_cif(rock_salt()).replace("0.5000000000 1\n", "nan 1\n")
