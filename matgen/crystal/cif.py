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
from typing import TYPE_CHECKING, Any, NoReturn

import gemmi
import numpy as np

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

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["OCCUPANCY_TOLERANCE", "CifSymmetry", "parse_cif", "write_cif"]

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
_SYMBOL = re.compile(r"[\"']?([A-Za-z]{1,2})(?:[\d.]*[+-]?|[+-][\d.]*)[\"']?$")
_LABEL = re.compile(r"[\"']?([A-Za-z]+)")
_Z_OF = {symbol: z for z, symbol in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}


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
    blocks = document if len(document) == 1 else [block for block in document if len(block.find_values(_ATOM_TAG))]
    if index >= len(blocks) or not len(blocks[index].find_values(_ATOM_TAG)):
        raise UnreadableStructureError(
            f"no atoms: {len(document)} data block(s), none with {_ATOM_TAG}"
            if index == 0
            else f"no structure number {index} in {len(document)} data block(s)"
        )
    return _read_block(blocks[index])


def _read_block(block: gemmi.cif.Block) -> Structure:
    labels = list(block.find_values("_atom_site_label"))
    frac_coords = _coordinates(block, labels)
    num_atoms = len(frac_coords)
    atomic_numbers = _atomic_numbers(block, labels, num_atoms)
    _refuse_disorder(block, labels, num_atoms)
    _refuse_shared_sites(frac_coords, atomic_numbers)
    lengths, angles = _cell(block)
    if not is_identity_only(block):
        cell = gemmi.UnitCell(*lengths, *angles)
        candidates = operation_candidates(block, cell)
        if not candidates:
            raise _SecondReaderError("the symmetry is named by nothing that we know")
        multiplicities = _multiplicities(block, num_atoms)
        frac_coords, atomic_numbers = expand(cell, candidates, frac_coords, atomic_numbers, multiplicities)
    return Structure.from_parameters(lengths, angles, wrap(frac_coords), atomic_numbers)


def _cell(block: gemmi.cif.Block) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    texts = [block.find_value(tag) for tag in _CELL_TAGS]
    if None in texts or not _NULLS.isdisjoint(texts):
        raise _SecondReaderError(f"incomplete cell: {texts}")
    a, b, c, alpha, beta, gamma = values = [_number(text) for text in texts]
    if not all(map(math.isfinite, values)):
        raise NonFiniteStructureError(f"cell parameters are not finite: {texts}")
    cosines = [math.cos(math.radians(angle)) for angle in (alpha, beta, gamma)]
    # (volume / abc)^2, the determinant of the metric tensor of the unit vectors
    squared = 1 + 2 * math.prod(cosines) - sum(cosine * cosine for cosine in cosines)
    if min(a, b, c) <= 0 or min(alpha, beta, gamma) <= 0 or squared <= 1e-8:
        raise NonFiniteStructureError(
            f"the cell has no volume: lengths {(a, b, c)} Å, angles {(alpha, beta, gamma)} degrees"
        )
    return (a, b, c), (alpha, beta, gamma)


def _coordinates(block: gemmi.cif.Block, labels: Sequence[str]) -> np.ndarray:
    columns = [list(block.find_values(tag)) for tag in _FRACT_TAGS]
    if not len(columns[0]) == len(columns[1]) == len(columns[2]):
        raise UnreadableStructureError(f"coordinates are incomplete: {[len(column) for column in columns]} x, y, z")
    try:
        rows = [list(map(float, column)) for column in columns]
    except ValueError:
        rows = [[_coordinate(text, i, labels) for i, text in enumerate(column)] for column in columns]
    frac_coords = np.array(rows).T
    if not np.isfinite(frac_coords).all():
        bad = int(np.flatnonzero(~np.isfinite(frac_coords).all(axis=1))[0])
        raise NonFiniteStructureError(f"{_site(bad, labels)} has coordinates {frac_coords[bad].tolist()}")
    return frac_coords


def _coordinate(text: str, site: int, labels: Sequence[str]) -> float:
    if text in _NULLS:
        raise UnreadableStructureError(f"{_site(site, labels)} has no coordinates ({text!r})")
    value = _number(text)
    if math.isnan(value) and "nan" not in text.lower():
        raise UnreadableStructureError(f"{_site(site, labels)} has a coordinate that is no number: {text!r}")
    return value


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        # knows 0.123(4); NaN for what is no number
        return gemmi.cif.as_number(gemmi.cif.as_string(text))


def _atomic_numbers(block: gemmi.cif.Block, labels: Sequence[str], num_atoms: int) -> np.ndarray:
    symbols = list(block.find_values("_atom_site_type_symbol"))
    try:
        numbers = [_Z_OF[symbol] for symbol in symbols]
    except KeyError:
        numbers = [_element_of_symbol(symbol, i, block, labels) for i, symbol in enumerate(symbols)]
    if not symbols:
        formula = _formula_elements(block)
        numbers = [_element_of_label(label, formula) for label in labels]
    if len(numbers) != num_atoms:
        raise UnreadableStructureError(f"{len(numbers)} element symbols for {num_atoms} coordinates")
    return np.array(numbers)


