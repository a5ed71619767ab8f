"""Element names of input tables and files."""

from __future__ import annotations

from matgen.crystal.cif_elements import Z_OF
from matgen.errors import UnreadableStructureError


def atomic_number(symbol: str) -> int:
    """Z of an element symbol.

    Args:
        symbol: as in the periodic table; D and T are hydrogen.

    Returns:
        Z from 1.

    Raises:
        UnreadableStructureError: there is no such element.
    """
    number = Z_OF.get(symbol)
    if number is None:
        raise UnreadableStructureError(f"no element is called {symbol!r}")
    return number
