"""A crystal as its asymmetric unit: what the crystal models see. `encode` here; its inverse in decode.py.

Space group, lattice components k, and for each orbit one representative, its species and its site symmetry.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from matgen.crystal.space_group import StandardCrystal, SymmetryConfig, standardize
from matgen.crystal.structure import Structure, check
from matgen.crystal.tables import load_tables
from matgen.crystal.wyckoff import canonical_representatives, describe_canonically, nearest_members, ragged_ranges
from matgen.errors import StructureError, SymmetryError, TooManyAtomsError
from matgen.geometry.lattice import k_from_lattice, lattice_constraints

__all__ = ["AsymmetricUnit", "EncodeConfig", "encode", "encode_many"]


@dataclass(frozen=True, eq=False)
class AsymmetricUnit:
    """One crystal with M orbits.

    lattice_k: float64 [6], fixed components exact. frac_coords: float64 [M, 3] in [0, 1), exactly on their positions.
    atomic_numbers: int [M]. site_symmetry: int8 [M, 15], class 0..12 per axis, of the stabiliser at the representative.
    multiplicity: int [M], atoms in the conventional cell. wyckoff_letters: metadata; decoding does not need them.
    """

    space_group_number: int
    lattice_k: np.ndarray
    frac_coords: np.ndarray
    atomic_numbers: np.ndarray
    site_symmetry: np.ndarray
    multiplicity: np.ndarray
    wyckoff_letters: tuple[str, ...] = ()
    symprec: float = 0.1

    @property
    def num_orbits(self) -> int:
        return len(self.atomic_numbers)

    @property
    def num_atoms(self) -> int:
        """Atoms in the conventional cell."""
        return int(self.multiplicity.sum())


@dataclass(frozen=True, kw_only=True)
class EncodeConfig:
    """symprec, fallback_symprecs, min_distance (shorter is a clash): Å. max_atoms: given cell; None: no limit.

    canonical_origin: of the equivalent origins and axes take the one with the first Wyckoff letters.
    """

    symprec: float = 0.1
    fallback_symprecs: tuple[float, ...] = (0.03, 0.01, 1e-3, 1e-4)
    min_distance: float = 0.5
    max_atoms: int | None = 512
    max_orbits: int | None = None
    canonical_origin: bool = True

    @property
    def symmetry(self) -> SymmetryConfig:
        return SymmetryConfig(symprec=self.symprec, fallback_symprecs=self.fallback_symprecs)


def encode(structure: Structure, config: EncodeConfig | None = None) -> AsymmetricUnit:
    """Asymmetric unit of a structure.

    Args:
        structure: any ordered structure, any cell; single-orbit crystals are reduced like any other.
        config: tolerances and limits.

    Raises:
        StructureError: the structure cannot be used (see `check`), has too many orbits, or its symmetry was not found.
    """
    result = encode_many([structure], config)[0]
    if isinstance(result, StructureError):
        raise result
    return result


def encode_many(
    structures: Sequence[Structure], config: EncodeConfig | None = None
) -> list[AsymmetricUnit | StructureError]:
    """Asymmetric units of many structures, each a result or the error that `encode` would raise; same order."""
    config = config or EncodeConfig()
    results: list[AsymmetricUnit | StructureError | None] = [None] * len(structures)
    crystals: list[StandardCrystal] = []
    where: list[int] = []
    for index, structure in enumerate(structures):
        try:
            check(structure, min_distance_allowed=config.min_distance, max_atoms=config.max_atoms)
            crystal = standardize(structure, config.symmetry)
            num_orbits = len(crystal.atomic_numbers)
            if config.max_orbits is not None and num_orbits > config.max_orbits:
                raise TooManyAtomsError(f"{num_orbits} orbits, more than the limit of {config.max_orbits}")
        except StructureError as error:
            results[index] = error
            continue
        crystals.append(crystal)
        where.append(index)
    if crystals:
        for index, result in zip(where, _units(crystals, config.canonical_origin), strict=True):
            results[index] = result
    assert all(result is not None for result in results)
    return results  # type: ignore[return-value]


def _units(crystals: list[StandardCrystal], canonical: bool) -> list[AsymmetricUnit | StructureError]:
    """Resolve the position of every orbit of all crystals at once: the nearest one with the orbit's multiplicity."""
    tables = load_tables()
    group = np.array([crystal.space_group_number for crystal in crystals])
    lattice = np.array([crystal.lattice for crystal in crystals])
    counts = np.array([len(crystal.atomic_numbers) for crystal in crystals])
    crystal_of = np.repeat(np.arange(len(crystals)), counts)
    points = np.concatenate([crystal.frac_coords for crystal in crystals])
    multiplicity = np.concatenate([crystal.multiplicity for crystal in crystals])
    metric = (lattice @ np.swapaxes(lattice, 1, 2))[crystal_of]
    lists = _list_of_multiplicity(group[crystal_of], multiplicity)
    known = lists >= 0
    owner, entry = ragged_ranges(tables.by_multiplicity.start[lists], tables.by_multiplicity.start[lists + 1])
    entry = tables.by_multiplicity.member[entry]
    member, projected, distance = nearest_members(points, metric, owner, entry)
    bounds = np.concatenate([[0], np.cumsum(counts)])
    if canonical:
        projected, member = _described_canonically(crystals, bounds, projected, member, metric, owner, entry)
    representatives, member = canonical_representatives(projected, member)
    mask, fixed = lattice_constraints()
    k = np.where(mask[group], k_from_lattice(lattice), fixed[group])
    codes = tables.code[tables.member_code[member]]
    position = tables.member_wp[member]
    results: list[AsymmetricUnit | StructureError] = []
    for index, crystal in enumerate(crystals):
        part = slice(bounds[index], bounds[index + 1])
        # a refined position is within the tolerance of its special position; anything else is an inconsistent search
        if not known[part].all() or distance[part].max() > crystal.symprec:
            reason = f"the orbits found in space group {crystal.space_group_number} fit none of its Wyckoff positions"
            results.append(SymmetryError(f"{reason} (multiplicities {multiplicity[part].tolist()})"))
            continue
        results.append(
            AsymmetricUnit(
                space_group_number=int(crystal.space_group_number),
                lattice_k=k[index],
                frac_coords=representatives[part],
                atomic_numbers=crystal.atomic_numbers,
                site_symmetry=codes[part],
                multiplicity=multiplicity[part],
                wyckoff_letters=tuple(tables.letters[p] for p in position[part]),
                symprec=crystal.symprec,
            )
        )
    return results


