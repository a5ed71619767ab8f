"""The degrees of freedom that a space group leaves free: operations on a cell, projection, the primitive cell."""

from dataclasses import dataclass

import moyopy
import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import SymmetryError


@dataclass(frozen=True)
class SiteSymmetryMap:
    """The operations of a group as they act on the atoms of one cell.

    rotations W int[G, 3, 3], translations w float64[G, 3], permutation int[G, n], shifts int[G, n, 3], with
    W x_i + w = x_permutation(i) + shift_i for every operation and atom. Operation 0 is the identity.
    """

    rotations: np.ndarray
    translations: np.ndarray
    permutation: np.ndarray
    shifts: np.ndarray

    @property
    def order(self) -> int:
        return len(self.rotations)

    @classmethod
    def trivial(cls, num_atoms: int) -> "SiteSymmetryMap":
        """The identity alone."""
        return cls(
            np.eye(3, dtype=np.int64)[None],
            np.zeros((1, 3)),
            np.arange(num_atoms)[None],
            np.zeros((1, num_atoms, 3), dtype=np.int64),
        )


def detect_operations(structure: Structure, symprec: float) -> tuple[int, np.ndarray, np.ndarray]:
    """Space group number and operations (rotations, translations) of a structure in its own cell.

    Args:
        structure: any cell.
        symprec: tolerance, Å.

    Raises:
        SymmetryError: moyopy finds none.
    """
    cell = moyopy.Cell(structure.lattice.tolist(), structure.frac_coords.tolist(), structure.atomic_numbers.tolist())
    try:
        dataset = moyopy.MoyoDataset(cell, symprec=symprec)
    except (RuntimeError, ValueError) as error:
        raise SymmetryError(f"no space group found at symprec {symprec} Å: {error}") from error
    rotations = np.asarray(dataset.operations.rotations, dtype=np.int64)
    translations = np.asarray(dataset.operations.translations, dtype=np.float64)
    return dataset.number, rotations, translations


def map_sites(
    structure: Structure, rotations: np.ndarray, translations: np.ndarray, tolerance: float
) -> SiteSymmetryMap:
    """How given operations permute the atoms.

    Args:
        structure: a cell that obeys them within the tolerance.
        rotations, translations: operations on fractional coordinates (column convention x' = W x + w).
        tolerance: how far an image may land from an atom, Å.

    Raises:
        SymmetryError: an image lands on no atom of its element, or the metric is not kept.
    """
    rotations = np.asarray(rotations, dtype=np.int64)
    identity = np.flatnonzero((rotations == np.eye(3)).all((1, 2)) & (np.abs(translations) < 1e-8).all(1))
    order = np.argsort(np.arange(len(rotations)) != (identity[0] if len(identity) else 0), kind="stable")
    rotations, translations = rotations[order], np.asarray(translations, dtype=np.float64)[order]
    _check_metric(structure, rotations, tolerance)
    frac = structure.frac_coords
    images = np.einsum("gij,nj->gni", rotations, frac) + translations[:, None]
    delta = images[:, :, None] - frac  # [G, n, n, 3]
    wrapped = delta - np.round(delta)
    distance = np.linalg.norm(wrapped @ structure.lattice, axis=-1)
    other = structure.atomic_numbers[:, None] != structure.atomic_numbers
    distance[:, other] = np.inf
    permutation = distance.argmin(-1)
    worst = distance.min(-1).max()
    if not worst <= tolerance:
        raise SymmetryError(f"an image lies {worst:.3g} Å from any atom of its element, more than {tolerance} Å")
    if (np.sort(permutation, axis=1) != np.arange(len(frac))).any():
        raise SymmetryError("an operation does not permute the atoms")
    shifts = np.round(np.take_along_axis(delta, permutation[:, :, None, None], axis=2)[:, :, 0]).astype(np.int64)
    return SiteSymmetryMap(rotations, translations, permutation, shifts)


def _check_metric(structure: Structure, rotations: np.ndarray, tolerance: float) -> None:
    lengths = np.linalg.norm(structure.lattice, axis=1)
    metric = structure.lattice @ structure.lattice.T
    turned = np.swapaxes(rotations, 1, 2) @ metric @ rotations
    # a vector of length l that changes by d changes l^2 by 2 l d
    error = np.abs(turned - metric).max() / (2 * lengths.max())
    if not error <= max(10 * tolerance, 1e-6):
        raise SymmetryError(f"the lattice breaks the operations by {error:.3g} Å")


