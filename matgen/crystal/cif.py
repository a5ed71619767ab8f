"""CIF text to Structure: gemmi reads, our checks decide, pymatgen is the second reader for text that gemmi refuses.

The listed symmetry operations are believed first, then the Hall symbol, the Hermann-Mauguin symbol and the number.
Atoms are expanded over all of them; images closer than SPECIAL_POSITION_TOLERANCE are one atom on a special position.
Disorder is never averaged, guessed or dropped: it is refused.
"""

from __future__ import annotations

import io
import math
import re
import warnings
from dataclasses import dataclass
from typing import Any, NoReturn

import gemmi
import numpy as np

from matgen.crystal.cif_elements import Z_OF, element_of_label, element_of_symbol
from matgen.crystal.cif_symmetry import expand, is_identity_only, operation_candidates
from matgen.crystal.cif_writer import CifSymmetry, write_cif
from matgen.crystal.elements import SYMBOLS
from matgen.crystal.structure import Structure
from matgen.errors import (
    DisorderedStructureError,
    NonFiniteStructureError,
    StructureError,
    UnreadableStructureError,
)
from matgen.geometry.coordinates import wrap

__all__ = ["OCCUPANCY_TOLERANCE", "CifSymmetry", "parse_cif", "write_cif"]

# What pymatgen raises on text that is no CIF; it has no exception of its own.
_SECOND_READER_ERRORS = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    RuntimeError,
)
# A refined occupancy of 0.999(2) means full; 0.99 means one vacancy in a hundred.
OCCUPANCY_TOLERANCE = 2e-3

_ATOM_TAG = "_atom_site_fract_x"
_CELL_TAGS = (
    "_cell_length_a",
    "_cell_length_b",
    "_cell_length_c",
    "_cell_angle_alpha",
    "_cell_angle_beta",
    "_cell_angle_gamma",
)
_FRACT_TAGS = (_ATOM_TAG, "_atom_site_fract_y", "_atom_site_fract_z")
_NULLS = frozenset({"?", "."})
_SITE_TAGS = (
    *_FRACT_TAGS,
    "_atom_site_label",
    "_atom_site_type_symbol",
    "_atom_site_occupancy",
    "_atom_site_disorder_group",
    "_atom_site_symmetry_multiplicity",
    "_atom_site_site_symmetry_multiplicity",
)


class _SecondReaderError(Exception):
    """Our reading failed on syntax, cell or symmetry, where a more forgiving reader may know better."""


def parse_cif(text: str, index: int = 0) -> Structure:
    """Reads one ordered structure from CIF text, all atoms of the cell as given.

    Args:
        text: a CIF document; data blocks without atoms are passed over.
        index: which of the blocks that have atoms, from 0.

    Returns:
        The structure in the cell of the file, fractional coordinates in [0, 1).

    Raises:
        DisorderedStructureError: a site is partially occupied, shared by species, or in a disorder group.
        NonFiniteStructureError: a coordinate or cell parameter is not finite, or the cell has no volume.
        UnreadableStructureError: anything else that is not one complete structure.
    """
    try:
        return _read_with_gemmi(text, index)
    except _SecondReaderError as error:
        return _read_with_pymatgen(text, index, str(error))


def _read_with_gemmi(text: str, index: int) -> Structure:
    try:
        document = gemmi.cif.read_string(text)
    except (ValueError, RuntimeError) as error:
        raise _SecondReaderError(f"not CIF syntax: {_one_line(error)}") from None
    all_blocks = [document[0]] if len(document) == 1 else list(document)
    blocks = [block for block in all_blocks if block.find_values(_ATOM_TAG)]
    if index >= len(blocks):
        raise UnreadableStructureError(
            f"no structure number {index} in {len(all_blocks)} data block(s) with {_ATOM_TAG}"
        )
    return _read_block(blocks[index])


def _read_block(block: gemmi.cif.Block) -> Structure:
    sites = _Sites.of(block)
    frac_coords = _coordinates(sites)
    atomic_numbers = _atomic_numbers(sites, block)
    if len(atomic_numbers) != len(frac_coords):
        raise UnreadableStructureError(f"{len(atomic_numbers)} element symbols for {len(frac_coords)} coordinates")
    _refuse_disorder(sites)
    _refuse_shared_sites(frac_coords, atomic_numbers)
    lengths, angles = _cell(block)
    if not is_identity_only(block):
        cell = gemmi.UnitCell(*lengths, *angles)
        candidates = operation_candidates(block, cell)
        if not candidates:
            raise _SecondReaderError("the symmetry is named by nothing that we know")
        stated = _multiplicities(sites), _stated_num_atoms(block)
        frac_coords, atomic_numbers = expand(cell, candidates, frac_coords, atomic_numbers, *stated)
    return Structure.from_parameters(np.array(lengths), np.array(angles), wrap(frac_coords), atomic_numbers)