def _described_canonically(
    crystals: list[StandardCrystal],
    bounds: np.ndarray,
    points: np.ndarray,
    member: np.ndarray,
    metric: np.ndarray,
    owner: np.ndarray,
    candidates: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """All crystals moved to their canonical origin and axes, and the members on which their orbits then lie."""
    position = load_tables().member_wp[member]
    moved = points.copy()
    for index, crystal in enumerate(crystals):
        part = slice(bounds[index], bounds[index + 1])
        moved[part], _ = describe_canonically(
            crystal.space_group_number, points[part], position[part], crystal.atomic_numbers
        )
    changed = (moved != points).any(axis=1)
    if not changed.any():
        return points, member
    wanted = changed[owner]
    place = np.cumsum(changed) - 1
    found, snapped, _ = nearest_members(moved[changed], metric[changed], place[owner[wanted]], candidates[wanted])
    member = member.copy()
    member[changed], moved[changed] = found, snapped
    return moved, member


def _list_of_multiplicity(group: np.ndarray, multiplicity: np.ndarray) -> np.ndarray:
    """Index into `by_multiplicity` of each (group, multiplicity), -1 where the group has no such position."""
    lists = load_tables().by_multiplicity
    start, stop = lists.group_start[group], lists.group_start[group + 1]
    owner, entry = ragged_ranges(start, stop)
    match = lists.key[entry] == multiplicity[owner]
    result = np.full(len(group), -1)
    result[owner[match]] = entry[match]
    return result
