"""The published parameters of UFF and UFF4MOF, by type name."""

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from matgen.crystal.elements import SYMBOLS

__all__ = ["UffType", "types_of_element", "uff_types"]

_TABLE = Path(__file__).parent / "data" / "uff4mof.json"
_SECTIONS = ("coupry_2016", "addicoat_2014", "rappe_1992")  # newest first: their metals are fitted to frameworks
_OLD_SYMBOLS = {"Lw": "Lr"}


@dataclass(frozen=True)
class UffType:
    """One atom type. Energies kcal/mol, lengths Å, angles degrees.

    coordination: the third character of the name: "1" linear, "2" trigonal, "R" resonant, "3" tetrahedral,
    "4" square planar, "6" octahedral, "8" eight-coordinate; "" where the type has none (H_, Na).
    """

    name: str
    atomic_number: int
    coordination: str
    bond_radius: float
    angle: float
    vdw_distance: float
    vdw_depth: float
    effective_charge: float
    torsion_sp3: float
    torsion_sp2: float
    electronegativity: float
    source: str


@cache
def uff_types() -> dict[str, UffType]:
    """Every type by its name, the newest publication first.

    Source: Rappe et al., JACS 114, 10024 (1992); Addicoat et al., JCTC 10, 880 (2014); Coupry et al., JCTC 12, 5215
    (2016).
    """
    table = json.loads(_TABLE.read_text())
    types = {}
    for section in _SECTIONS:
        for name, row in table[section].items():
            symbol = name[:2].strip("_")
            number = SYMBOLS.index(_OLD_SYMBOLS.get(symbol, symbol))
            coordination = name[2] if len(name) > 2 and name[2] in "1234568R" else ""
            radius, angle, distance, depth, charge, sp3, sp2, chi = row
            types[name] = UffType(
                name, number, coordination, radius, angle, distance, depth, charge, sp3, sp2, chi, section
            )
    return types


@cache
def types_of_element(atomic_number: int) -> tuple[UffType, ...]:
    """The types of an element, the newest publication first; none for an element that the force field does not know."""
    return tuple(t for t in uff_types().values() if t.atomic_number == atomic_number)
