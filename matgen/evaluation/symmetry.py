"""Detected space groups, their relation to the requested ones, and Wyckoff templates."""

import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib.resources import files
from typing import Any

import numpy as np

from matgen.crystal.structure import Structure
from matgen.errors import SymmetryError

# moyopy warns of every supercell given to it; the operations that it then leaves out are not used here.
logging.getLogger("moyo").setLevel(logging.ERROR)


@dataclass(frozen=True, kw_only=True)
class SymmetryConfig:
    """Tolerances of detection in Å.

    symprec: the one at which groups and templates of samples and of references are compared. fidelity_symprecs: those
    at which the detected group is held against the requested one.
    """

    symprec: float = 0.1
    fidelity_symprecs: tuple[float, ...] = (0.001, 0.01, 0.1)


@dataclass(frozen=True)
class DetectedSymmetry:
    """Space group and template of a structure at one tolerance.

    template: "225:4a,4b" = group : sorted letters with multiplicity, one per orbit of the conventional cell. Letters
    are moyopy's, in the standard setting; they must not be compared with another program's.
    canonical_template: the same modulo the Euclidean normaliser, which moves the origin (221: 1a and 1b are one).
    symprec: the tolerance in the end used, Å; smaller than asked for where atoms are closer than that.
    """

    space_group_number: int
    template: str
    canonical_template: str
    symprec: float


def detect_symmetry(structure: Structure, symprec: float) -> DetectedSymmetry:
    """Space group and Wyckoff template of a structure.

    Args:
        structure: finite coordinates, a cell with volume, at least one atom.
        symprec: tolerance, Å.

    Raises:
        SymmetryError: no space group was found.

    Source: moyopy (MIT), standard setting of the International Tables (unique axis b, origin choice 2).
    """
    dataset = symmetry_dataset(structure, symprec)
    scale = len(dataset.std_cell.numbers) / len(structure.atomic_numbers)
    sizes = Counter(dataset.orbits)
    letters = sorted((dataset.wyckoffs[orbit], round(size * scale)) for orbit, size in sizes.items())
    number = int(dataset.number)
    return DetectedSymmetry(
        number, format_template(number, letters), canonical_template(number, letters), float(dataset.symprec)
    )


def detect_space_group(structure: Structure, symprec: float) -> int:
    """Space-group number of a structure, 1..230; arguments and errors as `detect_symmetry`."""
    return int(symmetry_dataset(structure, symprec).number)


def symmetry_dataset(structure: Structure, symprec: float) -> Any:
    """moyopy's full answer, standard setting; arguments and errors as `detect_symmetry`."""
    from moyopy import Cell, MoyoDataset, Setting

    cell = Cell(
        np.asarray(structure.lattice, dtype=np.float64).tolist(),
        np.asarray(structure.frac_coords, dtype=np.float64).tolist(),
        np.asarray(structure.atomic_numbers).tolist(),
    )
    try:
        return MoyoDataset(cell, symprec=symprec, setting=Setting.standard())
    except ValueError as error:
        raise SymmetryError(f"no space group at symprec {symprec} Å: {error}") from error


def format_template(space_group_number: int, orbits: Sequence[tuple[str, int]]) -> str:
    """Text of a template from (letter, multiplicity) of each orbit."""
    return f"{space_group_number}:" + ",".join(f"{size}{letter}" for letter, size in sorted(orbits))


@lru_cache(maxsize=1)
def _group_relations() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(supergroup, letters, letter_offset); made by scripts/make_evaluation_tables.py."""
    with np.load(str(files("matgen.evaluation") / "data" / "group_relations.npz")) as archive:
        return archive["supergroup"], archive["letters"], archive["letter_offset"]


def is_supergroup(detected: np.ndarray, requested: np.ndarray) -> np.ndarray:
    """Whether a group of the detected type contains one of the requested type, equality included.

    Args:
        detected: space-group numbers; 0 where detection failed (never a supergroup).
        requested: space-group numbers, same shape.

    Returns:
        bool, same shape. The relation is between types: it does not say that the subgroup sits where it was asked for.
    """
    return _group_relations()[0][np.asarray(detected), np.asarray(requested)]


@lru_cache(maxsize=100_000)
def _canonical(space_group_number: int, orbits: tuple[tuple[str, int], ...]) -> str:
    _, letters, offset = _group_relations()
    rows = letters[offset[space_group_number] : offset[space_group_number + 1]]
    indices = [26 if letter == "A" else ord(letter) - ord("a") for letter, _ in orbits]
    sizes = [size for _, size in orbits]
    choices = (sorted(zip(row[indices].tolist(), sizes, strict=True)) for row in rows)
    best = min(choices)
    return format_template(
        space_group_number, [("A" if index == 26 else chr(ord("a") + index), size) for index, size in best]
    )


def canonical_template(space_group_number: int, orbits: Sequence[tuple[str, int]]) -> str:
    """Template modulo the Euclidean normaliser: the same text for every choice of origin.

    Args:
        space_group_number: 1..230.
        orbits: (letter, multiplicity) of each orbit, letters in the standard setting.

    Source: Euclidean normalisers from moyopy, for a metric without accidental symmetry.
    """
    return _canonical(space_group_number, tuple(sorted(orbits)))


def parse_template(template: str) -> tuple[int, list[tuple[str, int]]]:
    """Inverse of `format_template`: group number, and (letter, multiplicity) of each orbit."""
    number, _, text = template.partition(":")
    return int(number), [(item[-1], int(item[:-1])) for item in text.split(",")]
