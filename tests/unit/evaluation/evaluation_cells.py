"""The same crystal in other cells."""

import numpy as np

from matgen.crystal.structure import Structure


def supercell(structure: Structure, factors=(2, 1, 1)) -> Structure:
    """The same crystal in a larger cell."""
    shifts = np.stack(np.meshgrid(*[np.arange(f) for f in factors], indexing="ij"), -1).reshape(-1, 3)
    frac_coords = (structure.frac_coords[None] + shifts[:, None]).reshape(-1, 3) / np.array(factors)
    lattice = structure.lattice * np.array(factors)[:, None]
    return Structure(lattice, frac_coords, np.tile(structure.atomic_numbers, len(shifts)))


def moved(structure: Structure, seed: int) -> Structure:
    """The same crystal rotated, shifted, in another basis and another order of atoms."""
    rng = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    basis = np.array([[1, 1, 0], [0, 1, 0], [0, 1, 1]])
    frac_coords = (structure.frac_coords @ np.linalg.inv(basis) + rng.random(3)) % 1.0
    order = rng.permutation(structure.num_atoms)
    return Structure(basis @ structure.lattice @ rotation, frac_coords[order], structure.atomic_numbers[order])
