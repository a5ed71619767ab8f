"""Orbits that would put atoms on top of each other: found for many crystals at once, and moved apart where possible.

Orbits are placed one after another, those without a clash first, then the least free ones. An orbit that clashes with
what is placed, or with its own images, tries in turn
  moved      a step along its free parameters, smallest first;
  relettered another position of the same site symmetry, or else of the same multiplicity (same composition);
  raised     a position of higher symmetry (fewer atoms: the composition changes).
"""

import itertools
from dataclasses import dataclass, replace

import numpy as np

from matgen.crystal.elements import COVALENT_RADII
from matgen.crystal.tables import load_tables
from matgen.crystal.wyckoff import expand_orbits, project_onto_members, ragged_ranges, to_first_member
from matgen.geometry.coordinates import nearest_image, shortest_translation

__all__ = ["KINDS", "Cells", "Limits", "Orbits", "closest_contacts", "resolve_overlaps"]

KINDS = ("kept", "moved", "relettered", "raised", "unresolved")
_STEPS = (0.2, 0.4, 0.7, 1.0, 1.4, 2.0)  # Å, along the free parameters
_ANGLES = np.arange(8) * np.pi / 4
_DIRECTIONS = {
    1: np.array([[1.0, 0, 0], [-1.0, 0, 0]]),
    2: np.stack([np.cos(_ANGLES), np.sin(_ANGLES), np.zeros(8)], axis=1),
    3: np.concatenate([np.eye(3), -np.eye(3), np.array(list(itertools.product((-1, 1), repeat=3))) / 3**0.5]),
}


@dataclass(frozen=True)
class Limits:
    """A pair clashes below the larger of min_distance (Å) and min_ratio times the sum of its covalent radii."""

    min_distance: float
    min_ratio: float


@dataclass(frozen=True, eq=False)
class Cells:
    """Lattices [B, 3, 3] (Å) and their reduced forms: frac @ transform is on the reduced cell; oblique: they differ."""

    lattice: np.ndarray
    metric: np.ndarray
    reduced_metric: np.ndarray
    transform: np.ndarray
    oblique: np.ndarray


@dataclass(frozen=True, eq=False)
class Orbits:
    """Q orbits of B crystals, sorted by crystal: their crystal, species, point [Q, 3] and the member it lies on."""

    crystal: np.ndarray
    atomic_numbers: np.ndarray
    frac_coords: np.ndarray
    member: np.ndarray

    def select(self, rows: np.ndarray) -> "Orbits":
        return Orbits(self.crystal[rows], self.atomic_numbers[rows], self.frac_coords[rows], self.member[rows])

    def atoms(self) -> tuple[np.ndarray, np.ndarray]:
        """All atoms as (orbit [A], coordinates [A, 3]); the first atom of an orbit stands for it."""
        return expand_orbits(self.frac_coords, self.member)


def _pair_distance(cells: Cells, crystal: np.ndarray, difference: np.ndarray) -> np.ndarray:
    """Shortest distances [P] in Å of pairs with fractional differences [P, 3]."""
    oblique = cells.oblique[crystal]
    if oblique.any():
        difference[oblique] = np.einsum("pi,pij->pj", difference[oblique], cells.transform[crystal[oblique]])
    return np.sqrt(nearest_image(difference, cells.reduced_metric[crystal])[1])


def _threshold(limits: Limits, radii_sum: np.ndarray) -> np.ndarray:
    return np.maximum(limits.min_distance, limits.min_ratio * radii_sum)


@dataclass(frozen=True, eq=False)
class Contacts:
    """Of each crystal: shortest distance (Å), smallest distance over the sum of radii, clash; of each orbit: clash."""

    distance: np.ndarray
    ratio: np.ndarray
    clash: np.ndarray
    orbit_clash: np.ndarray


def closest_contacts(orbits: Orbits, cells: Cells, limits: Limits) -> Contacts:
    """Closest contacts of all crystals: one point of each orbit against the atoms of every orbit that is no larger."""
    num_crystals, num_orbits = len(cells.lattice), len(orbits.crystal)
    owner, coords = orbits.atoms()
    first_atom = np.searchsorted(owner, np.arange(num_orbits))
    count = np.diff(np.append(first_atom, len(owner)))
    atom_crystal = orbits.crystal[owner]
    atom_start = np.searchsorted(atom_crystal, np.arange(num_crystals))
    atom_stop = np.searchsorted(atom_crystal, np.arange(num_crystals), side="right")
    i, atom = ragged_ranges(atom_start[orbits.crystal], atom_stop[orbits.crystal])
    j = owner[atom]
    wanted = ((count[j] < count[i]) | ((count[j] == count[i]) & (j >= i))) & (atom != first_atom[i])
    i, j, atom = i[wanted], j[wanted], atom[wanted]
    distance = _pair_distance(cells, orbits.crystal[i], coords[first_atom[i]] - coords[atom])
    radius = COVALENT_RADII[orbits.atomic_numbers]
    # every atom also sees its own images by lattice translations
    translation = np.sqrt(shortest_translation(cells.reduced_metric))[orbits.crystal]
    everyone = np.arange(num_orbits)
    i, j = np.concatenate([i, everyone]), np.concatenate([j, everyone])
    distance = np.concatenate([distance, translation])
    radii_sum = radius[i] + radius[j]
    clash = distance < _threshold(limits, radii_sum)
    shortest, ratio = np.full(num_crystals, np.inf), np.full(num_crystals, np.inf)
    np.minimum.at(shortest, orbits.crystal[i], distance)
    np.minimum.at(ratio, orbits.crystal[i], distance / radii_sum)
    orbit_clash = np.zeros(num_orbits, dtype=bool)
    orbit_clash[i[clash]] = orbit_clash[j[clash]] = True
    crystal_clash = np.zeros(num_crystals, dtype=bool)
    crystal_clash[orbits.crystal[i[clash]]] = True
    return Contacts(shortest, ratio, crystal_clash, orbit_clash)