@dataclass(frozen=True, slots=True)
class _Sites:
    """The atom list of a block as columns of text, by tag in lower case."""

    columns: dict[str, list[str]]

    @classmethod
    def of(cls, block: gemmi.cif.Block) -> _Sites:
        loop = block.find_loop(_ATOM_TAG).get_loop()
        if loop is None:  # a single atom may be given without a loop
            return cls({tag: list(block.find_values(tag)) for tag in _SITE_TAGS})
        tags, values = loop.tags, loop.values  # one call for all cells: asking gemmi per column takes twice the time
        return cls({tag.lower(): values[i :: len(tags)] for i, tag in enumerate(tags)})

    def column(self, tag: str) -> list[str]:
        return self.columns.get(tag, [])

    def name(self, index: int) -> str:
        labels = self.column("_atom_site_label")
        return f"site {index + 1}" + (f" ({labels[index]})" if index < len(labels) else "")


def _cell(block: gemmi.cif.Block) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    texts = [block.find_value(tag) for tag in _CELL_TAGS]
    if None in texts or not _NULLS.isdisjoint(texts):
        raise _SecondReaderError(f"incomplete cell: {texts}")
    a, b, c, alpha, beta, gamma = values = [_number(text) for text in texts]
    if not all(map(math.isfinite, values)):
        raise NonFiniteStructureError(f"cell parameters are not finite: {texts}")
    x, y, z = math.cos(math.radians(alpha)), math.cos(math.radians(beta)), math.cos(math.radians(gamma))
    # (volume / abc)^2, the determinant of the metric tensor of the unit vectors
    squared = 1 + 2 * x * y * z - x * x - y * y - z * z
    if min(a, b, c) <= 0 or min(alpha, beta, gamma) <= 0 or squared <= 1e-8:
        raise NonFiniteStructureError(
            f"the cell has no volume: lengths {(a, b, c)} Å, angles {(alpha, beta, gamma)} degrees"
        )
    return (a, b, c), (alpha, beta, gamma)


def _coordinates(sites: _Sites) -> np.ndarray:
    columns = [sites.column(tag) for tag in _FRACT_TAGS]
    if not len(columns[0]) == len(columns[1]) == len(columns[2]):
        raise UnreadableStructureError(f"coordinates are incomplete: {[len(column) for column in columns]} x, y, z")
    try:
        rows = [list(map(float, column)) for column in columns]
    except ValueError:
        rows = [[_coordinate(text, sites, i) for i, text in enumerate(column)] for column in columns]
    frac_coords = np.array(rows).T
    if not math.isfinite(sum(map(sum, rows))):  # five times faster than asking numpy about ten numbers
        bad = int(np.flatnonzero(~np.isfinite(frac_coords).all(axis=1))[0])
        raise NonFiniteStructureError(f"{sites.name(bad)} has coordinates {frac_coords[bad].tolist()}")
    return frac_coords


