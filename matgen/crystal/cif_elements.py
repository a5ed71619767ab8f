"""The element that a type symbol or an atom label of a CIF means."""

from __future__ import annotations

import re

from matgen.crystal.elements import SYMBOLS
from matgen.errors import UnreadableStructureError

Z_OF = {symbol: z for z, symbol in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}
"""Z by symbol; deuterium and tritium are hydrogen."""

_SYMBOL = re.compile(r"[\"']?([A-Za-z]{1,2})(?:[\d.]*[+-]?|[+-][\d.]*)[\"']?$")
_LABEL = re.compile(r"[\"']?([A-Za-z]+)")


def element_of_symbol(symbol: str) -> int | None:
    """Reads a type symbol: Fe, Fe3+, O2-, Cu+2, FE or D.

    Args:
        symbol: as in the file.

    Returns:
        Z, or None for what is no element (Wat, OH: two atoms are not one).
    """
    match = _SYMBOL.match(symbol)
    return Z_OF.get(match.group(1).capitalize()) if match else None


def element_of_label(label: str, formula: frozenset[int]) -> int:
    """Reads a label: Fe1, O1A, CA2; where one and two letters both fit, the formula or the case decides, or nobody.

    Args:
        label: as in the file.
        formula: Z of the elements that the file's formula names; empty where it names none.

    Returns:
        Z from 1.

    Raises:
        UnreadableStructureError: the label names no element, or could name two.
    """
    match = _LABEL.match(label)
    letters = match.group(1) if match else ""
    fits = [Z_OF[text] for text in {letters[:1].upper(), letters[:2].capitalize()} if text in Z_OF]
    in_formula = [z for z in fits if z in formula]
    if len(in_formula) == 1:
        return in_formula[0]
    if len(fits) == 2 and letters[1].islower():
        return Z_OF[letters[:2].capitalize()]
    # Wat1 is water and no tungsten: of three letters one does not speak
    if len(fits) != 1 or len(letters) > 2 or (formula and not in_formula):
        raise UnreadableStructureError(f"no _atom_site_type_symbol, and label {label!r} names no single element")
    return fits[0]
