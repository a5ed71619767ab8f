"""A reduced primitive cell by the crystal's own pure translations, without moving or averaging an atom."""

from math import gcd

import numpy as np

from matgen.crystal.structure import Structure, reduce_cell
from matgen.geometry.coordinates import nearest_image, wrap

__all__ = ["reduced_primitive_cell"]


def reduced_primitive_cell(structure: Structure, tolerance: float = 0.1) -> Structure:
    """The same crystal on a Minkowski-reduced primitive basis, in the same orientation.

    Args:
        structure: any cell.
        tolerance: Å; a translation counts that maps every atom this close to one of its kind.

    Returns:
        one atom of each set that the translations make, coordinates in [0, 1).
    """
    translations = _translations(structure, tolerance)
    basis = np.eye(3)
    coords, numbers = structure.frac_coords, structure.atomic_numbers
    if len(translations) > 1:
        basis = _basis(translations)
        coords = structure.frac_coords @ np.linalg.inv(basis)
        keep = _first_of_each(coords, numbers, basis @ structure.lattice, tolerance, len(translations))
        coords, numbers = coords[keep], numbers[keep]
    lattice = basis @ structure.lattice
    reduced, transform = reduce_cell(lattice)
    return Structure(reduced, wrap(coords @ transform), numbers)


def _translations(structure: Structure, tolerance: float) -> np.ndarray:
    """Translations in [0, 1) that map the structure onto itself, the zero first, float [k, 3]."""
    numbers, coords = structure.atomic_numbers, structure.frac_coords
    kinds, counts = np.unique(numbers, return_counts=True)
    zero = np.zeros((1, 3))
    if gcd(*counts.tolist()) == 1:
        return zero
    rarest = coords[numbers == kinds[counts.argmin()]]
    found = [zero[0]]
    for shift in rarest[1:] - rarest[0]:
        snapped = _snapped(shift, len(rarest))
        if snapped is not None and _maps_onto_itself(structure, snapped, tolerance):
            found.append(snapped - np.floor(snapped))
    # A set that is no group holds a near-translation: then only exact multiples of one another can be kept.
    unique = np.unique(np.rint(np.array(found) * 1e6) / 1e6, axis=0)
    return np.array(found) if _is_group(unique) else zero


def _snapped(shift: np.ndarray, order: int) -> np.ndarray | None:
    """The nearest translation of a finite order that divides the atoms of the rarest kind."""
    for divisor in range(2, order + 1):
        if order % divisor == 0:
            near = np.rint(shift * divisor) / divisor
            if np.abs(near - shift).max() < 0.02:
                return near
    return None


def _maps_onto_itself(structure: Structure, shift: np.ndarray, tolerance: float) -> bool:
    """Whether every atom finds one of its kind at its shifted place."""
    reduced, transform = reduce_cell(structure.lattice)
    metric = (reduced @ reduced.T)[None]
    for number in np.unique(structure.atomic_numbers):
        coords = structure.frac_coords[structure.atomic_numbers == number]
        difference = (coords[:, None] + shift - coords[None]) @ transform
        rough = difference - np.rint(difference)
        close = np.einsum("ijk,kl,ijl->ij", rough, reduced @ reduced.T, rough).argmin(axis=1)
        nearest = difference[np.arange(len(coords)), close]
        _, squared = nearest_image(nearest, np.broadcast_to(metric, (len(coords), 3, 3)))
        if squared.max() > tolerance**2 or len(np.unique(close)) < len(coords):
            return False
    return True


def _is_group(translations: np.ndarray) -> bool:
    """Whether sums of translations are translations, modulo 1."""
    sums = (translations[:, None] + translations).reshape(-1, 3)
    difference = sums[:, None] - translations
    return bool((np.abs(difference - np.rint(difference)).max(axis=2).min(axis=1) < 1e-4).all())


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


def _first_of_each(
    coords: np.ndarray, numbers: np.ndarray, lattice: np.ndarray, tolerance: float, order: int
) -> np.ndarray:
    """First atom of each set of copies modulo the new lattice."""
    metric = lattice @ lattice.T
    taken = np.zeros(len(numbers), dtype=bool)
    keep = []
    for atom in range(len(numbers)):
        if taken[atom]:
            continue
        keep.append(atom)
        difference = coords - coords[atom]
        difference -= np.rint(difference)
        squared = np.einsum("ij,jk,ik->i", difference, metric, difference)
        squared[(numbers != numbers[atom]) | taken] = np.inf
        taken[np.argsort(squared, kind="stable")[:order]] = True
    assert len(keep) * order == len(numbers), "the translations do not divide the atoms"
    return np.array(keep)