def _element_of_symbol(symbol: str, site: int, block: gemmi.cif.Block, labels: Sequence[str]) -> int:
    """Fe, Fe3+, O2-, Cu+2, FE and deuterium; a symbol left empty is taken from the label."""
    if symbol in _NULLS and len(labels) > site:
        return _element_of_label(labels[site], _formula_elements(block))
    match = _SYMBOL.match(symbol)
    number = _Z_OF.get(match.group(1).capitalize()) if match else None
    if number is None:
        raise UnreadableStructureError(f"{_site(site, labels)} is of no known element: {symbol!r}")
    return number


def _element_of_label(label: str, formula: frozenset[int]) -> int:
    """The element in Fe1, O1A or CA2; where one and two letters both fit, the formula or the case decides."""
    match = _LABEL.match(label)
    letters = match.group(1) if match else ""
    fits = [_Z_OF[s] for s in (letters[:1].capitalize(), letters[:2].capitalize()) if s in _Z_OF]
    if len(letters) == 1 or len(set(fits)) == 1:
        # Wat1 is water, not tungsten: three letters need the formula's word
        fits = fits[:1] if len(letters) < 3 or fits[0] in formula else []
    elif len(fits) == 2 and formula.isdisjoint(fits) is False and not formula.issuperset(fits):
        fits = [z for z in fits if z in formula]
    elif len(fits) == 2 and letters[1].islower():
        fits = fits[1:]
    if len(fits) != 1:
        raise UnreadableStructureError(f"no _atom_site_type_symbol, and label {label!r} names no single element")
    return fits[0]


def _formula_elements(block: gemmi.cif.Block) -> frozenset[int]:
    formula = block.find_value("_chemical_formula_sum") or ""
    return frozenset(_Z_OF[symbol] for symbol in re.findall(r"[A-Z][a-z]?", formula) if symbol in _Z_OF)


def _refuse_disorder(block: gemmi.cif.Block, labels: Sequence[str], num_atoms: int) -> None:
    occupancies = list(block.find_values("_atom_site_occupancy"))
    if any(text != "1" for text in occupancies):
        for i, text in enumerate(occupancies):
            if text not in _NULLS and not abs(_number(text) - 1.0) <= OCCUPANCY_TOLERANCE:
                raise DisorderedStructureError(f"{_site(i, labels)} of {num_atoms} has occupancy {text}")
    groups = set(block.find_values("_atom_site_disorder_group")) - _NULLS - {"0"}
    if len(groups) > 1 or any(group.startswith("-") for group in groups):
        raise DisorderedStructureError(f"alternative positions in disorder groups {', '.join(sorted(groups))}")


def _refuse_shared_sites(frac_coords: np.ndarray, atomic_numbers: np.ndarray) -> None:
    """Two species at one exact position are a mixed site whose occupancies were left out."""
    positions = dict(zip(map(tuple, frac_coords.tolist()), atomic_numbers.tolist()))
    if len(positions) == len(frac_coords):
        return
    for position, number in zip(map(tuple, frac_coords.tolist()), atomic_numbers.tolist()):
        if positions[position] != number:
            pair = sorted(_symbol(z) for z in (positions[position], number))
            raise DisorderedStructureError(f"{' and '.join(pair)} share the position {position}")


def _multiplicities(block: gemmi.cif.Block, num_atoms: int) -> np.ndarray | None:
    for tag in ("_atom_site_symmetry_multiplicity", "_atom_site_site_symmetry_multiplicity"):
        column = list(block.find_values(tag))
        if len(column) == num_atoms and all(text.isdigit() for text in column):
            return np.array(column, dtype=np.int64)
    return None


def _read_with_pymatgen(text: str, index: int, reason: str) -> Structure:
    if "data_" not in text[:200_000].lower() or "_cell_" not in text.lower():
        raise UnreadableStructureError(reason)
    from pymatgen.io.cif import CifParser  # two seconds to import, and rarely needed

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            parser: Any = CifParser(io.StringIO(text), occupancy_tolerance=1.0)
            structures = parser.parse_structures(primitive=False, symmetrized=False, on_error="raise")
    except (ValueError, KeyError, TypeError, IndexError, AttributeError, ZeroDivisionError, AssertionError) as error:
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


def _site(index: int, labels: Sequence[str]) -> str:
    return f"site {index + 1}" + (f" ({labels[index]})" if index < len(labels) else "")


def _symbol(atomic_number: int) -> str:
    return SYMBOLS[int(atomic_number)]


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:300] or type(error).__name__
