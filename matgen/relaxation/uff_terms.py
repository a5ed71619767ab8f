"""Energy terms of UFF for one framework: which atoms, with which constants."""

from dataclasses import dataclass

import numpy as np

from matgen.crystal.structure import Structure
from matgen.mof.bonds import Bonds
from matgen.relaxation.uff_angles import COULOMB, angle_terms
from matgen.relaxation.uff_half_bonds import HalfBonds, excluded_pairs
from matgen.relaxation.uff_parameters import uff_types
from matgen.relaxation.uff_torsions import improper_terms, torsion_terms
from matgen.relaxation.uff_typing import UffTyping, type_atoms

__all__ = ["UffTerms", "natural_length", "uff_terms"]


@dataclass(frozen=True, eq=False)
class UffTerms:
    """Terms of one framework. Energies kcal/mol, lengths Å.

    Every bonded term refers to half bonds: half bond k < b runs from `first` to `second` of bond k, half bond b + k the
    other way. So a term knows no cell: a vector is that of its half bond.

    atomic_numbers: int [n]. typing: types and orders. bonds: b of them.
    bond_stiffness, bond_length: [b], E = stiffness/2 (r - length)^2.
    angle_halves: int [a, 2], from the centre to both ends. angle_stiffness [a]; angle_fold int [a]: 1, 3, 4 for
        stiffness/fold^2 (1 -+ cos(fold theta)), 0 for the general form; angle_natural [a] radians.
    torsion_halves: int [t, 3], i-j, j-k, k-l. torsion_barrier [t], torsion_fold int [t], torsion_sign [t]:
        E = barrier/2 (1 + sign cos(fold phi)).
    improper_halves: int [m, 3], from the centre to its neighbours; improper_constants [m, 4]: K, C0, C1, C2 of
        K/3 sum over the three axes of C0 + C1 cos(omega) + C2 cos(2 omega).
    vdw_distance, vdw_depth: [n]. excluded: int [x, 5] pairs (i, j, image) bonded or sharing a neighbour, each once in
        both directions.
    """

    atomic_numbers: np.ndarray
    typing: UffTyping
    bonds: Bonds
    bond_stiffness: np.ndarray
    bond_length: np.ndarray
    angle_halves: np.ndarray
    angle_stiffness: np.ndarray
    angle_fold: np.ndarray
    angle_natural: np.ndarray
    torsion_halves: np.ndarray
    torsion_barrier: np.ndarray
    torsion_fold: np.ndarray
    torsion_sign: np.ndarray
    improper_halves: np.ndarray
    improper_constants: np.ndarray
    vdw_distance: np.ndarray
    vdw_depth: np.ndarray
    excluded: np.ndarray

    @property
    def num_atoms(self) -> int:
        return len(self.atomic_numbers)


def uff_terms(structure: Structure, bonds: Bonds, typing: UffTyping | None = None) -> UffTerms:
    """Every term of a framework.

    Args:
        structure: the atoms; used for types where `typing` is not given, and nothing else.
        bonds: each periodic bond once.
        typing: from `type_atoms`.

    Raises:
        UntypedAtomError: an element without parameters.
    """
    typing = typing or type_atoms(structure, bonds)
    types = [uff_types()[name] for name in typing.names]
    radius = np.array([t.bond_radius for t in types])
    chi = np.array([t.electronegativity for t in types])
    charge = np.array([t.effective_charge for t in types])
    i, j = bonds.first, bonds.second
    length = natural_length(radius[i], radius[j], chi[i], chi[j], typing.orders)
    halves = HalfBonds.of(structure.num_atoms, bonds)
    angles = angle_terms(halves, typing, charge, np.concatenate([length, length]))
    return UffTerms(
        structure.atomic_numbers,
        typing,
        bonds,
        COULOMB * charge[i] * charge[j] / length**3,
        length,
        *angles,
        *torsion_terms(halves, structure.atomic_numbers, typing),
        *improper_terms(halves, structure.atomic_numbers, typing),
        np.array([t.vdw_distance for t in types]),
        np.array([t.vdw_depth for t in types]),
        excluded_pairs(halves, angles[0]),
    )


def natural_length(
    radius_i: np.ndarray, radius_j: np.ndarray, chi_i: np.ndarray, chi_j: np.ndarray, order: np.ndarray
) -> np.ndarray:
    """Natural bond length in Å from bond radii (Å), electronegativities and bond orders.

    Source: Rappe et al. 1992, eq. 2-4, the electronegativity correction subtracted (its sign in print is a misprint).
    """
    by_order = -0.1332 * (radius_i + radius_j) * np.log(order)
    by_charge = radius_i * radius_j * (np.sqrt(chi_i) - np.sqrt(chi_j)) ** 2 / (chi_i * radius_i + chi_j * radius_j)
    return radius_i + radius_j + by_order - by_charge
