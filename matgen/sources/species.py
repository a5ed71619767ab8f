"""Element names of input tables and files."""

from __future__ import annotations

from matgen.crystal.elements import SYMBOLS
from matgen.errors import UnreadableStructureError

_Z_OF = {symbol: z for z, symbol in enumerate(SYMBOLS) if z} | {"D": 1, "T": 1}


def atomic_number(symbol: str) -> int:
    """Z of an element symbol.

    Args:
        symbol: as in the periodic table; D and T are hydrogen.

    Returns:
        Z from 1.

    Raises:
        UnreadableStructureError: there is no such element.
    """
    number = _Z_OF.get(symbol)
    if number is None:
        raise UnreadableStructureError(f"no element is called {symbol!r}")
    return number
