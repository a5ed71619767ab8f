"""Neighbour lists of non-bonded pairs, kept with a skin, and their Lennard-Jones energy."""

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from matgen.relaxation.uff_terms import UffTerms
from matgen.shapes import Float, Int

__all__ = ["PairList", "find_pairs", "lennard_jones", "pair_constants"]

_IMAGES = 1 << 10  # images -512..511 pack into one integer
_NEAREST = 0.01  # Å^2; nearer atoms get the energy of 0.1 Å


@dataclass(frozen=True, eq=False)
class PairList:
    """Pairs of one framework within cutoff + skin, each once, bonded and 1-3 pairs left out.

    Images are written out: `site_atom` int [s] and `site_image` [s, 3] name every periodic copy that occurs, and pair p
    is atom `first[p]` in cell 0 with site `second[p]`.
    """

    first: np.ndarray
    second: np.ndarray
    site_atom: np.ndarray
    site_image: np.ndarray


def find_pairs(positions: np.ndarray, lattice: np.ndarray, terms: UffTerms, reach: float) -> PairList:
    """Non-bonded pairs of a framework.

    Args:
        positions: Cartesian, Å, [n, 3]; they need not lie in the cell.
        lattice: rows, Å.
        terms: whose `excluded` pairs are left out.
        reach: Å, cutoff and skin together.
    """
    from vesin import NeighborList

    search = NeighborList(cutoff=reach, full_list=False)
    i, j, image, distance = search.compute(points=positions, box=lattice, periodic=True, quantities="ijSd")
    i, j, image = i.astype(np.int64), j.astype(np.int64), image.astype(np.int64)
    excluded = terms.excluded
    shifted = positions[excluded[:, 1]] + excluded[:, 2:] @ lattice - positions[excluded[:, 0]]
    longest = np.sqrt((shifted**2).sum(1).max()) + 1e-6 if len(excluded) else 0.0
    near = np.flatnonzero(distance <= longest)
    keep = np.ones(len(i), dtype=bool)
    known = _keys(excluded[:, 0], excluded[:, 1], excluded[:, 2:], terms.num_atoms)
    keep[near] = ~np.isin(_keys(i[near], j[near], image[near], terms.num_atoms), known)
    i, j, image = i[keep], j[keep], image[keep]
    sites, second = np.unique(_keys(np.zeros_like(j), j, image, terms.num_atoms), return_inverse=True)
    atom, packed = np.divmod(sites, _IMAGES**3)
    a, rest = np.divmod(packed, _IMAGES**2)
    site_image = np.stack([a, rest // _IMAGES, rest % _IMAGES], axis=1) - _IMAGES // 2
    return PairList(i, second, atom, site_image)


def _keys(i: np.ndarray, j: np.ndarray, image: np.ndarray, num_atoms: int) -> np.ndarray:
    shifted = image + _IMAGES // 2
    packed = (shifted[:, 0] * _IMAGES + shifted[:, 1]) * _IMAGES + shifted[:, 2]
    return (i * num_atoms + j) * _IMAGES**3 + packed


def lennard_jones(
    square: Float[Tensor, " p"],
    distance_6: Float[Tensor, " p"],
    depth: Float[Tensor, " p"],
    shift: Float[Tensor, " p"],
    cutoff: float,
    bump: float = 0.0,
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"]]:
    """E = depth ((x/r)^12 - 2 (x/r)^6) - its value at the cutoff, zero beyond; and g with dE/dvector = g vector.

    The energy is continuous at the cutoff; no tail correction is added. LAMMPS: `lj/cut` with `pair_modify shift yes`.
    With a bump b that energy is replaced by b depth (1 - (r/x)^2)^2 up to x and nothing beyond: atoms can pass through
    each other, are pushed apart where they overlap but are not in one place, and nothing is held together.

    Args:
        square: r^2, Å^2.
        distance_6: x_ij^6, Å^6.
        depth: kcal/mol.
        shift: kcal/mol, the value at the cutoff.
        cutoff: Å.
        bump: b, 0 for UFF itself.

    Source: Rappe et al. 1992, eq. 20, with geometric means for both x and D (eq. 21b, 22).
    """
    inside = (square < cutoff * cutoff).to(square.dtype)
    if bump > 0:
        x_2 = distance_6.pow(1 / 3)
        overlap = (1 - square / x_2).clamp_min(0)
        return bump * depth * overlap * overlap, -4 * bump * depth * overlap / x_2
    inverse = square.clamp_min(_NEAREST).reciprocal()
    sixth = inverse * inverse * inverse * distance_6
    scaled = depth * inside
    energy = scaled * sixth * (sixth - 2) - shift * inside
    return energy, 12 * scaled * sixth * (1 - sixth) * inverse


def pair_constants(
    distance: Float[Tensor, " n"],
    depth: Float[Tensor, " n"],
    first: Int[Tensor, " p"],
    second: Int[Tensor, " p"],
    cutoff: float,
) -> tuple[Float[Tensor, " p"], Float[Tensor, " p"], Float[Tensor, " p"]]:
    """x_ij^6 (Å^6), D_ij and the energy at the cutoff (kcal/mol) of pairs of atoms."""
    cube, root = distance**3, depth.sqrt()
    x_6 = cube.index_select(0, first) * cube.index_select(0, second)
    d = root.index_select(0, first) * root.index_select(0, second)
    sixth = x_6 / cutoff**6
    return x_6, d, d * sixth * (sixth - 2)
