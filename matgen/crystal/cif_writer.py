"""Structure to CIF text: with the space group and its Wyckoff sites, or as P1."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import gemmi
import numpy as np

from matgen.crystal.elements import SYMBOLS
from matgen.crystal.tables import load_tables

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jaxtyping import Float, Int

    from matgen.crystal.structure import Structure


@dataclass(frozen=True)
class CifSymmetry:
    """What a CIF says beyond P1: the group, and one representative per orbit.

    Args:
        space_group_number: 1 to 230.
        rotation: W of all operations, centring included, in the setting of the structure's cell.
        translation: w of all operations, in fractions of the cell.
        representatives: fractional coordinates, one per orbit.
        atomic_numbers: Z, one per orbit.
        wyckoff_letters: one per orbit.
        multiplicities: atoms per cell, one per orbit.
    """

    space_group_number: int
    rotation: Int[np.ndarray, "K 3 3"]
    translation: Float[np.ndarray, "K 3"]
    representatives: Float[np.ndarray, "M 3"]
    atomic_numbers: Int[np.ndarray, " M"]
    wyckoff_letters: Sequence[str]
    multiplicities: Sequence[int]

    @classmethod
    def from_orbits(
        cls,
        structure: Structure,
        space_group_number: int,
        orbit_index: Sequence[int],
        wyckoff_letters: Sequence[str],
        multiplicities: Sequence[int],
    ) -> CifSymmetry:
        """The symmetry of a decoded crystal, the first atom of each orbit standing for it.

        Args:
            structure: conventional cell in the standard setting.
            space_group_number: 1 to 230.
            orbit_index: the orbit of each atom.
            wyckoff_letters: one per orbit.
            multiplicities: atoms per cell, one per orbit.
        """
        rotation, translation = load_tables().operations(space_group_number)
        orbits = np.asarray(orbit_index)
        first = np.array([int(np.flatnonzero(orbits == i)[0]) for i in range(len(wyckoff_letters))])
        return cls(
            space_group_number=space_group_number,
            rotation=np.rint(rotation).astype(np.int64),
            translation=translation,
            representatives=structure.frac_coords[first],
            atomic_numbers=structure.atomic_numbers[first],
            wyckoff_letters=tuple(wyckoff_letters),
            multiplicities=tuple(multiplicities),
        )


def write_cif(
    structure: Structure,
    symmetry: CifSymmetry | None = None,
    *,
    name: str = "structure",
    properties: Mapping[str, object] | None = None,
) -> str:
    """Writes one structure as CIF text.

    Args:
        structure: all atoms of the cell.
        symmetry: its space group and Wyckoff sites; None writes P1.
        name: the data block's name.
        properties: scalars written as `_matgen_...` items.

    Returns:
        The text of a CIF document with one block.

    Raises:
        ValueError: the multiplicities do not add up to the atoms of the structure.
    """
    lines = [f"data_{re.sub(r'[^A-Za-z0-9_.+-]', '_', name) or 'structure'}"]
    for key, value in (properties or {}).items():
        if value is not None:
            lines.append(f"_matgen_{re.sub(r'[^A-Za-z0-9_]', '_', key)} {_quoted(value)}")
    for key, value in zip(("a", "b", "c"), structure.lengths):
        lines.append(f"_cell_length_{key} {value:.10f}")
    for key, value in zip(("alpha", "beta", "gamma"), structure.angles):
        lines.append(f"_cell_angle_{key} {value:.10f}")
    lines.append(f"_cell_volume {structure.volume:.8f}")
    lines.append(f"_chemical_formula_sum {_quoted(_formula_sum(structure.atomic_numbers))}")
    if symmetry is None:
        lines += _group_lines(1, ["x,y,z"])
        lines += _atom_lines(structure.frac_coords, structure.atomic_numbers, None)
        return "\n".join(lines) + "\n"
    if sum(symmetry.multiplicities) != len(structure.atomic_numbers):
        raise ValueError(
            f"multiplicities {list(symmetry.multiplicities)} add up to {sum(symmetry.multiplicities)} atoms, "
            f"the structure has {len(structure.atomic_numbers)}"
        )
    lines += _group_lines(symmetry.space_group_number, _triplets(symmetry))
    lines += _atom_lines(symmetry.representatives, symmetry.atomic_numbers, symmetry)
    return "\n".join(lines) + "\n"


def _group_lines(number: int, triplets: list[str]) -> list[str]:
    """Symbols are written only for the setting whose operations are these: a wrong symbol is worse than none."""
    group = gemmi.find_spacegroup_by_ops(gemmi.GroupOps([gemmi.Op(triplet) for triplet in triplets]))
    lines = []
    if group is not None and group.number == number:
        lines.append(f"_space_group_name_H-M_alt {_quoted(group.xhm())}")
        lines.append(f"_symmetry_space_group_name_H-M {_quoted(group.hm)}")
        lines.append(f"_space_group_name_Hall {_quoted(group.hall)}")
    lines += [f"_space_group_IT_number {number}", f"_symmetry_Int_Tables_number {number}"]
    lines += ["loop_", "_space_group_symop_id", "_space_group_symop_operation_xyz"]
    lines += [f"{i} '{triplet}'" for i, triplet in enumerate(triplets, start=1)]
    return lines


def _triplets(symmetry: CifSymmetry) -> list[str]:
    rotation = np.asarray(symmetry.rotation)
    translation = np.asarray(symmetry.translation, dtype=float)
    denominator = gemmi.Op.DEN
    grid = np.round(translation * denominator).astype(int) % denominator
    triplets = []
    for W, w in zip(rotation.tolist(), grid.tolist()):
        op = gemmi.Op()
        op.rot = [[denominator * entry for entry in row] for row in W]
        op.tran = w
        triplets.append(op.triplet())
    return triplets


def _atom_lines(frac_coords: np.ndarray, atomic_numbers: np.ndarray, symmetry: CifSymmetry | None) -> list[str]:
    lines = ["loop_", "_atom_site_label", "_atom_site_type_symbol"]
    if symmetry is not None:
        lines += ["_atom_site_symmetry_multiplicity", "_atom_site_Wyckoff_symbol"]
    lines += ["_atom_site_fract_x", "_atom_site_fract_y", "_atom_site_fract_z", "_atom_site_occupancy"]
    counts: dict[str, int] = {}
    for i, (x, number) in enumerate(zip(np.asarray(frac_coords).tolist(), np.asarray(atomic_numbers).tolist())):
        symbol = SYMBOLS[number]
        counts[symbol] = counts.get(symbol, 0) + 1
        site = "" if symmetry is None else f" {symmetry.multiplicities[i]} {symmetry.wyckoff_letters[i]}"
        lines.append(f"{symbol}{counts[symbol]} {symbol}{site} {x[0]:.10f} {x[1]:.10f} {x[2]:.10f} 1")
    return lines


def _formula_sum(atomic_numbers: np.ndarray) -> str:
    numbers, counts = np.unique(np.asarray(atomic_numbers), return_counts=True)
    return " ".join(f"{SYMBOLS[int(z)]}{count}" for z, count in zip(numbers, counts))


def _quoted(value: object) -> str:
    return gemmi.cif.quote(" ".join(str(value).split()) or "?")
