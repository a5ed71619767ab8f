"""Real frameworks in their primitive cells, embedded so that no data set is needed."""

from pathlib import Path

import numpy as np
import pytest

from matgen.crystal.cif import parse_cif
from matgen.crystal.structure import Structure
from matgen.mof.assemble import Assembly, AssemblyInput
from matgen.mof.building_block import BuildingBlock
from matgen.mof.decompose import decompose

STRUCTURES = Path(__file__).parent / "structures"


def load(name: str) -> Structure:
    return parse_cif((STRUCTURES / f"{name}.cif").read_text())


def cut(name: str) -> AssemblyInput:
    """Its blocks where they are."""
    framework = decompose(load(name))
    return AssemblyInput(framework.lattice, framework.frac_coords, framework.blocks)


def star(points: np.ndarray, element: int, role: str) -> BuildingBlock:
    """One atom with connection points around it."""
    return BuildingBlock(
        atomic_numbers=np.array([element]),
        cart_coords=np.zeros((1, 3)),
        bonds=np.zeros((0, 2), dtype=np.int64),
        connection_points=points,
        connection_atoms=np.zeros(len(points), dtype=np.int64),
        role=role,  # type: ignore[arg-type]
    )


def distances_of_pairs(made: Assembly) -> np.ndarray:
    """Å between the two connection points of each pair, from nothing but blocks, rotations, centres and images."""
    block = np.repeat(np.arange(len(made.blocks)), [b.num_connections for b in made.blocks])
    points = np.concatenate([b.connection_points @ r.T for b, r in zip(made.blocks, made.rotations, strict=True)])
    places = points + (made.frac_coords @ made.lattice)[block]
    first, second = made.pairs.T
    return np.linalg.norm(places[second] + made.pair_image @ made.lattice - places[first], axis=1)


@pytest.fixture(scope="session")
def mof5() -> Structure:
    return load("mof5")
