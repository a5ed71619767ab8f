"""Points and lattices in general position for the tables of the 230 groups."""

import numpy as np

from matgen.crystal.tables import load_tables
from matgen.geometry.lattice import lattice_constraints, lattice_from_k

TABLES = load_tables()
GROUPS = range(1, 231)


def operation_set(rotations, translations):
    return {
        (*np.rint(W).astype(int).ravel().tolist(), *(np.rint(np.asarray(w) * 24).astype(int) % 24).tolist())
        for W, w in zip(rotations, translations)
    }


def generic_lattice(number, rng, log_volume=9.0):
    mask, fixed = lattice_constraints()
    k = np.where(mask[number], rng.normal(0, 0.15, 6), fixed[number])
    k[5] = log_volume / 3**0.5
    return lattice_from_k(k)


def generic_points(members, rng):
    projector = TABLES.projector[TABLES.member_projector[members]]
    return np.einsum("qij,qj->qi", projector, rng.random((len(members), 3))) + TABLES.member_offset[members]