def _coordinate(text: str, sites: _Sites, index: int) -> float:
    if text in _NULLS:
        raise UnreadableStructureError(f"{sites.name(index)} has no coordinates ({text!r})")
    value = _number(text)
    if math.isnan(value) and "nan" not in text.lower():
        raise UnreadableStructureError(f"{sites.name(index)} has a coordinate that is no number: {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # knows 0.123(4); NaN for what is no number
        return gemmi.cif.as_number(gemmi.cif.as_string(text))


def _atomic_numbers(sites: _Sites, block: gemmi.cif.Block) -> np.ndarray:
    symbols = sites.column("_atom_site_type_symbol")
    labels = sites.column("_atom_site_label")
    if not symbols:
        return np.array([element_of_label(label, _formula_elements(block)) for label in labels])
    try:
        return np.array([Z_OF[symbol] for symbol in symbols])
    except KeyError:
        pass
    numbers = []
    for i, symbol in enumerate(symbols):
        if symbol in _NULLS and labels:
            number: int | None = element_of_label(labels[i], _formula_elements(block))
        else:
            number = element_of_symbol(symbol)
        if number is None:
            raise UnreadableStructureError(f"{sites.name(i)} is of no known element: {symbol!r}")
        numbers.append(number)
    return np.array(numbers)


def _formula_elements(block: gemmi.cif.Block) -> frozenset[int]:
    formula = block.find_value("_chemical_formula_sum") or ""
    return frozenset(Z_OF[symbol] for symbol in re.findall(r"[A-Z][a-z]?", formula) if symbol in Z_OF)


def _refuse_disorder(sites: _Sites) -> None:
    occupancies = sites.column("_atom_site_occupancy")
    if occupancies.count("1") != len(occupancies):
        for i, text in enumerate(occupancies):
            if text not in _NULLS and not abs(_number(text) - 1.0) <= OCCUPANCY_TOLERANCE:
                raise DisorderedStructureError(f"{sites.name(i)} of {len(occupancies)} has occupancy {text}")
    groups = set(sites.column("_atom_site_disorder_group")) - _NULLS - {"0"}
    if len(groups) > 1 or any(group.startswith("-") for group in groups):
        raise DisorderedStructureError(f"alternative positions in disorder groups {', '.join(sorted(groups))}")


def _refuse_shared_sites(frac_coords: np.ndarray, atomic_numbers: np.ndarray) -> None:
    """Two species at one exact position are a mixed site whose occupancies were left out."""
    positions = list(map(tuple, frac_coords.tolist()))
    if len(set(positions)) == len(positions):
        return
    first: dict[tuple[float, ...], int] = {}
    for position, number in zip(positions, atomic_numbers.tolist()):
        if first.setdefault(position, number) != number:
            pair = " and ".join(sorted(SYMBOLS[z] for z in (first[position], number)))
            raise DisorderedStructureError(f"{pair} share the position {position}")


def _multiplicities(sites: _Sites) -> np.ndarray | None:
    for tag in ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity"):
        column = sites.column(tag)
        if column and all(text.isdecimal() for text in column):
            return np.array([int(text) for text in column])
    return None


def _stated_num_atoms(block: gemmi.cif.Block) -> int | None:
    """Atoms per cell from formula and Z, where both are given and whole."""
    formula = gemmi.cif.as_string(block.find_value("_chemical_formula_sum") or "?")
    units = block.find_value("_cell_formula_units_Z") or "?"
    counts = [float(count or 1) for count in re.findall(r"[A-Z][a-z]?(\d*(?:\.\d+)?)", formula)]
    total = float(sum(counts) * int(units)) if units.isdecimal() else 0.0
    return int(total) if total > 0 and total.is_integer() else None


def _read_with_pymatgen(text: str, index: int, reason: str) -> Structure:
    if "data_" not in text[:200_000].lower() or "_cell_" not in text.lower():
        raise UnreadableStructureError(reason)
    from pymatgen.io.cif import CifParser  # two seconds to import, and rarely needed

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser: Any = CifParser(io.StringIO(text), occupancy_tolerance=1.0)
            structures = parser.parse_structures(primitive=False, symmetrized=False, on_error="raise")
    except _SECOND_READER_ERRORS as error:
        _refuse(f"{reason}; the second reader: {_one_line(error)}", error)
    if index >= len(structures):
        _refuse(f"{reason}; the second reader found {len(structures)} structure(s)")
    structure = structures[index]
    if not structure.is_ordered:
        raise DisorderedStructureError(f"composition {structure.formula} has partially occupied or mixed sites")
    if any("Defaulting to P1" in warning for warning in parser.warnings):
        _refuse(f"{reason}; the second reader found no symmetry operations either")
    dummies = sorted({str(symbol) for symbol in structure.symbol_set} - set(SYMBOLS) - {"D", "T"})
    if dummies:
        _refuse(f"{reason}; the second reader found unknown elements {', '.join(dummies)}")
    read = Structure.from_pymatgen(structure)
    return Structure(read.lattice, wrap(read.frac_coords), read.atomic_numbers)


def _refuse(reason: str, cause: Exception | None = None) -> NoReturn:
    text = str(cause or "").lower()
    error: type[StructureError] = DisorderedStructureError if "occupanc" in text else UnreadableStructureError
    raise error(reason)


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
