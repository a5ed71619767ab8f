"""A reduced primitive cell by the crystal's own pure translations, without moving or averaging an atom."""

from math import gcd

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from matgen.crystal.structure import Structure, reduce_cell
from matgen.geometry.coordinates import wrap

__all__ = ["reduced_primitive_cell"]


def reduced_primitive_cell(structure: Structure, tolerance: float = 0.1) -> Structure:
    """The same crystal on a Minkowski-reduced primitive basis, in the same orientation.

    Args:
        structure: any cell.
        tolerance: Å; a translation counts that maps every atom this close to one of its kind.

    Returns:
        one atom of each set that the translations make, coordinates in [0, 1).
    """
    structure = _reduced(structure)
    translations = _translations(structure, tolerance)
    if len(translations) == 1:
        return structure
    basis = _basis(translations)
    small = _reduced(
        Structure(basis @ structure.lattice, structure.frac_coords @ np.linalg.inv(basis), structure.atomic_numbers)
    )
    keep = _first_of_each(small, len(translations), tolerance)
    if keep is None:
        return structure
    return Structure(small.lattice, small.frac_coords[keep], small.atomic_numbers[keep])


def _reduced(structure: Structure) -> Structure:
    lattice, transform = reduce_cell(structure.lattice)
    return Structure(lattice, wrap(structure.frac_coords @ transform), structure.atomic_numbers)


def _translations(structure: Structure, tolerance: float) -> np.ndarray:
    """Translations in [0, 1) that map the structure onto itself, the zero first, float [k, 3]."""
    numbers, coords = structure.atomic_numbers, structure.frac_coords
    kinds, counts = np.unique(numbers, return_counts=True)
    zero = np.zeros((1, 3))
    if gcd(*counts.tolist()) == 1:
        return zero
    order = gcd(*counts.tolist())  # every translation is a multiple of 1 / order: whole numbers keep sums exact
    rarest = coords[numbers == kinds[counts.argmin()]]
    tree = cKDTree(coords, boxsize=1.0)
    probes = np.random.default_rng(0).permutation(len(numbers))  # a wrong translation fails at its first few atoms
    group: set[tuple[int, ...]] = {(0, 0, 0)}
    for shift in rarest[1:] - rarest[0]:
        snapped = _snapped(shift, order)
        if snapped is None or (steps := _steps(snapped * order, order)) in group:
            continue
        if all(_maps(structure, tree, snapped, atoms, tolerance) for atoms in (probes[:8], probes[8:])):
            group = _extended(group, steps, order)
    if len(numbers) % len(group):  # a near-translation that no whole number of atoms can obey
        return zero
    return np.array(sorted(group)) / order


def _steps(multiples: np.ndarray, order: int) -> tuple[int, ...]:
    return tuple((np.rint(multiples).astype(np.int64) % order).tolist())


def _extended(group: set[tuple[int, ...]], steps: tuple[int, ...], order: int) -> set[tuple[int, ...]]:
    """The group that all sums of its members with multiples of a translation make."""
    shift = np.array(steps)
    multiples = {_steps(k * shift, order) for k in range(order)}
    return {_steps(np.array(member) + np.array(multiple), order) for member in group for multiple in multiples}


def _maps(structure: Structure, tree: cKDTree, shift: np.ndarray, atoms: np.ndarray, tolerance: float) -> bool:
    """Whether each of the atoms finds one of its kind at its shifted place."""
    coords, numbers = structure.frac_coords, structure.atomic_numbers
    places = wrap(coords[atoms] + shift)
    _, near = tree.query(places)
    apart = places - coords[near]
    squared = (((apart - np.rint(apart)) @ structure.lattice) ** 2).sum(axis=1)
    return bool((squared <= tolerance**2).all() and (numbers[near] == numbers[atoms]).all())


def _snapped(shift: np.ndarray, order: int) -> np.ndarray | None:
    """The nearest translation of a finite order that divides the number of atoms of every kind."""
    for divisor in range(2, order + 1):
        if order % divisor == 0:
            near = np.rint(shift * divisor) / divisor
            if np.abs(near - shift).max() < 0.02:
                return near
    return None


def _basis(translations: np.ndarray) -> np.ndarray:
    """Basis [3, 3] of the lattice that unit vectors and translations span (Hermite normal form of integer rows)."""
    order = len(translations)
    denominator = order
    rows = np.concatenate([np.rint(translations * denominator).astype(np.int64), denominator * np.eye(3, dtype=int)])
    basis = np.zeros((3, 3), dtype=np.int64)
    for column in range(3):
        while np.count_nonzero(rows[:, column]) > 1:
            nonzero = np.flatnonzero(rows[:, column])
            pivot = nonzero[np.abs(rows[nonzero, column]).argmin()]
            quotient = rows[:, column] // rows[pivot, column]
            quotient[pivot] = 0
            rows = rows - quotient[:, None] * rows[pivot]
        pivot = int(np.flatnonzero(rows[:, column])[0])
        basis[column] = rows[pivot]
        rows = np.delete(rows, pivot, axis=0)
    return basis / denominator


def _first_of_each(structure: Structure, order: int, tolerance: float) -> np.ndarray | None:
    """First atom of each set of copies modulo the new lattice; None where they do not fall into sets of this order."""
    numbers = structure.atomic_numbers
    heights = 1.0 / np.linalg.norm(np.linalg.inv(structure.lattice), axis=0)
    reach = 2.0 * tolerance / heights.min()
    tree = cKDTree(wrap(structure.frac_coords), boxsize=1.0)
    pairs = tree.query_pairs(min(reach, 0.49), output_type="ndarray")
    pairs = pairs[numbers[pairs[:, 0]] == numbers[pairs[:, 1]]]
    graph = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(len(numbers), len(numbers)))
    _, label = connected_components(graph, directed=False)
    _, first, count = np.unique(label, return_index=True, return_counts=True)
    return np.sort(first) if (count == order).all() else None
