"""Contacts between atoms of different blocks: what tells apart orientations that close equally well."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.mof.assembly.pairs import image_vectors
from matgen.mof.metals import IS_METAL

if TYPE_CHECKING:
    from matgen.mof.building_block import BuildingBlock

__all__ = [
    "CONTACT_RADII",
    "Surroundings",
    "connection_kinds",
    "contact_energy",
    "moved_to",
    "shortest_contact",
    "surroundings",
    "total_energy",
]

_H = 1
_DONATES = np.zeros(119, dtype=bool)
_DONATES[[7, 8]] = True
_ACCEPTS = np.zeros(119, dtype=bool)
_ACCEPTS[[7, 8, 9, 17]] = True
_CUTOFF = 4.5  # Å
_HYDROGEN_BOND = 2.0  # Å, at its best; it weighs as much as four other contacts
_SOFT = 0.55  # of the sum of radii: nearer contacts cost no more


def _radii() -> np.ndarray:
    radii = np.concatenate([COVALENT_RADII + 0.8, np.full(119 - len(COVALENT_RADII), 2.4)])
    known = {1: 1.10, 5: 1.92, 6: 1.70, 7: 1.55, 8: 1.52, 9: 1.47, 14: 2.10, 15: 1.80, 16: 1.80, 17: 1.75}
    for number, radius in (known | {34: 1.90, 35: 1.85, 53: 1.98}).items():
        radii[number] = radius
    radii[IS_METAL] = 1.4  # coordination beyond the first shell is no clash
    return radii


CONTACT_RADII = _radii()
"""Å by atomic number. Source: Bondi, J. Phys. Chem. 68 (1964) 441; H: Rowland and Taylor, ibid. 100 (1996) 7384."""


@dataclass(frozen=True, eq=False)
class _Laws:
    """How pairs of sorts of atoms [T * T] interact, first sort * T + second; sort: int [n], of all atoms.

    best: float32, squared distance in Å^2 at which a pair is best. weight: float32, of its energy; 0 where bonds join
    the two.
    """

    sort: np.ndarray
    best: np.ndarray
    weight: np.ndarray

    def pairs(self, mine: np.ndarray | slice, theirs: np.ndarray) -> np.ndarray:
        """int [n, m], where the pairs of two lists of atoms stand in the tables."""
        return np.asarray(self.sort[mine][:, None] * round(len(self.best) ** 0.5) + self.sort[theirs])


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What does not change while blocks turn about their centres.

    lattice: [3, 3]; centres: [K, 3] Å. laws: of the contacts of all atoms. start: [K + 1], first atom of each block.
    radius: [K] Å, of the farthest atom from its centre. near: for each block, (blocks, translations [., 3] in Å) whose
    atoms may touch it; once: bool [.] for each, one of the two sides of every such pair.
    """

    lattice: np.ndarray
    centres: np.ndarray
    laws: _Laws
    start: np.ndarray
    radius: np.ndarray
    near: list[tuple[np.ndarray, np.ndarray]]
    once: list[np.ndarray]


def surroundings(lattice: np.ndarray, centres: np.ndarray, blocks: "Sequence[BuildingBlock]") -> Surroundings:
    """Collect them."""
    radius = np.array([np.sqrt(np.square(b.cart_coords).sum(1).max()) for b in blocks])
    start = np.cumsum([0, *(block.num_atoms for block in blocks)])
    return Surroundings(lattice, centres, _laws(blocks), start, radius, *_near(lattice, centres, radius))


def moved_to(around: Surroundings, lattice: np.ndarray, centres: np.ndarray) -> Surroundings:
    """The surroundings of the same blocks at other centres, in another cell."""
    near, once = _near(lattice, centres, around.radius)
    return replace(around, lattice=lattice, centres=centres, near=near, once=once)


def _near(
    lattice: np.ndarray, centres: np.ndarray, radius: np.ndarray
) -> tuple[list[tuple[np.ndarray, np.ndarray]], list[np.ndarray]]:
    images = image_vectors(lattice, 2 * float(radius.max()) + _CUTOFF + 1.0)
    translations = images @ lattice
    # of a block and its own image, or two blocks, the side with the higher block or the positive image comes once
    positive = images @ [1_000_000, 1_000, 1] > 0
    frac = centres @ np.linalg.inv(lattice)
    wrapped = (frac - np.floor(frac)) @ lattice
    home = wrapped - centres
    places = wrapped + translations[:, None]
    near, once = [], []
    for k in range(len(centres)):
        gap = places - wrapped[k]
        squared = np.einsum("tji,tji->tj", gap, gap)
        t, j = np.nonzero((squared < (radius + (radius[k] + _CUTOFF)) ** 2) & (squared > 1e-12))
        near.append((j, translations[t] + home[j] - home[k]))
        once.append((j > k) | ((j == k) & positive[t]))
    return near, once


def _laws(blocks: "Sequence[BuildingBlock]") -> _Laws:
    kinds = [connection_kinds(block) for block in blocks]
    donors = [_donors(block) for block in blocks]
    numbers = np.concatenate([b.atomic_numbers for b in blocks])
    marks = (numbers.astype(np.int64) * 3 + np.concatenate(kinds)) * 2 + np.concatenate(donors)
    found, sort = np.unique(marks, return_inverse=True)
    number, kind, donor = found // 6, found // 2 % 3, found % 2 == 1
    reach, accepts = CONTACT_RADII[number].astype(np.float32), _ACCEPTS[number]
    bridge = donor[:, None] & accepts | accepts[:, None] & donor
    best = np.where(bridge, np.float32(_HYDROGEN_BOND**2), np.square(reach[:, None] + reach))
    weight = np.where(bridge, np.float32(4.0), np.float32(1.0))
    weight[kind[:, None] + kind < 2] = 0.0
    return _Laws(sort, best.ravel(), weight.ravel())


