"""Periodic bonds of a framework from distances, with the exceptions that coordination chemistry needs."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.crystal.structure import Structure
from matgen.mof.metals import IS_METAL

__all__ = ["Bonds", "BondsConfig", "find_bonds"]

_H, _C = 1, 6
_RADII = np.concatenate([COVALENT_RADII, np.full(119 - len(COVALENT_RADII), 1.7)])
# Where the distances of metals to N, O and F in QMOF thin out lies 0.5 to 0.6 Å above the sum of radii; further out for
# large soft ions and for those whose lone pair pushes some of their ligands away.
_EXTRA_SLACK = np.zeros(119)
_EXTRA_SLACK[[29, 47, 48, 50, 51]] = 0.1  # Cu Ag Cd Sn Sb
_EXTRA_SLACK[80] = 0.2  # Hg
_EXTRA_SLACK[[81, 82, 83]] = 0.4  # Tl Pb Bi


@dataclass(frozen=True, eq=False)
class Bonds:
    """Bonds of a periodic structure, each once.

    first, second: int [b]. image: int [b, 3]: atom `second` in cell `image` is bonded to atom `first` in cell 0.
    """

    first: np.ndarray
    second: np.ndarray
    image: np.ndarray

    @property
    def num_bonds(self) -> int:
        return len(self.first)

    def __getitem__(self, index: np.ndarray) -> "Bonds":
        return Bonds(self.first[index], self.second[index], self.image[index])

    def vectors(self, structure: Structure) -> np.ndarray:
        """[b, 3] from the first to the second atom, Å."""
        frac = structure.frac_coords
        return (frac[self.second] + self.image - frac[self.first]) @ structure.lattice


@dataclass(frozen=True, kw_only=True)
class BondsConfig:
    """Which distances are bonds; sums of radii are Cordero's covalent radii.

    Args:
        scale: two non-metals are bonded up to this multiple of the sum.
        hydrogen_slack: Å; a hydrogen binds its nearest non-metal within sum + slack, and nothing else.
        metal_slack: Å; a metal binds a non-metal within sum + slack (Cu, Ag, Cd, Sn, Sb: 0.1 more; Hg: 0.2; Tl, Pb,
            Bi: 0.4).
        metal_carbon_slack: Å; the same for carbon.
        ring_slack: Å; where a metal binds X and Y that are bonded to each other, and X is further out than Y by more
            than this (each less its sum), X is only behind Y: the carbon of a chelating carboxylate.
        metal_metal_slack: Å; two metals that no single atom bridges are bonded within sum + slack where at least two
            bridges X-C-X hold them (paddlewheels).
        metal_metal_scale: without such bridges, up to this multiple of the sum.
        metal_metal_max: Å; no bond between metals is longer.
    """

    scale: float = 1.1
    hydrogen_slack: float = 0.3
    metal_slack: float = 0.5
    metal_carbon_slack: float = 0.3
    ring_slack: float = 0.15
    metal_metal_slack: float = 0.7
    metal_metal_scale: float = 1.1
    metal_metal_max: float = 3.5


@dataclass(frozen=True, eq=False)
class _Pairs:
    """Candidate pairs with excess = distance less sum of radii, Å."""

    bonds: Bonds
    distance: np.ndarray
    sum_of_radii: np.ndarray

    @property
    def excess(self) -> np.ndarray:
        return self.distance - self.sum_of_radii

    def __getitem__(self, index: np.ndarray) -> "_Pairs":
        return _Pairs(self.bonds[index], self.distance[index], self.sum_of_radii[index])


def find_bonds(structure: Structure, config: BondsConfig | None = None) -> Bonds:
    """Bonds of a periodic structure, right on cells of any size and shape.

    Args:
        structure: any structure.
        config: distances.

    Returns:
        each periodic bond once; an atom may be bonded to its own images, and to several images of another.
    """
    config = config or BondsConfig()
    numbers = structure.atomic_numbers
    pairs = _near(structure, config)
    metal = IS_METAL[numbers]
    first, second = pairs.bonds.first, pairs.bonds.second
    num_metals = metal[first].astype(np.int64) + metal[second]
    has_hydrogen = (numbers[first] == _H) | (numbers[second] == _H)
    covalent = pairs[(num_metals == 0) & ~has_hydrogen & (pairs.distance <= config.scale * pairs.sum_of_radii)]
    hydrogen = pairs[has_hydrogen]
    hydrogen = hydrogen[_hydrogen_bonds(hydrogen, numbers, config)]
    carbon = (numbers[first] == _C) | (numbers[second] == _C)
    extra = _EXTRA_SLACK[numbers[first]] + _EXTRA_SLACK[numbers[second]]
    slack = np.where(carbon, config.metal_carbon_slack, config.metal_slack + extra)
    coordination = _metal_first(pairs[(num_metals == 1) & ~has_hydrogen & (pairs.excess <= slack)], metal)
    coordination = coordination[~_behind(coordination, covalent.bonds, len(numbers), config.ring_slack)]
    joined = [covalent.bonds, hydrogen.bonds, coordination.bonds]
    metallic = _metal_first(pairs[(num_metals == 2) & (pairs.distance <= config.metal_metal_max)], metal)
    if metallic.bonds.num_bonds:
        joined.append(metallic.bonds[_metal_bonds(metallic, coordination.bonds, covalent.bonds, config)])
    return _joined(joined)


def _joined(parts: Sequence[Bonds]) -> Bonds:
    return Bonds(
        np.concatenate([part.first for part in parts]),
        np.concatenate([part.second for part in parts]),
        np.concatenate([part.image for part in parts]),
    )


def _near(structure: Structure, config: BondsConfig) -> _Pairs:
    """Every pair within the longest bond that the elements allow."""
    from vesin import NeighborList

    radii = _RADII[structure.atomic_numbers]
    metal = IS_METAL[structure.atomic_numbers]
    reach = config.metal_slack + float(_EXTRA_SLACK[structure.atomic_numbers].max())
    longest = radii.max() + (radii[~metal].max() if (~metal).any() else 0.0) + reach
    others = radii[~metal].max() * 2 * config.scale if (~metal).any() else 0.0
    cutoff = max(longest, others, config.metal_metal_max if metal.any() else 0.0)
    search = NeighborList(cutoff=float(cutoff), full_list=False)
    i, j, image, distance = search.compute(
        points=structure.cart_coords, box=structure.lattice, periodic=True, quantities="ijSd"
    )
    i, j = i.astype(np.int64), j.astype(np.int64)
    sums = radii[i] + radii[j]
    slack = max(reach, config.metal_metal_slack, config.hydrogen_slack, config.metal_carbon_slack)
    keep = distance <= np.maximum(sums + slack, config.scale * sums)
    bonds = Bonds(i[keep], j[keep], image[keep].astype(np.int64))
    return _Pairs(bonds, distance[keep], sums[keep])


def _metal_first(pairs: _Pairs, metal: np.ndarray) -> _Pairs:
    flip = ~metal[pairs.bonds.first]
    bonds = pairs.bonds
    turned = Bonds(
        np.where(flip, bonds.second, bonds.first),
        np.where(flip, bonds.first, bonds.second),
        np.where(flip[:, None], -bonds.image, bonds.image),
    )
    return _Pairs(turned, pairs.distance, pairs.sum_of_radii)


def _hydrogen_bonds(pairs: _Pairs, numbers: np.ndarray, config: BondsConfig) -> np.ndarray:
    """A hydrogen takes its nearest non-metal; without one another hydrogen; without one the metals around it."""
    bonds, excess = pairs.bonds, pairs.excess
    keep = np.zeros(bonds.num_bonds, dtype=bool)
    first_h, second_h = numbers[bonds.first] == _H, numbers[bonds.second] == _H
    other = np.where(first_h, bonds.second, bonds.first)
    hydrogen = np.where(first_h, bonds.first, bonds.second)
    both = first_h & second_h
    heavy = ~both & ~IS_METAL[numbers[other]] & (excess <= config.hydrogen_slack)
    chosen = np.flatnonzero(heavy)
    chosen = chosen[np.argsort(excess[chosen], kind="stable")]
    keep[chosen[np.unique(hydrogen[chosen], return_index=True)[1]]] = True
    lonely = numbers == _H
    lonely[hydrogen[keep]] = False
    molecule = both & (excess <= config.hydrogen_slack) & lonely[bonds.first] & lonely[bonds.second]
    keep |= molecule
    lonely[bonds.first[molecule]] = lonely[bonds.second[molecule]] = False
    keep |= ~both & IS_METAL[numbers[other]] & lonely[hydrogen] & (excess <= config.metal_carbon_slack)
    return keep


_WIDTH = 64  # images -32..31 pack into one integer key


def _keys(first: np.ndarray, second: np.ndarray, image: np.ndarray, num_atoms: int) -> np.ndarray:
    shifted = image + _WIDTH // 2
    packed = (shifted[:, 0] * _WIDTH + shifted[:, 1]) * _WIDTH + shifted[:, 2]
    return (first * num_atoms + second) * _WIDTH**3 + packed


def _behind(pairs: _Pairs, covalent: Bonds, num_atoms: int, slack: float) -> np.ndarray:
    """Metal-X pairs whose X stands behind a nearer Y that is bonded to it, bool [b]."""
    bonds, excess = pairs.bonds, pairs.excess
    behind = np.zeros(bonds.num_bonds, dtype=bool)
    if not bonds.num_bonds or not covalent.num_bonds:
        return behind
    x = np.concatenate([covalent.first, covalent.second])
    y = np.concatenate([covalent.second, covalent.first])
    shift = np.concatenate([covalent.image, -covalent.image])
    order = np.argsort(x, kind="stable")
    x, y, shift = x[order], y[order], shift[order]
    start = np.searchsorted(x, bonds.second)
    count = np.searchsorted(x, bonds.second, side="right") - start
    pair = np.repeat(np.arange(bonds.num_bonds), count)
    neighbor = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + np.repeat(start, count)
    wanted = _keys(bonds.first[pair], y[neighbor], bonds.image[pair] + shift[neighbor], num_atoms)
    known = _keys(bonds.first, bonds.second, bonds.image, num_atoms)
    sorting = np.argsort(known)
    place = np.minimum(np.searchsorted(known, wanted, sorter=sorting), len(known) - 1)
    found = known[sorting[place]] == wanted
    nearer = excess[sorting[place]]
    behind[pair[found & (nearer + slack < excess[pair])]] = True
    return behind


def _metal_bonds(pairs: _Pairs, coordination: Bonds, covalent: Bonds, config: BondsConfig) -> np.ndarray:
    """Metal-metal pairs that no single atom bridges, and that are short or held by two bridges of three atoms."""
    donors = _neighbors(coordination.first, coordination.second, coordination.image)
    inner = _neighbors(
        np.concatenate([covalent.first, covalent.second]),
        np.concatenate([covalent.second, covalent.first]),
        np.concatenate([covalent.image, -covalent.image]),
    )
    keep = np.zeros(pairs.bonds.num_bonds, dtype=bool)
    rows = zip(pairs.bonds.first.tolist(), pairs.bonds.second.tolist(), pairs.bonds.image.tolist(), strict=True)
    for index, (i, j, shift) in enumerate(rows):
        own, other = donors.get(i, set()), _moved(donors.get(j, set()), shift)
        if own & other or pairs.excess[index] > config.metal_metal_slack:
            continue
        short = pairs.distance[index] <= config.metal_metal_scale * pairs.sum_of_radii[index]
        keep[index] = short or len(_second_shell(own, inner) & _second_shell(other, inner)) >= 2
    return keep


_Site = tuple[int, int, int, int]


def _neighbors(first: np.ndarray, second: np.ndarray, image: np.ndarray) -> dict[int, set[_Site]]:
    table: dict[int, set[_Site]] = {}
    for i, j, (x, y, z) in zip(first.tolist(), second.tolist(), image.tolist(), strict=True):
        table.setdefault(i, set()).add((j, x, y, z))
    return table


def _moved(sites: set[_Site], shift: Sequence[int]) -> set[_Site]:
    a, b, c = shift
    return {(j, x + a, y + b, z + c) for j, x, y, z in sites}


def _second_shell(sites: set[_Site], inner: dict[int, set[_Site]]) -> set[_Site]:
    return {site for j, x, y, z in sites for site in _moved(inner.get(j, set()), (x, y, z))}
