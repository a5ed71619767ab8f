"""Space group and conventional cell of a structure: one stated policy for the tolerance and the setting.

The group is found by moyopy at the first tolerance of the policy that works, in the standard setting (unique axis b,
cell choice 1; origin choice 2; hexagonal axes); where moyopy finds none, by spglib at the same tolerances, whose
primitive cell moyopy then brings to the setting. The tolerance used is part of the result.
"""

import logging
from dataclasses import dataclass

import moyopy
import numpy as np

from matgen.crystal.structure import Structure
from matgen.crystal.tables import load_tables
from matgen.errors import SymmetryError
from matgen.geometry.coordinates import wrap

__all__ = [
    "StandardCrystal",
    "SymmetryConfig",
    "find_space_group_number",
    "hermann_mauguin_symbol",
    "primitive_cell",
    "standardize",
]

_log = logging.getLogger(__name__)
_SETTING = moyopy.Setting.standard()
# Rows: primitive vectors on the conventional ones, in sixths; by the last centring translation and their number.
_PRIMITIVE_BASES = {
    ((3, 3, 0), 2): np.array([[3, 3, 0], [-3, 3, 0], [0, 0, 6]]),
    ((0, 3, 3), 2): np.array([[6, 0, 0], [0, 3, 3], [0, -3, 3]]),
    ((3, 3, 3), 2): np.array([[-3, 3, 3], [3, -3, 3], [3, 3, -3]]),
    ((3, 3, 0), 4): np.array([[0, 3, 3], [3, 0, 3], [3, 3, 0]]),
    ((2, 4, 4), 3): np.array([[4, 2, 2], [-2, 2, 2], [-2, -4, 2]]),
}


@dataclass(frozen=True, kw_only=True)
class SymmetryConfig:
    """symprec: Å, tried first. fallback_symprecs: Å, tried in turn where a search fails."""

    symprec: float = 0.1
    fallback_symprecs: tuple[float, ...] = (0.03, 0.01, 1e-3, 1e-4)


@dataclass(frozen=True, eq=False)
class StandardCrystal:
    """One point per orbit in the conventional cell of the standard setting.

    lattice: [3, 3] rows in Å, symmetrised. frac_coords: [M, 3]. atomic_numbers, multiplicity: int [M]; multiplicity
    counts atoms of the conventional cell. symprec: Å, as used.
    """

    space_group_number: int
    lattice: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    multiplicity: np.ndarray
    symprec: float


def _search(cell: moyopy.Cell, symprec: float) -> moyopy.MoyoDataset | None:
    try:
        return moyopy.MoyoDataset(cell, symprec=symprec, setting=_SETTING)
    except ValueError as error:  # how moyopy reports that no consistent set of operations was found
        _log.debug("no space group at symprec %g: %s", symprec, error)
        return None


def _refined_by_spglib(structure: Structure, symprec: float) -> moyopy.Cell | None:
    import spglib

    cell = (structure.lattice.tolist(), structure.frac_coords.tolist(), structure.atomic_numbers.tolist())
    try:
        refined = spglib.standardize_cell(cell, to_primitive=True, symprec=symprec)
    except spglib.SpglibError as error:
        _log.debug("spglib at symprec %g: %s", symprec, error)
        return None
    if refined is None:
        return None
    basis, positions, numbers = (np.asarray(part).tolist() for part in refined)
    return moyopy.Cell(basis, positions, numbers)


def _dataset(structure: Structure, config: SymmetryConfig) -> tuple[moyopy.MoyoDataset, float]:
    """The first search of the policy that succeeds."""
    numbers = [int(z) for z in structure.atomic_numbers]
    cell = moyopy.Cell(structure.lattice.tolist(), structure.frac_coords.tolist(), numbers)
    tolerances = (config.symprec, *config.fallback_symprecs)
    for symprec in tolerances:
        if (dataset := _search(cell, symprec)) is not None:
            return dataset, symprec
    for symprec in tolerances:
        refined = _refined_by_spglib(structure, symprec)
        if refined is not None and (dataset := _search(refined, 1e-3)) is not None:
            return dataset, symprec
    raise SymmetryError(f"no space group found at any symprec of {', '.join(f'{x:g}' for x in tolerances)} Å")


def standardize(structure: Structure, config: SymmetryConfig | None = None) -> StandardCrystal:
    """Space group, conventional cell and one point per orbit of a structure.

    Args:
        structure: any ordered structure, any cell.
        config: the tolerance policy.

    Returns:
        the crystal in the standard setting; points are close to their special positions, not snapped onto them.

    Raises:
        SymmetryError: neither program finds a group at any of the tolerances.
    """
    dataset, symprec = _dataset(structure, config or SymmetryConfig())
    primitive = dataset.prim_std_cell
    lattice = np.array(dataset.std_cell.basis)
    # the primitive vectors on the conventional ones are halves and thirds
    transform = np.rint(np.array(primitive.basis) @ np.linalg.inv(lattice) * 6.0) / 6.0
    num_centrings = round(1.0 / float(np.linalg.det(transform)))
    orbit_of_site = np.empty(len(primitive.numbers), dtype=np.int64)
    orbit_of_site[dataset.mapping_std_prim] = dataset.orbits
    _, first, count = np.unique(orbit_of_site, return_index=True, return_counts=True)
    return StandardCrystal(
        space_group_number=dataset.number,
        lattice=lattice,
        frac_coords=np.array(primitive.positions)[first] @ transform,
        atomic_numbers=np.array(primitive.numbers, dtype=np.int64)[first],
        multiplicity=count * num_centrings,
        symprec=symprec,
    )


def find_space_group_number(structure: Structure, config: SymmetryConfig | None = None) -> int:
    """Number 1..230 of a structure under the policy.

    Raises:
        SymmetryError: no group is found.
    """
    return int(_dataset(structure, config or SymmetryConfig())[0].number)


def primitive_cell(structure: Structure, space_group_number: int) -> Structure:
    """Primitive cell of a conventional cell in the standard setting.

    Args:
        structure: all atoms of the conventional cell, exactly invariant under the group's centring translations.
        space_group_number: 1..230.

    Returns:
        the same crystal on the primitive vectors, one atom of each set that the centring translations make.
    """
    rotations, translations = load_tables().operations(space_group_number)
    centring = translations[(rotations == np.eye(3)).all(axis=(1, 2))]
    if len(centring) == 1:
        return structure
    basis = _PRIMITIVE_BASES[tuple(np.rint(centring[-1] * 6).astype(int).tolist()), len(centring)] / 6.0
    coords = structure.frac_coords @ np.linalg.inv(basis)
    # Compared by distance, not by rounded keys: copies on either side of a rounding edge are the same atom.
    apart = coords[:, None] - coords
    numbers = structure.atomic_numbers
    same = (np.abs(apart - np.rint(apart)) < 1e-4).all(-1) & (numbers[:, None] == numbers)
    first = np.flatnonzero(same.argmax(1) == np.arange(structure.num_atoms))
    assert len(first) * len(centring) == structure.num_atoms, "not invariant under the centring translations"
    return Structure(basis @ structure.lattice, wrap(coords[first]), structure.atomic_numbers[first])


def hermann_mauguin_symbol(space_group_number: int) -> str:
    """Short Hermann-Mauguin symbol of a group, e.g. "F m -3 m"."""
    return str(moyopy.SpaceGroupType(space_group_number).hm_short)
