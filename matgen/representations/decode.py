"""From what a model says of a crystal to the crystal: projection onto Wyckoff positions, orbits, overlaps resolved.

Each orbit goes to the nearest point (Cartesian, periodic least squares) of those members of the group's positions whose
site symmetry is nearest to the given one. All orbits of all crystals are handled at once.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

import moyopy
import numpy as np

from matgen.crystal.structure import Structure
from matgen.crystal.tables import load_tables
from matgen.crystal.wyckoff import letter_index, nearest_members, ragged_ranges
from matgen.errors import StructureError
from matgen.geometry.coordinates import wrap
from matgen.geometry.lattice import lattice_constraints, lattice_from_k
from matgen.representations.overlaps import KINDS, Cells, Contacts, Limits, Orbits, closest_contacts, resolve_overlaps

__all__ = ["AsymmetricUnitLike", "DecodeConfig", "DecodedCrystal", "decode"]

_CHUNK = 256


class AsymmetricUnitLike(Protocol):
    """What `decode` reads of a crystal; an AsymmetricUnit has it."""

    @property
    def space_group_number(self) -> int: ...
    @property
    def lattice_k(self) -> np.ndarray: ...
    @property
    def frac_coords(self) -> np.ndarray: ...
    @property
    def atomic_numbers(self) -> np.ndarray: ...
    @property
    def site_symmetry(self) -> np.ndarray: ...


@dataclass(frozen=True, kw_only=True)
class DecodeConfig:
    """A pair clashes below min_distance (Å) or min_ratio x (sum of covalent radii). max_volume: Å^3 of the cell."""

    resolve_overlaps: bool = True
    min_distance: float = 0.5
    min_ratio: float = 0.5
    max_volume: float = 1e5


@dataclass(frozen=True, eq=False)
class DecodedCrystal:
    """One decoded crystal. `structure` is None only where nothing finite could be made.

    status: "ok", "overlap" (atoms still clash; the structure is there), or what was wrong with the input. The raw_
    fields are of the nearest-position decode, before overlaps were resolved: shortest distance (Å) and smallest
    distance over the sum of covalent radii; min_distance and min_ratio are those of the structure. moved: how many
    orbits were "moved" along their free parameters, "relettered" to another position of equal multiplicity, "raised" to
    fewer atoms (which changes the composition), or stayed "unresolved". code_distance [M]: axes on which the given site
    symmetry differs from that of the nearest positions. displacement [M]: Å from the given point to its position.
    """

    status: str
    reason: str
    space_group_number: int
    structure: Structure | None = None
    orbit_index: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    wyckoff_letters: tuple[str, ...] = ()
    multiplicities: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    representatives: np.ndarray = field(default_factory=lambda: np.empty((0, 3)))
    raw_min_distance: float = float("nan")
    raw_min_ratio: float = float("nan")
    raw_clash: bool = False
    min_distance: float = float("nan")
    min_ratio: float = float("nan")
    moved: dict[str, int] = field(default_factory=dict)
    code_distance: np.ndarray = field(default_factory=lambda: np.empty(0, dtype=np.int64))
    displacement: np.ndarray = field(default_factory=lambda: np.empty(0))

    @property
    def moved_orbits(self) -> int:
        """Orbits that are not at their nearest position, because of an overlap."""
        return sum(count for kind, count in self.moved.items() if kind != "unresolved")


def decode(
    units: Sequence[AsymmetricUnitLike],
    config: DecodeConfig | None = None,
    wyckoff_fixed: Sequence[Sequence[str] | None] | None = None,
) -> list[DecodedCrystal]:
    """Crystals of asymmetric units, in the same order; never fewer.

    Args:
        units: space group, lattice components, representatives (any reals), species and site-symmetry codes.
        config: what a clash is, and whether overlaps are resolved.
        wyckoff_fixed: for each crystal None, or one Wyckoff letter per orbit that the orbit must occupy.

    Returns:
        one DecodedCrystal for each unit, with its status.
    """
    config = config or DecodeConfig()
    fixed = wyckoff_fixed if wyckoff_fixed is not None else [None] * len(units)
    results: list[DecodedCrystal] = []
    for start in range(0, len(units), _CHUNK):
        results += _decode_chunk(units[start : start + _CHUNK], config, fixed[start : start + _CHUNK])
    return results


def _input_fault(
    unit: AsymmetricUnitLike, letters: Sequence[str] | None, config: DecodeConfig
) -> tuple[str, str] | None:
    """(status, reason) where no crystal can be made of this input."""
    number = int(unit.space_group_number)
    if not 1 <= number <= 230:
        return "unknown_space_group", f"space group {number} is outside 1..230"
    if len(unit.atomic_numbers) == 0:
        return "empty", "there are no orbits"
    if not (np.isfinite(unit.lattice_k).all() and np.isfinite(unit.frac_coords).all()):
        return "non_finite", "a lattice component or a coordinate is not a finite number"
    mask, fixed = lattice_constraints()
    k = np.where(mask[number], unit.lattice_k, fixed[number])
    # ln V = sqrt(3) k[5]; the other components are strains
    if not (abs(k[5]) * 3**0.5 < np.log(config.max_volume) and np.abs(k[:5]).max() < 5.0):
        return "bad_lattice", f"lattice components {np.round(k, 3).tolist()} give no sensible cell"
    numbers = np.asarray(unit.atomic_numbers)
    if numbers.min() < 1 or numbers.max() > 96:
        return "unsupported_element", f"atomic numbers {numbers.tolist()} are not all in 1..96"
    if letters is not None:
        if len(letters) != len(numbers):
            return "impossible_template", f"{len(letters)} Wyckoff letters for {len(numbers)} orbits"
        try:
            for letter in letters:
                letter_index(number, letter)
        except StructureError as error:
            return error.status, str(error)
    return None


def _decode_chunk(
    units: Sequence[AsymmetricUnitLike], config: DecodeConfig, wyckoff_fixed: Sequence[Sequence[str] | None]
) -> list[DecodedCrystal]:
    results: list[DecodedCrystal | None] = []
    for unit, letters in zip(units, wyckoff_fixed, strict=True):
        fault = _input_fault(unit, letters, config)
        results.append(fault and DecodedCrystal(*fault, space_group_number=int(unit.space_group_number)))
    good = [index for index, result in enumerate(results) if result is None]
    if good:
        crystals = _decode_valid([units[i] for i in good], [wyckoff_fixed[i] for i in good], config)
        for index, crystal in zip(good, crystals, strict=True):
            results[index] = crystal
    return [result for result in results if result is not None]


def _cells(group: np.ndarray, k: np.ndarray) -> Cells:
    """Lattices of components whose fixed ones are set; only triclinic and monoclinic cells need to be reduced."""
    mask, fixed = lattice_constraints()
    lattice = lattice_from_k(np.where(mask[group], k, fixed[group]))
    metric = lattice @ lattice
    reduced, transform = metric.copy(), np.broadcast_to(np.eye(3), metric.shape).copy()
    for index in np.flatnonzero(group < 16):
        basis = np.array(moyopy.minkowski_reduce(lattice[index].tolist())[0])
        reduced[index] = basis @ basis.T
        transform[index] = np.rint(lattice[index] @ np.linalg.inv(basis))
    return Cells(lattice, metric, reduced, transform, (transform != np.eye(3)).any(axis=(1, 2)))


def _candidates(
    group: np.ndarray, site_symmetry: np.ndarray, position: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Members that each orbit may go to: those of the nearest codes, within the given position where it is not -1.

    Returns:
        owner [pairs] (sorted) and member [pairs]; the code distance of each orbit [Q].
    """
    tables = load_tables()
    lists = tables.by_code
    owner, entry = ragged_ranges(lists.group_start[group], lists.group_start[group + 1])
    distance = (tables.code[lists.key[entry]] != site_symmetry[owner]).sum(axis=1)
    fixed = np.flatnonzero(position >= 0)
    if len(fixed):
        # a code that no member of the required position has is out of the question
        required = np.zeros((len(tables.letters), len(tables.code)), dtype=bool)
        required[tables.member_wp, tables.member_code] = True
        impossible = (position[owner] >= 0) & ~required[position[owner], lists.key[entry]]
        distance[impossible] = 99
    smallest = np.minimum.reduceat(distance, np.searchsorted(owner, np.arange(len(group))))
    nearest = distance == smallest[owner]
    sub, place = ragged_ranges(lists.start[entry[nearest]], lists.start[entry[nearest] + 1])
    pair_owner, member = owner[nearest][sub], lists.member[place]
    allowed = (position[pair_owner] < 0) | (tables.member_wp[member] == position[pair_owner])
    pair_owner, member = pair_owner[allowed], member[allowed]
    order = np.argsort(pair_owner, kind="stable")
    return pair_owner[order], member[order], smallest


