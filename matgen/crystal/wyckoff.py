"""Wyckoff positions: projection of points onto them, canonical representatives, orbits; many points at once."""

from collections.abc import Sequence

import numpy as np

from matgen.crystal.tables import load_tables
from matgen.errors import SymmetryError
from matgen.geometry.coordinates import nearest_image, wrap

__all__ = [
    "canonical_representatives",
    "canonical_template",
    "describe_canonically",
    "expand_orbits",
    "letter_index",
    "nearest_members",
    "project_onto_members",
    "ragged_ranges",
    "site_misfits",
    "template_from_letters",
    "to_first_member",
]

# A generic point of the cell: the representative is the member of the orbit nearest to it, which makes the
# representatives of a group fill one compact asymmetric unit (the Dirichlet domain of this point).
_CENTRE = np.array([0.2371, 0.3119, 0.4083])
_HEXAGONAL_METRIC = np.array([[1.0, -0.5, 0.0], [-0.5, 1.0, 0.0], [0.0, 0.0, 1.0]])


def ragged_ranges(start: np.ndarray, stop: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All integers of the ranges start[i]:stop[i] one after the other, as (owner i, integer)."""
    counts = stop - start
    owner = np.repeat(np.arange(len(counts)), counts)
    first = np.cumsum(counts) - counts
    return owner, np.arange(len(owner)) - first[owner] + start[owner]


def project_onto_members(
    frac_coords: np.ndarray, member: np.ndarray, metric: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Nearest point of a member, or of its copies by lattice translations, to each point: periodic least squares.

    The mean over a stabiliser is the orthogonal projection in every metric that the group preserves.

    Args:
        frac_coords: [Q, 3].
        member: [Q] member indices.
        metric: [Q, 3, 3] L L^T of the conventional cells, Å^2.

    Returns:
        projected points [Q, 3] (not wrapped) and squared distances [Q] in Å^2.
    """
    tables = load_tables()
    projector = tables.member_projector[member]
    along = np.einsum("qij,qj->qi", tables.projector[projector], frac_coords)
    across = frac_coords - along - tables.member_offset[member]
    basis = tables.across_basis[projector]
    components = np.einsum("qij,qj->qi", tables.across_dual[projector], across)
    image, squared = nearest_image(components, np.swapaxes(basis, 1, 2) @ metric @ basis)
    return frac_coords - np.einsum("qij,qj->qi", basis, image), squared


def nearest_members(
    frac_coords: np.ndarray, metric: np.ndarray, owner: np.ndarray, member: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The nearest of several candidate members for each point.

    Args:
        frac_coords: [Q, 3]. metric: [Q, 3, 3] Å^2.
        owner: [pairs], sorted, the point of each candidate; every point has at least one.
        member: [pairs] the candidate.

    Returns:
        member [Q], projected point [Q, 3], distance [Q] in Å. Of equal distances (1e-9 Å^2) the first candidate wins.
    """
    projected, squared = project_onto_members(frac_coords[owner], member, metric[owner])
    start = np.searchsorted(owner, np.arange(len(frac_coords)))
    smallest = np.minimum.reduceat(squared, start)
    ties = np.flatnonzero(squared <= smallest[owner] + 1e-9)
    best = ties[np.searchsorted(owner[ties], np.arange(len(frac_coords)))]
    return member[best], projected[best], np.sqrt(squared[best])


def site_misfits(
    group: np.ndarray, frac_coords: np.ndarray, metric: np.ndarray, merge_below: float = 0.5
) -> np.ndarray:
    """How far each point is from carrying each of the site-symmetry codes of its space group.

    A code is out of the question where a more symmetric position is so near that an orbit which is not on it would
    have atoms closer than `merge_below` to their own copies: each operation of that position moves a point by at most
    twice its distance from it.

    Args:
        group: [Q] space-group numbers.
        frac_coords: [Q, 3].
        metric: [Q, 3, 3] L L^T of the conventional cells, Å^2.
        merge_below: Å.

    Returns:
        float64 [Q, C], Å to the nearest position of each code, in the order of the tables' lists of codes;
        infinite for codes out of the question, and where padded.
    """
    tables = load_tables()
    lists = tables.by_code
    num_codes = lists.group_start[group + 1] - lists.group_start[group]
    misfit = np.full((len(group), int(num_codes.max(initial=0))), np.inf)
    multiplicity = np.full(misfit.shape, _NO_MULTIPLICITY)
    members = lists.start[lists.group_start[group + 1]] - lists.start[lists.group_start[group]]
    chunk = np.cumsum(members) // _MISFIT_PAIRS
    for rows in np.split(np.arange(len(group)), np.flatnonzero(np.diff(chunk)) + 1):
        owner, entry = ragged_ranges(lists.group_start[group[rows]], lists.group_start[group[rows] + 1])
        code = entry - lists.group_start[group[rows]][owner]
        of_pair, place = ragged_ranges(lists.start[entry], lists.start[entry + 1])
        row = rows[owner[of_pair]]
        _, squared = project_onto_members(frac_coords[row], lists.member[place], metric[row])
        first = np.searchsorted(of_pair, np.arange(len(entry)))
        misfit[rows[owner], code] = np.sqrt(np.minimum.reduceat(squared, first)) if len(entry) else 0.0
        multiplicity[rows[owner], code] = tables.wp_multiplicity[tables.member_wp[lists.member[lists.start[entry]]]]
    near = np.where(misfit < merge_below / 2, multiplicity, _NO_MULTIPLICITY)
    return np.where(multiplicity > near.min(axis=1, keepdims=True, initial=_NO_MULTIPLICITY), np.inf, misfit)


_MISFIT_PAIRS = 50_000  # points times members at once
_NO_MULTIPLICITY = 1_000_000


def _apply(group: np.ndarray, operation: np.ndarray, frac_coords: np.ndarray) -> np.ndarray:
    """Operation `operation[q]` of group `group[q]` on point q."""
    tables = load_tables()
    index = tables.group_op[group] + operation
    return np.einsum("qij,qj->qi", tables.op_rotation[index], frac_coords) + tables.op_translation[index]


def to_first_member(frac_coords: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Equivalent points [Q, 3] (not wrapped) on the first members of the positions [Q], and the groups [Q]."""
    tables = load_tables()
    position = tables.member_wp[member]
    group = tables.wp_group[position]
    back = tables.op_inverse[tables.group_op[group] + tables.member_from_first[member]]
    return _apply(group, back, frac_coords), position, group


def canonical_representatives(frac_coords: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """One point of each orbit that does not depend on which point of the orbit was given.

    It lies on the first member of the position (so that its site symmetry has the orientation of International Tables'
    first coordinate triplet), and among the points there is the one nearest to a fixed generic point.

    Args:
        frac_coords: [Q, 3] points exactly on their members.
        member: [Q].

    Returns:
        representatives [Q, 3] in [0, 1) and their member [Q], the first of each position.
    """
    tables = load_tables()
    first_points, position, group = to_first_member(frac_coords, member)
    owner, entry = ragged_ranges(tables.wp_coset[position], tables.wp_coset[position + 1])
    same = tables.coset_member[entry] == 0
    owner, entry = owner[same], entry[same]
    points = _apply(group[owner], tables.coset_op[entry], first_points[owner])
    hexagonal = (group[owner] >= 143) & (group[owner] <= 194)
    metric = np.where(hexagonal[:, None, None], _HEXAGONAL_METRIC, np.eye(3))
    _, squared = nearest_image(points - _CENTRE, metric)
    start = np.searchsorted(owner, np.arange(len(member)))
    smallest = np.minimum.reduceat(squared, start)
    ties = np.flatnonzero(squared <= smallest[owner] + 1e-9)
    best = ties[np.searchsorted(owner[ties], np.arange(len(member)))]
    return wrap(points[best]), tables.wp_member[position]


def expand_orbits(frac_coords: np.ndarray, member: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """All points of the orbits of points on members: exactly one for each left coset of the stabiliser.

    Args:
        frac_coords: [Q, 3] points exactly on their members.
        member: [Q].

    Returns:
        owner [atoms] (index of the point, sorted) and coordinates [atoms, 3] in [0, 1); the first atom of each orbit is
        its point on the first member of the position.
    """
    tables = load_tables()
    first_points, position, group = to_first_member(frac_coords, member)
    owner, entry = ragged_ranges(tables.wp_coset[position], tables.wp_coset[position + 1])
    # the first coset is that of the identity: the first point of each orbit is the given one, on the first member
    return owner, wrap(_apply(group[owner], tables.coset_op[entry], first_points[owner]))


def _best_element(space_group_number: int, positions: np.ndarray, atomic_numbers: np.ndarray) -> int:
    """Normaliser element (index in the group) that gives the first labels in the order of (letter, species)."""
    tables = load_tables()
    images = tables.normalizer_positions(space_group_number)
    if len(images) == 1:
        return 0
    labels = images[:, positions - tables.group_wp[space_group_number]] * 128 + atomic_numbers
    labels.sort(axis=1)
    return int(np.lexsort(labels.T[::-1])[0])


def describe_canonically(
    space_group_number: int, frac_coords: np.ndarray, position: np.ndarray, atomic_numbers: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Of the origins and axes that are equivalent under the Euclidean normaliser, the one with the first letters.

    So caesium chloride is always Cl on 1a and Cs on 1b, never the reverse; the lattice components do not change.

    Args:
        space_group_number: 1..230.
        frac_coords: [M, 3] representatives. position: [M] Wyckoff positions. atomic_numbers: [M].

    Returns:
        the coordinates [M, 3] in that description (not wrapped), and the positions [M] there.

    Source: International Tables A, section 3.5 (normalisers), of which only elements that keep every lattice of the
        crystal system and its handedness are used.
    """
    tables = load_tables()
    element = _best_element(space_group_number, position, atomic_numbers)
    if element == 0:
        return frac_coords, position
    first = tables.group_wp[space_group_number]
    index = tables.group_normalizer[space_group_number] + element
    moved = frac_coords @ tables.normalizer_rotation[index].T + tables.normalizer_translation[index]
    return moved, first + tables.normalizer_positions(space_group_number)[element, position - first]


def canonical_template(space_group_number: int, letters: Sequence[str]) -> tuple[str, ...]:
    """Sorted letters of a template, the first in order of those that the choice of origin and axes makes equivalent.

    Args:
        space_group_number: 1..230.
        letters: one Wyckoff letter per orbit.

    Raises:
        SymmetryError: an unknown group or letter.
    """
    tables = load_tables()
    position = np.array([letter_index(space_group_number, letter) for letter in letters], dtype=np.int64)
    _, position = describe_canonically(space_group_number, np.zeros((len(position), 3)), position, 0 * position)
    return tuple(tables.letters[p] for p in np.sort(position))


def letter_index(space_group_number: int, letter: str) -> int:
    """Index of a Wyckoff position by its letter.

    Raises:
        SymmetryError: no such group or letter; the message lists the letters there are.
    """
    if not 1 <= space_group_number <= 230:
        raise SymmetryError(f"space group {space_group_number} is outside 1..230", status="unknown_space_group")
    tables = load_tables()
    positions = tables.positions(space_group_number)
    letters = tables.letters[positions.start : positions.stop]
    if letter not in letters:
        known = " ".join(f"{tables.wp_multiplicity[p]}{tables.letters[p]}" for p in positions)
        reason = f"space group {space_group_number} has no Wyckoff position {letter!r}; it has {known}"
        raise SymmetryError(reason, status="unknown_letter")
    return positions.start + letters.index(letter)


def template_from_letters(space_group_number: int, letters: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    """Site symmetry of the orbits of a template.

    Args:
        space_group_number: 1..230.
        letters: one Wyckoff letter per orbit, with or without its multiplicity ("a" or "4a").

    Returns:
        site-symmetry codes int8 [M, 15] (orientation of the first coordinate triplet) and multiplicities int [M].

    Raises:
        SymmetryError: an unknown group or letter, a wrong multiplicity, or a position without free parameters twice.
    """
    tables = load_tables()
    positions = []
    for label in letters:
        letter = label.lstrip("0123456789")
        position = letter_index(space_group_number, letter)
        full = f"{tables.wp_multiplicity[position]}{letter}"
        if label not in (letter, full):
            reason = f"{label!r} is called {full} in space group {space_group_number}"
            raise SymmetryError(reason, status="unknown_letter")
        if tables.wp_freedom[position] == 0 and position in positions:
            reason = f"position {full} of space group {space_group_number} has no free parameter, it holds one orbit"
            raise SymmetryError(reason, status="impossible_template")
        positions.append(position)
    index = np.array(positions, dtype=np.int64)
    return tables.code[tables.member_code[tables.wp_member[index]]], tables.wp_multiplicity[index]
