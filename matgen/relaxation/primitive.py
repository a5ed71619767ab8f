"""From any cell to a primitive cell of the same operations, and back with every atom in its place."""

from dataclasses import dataclass

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import SymmetryError
from matgen.relaxation.symmetric import SiteSymmetryMap, map_sites


@dataclass(frozen=True)
class PrimitiveCell:
    """A primitive cell and the way back.

    structure: the primitive cell. symmetry: one operation for each rotation of the group, on the primitive cell.
    basis float64[3, 3]: rows are the primitive vectors in fractional coordinates of the original cell. representative
    int[n] and offset float64[n, 3]: atom i of the original cell is atom representative[i] of the primitive one, moved
    by offset[i] (fractional in the original cell).
    """

    structure: Structure
    symmetry: SiteSymmetryMap
    basis: np.ndarray
    representative: np.ndarray
    offset: np.ndarray

    def restore(self, primitive: Structure) -> Structure:
        """The original cell with the atoms and the lattice where a changed primitive cell puts them."""
        lattice = np.linalg.inv(self.basis) @ primitive.lattice
        frac = primitive.frac_coords[self.representative] @ self.basis + self.offset
        return Structure(lattice, frac, primitive.atomic_numbers[self.representative])


def primitive_cell(
    structure: Structure, rotations: np.ndarray, translations: np.ndarray, tolerance: float
) -> PrimitiveCell:
    """A primitive cell of a structure under given operations.

    Args:
        structure: any cell.
        rotations, translations: the operations on it, with its pure translations (centring) among them.
        tolerance: how far an image may land from an atom, Å.

    Raises:
        SymmetryError: the structure does not obey the operations.
    """
    pure = _pure_translations(rotations, translations)
    identity = np.repeat(np.eye(3, dtype=np.int64)[None], len(pure), axis=0)
    centring = map_sites(structure, identity, pure, tolerance)
    basis = _primitive_basis(structure.lattice, pure)
    chosen, representative = np.unique(centring.permutation.min(0), return_inverse=True)
    offset = np.zeros_like(structure.frac_coords)
    # operation g takes atom r to atom permutation[g, r]: x_r + t_g = x_p + shift
    for permutation, shift, translation in zip(
        centring.permutation[:, chosen], centring.shifts[:, chosen], centring.translations, strict=True
    ):
        offset[permutation] = translation - shift
    to_primitive = np.linalg.inv(basis)
    primitive = Structure(
        basis @ structure.lattice, structure.frac_coords[chosen] @ to_primitive, structure.atomic_numbers[chosen]
    )
    _, first = np.unique(rotations.reshape(-1, 9), axis=0, return_index=True)
    turned = to_primitive.T @ rotations[first] @ basis.T
    if np.abs(turned - np.round(turned)).max() > 1e-6:
        raise SymmetryError("the operations do not keep their own lattice of translations")
    symmetry = map_sites(primitive, np.round(turned), translations[first] @ to_primitive, tolerance)
    return PrimitiveCell(primitive, symmetry, basis, representative, offset)


def _pure_translations(rotations: np.ndarray, translations: np.ndarray) -> np.ndarray:
    pure = translations[(rotations == np.eye(3)).all((1, 2))]
    pure = np.concatenate([np.zeros((1, 3)), pure - np.round(pure)])
    _, first = np.unique(np.round(pure, 5) + 0.0, axis=0, return_index=True)
    distinct = pure[np.sort(first)]
    # -1/2 and 1/2 are the same translation
    keep: list[np.ndarray] = []
    for candidate in distinct:
        if not any(np.abs(candidate - other - np.round(candidate - other)).max() < 1e-4 for other in keep):
            keep.append(candidate)
    return np.array(keep)


def _primitive_basis(lattice: np.ndarray, pure: np.ndarray) -> np.ndarray:
    """Three short translations that span the lattice of all of them, right-handed as the given cell is."""
    if len(pure) == 1:
        return np.eye(3)
    steps = np.array(np.meshgrid([-1, 0, 1], [-1, 0, 1], [-1, 0, 1])).reshape(3, -1).T
    candidates = (pure[:, None] + steps).reshape(-1, 3)
    length = np.linalg.norm(candidates @ lattice, axis=1)
    candidates = candidates[np.argsort(length, kind="stable")]
    candidates = candidates[np.linalg.norm(candidates, axis=1) > 1e-6]
    for count in (14, 40):
        head = candidates[:count]
        triples = np.array([(i, j, k) for i in range(len(head)) for j in range(i) for k in range(j)])
        determinant = np.linalg.det(head[triples])
        right = np.flatnonzero(np.abs(np.abs(determinant) - 1 / len(pure)) < 1e-3 / len(pure))
        if len(right):
            basis = head[triples[right[triples[right].max(1).argmin()]]]
            return basis if np.linalg.det(basis) > 0 else -basis
    raise SymmetryError(f"no primitive basis found for {len(pure)} translations")