def _decode_valid(
    units: Sequence[AsymmetricUnitLike], wyckoff_fixed: Sequence[Sequence[str] | None], config: DecodeConfig
) -> list[DecodedCrystal]:
    group = np.array([int(unit.space_group_number) for unit in units])
    cells = _cells(group, np.array([unit.lattice_k for unit in units], dtype=float))
    crystal = np.repeat(np.arange(len(units)), [len(unit.atomic_numbers) for unit in units])
    points = np.concatenate([np.asarray(unit.frac_coords, dtype=float) for unit in units])
    numbers = np.concatenate([np.asarray(unit.atomic_numbers, dtype=np.int64) for unit in units])
    codes = np.concatenate([np.asarray(unit.site_symmetry) for unit in units])
    position = np.concatenate([_required_positions(u, w) for u, w in zip(units, wyckoff_fixed, strict=True)])
    owner, member, code_distance = _candidates(group[crystal], codes, position)
    chosen, projected, displacement = nearest_members(points, cells.metric[crystal], owner, member)
    raw = Orbits(crystal, numbers, projected, chosen)
    limits = Limits(config.min_distance, config.min_ratio)
    raw_contacts = contacts = closest_contacts(raw, cells, limits)
    orbits, kind = raw, np.zeros(len(crystal), dtype=np.int64)
    if config.resolve_overlaps and raw_contacts.clash.any():
        orbits, kind = resolve_overlaps(raw, raw_contacts, position >= 0, cells, limits)
        contacts = closest_contacts(orbits, cells, limits)
    return _assemble(group, cells, orbits, kind, raw_contacts, contacts, code_distance, displacement)