@dataclass(frozen=True, eq=False)
class _Placed:
    """Atoms already placed, sorted by crystal."""

    crystal: np.ndarray
    frac_coords: np.ndarray
    radius: np.ndarray

    def add(self, orbits: Orbits) -> "_Placed":
        owner, coords = orbits.atoms()
        crystal = np.concatenate([self.crystal, orbits.crystal[owner]])
        order = np.argsort(crystal, kind="stable")
        radius = np.concatenate([self.radius, COVALENT_RADII[orbits.atomic_numbers[owner]]])
        return _Placed(crystal[order], np.concatenate([self.frac_coords, coords])[order], radius[order])


def _fits(candidates: Orbits, placed: _Placed, cells: Cells, limits: Limits) -> np.ndarray:
    """Whether each candidate [C] clashes neither with placed atoms nor with its own images; crystals in any order."""
    owner, coords = candidates.atoms()
    point = coords[np.searchsorted(owner, np.arange(len(candidates.crystal)))]
    radius = COVALENT_RADII[candidates.atomic_numbers]
    start = np.searchsorted(placed.crystal, candidates.crystal)
    stop = np.searchsorted(placed.crystal, candidates.crystal, side="right")
    other, atom = ragged_ranges(start, stop)
    own = np.flatnonzero(np.append(False, owner[1:] == owner[:-1]))
    who = np.concatenate([other, owner[own]])
    difference = np.concatenate([point[other] - placed.frac_coords[atom], point[owner[own]] - coords[own]])
    radii_sum = radius[who] + np.concatenate([placed.radius[atom], radius[owner[own]]])
    distance = _pair_distance(cells, candidates.crystal[who], difference)
    fits = np.ones(len(candidates.crystal), dtype=bool)
    fits[who[distance < _threshold(limits, radii_sum)]] = False
    return fits


@dataclass(frozen=True, eq=False)
class _Candidates:
    """Alternatives of some rows: owner [C] (sorted), the orbit that would be placed, and its cost (rank order)."""

    owner: np.ndarray
    orbits: Orbits
    cost: np.ndarray


def _steps(rows: Orbits, cells: Cells) -> _Candidates:
    """Steps along the free parameters of each row, on the first member of its position."""
    tables = load_tables()
    points, position, _ = to_first_member(rows.frac_coords, rows.member)
    member = tables.wp_member[position]
    freedom = tables.wp_freedom[position]
    lattice = cells.lattice[rows.crystal]
    owners, moved, costs = [np.empty(0, dtype=np.int64)], [np.empty((0, 3))], [np.empty(0)]
    for free, directions in _DIRECTIONS.items():
        chosen = np.flatnonzero(freedom == free)
        if not len(chosen):
            continue
        free_directions = tables.along_basis[tables.member_projector[member[chosen]], :, :free]
        along = np.swapaxes(free_directions, 1, 2) @ lattice[chosen]
        # orthonormal directions of the free subspace in Å, then the steps back in fractional coordinates
        frame = np.swapaxes(np.linalg.qr(np.swapaxes(along, 1, 2))[0], 1, 2)
        unit = (directions[:, :free] @ frame) @ np.linalg.inv(lattice[chosen])
        steps = np.array(_STEPS)[:, None, None] * unit[:, None]
        moved.append((points[chosen][:, None, None] + steps).reshape(-1, 3))
        owners.append(np.repeat(chosen, len(_STEPS) * len(directions)))
        costs.append(np.tile(np.repeat(_STEPS, len(directions)), len(chosen)))
    owner = np.concatenate(owners)
    order = np.argsort(owner, kind="stable")
    owner = owner[order]
    orbits = Orbits(rows.crystal[owner], rows.atomic_numbers[owner], np.concatenate(moved)[order], member[owner])
    return _Candidates(owner, orbits, np.concatenate(costs)[order])


