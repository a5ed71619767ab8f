"""Contacts between atoms of different blocks: what tells apart orientations that close equally well."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.mof.assembly.pairs import image_vectors
from matgen.mof.metals import IS_METAL

if TYPE_CHECKING:
    from matgen.mof.building_block import BuildingBlock

__all__ = ["CONTACT_RADII", "Surroundings", "contact_energy", "shortest_contact", "surroundings", "total_energy"]

_H, _DONORS = 1, (7, 8)
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
class Surroundings:
    """What does not change while blocks turn about their centres.

    lattice: [3, 3]; centres: [K, 3] Å. reach (radius in Å), block, kind, donor, acceptor: of all atoms [n];
    kind is 0 for an atom at a connection, 1 for its neighbours, 2 for others; donor marks hydrogen on N or O, acceptor
    N, O, F and Cl. start: [K + 1], first atom of each block. radius: [K] Å, of the farthest atom from its centre. near:
    for each block, (blocks, translations [., 3] in Å) whose atoms may touch it.
    """

    lattice: np.ndarray
    centres: np.ndarray
    reach: np.ndarray
    block: np.ndarray
    kind: np.ndarray
    donor: np.ndarray
    acceptor: np.ndarray
    start: np.ndarray
    radius: np.ndarray
    near: list[tuple[np.ndarray, np.ndarray]]


def surroundings(lattice: np.ndarray, centres: np.ndarray, blocks: "Sequence[BuildingBlock]") -> Surroundings:
    """Collect them."""
    radius = np.array([np.linalg.norm(b.cart_coords, axis=1).max() for b in blocks])
    images = image_vectors(lattice, 2 * float(radius.max()) + _CUTOFF + 1.0) @ lattice
    frac = centres @ np.linalg.inv(lattice)
    wrapped = (frac - np.floor(frac)) @ lattice
    home = wrapped - centres
    near = []
    for k in range(len(blocks)):
        gap = np.linalg.norm(wrapped[None] + images[:, None] - wrapped[k], axis=-1)
        t, j = np.nonzero((gap < radius + radius[k] + _CUTOFF) & (gap > 1e-6))
        near.append((j, images[t] + home[j] - home[k]))
    kinds, donors = zip(*(_kinds(block) for block in blocks), strict=True)
    sizes = [block.num_atoms for block in blocks]
    numbers = np.concatenate([b.atomic_numbers for b in blocks])
    return Surroundings(
        lattice,
        centres,
        CONTACT_RADII[numbers].astype(np.float32),
        np.repeat(np.arange(len(blocks)), sizes),
        np.concatenate(kinds),
        np.concatenate(donors),
        _ACCEPTS[numbers],
        np.cumsum([0, *sizes]),
        radius,
        near,
    )


def _kinds(block: "BuildingBlock") -> tuple[np.ndarray, np.ndarray]:
    kind = np.full(block.num_atoms, 2)
    bonds = np.asarray(block.bonds, dtype=np.int64).reshape(-1, 2)
    both = np.concatenate([bonds, bonds[:, ::-1]])
    kind[both[np.isin(both[:, 0], block.connection_atoms), 1]] = 1
    kind[block.connection_atoms] = 0
    donor = np.zeros(block.num_atoms, dtype=bool)
    donor[both[np.isin(block.atomic_numbers[both[:, 0]], _DONORS), 1]] = True
    return kind, donor & (block.atomic_numbers == _H)


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
    squared = (mine * mine).sum(-1)[..., None] + (place * place).sum(-1) - 2.0 * mine @ place.T
    return np.asarray(squared)


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
    for k, (blocks, shifts) in enumerate(around.near):
        atom, shift = _atoms_of(around, blocks, shifts)
        if len(atom) == 0:
            continue
        own = (carts[:, around.start[k] : around.start[k + 1]] - around.centres[k]).astype(np.float32)
        place = (carts[:, atom] + (shift - around.centres[k])).astype(np.float32)
        close = ((place * place).sum(-1) < (around.radius[k] + _CUTOFF) ** 2).any(0)
        atom, place = atom[close], place[:, close]
        squared = (own * own).sum(-1)[..., None] + (place * place).sum(-1)[:, None] - 2.0 * own @ place.mT
        total += 0.5 * _energy(around, k, atom, squared)
    return total


def _energy(around: Surroundings, k: int, atom: np.ndarray, squared: np.ndarray) -> np.ndarray:
    """Energy of block k for squared distances [O, n, m] of its atoms from others."""
    best, weight = _pair_table(around, slice(around.start[k], around.start[k + 1]), atom)
    flat = squared.reshape(-1)
    hits = np.flatnonzero(flat < _CUTOFF**2)
    pair = hits % best.size
    best = best.reshape(-1)[pair]
    sixth = (best / np.maximum(flat[hits], _SOFT**2 * best)) ** 3
    return np.bincount(hits // squared[0].size, weight.reshape(-1)[pair] * sixth * (sixth - 2.0), len(squared))


def _pair_table(around: Surroundings, mine: slice, theirs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Squared distance [n, m] at which each pair of atoms is best, and how much it weighs; 0 where bonds join them."""
    best = np.square(around.reach[mine][:, None] + around.reach[theirs])
    bridge = (
        around.donor[mine][:, None] & around.acceptor[theirs] | around.acceptor[mine][:, None] & around.donor[theirs]
    )
    best[bridge] = _HYDROGEN_BOND**2
    weight = np.where(bridge, np.float32(4.0), np.float32(1.0))
    weight[around.kind[mine][:, None] + around.kind[theirs] < 2] = 0.0
    return best, weight


def shortest_contact(around: Surroundings, cart: np.ndarray) -> float:
    """Smallest distance in Å of atoms of different blocks or images, pairs at or next to connections left out."""
    shortest = np.inf
    for k in range(len(around.near)):
        atom, place = _environment(around, k, cart)
        own = slice(around.start[k], around.start[k + 1])
        squared = _squared_distances(cart[own] - around.centres[k], place)
        squared[around.kind[own][:, None] + around.kind[atom] < 2] = np.inf
        shortest = min(shortest, float(squared.min(initial=np.inf)))
    return float(np.sqrt(max(shortest, 0.0)))