def _required_positions(unit: AsymmetricUnitLike, letters: Sequence[str] | None) -> np.ndarray:
    if letters is None:
        return np.full(len(unit.atomic_numbers), -1)
    return np.array([letter_index(int(unit.space_group_number), letter) for letter in letters])


def _assemble(
    group: np.ndarray,
    cells: Cells,
    orbits: Orbits,
    kind: np.ndarray,
    raw: Contacts,
    final: Contacts,
    code_distance: np.ndarray,
    displacement: np.ndarray,
) -> list[DecodedCrystal]:
    tables = load_tables()
    owner, coords = orbits.atoms()
    species = orbits.atomic_numbers[owner]
    position = tables.member_wp[orbits.member]
    multiplicity = tables.wp_multiplicity[position]
    representatives = wrap(orbits.frac_coords)
    orbit_bounds = np.searchsorted(orbits.crystal, np.arange(len(group) + 1))
    atom_bounds = np.append(0, np.cumsum(multiplicity))[orbit_bounds]
    results = []
    for index, number in enumerate(group):
        part = slice(orbit_bounds[index], orbit_bounds[index + 1])
        atoms = slice(atom_bounds[index], atom_bounds[index + 1])
        clash = bool(final.clash[index])
        counts = np.bincount(kind[part], minlength=len(KINDS)) if raw.clash[index] else None
        results.append(
            DecodedCrystal(
                status="overlap" if clash else "ok",
                reason=_overlap_reason(final.distance[index], final.ratio[index]) if clash else "",
                space_group_number=int(number),
                structure=Structure(cells.lattice[index], coords[atoms], species[atoms]),
                orbit_index=owner[atoms] - orbit_bounds[index],
                wyckoff_letters=tuple([tables.letters[p] for p in position[part]]),
                multiplicities=multiplicity[part],
                representatives=representatives[part],
                raw_min_distance=float(raw.distance[index]),
                raw_min_ratio=float(raw.ratio[index]),
                raw_clash=bool(raw.clash[index]),
                min_distance=float(final.distance[index]),
                min_ratio=float(final.ratio[index]),
                moved={} if counts is None else {KINDS[i]: int(counts[i]) for i in range(1, len(KINDS)) if counts[i]},
                code_distance=code_distance[part],
                displacement=displacement[part],
            )
        )
    return results


def _overlap_reason(distance: float, ratio: float) -> str:
    return f"atoms {distance:.3f} Å apart, {ratio:.2f} of the sum of their covalent radii"