def _positions(rows: Orbits, cells: Cells, raised: bool) -> _Candidates:
    """Nearest points on other positions: of the same multiplicity (same code first), or of a smaller one."""
    tables = load_tables()
    here = tables.member_wp[rows.member]
    group = tables.wp_group[here]
    first, last = tables.wp_member[tables.group_wp[group]], tables.wp_member[tables.group_wp[group + 1]]
    owner, member = ragged_ranges(first, last)
    position = tables.member_wp[member]
    multiplicity, own = tables.wp_multiplicity[position], tables.wp_multiplicity[here[owner]]
    wanted = (multiplicity < own) if raised else ((multiplicity == own) & (member != rows.member[owner]))
    owner, member, position = owner[wanted], member[wanted], position[wanted]
    points, squared = project_onto_members(rows.frac_coords[owner], member, cells.metric[rows.crystal[owner]])
    # the nearest member of each position
    order = np.lexsort((squared, position, owner))
    keep = order[np.append(True, (np.diff(owner[order]) != 0) | (np.diff(position[order]) != 0))[: len(order)]]
    other_code = tables.member_code[member[keep]] != tables.member_code[rows.member[owner[keep]]]
    cost = np.sqrt(squared[keep]) + (0.0 if raised else 1e3) * other_code
    orbits = Orbits(rows.crystal[owner[keep]], rows.atomic_numbers[owner[keep]], points[keep], member[keep])
    return _Candidates(owner[keep], orbits, cost)


def _best_fitting(
    candidates: _Candidates, placed: _Placed, cells: Cells, limits: Limits
) -> tuple[np.ndarray, np.ndarray]:
    """Rows that have a fitting candidate, and the cheapest such candidate of each."""
    if not len(candidates.owner):
        return candidates.owner, candidates.owner
    good = np.flatnonzero(_fits(candidates.orbits, placed, cells, limits))
    order = good[np.lexsort((candidates.cost[good], candidates.owner[good]))]
    rows, first = np.unique(candidates.owner[order], return_index=True)
    return rows, order[first]


def _place(
    rows: Orbits, letter_fixed: np.ndarray, placed: _Placed, cells: Cells, limits: Limits
) -> tuple[Orbits, np.ndarray]:
    """Place one orbit in each of several crystals. Returns the orbits as placed, and the index into KINDS of each."""
    kind = np.where(_fits(rows, placed, cells, limits), 0, KINDS.index("unresolved"))
    points, members = rows.frac_coords.copy(), rows.member.copy()
    for number in (1, 2, 3):
        left = np.flatnonzero((kind == KINDS.index("unresolved")) & ~(letter_fixed & (number > 1)))
        if not len(left):
            break
        remaining = rows.select(left)
        candidates = _steps(remaining, cells) if number == 1 else _positions(remaining, cells, raised=number == 3)
        found, best = _best_fitting(candidates, placed, cells, limits)
        kind[left[found]] = number
        points[left[found]] = candidates.orbits.frac_coords[best]
        members[left[found]] = candidates.orbits.member[best]
    return replace(rows, frac_coords=points, member=members), kind


def resolve_overlaps(
    orbits: Orbits, contacts: Contacts, letter_fixed: np.ndarray, cells: Cells, limits: Limits
) -> tuple[Orbits, np.ndarray]:
    """Move orbits of clashing crystals apart.

    Args:
        orbits: all orbits as projected, on their members.
        contacts: their closest contacts.
        letter_fixed: bool [Q], orbits that must keep their Wyckoff letter.
        cells: the lattices.
        limits: what a clash is.

    Returns:
        the orbits, and for each [Q] the index into KINDS of what was done. Unresolved orbits stay where they were.
    """
    tables = load_tables()
    kind = np.zeros(len(orbits.crystal), dtype=np.int64)
    rows = np.flatnonzero(contacts.clash[orbits.crystal])
    position = tables.member_wp[orbits.member[rows]]
    by_freedom = (tables.wp_multiplicity[position], tables.wp_freedom[position])
    rows = rows[np.lexsort((*by_freedom, contacts.orbit_clash[rows], orbits.crystal[rows]))]
    calm = ~contacts.orbit_clash[rows]
    empty = _Placed(np.empty(0, dtype=np.int64), np.empty((0, 3)), np.empty(0))
    placed = empty.add(orbits.select(rows[calm]))
    queue = rows[~calm]
    turn = np.arange(len(queue)) - np.searchsorted(orbits.crystal[queue], orbits.crystal[queue])
    points, members = orbits.frac_coords.copy(), orbits.member.copy()
    for number in range(int(turn.max(initial=-1)) + 1):
        now = queue[turn == number]
        result, kind[now] = _place(orbits.select(now), letter_fixed[now], placed, cells, limits)
        points[now], members[now] = result.frac_coords, result.member
        placed = placed.add(result)
    return replace(orbits, frac_coords=points, member=members), kind