def symmetrize(structure: Structure, symmetry: SiteSymmetryMap) -> Structure:
    """The nearest structure that obeys the operations exactly: metric and positions averaged over the group.

    Args:
        structure: obeys them nearly.
        symmetry: from `map_sites` of this structure.

    Returns:
        The same cell in the same orientation, up to the strain that the averaging makes.
    """
    metric = structure.lattice @ structure.lattice.T
    averaged = (np.swapaxes(symmetry.rotations, 1, 2) @ metric @ symmetry.rotations).mean(0)
    # L' = L D with D symmetric and L' L'^T the averaged metric: the strain that turns nothing
    inverse = np.linalg.inv(structure.lattice)
    squared = inverse @ averaged @ inverse.T
    values, vectors = np.linalg.eigh((squared + squared.T) / 2)
    lattice = structure.lattice @ (vectors * np.sqrt(values)) @ vectors.T
    images = np.einsum("gij,nj->gni", symmetry.rotations, structure.frac_coords) + symmetry.translations[:, None]
    images = images - symmetry.shifts
    frac = np.zeros_like(structure.frac_coords)
    for permutation, image in zip(symmetry.permutation, images, strict=True):
        frac[permutation] += image
    return Structure(lattice, frac / symmetry.order, structure.atomic_numbers)


def cartesian_rotations(structure: Structure, symmetry: SiteSymmetryMap) -> np.ndarray:
    """Rotations R float64[G, 3, 3] acting on Cartesian column vectors; they stay as they are under symmetric strain."""
    basis = structure.lattice.T
    return basis @ symmetry.rotations @ np.linalg.inv(basis)


def project_forces(forces: np.ndarray, symmetry: SiteSymmetryMap, rotations: np.ndarray) -> np.ndarray:
    """The part of a vector field on the atoms [n, 3] that the group leaves as it is."""
    turned = np.einsum("gij,nj->gni", rotations, forces)
    out = np.zeros_like(forces)
    for permutation, image in zip(symmetry.permutation, turned, strict=True):
        out[permutation] += image
    return out / symmetry.order


def project_stress(stress: np.ndarray, rotations: np.ndarray) -> np.ndarray:
    """The symmetric part of a tensor [3, 3] that the rotations leave as it is."""
    symmetric = (stress + stress.T) / 2
    return (rotations @ symmetric @ np.swapaxes(rotations, 1, 2)).mean(0)


@dataclass(frozen=True)
class FreeDirections:
    """An orthonormal basis of what the group leaves free.

    positions float64[p, n, 3]: displacements, without a shift of everything. strains float64[q, 3, 3]: symmetric.
    """

    positions: np.ndarray
    strains: np.ndarray

    @property
    def num_free(self) -> int:
        return len(self.positions) + len(self.strains)


def free_directions(symmetry: SiteSymmetryMap, rotations: np.ndarray) -> FreeDirections:
    """The displacements and strains that break no operation.

    Args:
        symmetry: the group on the atoms.
        rotations: its Cartesian rotations (`cartesian_rotations`).
    """
    num_atoms = symmetry.permutation.shape[1]
    projector = np.zeros((num_atoms, 3, num_atoms, 3))
    for permutation, rotation in zip(symmetry.permutation, rotations, strict=True):
        projector[permutation, :, np.arange(num_atoms), :] += rotation / symmetry.order
    matrix = projector.reshape(3 * num_atoms, 3 * num_atoms)
    shift = np.tile(np.eye(3) / np.sqrt(num_atoms), (num_atoms, 1))
    matrix = matrix - shift @ (shift.T @ matrix)  # the two projectors commute
    positions = _fixed_space(matrix).reshape(-1, num_atoms, 3)
    elementary = _SYMMETRIC_BASIS
    images = np.einsum("gij,sjk,glk->sil", rotations, elementary, rotations) / symmetry.order
    strain_matrix = np.einsum("sij,tij->st", elementary, images)
    strains = np.einsum("qs,sij->qij", _fixed_space(strain_matrix), elementary)
    return FreeDirections(positions, strains)


def _fixed_space(projector: np.ndarray) -> np.ndarray:
    """Rows that span the space an orthogonal projector keeps."""
    values, vectors = np.linalg.eigh((projector + projector.T) / 2)
    return vectors[:, values > 0.5].T


def _symmetric_basis() -> np.ndarray:
    basis = np.zeros((6, 3, 3))
    for k, (i, j) in enumerate([(0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1)]):
        basis[k, i, j] = basis[k, j, i] = 1.0 if i == j else np.sqrt(0.5)
    return basis


_SYMMETRIC_BASIS = _symmetric_basis()