def connection_kinds(block: "BuildingBlock") -> np.ndarray:
    """int [n] of all atoms: 0 at a connection, 1 for its neighbours, 2 for others; below 2 in sum, bonds join them."""
    at_end = np.zeros(block.num_atoms, dtype=bool)
    at_end[block.connection_atoms] = True
    one, other = _both_ways(block)
    kind = np.full(block.num_atoms, 2)
    kind[other[at_end[one]]] = 1
    kind[at_end] = 0
    return kind


def _donors(block: "BuildingBlock") -> np.ndarray:
    """bool [n]: hydrogen on N or O."""
    one, other = _both_ways(block)
    donor = np.zeros(block.num_atoms, dtype=bool)
    donor[other[_DONATES[block.atomic_numbers[one]]]] = True
    return np.asarray(donor & (block.atomic_numbers == _H))


def _both_ways(block: "BuildingBlock") -> np.ndarray:
    bonds = np.asarray(block.bonds, dtype=np.int64).reshape(-1, 2)
    return np.concatenate([bonds, bonds[:, ::-1]]).T


def _environment(around: Surroundings, k: int, cart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Atoms [m] of other blocks and images near block k, and where they are [m, 3], from its centre."""
    atom, shift = _atoms_of(around, *around.near[k])
    place = cart[atom] + shift - around.centres[k]
    close = (place * place).sum(1) < (around.radius[k] + _CUTOFF) ** 2
    return atom[close], place[close]


def _atoms_of(around: Surroundings, blocks: np.ndarray, shifts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    sizes = around.start[blocks + 1] - around.start[blocks]
    within = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return np.repeat(around.start[blocks], sizes) + within, np.repeat(shifts, sizes, axis=0)


def _squared_distances(mine: np.ndarray, place: np.ndarray) -> np.ndarray:
    """[..., n, m] Å^2 between [..., n, 3] and [..., m, 3], as one product of matrices."""
    own, other = (np.ones((*x.shape[:-1], 5), dtype=x.dtype) for x in (mine, place))
    own[..., :3], own[..., 3] = -2.0 * mine, (mine * mine).sum(-1)
    other[..., :3], other[..., 4] = place, (place * place).sum(-1)
    return np.asarray(own @ other.mT)


def contact_energy(around: Surroundings, k: int, options: np.ndarray, cart: np.ndarray) -> np.ndarray:
    """Energy of block k in each of its orientations, all others as they are; in units of one good contact.

    Args:
        around: of the framework.
        k: the block.
        options: [O, n, 3] Å, its atoms from its centre.
        cart: [N, 3] Å, all atoms as they are.

    Returns:
        [O]: Lennard-Jones 12-6 with the sum of radii as the place of the minimum, hydrogen bonds stronger and shorter,
        pairs at or next to connections left out, since bonds join them.
    """
    atom, place = _environment(around, k, cart)
    if len(atom) == 0:
        return np.zeros(len(options))
    squared = _squared_distances(options.astype(np.float32), place.astype(np.float32))
    return _energy(around, k, atom, squared)


def total_energy(around: Surroundings, carts: np.ndarray) -> np.ndarray:
    """Energy [S] of all contacts in S states of the framework, atoms at carts [S, N, 3] Å."""
    total = np.zeros(len(carts))
    for k, ((blocks, shifts), once) in enumerate(zip(around.near, around.once, strict=True)):
        atom, shift = _atoms_of(around, blocks[once], shifts[once])
        if len(atom) == 0:
            continue
        own = (carts[:, around.start[k] : around.start[k + 1]] - around.centres[k]).astype(np.float32)
        place = (carts[:, atom] + (shift - around.centres[k])).astype(np.float32)
        close = (np.einsum("smi,smi->sm", place, place) < (around.radius[k] + _CUTOFF) ** 2).any(0)
        total += _energy(around, k, atom[close], _squared_distances(own, place[:, close]))
    return total


def _energy(around: Surroundings, k: int, atom: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Energy of block k for squared distances [O, n, m] of its atoms from others."""
    flat = squared.reshape(-1)
    hits = np.flatnonzero(flat < _CUTOFF**2)
    if len(hits) == 0:
        return np.zeros(len(squared))
    laws, size = around.laws, squared[0].size
    pair = laws.pairs(slice(around.start[k], around.start[k + 1]), atom).reshape(-1)[hits % size]
    best = laws.best[pair]
    sixth = (best / np.maximum(flat[hits], _SOFT**2 * best)) ** 3
    return np.bincount(hits // size, laws.weight[pair] * sixth * (sixth - 2.0), len(squared))


def shortest_contact(around: Surroundings, cart: np.ndarray) -> float:
    """Smallest distance in Å of atoms of different blocks or images, pairs at or next to connections left out."""
    shortest = np.inf
    for k in range(len(around.near)):
        atom, place = _environment(around, k, cart)
        own = slice(around.start[k], around.start[k + 1])
        squared = _squared_distances(cart[own] - around.centres[k], place)
        free = around.laws.weight[around.laws.pairs(own, atom)] > 0
        shortest = min(shortest, float(squared[free].min(initial=np.inf)))
    return float(np.sqrt(max(shortest, 0.0)))
