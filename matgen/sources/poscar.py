"""VASP's POSCAR text: read and write."""

from __future__ import annotations

import re

import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import NonFiniteStructureError, UnreadableStructureError
from matgen.geometry.coordinates import wrap
from matgen.sources.species import atomic_number


def parse_poscar(text: str) -> Structure:
    """Reads a POSCAR or CONTCAR of VASP 4 or 5.

    Args:
        text: the file's text. VASP 4 files name no elements; they are then taken from the comment line.

    Returns:
        The structure, fractional coordinates in [0, 1).

    Raises:
        UnreadableStructureError: a line is missing or not what the format puts there.
        NonFiniteStructureError: a number is not finite or the cell has no volume.
    """
    lines = text.splitlines()
    if len(lines) < 8:
        raise UnreadableStructureError(f"a POSCAR has at least 8 lines, this has {len(lines)}")
    scale = _floats(lines[1], None, 2)
    vectors = np.array([_floats(line, 3, 3 + i) for i, line in enumerate(lines[2:5])])
    lattice = _scaled(vectors, scale)
    symbols, counts, row = _species(lines)
    if lines[row].strip()[:1].lower() == "s":
        row += 1
    cartesian = lines[row].strip()[:1].lower() in {"c", "k"} if row < len(lines) else False
    total = sum(counts)
    body = lines[row + 1 : row + 1 + total]
    if len(body) != total or total == 0:
        raise UnreadableStructureError(f"{total} atoms announced, {len(body)} coordinate lines follow")
    coords = np.array([_floats(line, 3, row + 2 + i) for i, line in enumerate(body)])
    if not np.isfinite(coords).all():
        raise NonFiniteStructureError("a coordinate is not finite")
    if cartesian:
        # the scale multiplies cell and coordinates alike, so it cancels
        coords = np.linalg.solve(vectors.T, coords.T).T
    numbers = np.repeat([atomic_number(symbol) for symbol in symbols], counts)
    return Structure(lattice=lattice, frac_coords=wrap(coords), atomic_numbers=numbers)


def write_poscar(structure: Structure, name: str = "structure") -> str:
    """Writes VASP 5 POSCAR text, atoms grouped by element in order of first appearance.

    Args:
        structure: the structure.
        name: the comment line.

    Returns:
        The text.
    """
    numbers = structure.atomic_numbers.tolist()
    species = list(dict.fromkeys(numbers))
    order = np.argsort([species.index(number) for number in numbers], kind="stable")
    lines = [" ".join(name.split()) or "structure", "1.0"]
    lines += [" ".join(f"{entry:.12f}" for entry in row) for row in structure.lattice.tolist()]
    lines.append(" ".join(SYMBOLS[number] for number in species))
    lines.append(" ".join(str(numbers.count(number)) for number in species))
    lines.append("Direct")
    lines += [" ".join(f"{entry:.12f}" for entry in row) for row in structure.frac_coords[order].tolist()]
    return "\n".join(lines) + "\n"


def _scaled(vectors: np.ndarray, scale: list[float]) -> np.ndarray:
    volume = float(abs(np.linalg.det(vectors)))
    if not np.isfinite(vectors).all() or not volume > 1e-6:
        raise NonFiniteStructureError(f"the cell vectors span no volume: {vectors.tolist()}")
    if len(scale) == 3:
        factor: np.ndarray | float = np.array(scale)
    elif len(scale) == 1 and scale[0] < 0:
        factor = (-scale[0] / volume) ** (1 / 3)
    elif len(scale) == 1:
        factor = scale[0]
    else:
        raise UnreadableStructureError(f"line 2 holds the scale (1 or 3 numbers), found {scale}")
    if not np.all(np.isfinite(factor)) or np.any(np.asarray(factor) <= 0):
        raise UnreadableStructureError(f"the scale in line 2 is {scale}")
    return vectors * factor


def _species(lines: list[str]) -> tuple[list[str], list[int], int]:
    """Symbols, counts, and the index of the line after them."""
    words = lines[5].split()
    if words and words[0].isdecimal():
        counts, row, names = words, 6, lines[0].split()[: len(words)]
        source = "the comment line (VASP 4)"
    else:
        counts, row, names = lines[6].split(), 7, words
        source = "line 6"
    counts = [word for word in counts if not word.startswith("!")]
    # Fe_pv and Fe/a1b2c3 name pseudopotentials
    symbols = [re.split(r"[_/.]", name)[0] for name in names]
    if not counts or len(symbols) != len(counts) or not all(word.isdecimal() for word in counts):
        raise UnreadableStructureError(f"elements {names} in {source} do not fit the counts {counts}")
    return symbols, [int(word) for word in counts], row


def _floats(line: str, count: int | None, number: int) -> list[float]:
    words = line.split("!")[0].split()
    words = words[:count] if count else words
    try:
        values = [float(word) for word in words]
    except ValueError:
        values = []
    if not values or (count and len(values) < count):
        raise UnreadableStructureError(f"line {number} should hold {count or 'some'} numbers: {line.strip()[:80]!r}")
    return values
